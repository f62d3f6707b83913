"""Objects of a shrunken frame: who owns a pixel, and that none is lost."""

from types import SimpleNamespace

import numpy as np
import pytest

from worldmodel.envs.vizdoom.env import VizdoomEnv
from worldmodel.envs.vizdoom.object_labels import read_labels, shrink_labels


def shrink(*spots, size=(8, 8), to=(2, 2)):
    """Spots (rows, columns, value) in a buffer; every value is its own class plus 10."""
    buffer = np.zeros(size, np.uint8)
    for rows, columns, value in spots:
        buffer[rows, columns] = value
    values = sorted({value for *_, value in spots})
    return shrink_labels(buffer, values, [value + 10 for value in values], *to)


def test_a_pixel_belongs_to_the_object_that_covers_most_of_it():
    labels = shrink((slice(0, 4), slice(0, 1), 5), (slice(0, 4), slice(1, 3), 7), (slice(4, 8), slice(0, 4), 5))
    assert labels[..., 1].tolist() == [[7, 0], [5, 0]]
    assert labels[..., 0].tolist() == [[17, 0], [15, 0]]


def test_a_pixel_covered_by_less_than_a_quarter_belongs_to_no_object():
    whole, neighbour = (slice(0, 5), slice(0, 5), 3), (slice(0, 3), slice(5, 7), 3)  # 25 pixels, and 6 of 25
    assert shrink(whole, neighbour, size=(10, 10))[0, :, 1].tolist() == [3, 0]
    assert shrink(whole, neighbour, (3, 5, 3), size=(10, 10))[0, :, 1].tolist() == [3, 3]


def test_small_objects_are_not_lost():
    labels = shrink((3, 4, 9), (slice(4, 8), slice(0, 8), 6), (7, 0, 4))
    assert labels[..., 1].tolist() == [[0, 9], [4, 6]]  # 9 and 4 cover a sixteenth of their pixels


def test_an_object_does_not_take_the_only_pixel_of_another():
    labels = shrink((slice(4, 8), slice(0, 4), 6), (7, 0, 4))
    assert labels[..., 1].tolist() == [[0, 0], [6, 0]]
    labels = shrink((slice(4, 8), slice(0, 4), 6), (7, slice(3, 5), 4))
    assert labels[..., 1].tolist() == [[0, 0], [6, 4]]
    labels = shrink((slice(4, 8), slice(0, 8), 6), (7, 0, 4), (7, 7, 5))
    assert labels[..., 1].tolist() == [[0, 0], [4, 6]]  # 5 would take the last pixel of 6


def test_the_screen_of_the_game_keeps_single_pixels():
    rng = np.random.default_rng(0)
    for row, column in rng.integers((120, 160), size=(50, 2)):
        labels = shrink((row, column, 1), size=(120, 160), to=(64, 64))
        assert labels[..., 1].sum() == 1
        middle = np.argwhere(labels[..., 1])[0] + 0.5 - np.array([row + 0.5, column + 0.5]) * [64 / 120, 64 / 160]
        assert (np.abs(middle) <= 0.5 + 1e-9).all()


def test_values_that_are_not_drawn_and_empty_buffers_give_nothing():
    buffer = np.full((4, 4), 200, np.uint8)  # walls and such have values that no object has
    assert not shrink_labels(buffer, [], [], 2, 2).any()
    assert not shrink_labels(buffer, [3], [1], 2, 2).any()


def test_the_player_is_not_an_object_and_unlisted_names_are_other():
    buffer = np.repeat([1, 2, 3], 2)[None].repeat(2, 0).astype(np.uint8)
    objects = [("DoomPlayer", "Self", 1), ("DoomImp", "Monster", 2), ("Cacodemon", "Monster", 3)]
    found = [SimpleNamespace(object_name=name, object_category=kind, value=value) for name, kind, value in objects]
    labels = read_labels(SimpleNamespace(labels=found, labels_buffer=buffer), ("Clip", "DoomImp", "other"), 1, 3)
    assert labels.tolist() == [[[0, 0], [2, 2], [3, 3]]]


@pytest.mark.vizdoom
@pytest.mark.parametrize("scenario", ["take_cover", "defend_the_center"])
def test_labels_do_not_change_the_frames(scenario):
    envs = [VizdoomEnv(scenario), VizdoomEnv(scenario, labels=True)]
    results = [[env.reset(seed=3)[1]] for env in envs]
    for action in np.random.default_rng(0).integers(3, size=12).repeat(2):
        for infos, env in zip(results, envs, strict=True):
            infos.append(env.step(action)[-1])
    classes = np.concatenate([info["labels"] for info in results[1]])[..., 0]
    for env in envs:
        env.close()
    for plain, labelled in zip(*results, strict=True):
        assert "labels" not in plain
        np.testing.assert_array_equal(plain["frames"], labelled["frames"])
        assert labelled["labels"].shape == (2, 64, 64, 2) and labelled["labels"].dtype == np.uint8
    named = [name for number, name in enumerate(envs[1].label_names, 1) if (classes == number).any()]
    assert envs[0].label_names == () and envs[1].label_names[-1] == "other"
    if scenario == "take_cover":
        assert named == ["DoomImp", "DoomImpBall"]
    else:  # the weapon, which is always there, has no label
        assert "MarineChainsawVzd" in named and not classes[0, -8:, 28:36].any()


@pytest.mark.vizdoom
def test_labels_are_where_the_frame_shows_the_object():
    env = VizdoomEnv("take_cover", labels=True)
    bright = []
    env.reset(seed=1)
    for _ in range(25):
        *_, info = env.step(0)
        ball = info["labels"][..., 0] == 1 + env.label_names.index("DoomImpBall")
        bright.append((info["frames"][ball].astype(int).sum(-1), info["frames"][~ball].astype(int).sum(-1)))
    env.close()
    balls, rest = (np.concatenate(column) for column in zip(*bright, strict=True))
    assert len(balls) > 50 and balls.mean() > 1.5 * rest.mean()  # fireballs glow
