import json
from dataclasses import replace

import numpy as np
import pytest

from tests.pixelcnn_world import pixelcnn_world
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.data import EpisodeStorage
from worldmodel.media.read import read_images
from worldmodel.model import WorldModel
from worldmodel.training.cli.main import main
from worldmodel.training.show import compare as module
from worldmodel.training.show.compare import CompareConfig, _write, compare
from worldmodel.training.show.sample_inputs import real_clips
from worldmodel.training.show.votes import a_is_left

CONFIG = CompareConfig(pairs=2, steps=3, scale=1, split="train", fps=10)


@pytest.fixture
def worlds(tmp_path):
    """Folders of two worlds, and a store of their game."""
    recorded_store(tmp_path / "data", lengths=(12,) * 10)
    folders = [tiny_world(seed).save_pretrained(tmp_path / name) for seed, name in enumerate(("first", "second"))]
    return *folders, tmp_path / "data"


def images(path) -> np.ndarray:
    return read_images(path, 3).frames


def test_a_page_shows_both_worlds_after_the_same_given_step_without_their_names(tmp_path, worlds):
    first, second, data = worlds
    made = compare(first, second, replace(CONFIG, seed=1), data=data, out=tmp_path / "page")
    text = made.page.read_text()
    assert '"pairs": 2' in text and "__PAGE__" not in text
    assert "first" not in text.split("<script>")[1] and str(tmp_path) not in text
    about = json.loads((tmp_path / "page" / "compare.json").read_text())
    assert (about["a"], about["b"]) == (str(first), str(second))
    for pair in range(2):
        left, right = (images(tmp_path / "page" / f"{pair}-{side}.mp4") for side in ("left", "right"))
        assert len(left) == len(right) == 6  # three steps of two frames
        assert np.abs(left[:2].astype(int) - right[:2]).mean() < 2  # given
        assert np.abs(left[2:].astype(int) - right[2:]).mean() > 2


def test_the_seed_decides_the_sides(tmp_path, worlds):
    first, second, data = worlds
    sides = a_is_left(2, 0)
    made = compare(first, second, CONFIG, data=data, out=tmp_path / "page")
    swapped = compare(second, first, CONFIG, data=data, out=tmp_path / "swapped")
    assert made.pairs == swapped.pairs == len(sides)
    for pair in range(2):
        shown = images(tmp_path / "page" / f"{pair}-left.mp4")
        assert np.array_equal(shown, images(tmp_path / "swapped" / f"{pair}-right.mp4"))


SPATIAL = {"subscale": (1, 2, 2), "clip_frames": 8, "kernel": (1, 3, 3)}


@pytest.mark.parametrize("changes", [{}, SPATIAL], ids=["frame", "clip"])
def test_a_latent_video_transformer_stands_beside_another_world(tmp_path, worlds, changes):
    first, _, data = worlds
    lvt = tiny_world(net="subscale", frames_alone=True, **changes).save_pretrained(tmp_path / "lvt")
    compare(first, lvt, CONFIG, data=data, out=tmp_path / "page")
    assert json.loads((tmp_path / "page" / "compare.json").read_text())["given_steps"] == 1
    assert len(images(tmp_path / "page" / "1-left.mp4")) == 6


def test_a_world_of_longer_steps_continues_the_same_frames(tmp_path, worlds, monkeypatch):
    first, _, data = worlds
    four, store, videos = pixelcnn_world(), EpisodeStorage.open(data), {}
    levels = four.save_pretrained(tmp_path / "levels")  # steps of four frames, the store's of two
    monkeypatch.setattr(module, "write_video", lambda path, frames, fps: videos.update({path.stem: frames}))
    compare(first, levels, replace(CONFIG, steps=6), data=data, out=tmp_path / "page")
    assert json.loads((tmp_path / "page" / "compare.json").read_text())["given_steps"] == 2
    batch = store.batch(real_clips(store, 2, 6, "train", 0))
    frames = batch.frames.flatten(1, 2)
    acted = batch.actions[:, 2::2]  # the second one of the two that led into a step of four frames
    made = (
        WorldModel.from_pretrained(levels).sample(2, 3, frames.unflatten(1, (3, 4))[:, :1], acted).frames.flatten(1, 2)
    )
    for pair, a_left in enumerate(a_is_left(2, 0)):
        ours, theirs = (
            videos[f"{pair}-{side}"][:, 2:-2, 2:-2] for side in (("left", "right") if a_left else ("right", "left"))
        )
        assert np.array_equal(ours[:4], frames[pair, :4]) and np.array_equal(theirs[:4], frames[pair, :4])
        assert np.array_equal(theirs[4:], made[pair, 4:]) and not np.array_equal(ours[4:], theirs[4:])
    with pytest.raises(ValueError, match="steps must be a multiple of 2, got 5: a step of one world has 4 frames"):
        compare(first, levels, replace(CONFIG, steps=5), data=data, out=tmp_path / "page")
    with pytest.raises(ValueError, match="given_steps must be a multiple of 2, got 1"):
        compare(first, levels, replace(CONFIG, steps=6, given_steps=1), data=data, out=tmp_path / "page")


def test_an_earlier_page_never_stands_beside_the_videos_of_a_new_one(tmp_path, monkeypatch):
    videos = [np.zeros((1, 2, 1, 16, 16, 3), np.uint8)] * 2
    page, config = {"page": "p", "pairs": 1, "seed": 0}, CompareConfig(pairs=1, scale=1)
    _write(tmp_path, page, {"a": "first"}, videos, 1, config, 10.0)
    assert (tmp_path / "index.html").is_file()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_video", killed)
    with pytest.raises(KeyboardInterrupt):
        _write(tmp_path, page, {"a": "second"}, videos, 1, config, 10.0)
    assert not (tmp_path / "index.html").exists()


def test_another_page_is_not_replaced(tmp_path, worlds):
    (tmp_path / "index.html").write_text("my site")
    with pytest.raises(ValueError, match="is no page of pairs, and would be replaced"):
        compare(*worlds[:2], data=tmp_path, out=tmp_path)
    assert (tmp_path / "index.html").read_text() == "my site"


def test_votes_are_counted_on_the_command_line(tmp_path, capsys):
    choices = {"page": "p", "pairs": 2, "seed": 0, "person": "x", "choices": {"0": "same", "1": "same"}}
    (tmp_path / "choices.json").write_text(json.dumps(choices))
    assert main(["compare", "--tally", str(tmp_path / "choices.json")]) == 0
    assert "indifferent      2  100.0%" in capsys.readouterr().out


def test_unsuitable_worlds_and_settings_are_refused(tmp_path, worlds):
    first, second, data = worlds
    with pytest.raises(ValueError, match="two worlds A and B and --data"):
        compare(first, None, CONFIG, data=data)
    with pytest.raises(ValueError, match="omit them"):
        compare(first, second, CONFIG, tally=["choices.json"])
    with pytest.raises(ValueError, match="nor settings of pairs: omit them"):
        compare(config=replace(CompareConfig(), seed=1), tally=["choices.json"])
    with pytest.raises(ValueError, match="given_steps must be below steps = 3, got 3"):
        compare(first, second, replace(CONFIG, given_steps=3), data=data)
    with pytest.raises(ValueError, match="does not fit the model"):
        compare("doom-hg", first, CONFIG, data=data)
    assert not (tmp_path / "runs").exists()
