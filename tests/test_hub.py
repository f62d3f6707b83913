"""Against huggingface_hub itself, which talks to a small hub on this machine (tests/fake_hub.py)."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch

from tests.tiny import tiny_world
from worldmodel import WorldModel
from worldmodel.hub import check_upload, upload
from worldmodel.training.cli.main import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def pushed(hub):
    """A hub with the world me/toy."""
    tiny_world().push_to_hub("me/toy", token="hf_owner")
    hub.requests.clear()
    return hub


def cached(name, **options):
    """Load a world without asking the hub."""
    return WorldModel.from_pretrained(name, local_files_only=True, **options)


def same(a, b):
    """Whether both have the same weights, in the dtype in which worlds are loaded."""
    weights, others = a.state_dict(), b.prepare().state_dict()
    return weights.keys() == others.keys() and all(torch.equal(weights[k], w) for k, w in others.items())


def test_a_pushed_world_comes_back_with_its_weights_starts_and_card(hub):
    world = tiny_world(first=2)
    address = world.push_to_hub("me/toy", token="hf_owner", commit_message="A first toy")
    repository = hub.repositories["me/toy"]
    assert address == f"{hub.url}/me/toy/commit/{repository.branches['main']}"
    assert repository.messages[-1] == "A first toy" and not repository.private
    assert set(hub.files("me/toy")) == {
        "config.json",
        "model.safetensors",
        "starts.safetensors",
        "SHA256SUMS",
        "README.md",
    }
    loaded = WorldModel.from_pretrained("me/toy")
    assert same(loaded, world) and torch.equal(loaded.starts.codes, world.starts.codes)


def test_a_private_world_is_given_to_the_owners_token_alone(hub):
    tiny_world().push_to_hub("me/toy", private=True, token="hf_owner")
    with pytest.raises(FileNotFoundError, match=r"the hub has no model 'me/toy', or it is private: .*`hf auth login`"):
        WorldModel.from_pretrained("me/toy")
    assert WorldModel.from_pretrained("me/toy", token="hf_owner")


def test_a_revision_is_loaded_by_branch_commit_or_in_the_name(hub):
    first, second = tiny_world(0), tiny_world(1)
    first.push_to_hub("me/toy", token="hf_owner")
    second.push_to_hub("me/toy", token="hf_owner", revision="next")
    commit = hub.repositories["me/toy"].branches["main"]
    assert same(WorldModel.from_pretrained("me/toy"), first)
    assert same(WorldModel.from_pretrained("me/toy", revision="next"), second)
    assert same(WorldModel.from_pretrained("me/toy", revision=commit), first)
    with gym.make("VideoGenDream-Doom", model="me/toy@next", device="cpu") as env:
        assert same(env.unwrapped.model, second)
    with pytest.raises(FileNotFoundError, match="me/toy of the hub has no branch, tag or commit 'old'"):
        WorldModel.from_pretrained("me/toy", revision="old")
    with pytest.raises(ValueError, match=r"me/toy@next already contains a revision; omit revision='old'"):
        WorldModel.from_pretrained("me/toy@next", revision="old")


def test_a_filled_cache_serves_without_the_hub(pushed, tmp_path, monkeypatch):
    cache = tmp_path / "mine"
    with pytest.raises(FileNotFoundError, match=rf"me/toy is not complete in {cache}, and local_files_only forbids"):
        cached("me/toy", cache_dir=cache)
    assert pushed.requests == []
    WorldModel.from_pretrained("me/toy", cache_dir=cache)
    asked = len(pushed.requests)
    assert asked and same(cached("me/toy", cache_dir=cache), tiny_world())
    assert len(pushed.requests) == asked
    with pytest.raises(FileNotFoundError, match="hub-cache, and local_files_only"):
        cached("me/toy")  # the other cache is empty
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(WorldModel.from_pretrained("me/toy", cache_dir=cache), tiny_world())
    with pytest.raises(FileNotFoundError, match="hub-cache, and HF_HUB_OFFLINE forbids downloading it"):
        WorldModel.from_pretrained("me/toy")
    with pytest.raises(ConnectionError, match="cannot be uploaded while HF_HUB_OFFLINE is set"):
        tiny_world().push_to_hub("me/toy", token="hf_owner")


def test_a_hub_that_does_not_answer_is_named_and_the_cache_still_serves(pushed, monkeypatch):
    WorldModel.from_pretrained("me/toy")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert same(WorldModel.from_pretrained("me/toy"), tiny_world())
    with pytest.raises(
        ConnectionError, match=r"no folder 'me/other' here, .*127.0.0.1:9\) cannot be reached \(Connect"
    ):
        WorldModel.from_pretrained("me/other")
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9\) cannot be reached"):
        tiny_world().push_to_hub("me/toy", token="hf_owner")


def test_a_cache_that_cannot_be_written_is_not_blamed_on_the_hub(pushed, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        WorldModel.from_pretrained("me/toy", cache_dir=tmp_path / "file" / "cache")


def test_a_refused_token_is_said_to_be_refused(pushed):
    with pytest.raises(PermissionError, match=r"the hub refuses the token for me/toy \(401\): log in with"):
        WorldModel.from_pretrained("me/toy", token="hf_wrong")
    with pytest.raises(PermissionError, match=r"the hub refuses the token for me/toy \(401\).*write access"):
        tiny_world().push_to_hub("me/toy", token="hf_wrong")
    with pytest.raises(PermissionError, match="log in with"):
        tiny_world().push_to_hub("me/new")  # without any
    assert set(pushed.repositories) == {"me/toy"}


def test_an_upload_is_checked_before_the_work_for_it(hub, monkeypatch):
    check_upload("me/toy", token="hf_owner")
    with pytest.raises(ValueError, match="OWNER/NAME, got 'toy'"):
        check_upload("toy", token="hf_owner")
    with pytest.raises(PermissionError, match=r"the hub refuses the token for me/toy \(401\): log in with"):
        check_upload("me/toy", token="hf_wrong")
    with pytest.raises(PermissionError, match="the token of me may only read, and me/toy is to be written: log in"):
        check_upload("me/toy", token="hf_reader")
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    with pytest.raises(PermissionError, match="there is no token to upload me/toy with: log in"):
        check_upload("me/toy")
    assert hub.repositories == {}


def test_a_misspelt_name_is_answered_with_the_shipped_ones(pushed):
    with pytest.raises(FileNotFoundError, match=r"no folder 'me/doom-hg' here, and the hub has no model.*Valid: doom-"):
        WorldModel.from_pretrained("me/doom-hg")
    with pytest.raises(ValueError, match="of the form OWNER/NAME, got 'toy'"):
        tiny_world().push_to_hub("toy", token="hf_owner")


def test_a_revision_of_what_is_here_is_refused(tmp_path):
    for name in (tiny_world().save_pretrained(tmp_path / "toy"), "doom-hg"):
        with pytest.raises(
            ValueError, match=r"revision='v1' is for models of the Hugging Face hub, but .* is a local folder"
        ):
            WorldModel.from_pretrained(name, revision="v1")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "starts.safetensors"])
def test_a_world_that_changed_on_the_hub_is_refused(pushed, name):
    files = dict(pushed.files("me/toy"))
    files[name] = files[name][:-3] + bytes([files[name][-3] ^ 1]) + files[name][-2:]
    pushed.repositories["me/toy"].commit("main", files)
    with pytest.raises(ValueError, match=rf"me/toy of the hub: .*{name} has changed since.*To fetch it again, delete"):
        WorldModel.from_pretrained("me/toy")


@pytest.mark.parametrize("lines", [0, 2])
def test_a_world_of_the_hub_without_all_sums_is_refused(pushed, lines):
    files = dict(pushed.files("me/toy"))
    files["SHA256SUMS"] = b"".join(files["SHA256SUMS"].splitlines(True)[:lines])
    pushed.repositories["me/toy"].commit("main", files)
    with pytest.raises(
        ValueError, match=r"me/toy of the hub cannot be verified: its SHA256SUMS does not list .*starts"
    ):
        WorldModel.from_pretrained("me/toy")


def test_nothing_but_a_checkpoints_files_is_fetched(pushed):
    files = pushed.files("me/toy") | {"run_me.py": b"boom", "pytorch_model.bin": b"pickle", "other.safetensors": b""}
    pushed.repositories["me/toy"].commit("main", files)
    WorldModel.from_pretrained("me/toy")
    fetched = {request.rpartition("/")[2] for request in pushed.requests if "/resolve/" in request}
    assert "model.safetensors" in fetched and not fetched & {"run_me.py", "pytorch_model.bin", "other.safetensors"}


def test_a_later_upload_leaves_nothing_of_the_earlier_one(pushed, tmp_path):
    later = tiny_world(1)
    later.starts = None
    assert "starts.safetensors" in pushed.files("me/toy")
    upload(later.save_pretrained(tmp_path / "later"), "me/toy", token="hf_owner")
    assert "starts.safetensors" not in pushed.files("me/toy")
    assert WorldModel.from_pretrained("me/toy").starts is None


def test_a_folder_that_changed_is_not_uploaded(pushed, tmp_path):
    folder = tiny_world().save_pretrained(tmp_path / "toy")
    with open(folder / "config.json", "a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match=r"config\.json has changed since it was saved"):
        upload(folder, "me/toy", token="hf_owner")
    assert pushed.requests == []


def test_commands_take_worlds_of_the_hub_and_say_what_failed(pushed, capsys):
    assert main(["inspect", "me/toy", "--verify"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert main(["inspect", "me/none"]) == 2
    assert "error: no folder 'me/none' here, and the hub has no model" in capsys.readouterr().err


def test_the_endpoint_and_the_cache_of_the_environment_are_used(pushed, tmp_path):
    """As users set them: by variables, in a new process."""
    environment = os.environ | {"HF_ENDPOINT": pushed.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    code = "from worldmodel.hub import fetch; print(fetch('me/toy'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path / "home" / "hub" / "models--me--toy")
    assert same(WorldModel.from_pretrained(folder), tiny_world())
