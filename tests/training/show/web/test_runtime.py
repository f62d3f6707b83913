"""The runtime's files come from a folder or from npm; missing ones are named."""

import json
import os
import shutil

import pytest
from gymnasium.error import DependencyNotInstalled

from worldmodel.training.show.web.runtime import GIF, PLAIN, VERSION, WEBGPU, copy_runtime


@pytest.fixture
def package(tmp_path):
    """As npm unpacks it."""
    folder = tmp_path / "package"
    (folder / "dist").mkdir(parents=True)
    for name in PLAIN:
        (folder / "dist" / name).write_text(name)
    (folder / "package.json").write_text(json.dumps({"version": VERSION}))
    return folder


@pytest.mark.parametrize("inside", [".", "dist", ".."])
def test_files_come_from_the_package_wherever_the_given_folder_lies_in_it(package, tmp_path, inside):
    copy_runtime(tmp_path / "site", PLAIN, package / inside)
    found = {path.name for path in (tmp_path / "site").iterdir()}
    assert found == {*PLAIN, "package.json"}
    assert (tmp_path / "site" / PLAIN[1]).read_text() == PLAIN[1]


def test_the_runtime_of_an_earlier_export_serves_again(package, tmp_path):
    copy_runtime(tmp_path / "first", PLAIN, package)
    copy_runtime(tmp_path / "second", PLAIN, tmp_path / "first")
    assert (tmp_path / "second" / PLAIN[0]).is_file()


def test_gifs_are_left_out_where_the_folder_has_no_encoder(package, tmp_path):
    copy_runtime(tmp_path / "without", PLAIN, package)
    (package / "dist" / GIF).write_text("encoder")
    copy_runtime(tmp_path / "with", PLAIN, package)
    copy_runtime(tmp_path / "again", PLAIN, tmp_path / "with")
    assert [(tmp_path / name / GIF).is_file() for name in ("without", "with", "again")] == [False, True, True]


def test_a_missing_file_is_named_with_what_to_do(package, tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"holds no {WEBGPU[0]}: give the unpacked onnxruntime-web@{VERSION}"):
        copy_runtime(tmp_path / "site", WEBGPU, package)


def test_another_version_is_refused(package, tmp_path):
    (package / "package.json").write_text('{"version": "1.2.3"}')
    with pytest.raises(ValueError, match=rf"holds version 1.2.3 .* written for {VERSION}"):
        copy_runtime(tmp_path / "site", PLAIN, package)


def test_without_npm_the_error_says_what_to_install_or_give(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DependencyNotInstalled, match=r"apt-get install npm.*--runtime FOLDER"):
        copy_runtime(tmp_path / "site", PLAIN)


def test_an_npm_that_fails_is_quoted(monkeypatch, tmp_path):
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(FileNotFoundError, match=r"could not fetch .*: no network. .*--runtime FOLDER"):
        copy_runtime(tmp_path / "site", PLAIN)
