import subprocess

import gymnasium as gym
import pytest

from tests.tiny import tiny_world
from worldmodel import WorldModel, checkpoint, checksums
from worldmodel.tokenizer.files import load_tokenizer, save_tokenizer
from worldmodel.training.cli.main import main


@pytest.fixture
def folder(tmp_path):
    return tiny_world().save_pretrained(tmp_path / "world")


def flip(path, place=-5):
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "starts.safetensors"])
def test_one_changed_bit_is_refused_with_the_name_of_its_file(folder, name):
    flip(folder / name)
    for load in (
        WorldModel.from_pretrained,
        load_tokenizer,
        lambda f: gym.make("VideoGenDream-Doom", model=f),
    ):
        with pytest.raises(ValueError, match=f"{name} has changed since it was saved"):
            load(folder)


def test_a_config_with_another_value_is_refused_unless_its_line_is_deleted(folder):
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"limit": 150.0', '"limit": 15.0'))
    with pytest.raises(ValueError, match=r"config\.json has changed since it was saved.*delete its line"):
        WorldModel.from_pretrained(folder)
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "config.json" not in line))
    assert WorldModel.from_pretrained(folder).config.heads.limit == 15


def test_a_folder_without_sums_still_loads(folder):
    (folder / "SHA256SUMS").unlink()
    assert WorldModel.from_pretrained(folder).starts is not None


@pytest.mark.parametrize("text", ["nonsense\n", "0" * 64 + "  ../secret\n", "\xff\x00", "{line}{line}"])
def test_damaged_sums_are_refused_by_name(folder, text):
    sums = folder / "SHA256SUMS"
    line = sums.read_text().splitlines(True)[0]
    sums.write_text(text.replace("{line}", line), encoding="latin-1")
    with pytest.raises(ValueError, match="SHA256SUMS is damaged at"):
        WorldModel.from_pretrained(folder)


def test_a_listed_file_that_is_gone_is_missed(folder):
    (folder / "starts.safetensors").unlink()
    with pytest.raises(ValueError, match=r"starts\.safetensors is missing, .*SHA256SUMS lists it"):
        WorldModel.from_pretrained(folder)


@pytest.mark.parametrize("name", checkpoint.shipped())
def test_shipped_worlds_are_as_they_were_saved(name):
    assert checksums.check_sums(checkpoint.resolve(name)) == ["config.json", "model.safetensors", "starts.safetensors"]


def test_the_sums_are_those_of_sha256sum(folder):
    try:
        checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no sha256sum here")
    assert checked.returncode == 0 and checked.stdout.count(": OK") == 3


def test_inspect_verifies_worlds_tokenizers_and_says_when_it_cannot(folder, tmp_path, capsys):
    assert main(["inspect", str(folder), "--verify"]) == 0
    assert "config.json, model.safetensors, starts.safetensors (SHA-256)" in capsys.readouterr().out
    coder = save_tokenizer(tmp_path / "coder", tiny_world().tokenizer)
    assert main(["inspect", str(coder), "--verify"]) == 0
    assert "config.json, model.safetensors (SHA-256)" in capsys.readouterr().out
    flip(coder / "model.safetensors")
    assert main(["inspect", str(coder), "--verify"]) == 2
    assert "model.safetensors has changed since it was saved" in capsys.readouterr().err
    (folder / "SHA256SUMS").unlink()
    assert main(["inspect", str(folder)]) == 0
    assert main(["inspect", str(folder), "--verify"]) == 2
    assert "does not list config.json, model.safetensors, starts.safetensors" in capsys.readouterr().err
