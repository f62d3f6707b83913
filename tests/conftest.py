"""Settings every test runs under; they must be in place before the first heavy import."""

import gc
import os

import pytest

from tests.fake_hub import serving

os.environ.update(
    OMP_NUM_THREADS="1",  # the tests' tensors are too small for threads to pay
    HF_HUB_OFFLINE="1",  # no test may depend on another host by accident
    SDL_VIDEODRIVER="dummy",
    PYGAME_HIDE_SUPPORT_PROMPT="1",
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
)


def pytest_collection_finish():
    """What is imported by now stays; without this, every full garbage collection visits it (a fifth of a second).

    Collections are rarer, too: at Python's own thresholds they take four percent of the suite's time.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def working_folder(tmp_path_factory):
    """Run in an empty folder, so that what a test leaves in the working folder does not land in the repository."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("working-folder"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk():
    """A test's files need not survive a power cut, and on a busy disk most of the suite's time went into fsync."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub that huggingface_hub talks to in this process, with an empty cache and no user logged in."""
    from huggingface_hub import constants

    with serving() as hub:
        files = "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + files)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield hub
