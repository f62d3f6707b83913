"""Dreams that begin with frames, signals and actions of the user, or elsewhere than usual."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.envs.dream.test_dream_state import ACTIONS, assert_equal_plays, play
from tests.tiny import tiny_config, tiny_world
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.model import WorldModel


def own_frames(rows=3, steps=3):
    return np.random.default_rng(0).integers(256, size=(rows, steps, 2, 16, 16, 3), dtype=np.uint8)


def test_dreams_begin_with_the_users_frames():
    world = tiny_world()
    envs = DreamVectorEnv(3, world, "codes")
    frames, actions = own_frames(), np.array([[0, 1], [1, 2], [2, 0]])
    options = {"frames": frames, "actions": actions, "signals": {"HEALTH": 70.0}}
    observations, infos = envs.reset(seed=1, options=options)
    np.testing.assert_array_equal(observations, world.tokenizer.encode(torch.from_numpy(frames))[:, -1])
    assert infos["HEALTH"].tolist() == [70.0] * 3
    one = envs.step(ACTIONS)[0]
    mixed = actions.copy()
    mixed[0] = [2, 2]
    envs.reset(seed=1, options=options | {"actions": mixed})
    other = envs.step(ACTIONS)[0]
    np.testing.assert_array_equal(one[1:], other[1:])
    assert not np.array_equal(one[0], other[0])  # the actions between the given steps count


def test_frames_without_signals_start_with_the_default_ones():
    world = tiny_world()
    usual = world.starts.signals[:, -1].median(0).values
    dream = DreamEnv(world, "codes")
    _, info = dream.reset(options={"frames": own_frames()[0, 0, 0]})
    assert info["HEALTH"] == usual.item() > 0
    assert world.start(own_frames(), np.zeros((3, 2), np.int64)).signals.tolist() == [usual.tolist()] * 3
    world.starts = None
    assert world.usual_signals.tolist() == [0.0]


@pytest.mark.parametrize("kind", ["float", "tensor", "int64", "uint16", "npy", "picture", "pictures", "large"])
def test_frames_may_have_other_dtypes_and_come_from_files(tmp_path, kind):
    world = tiny_world()
    frames = own_frames(steps=1)[0]  # (1, 2, 16, 16, 3)
    given = {
        "float": frames / 255,
        "tensor": torch.from_numpy(frames / np.float32(255)),
        "int64": frames.astype(int),
        "uint16": frames.astype(np.uint16) * 257,
        "npy": tmp_path / "a.npy",
        "pictures": tmp_path,
    }.get(kind, str(tmp_path / "0.png"))
    for number, frame in enumerate(frames[0]):
        whole = frame.repeat(2, 0).repeat(3, 1) if kind == "large" else frame
        Image.fromarray(whole).save(tmp_path / f"{number}.png")
    np.save(tmp_path / "a.npy", frames / 255)
    observation, _ = DreamEnv(world, "codes").reset(options={"frames": given})
    wanted = frames[:, [0, 0]] if kind in ("picture", "large") else frames
    np.testing.assert_array_equal(observation, world.tokenizer.encode(torch.from_numpy(wanted)[None])[0, -1])


def test_frames_of_ambiguous_brightness_or_order_are_refused(tmp_path):
    dream, frames = DreamEnv(tiny_world(), "codes"), own_frames(steps=1)[0]
    Image.fromarray(frames[0, 0]).save(tmp_path / "0.png")
    (tmp_path / "text.png").write_text("a text")
    for given, message in (
        (frames * 1.0, r"options\['frames'\]: pixels of type float64 .* floats must be in \[0, 1\]"),
        (frames[0, 0].transpose(2, 0, 1), "their channels seem to come first"),
        (tmp_path / "text.png", r"text\.png is not a picture that Pillow can read"),
    ):
        with pytest.raises(ValueError, match=message):
            dream.reset(options={"frames": given})
    with pytest.raises(FileNotFoundError, match=r"gone\.png is missing"):
        dream.reset(options={"frames": tmp_path / "gone.png"})
    (tmp_path / "text.png").unlink()
    for number in (1, 2):
        Image.fromarray(frames[0, 0]).save(tmp_path / f"{number}.png")
    with pytest.raises(ValueError, match=r"has 3 images; wanted one, or a multiple of 2"):
        dream.reset(options={"frames": tmp_path})


def test_rows_that_start_from_the_same_frames_have_different_futures():
    envs = DreamVectorEnv(3, tiny_world(), "codes")
    observations, _ = envs.reset(seed=1, options={"frames": own_frames()[0, :1]})
    assert (observations == observations[0]).all()
    observations = envs.step(np.zeros(3, np.int64))[0]
    assert not np.array_equal(observations[0], observations[1])


def test_named_signals_may_differ_by_row():
    world = WorldModel(replace(tiny_config(), signal_names=("HEALTH", "ARMOR"))).prepare(torch.float32)
    world.starts = tiny_world().starts._replace(signals=torch.full((5, 3, 2), 7.0))
    envs = DreamVectorEnv(2, world, "codes")
    frames = np.zeros((16, 16, 3), np.uint8)
    for armor, shown in ((None, [7, 7]), (3, [3, 3]), ([4, 5], [4, 5])):
        signals = {"HEALTH": [80, 20]} | ({} if armor is None else {"ARMOR": armor})
        _, infos = envs.reset(options={"frames": frames, "signals": signals})
        assert infos["HEALTH"].tolist() == [80, 20] and infos["ARMOR"].tolist() == shown


def test_a_masked_reset_uses_the_frames_of_its_rows():
    world = tiny_world()
    envs = DreamVectorEnv(3, world, "codes", autoreset_mode="disabled")
    before, _ = envs.reset(seed=1)
    frames = own_frames(steps=1)
    options = {"frames": frames, "reset_mask": np.array([False, True, False])}
    observations, _ = envs.reset(options=options)
    np.testing.assert_array_equal(observations[1], world.tokenizer.encode(torch.from_numpy(frames))[1, 0])
    np.testing.assert_array_equal(observations[[0, 2]], before[[0, 2]])


def test_a_single_env_begins_with_the_users_frames():
    world = tiny_world()
    env = DreamEnv(world, obs="codes")
    frames = own_frames(1, 2)[0]
    observation, info = env.reset(seed=0, options={"frames": frames, "actions": [1], "signals": [33.0]})
    np.testing.assert_array_equal(observation, world.tokenizer.encode(torch.from_numpy(frames)[None])[0, -1])
    assert info["HEALTH"] == 33.0


def test_after_the_users_frames_dreams_begin_from_the_default_source_again():
    envs = DreamVectorEnv(3, tiny_world(), "codes", horizon=1)
    envs.model.heads.threshold.fill_(2.0)
    envs.reset(seed=1, options={"frames": own_frames()[0, :1]})
    observations = envs.step(ACTIONS)[0]
    starts = envs.model.starts.codes[:, -1].numpy()
    assert all(any(np.array_equal(row, start) for start in starts) for row in observations)


def test_one_reset_can_begin_elsewhere():
    world = tiny_world(learn_start=True)
    envs = DreamVectorEnv(3, world, "codes")
    usual, _ = envs.reset(seed=1)
    own, _ = envs.reset(seed=1, options={"from": "prior"})
    assert not np.array_equal(usual, own)
    always = DreamVectorEnv(3, world, "codes", seed_from="prior")
    np.testing.assert_array_equal(always.reset(seed=1)[0], own)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": own_frames()[0, :, :1]}, "frames must be"),
        ({"frames": own_frames()[0]}, r"frames of 3 steps need options\['actions'\]"),
        ({"frames": own_frames()[0], "actions": [0]}, "frames of 3 steps need 2 actions between them, got 1"),
        ({"frames": own_frames(2, 1)}, "an entry for each of 3 rows"),
        ({"frames": own_frames()[0], "actions": [0, 7]}, "action"),
        ({"frames": own_frames()[0, :1], "signals": {"HELTH": 1}}, "Did you mean 'HEALTH'"),
        ({"frames": own_frames()[0], "actions": [0.9, 1.7]}, "must be integers for these discrete actions"),
        ({"frames": own_frames()[0, :1], "signals": {"HEALTH": np.nan}}, "signals'] must be finite"),
        ({"frames": own_frames()[0, :1], "signals": [np.inf]}, "signals'] must be finite"),
        ({"frames": own_frames()[0, :1], "from": "prior"}, '"frames" and "from" exclude each other'),
        ({"signals": {"HEALTH": 1}}, 'needs "frames"'),
        ({"from": "nowhere"}, "neither the folder of a store"),
        ({"from": "prior"}, "learn_start=True"),
    ],
)
def test_invalid_resets_are_refused_and_the_dreams_continue(options, message):
    envs, other = (DreamVectorEnv(3, tiny_world(), "codes") for _ in range(2))
    for one in (envs, other):
        one.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        envs.reset(seed=1, options=options)
    assert_equal_plays(play(envs, 3), play(other, 3))
