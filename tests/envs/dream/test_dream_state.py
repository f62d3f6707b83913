"""A dream env's state, its futures, and its life on the device."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from tests.tiny import tiny_world
from worldmodel.dynamics import DreamState
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv

ACTIONS = np.array([0, 1, 2])


def play(envs, steps):
    return [envs.step(ACTIONS)[:4] for _ in range(steps)]


def assert_equal_plays(one, other):
    for a, b in zip(one, other, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


# --- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obs", ["rgb", "features"])
@pytest.mark.parametrize("kind", [{}, {"position": "time", "max_steps": 6, "window": 6}, {"net": "subscale"}], ids=str)
def test_a_restored_state_continues_identically_through_resets(tmp_path, obs, kind):
    world = tiny_world(**kind)
    envs = DreamVectorEnv(3, world, obs, horizon=5)
    envs.reset(seed=2)
    play(envs, 3)
    envs.state.save(tmp_path / "state.safetensors")
    unbroken = play(envs, 12)
    assert any(truncations.any() for *_, truncations in unbroken)
    other = DreamVectorEnv(3, tiny_world(**kind), obs, horizon=5)  # never reset: it continues from the file
    other.state = DreamState.load(tmp_path / "state.safetensors")
    assert_equal_plays(play(other, 12), unbroken)


def test_a_state_is_a_copy_on_both_sides():
    envs = DreamVectorEnv(3, tiny_world(), "codes")
    envs.reset(seed=2)
    state = envs.state
    first = play(envs, 4)
    envs.state = state
    again = play(envs, 4)
    envs.state = state
    assert_equal_plays(first, again)
    assert_equal_plays(first, play(envs, 4))


def test_setting_a_state_repeats_the_resets_that_followed_it():
    envs = DreamVectorEnv(3, tiny_world(), "codes", horizon=2)
    envs.reset(seed=2)
    state = envs.state
    first = play(envs, 7)
    envs.reset(seed=9)  # other keys
    envs.state = state
    assert_equal_plays(play(envs, 7), first)


def test_a_state_decides_the_resets_of_an_env_that_was_never_reset():
    dream = DreamEnv(tiny_world(), "codes")
    dream.reset(seed=2)
    state = dream.state
    wanted = [dream.reset()[0] for _ in range(2)]
    other = DreamEnv(tiny_world(), "codes")
    other.state = state
    np.testing.assert_array_equal([other.reset()[0] for _ in range(2)], wanted)


@pytest.mark.parametrize("obs", ["rgb", "latent", "features"])
def test_rows_that_are_not_reset_show_the_restored_state(obs):
    envs = DreamVectorEnv(3, tiny_world(), obs, autoreset_mode="disabled")
    envs.reset(seed=2)
    seen = envs.step(ACTIONS)[0]
    state = envs.state
    play(envs, 2)
    envs.state = state
    observations, _ = envs.reset(options={"reset_mask": np.array([False, True, False])})
    np.testing.assert_array_equal(observations[[0, 2]], seen[[0, 2]])


def test_the_return_of_a_restored_dream_includes_earlier_rewards():
    envs = DreamVectorEnv(3, tiny_world(), horizon=6)
    envs.model.heads.threshold.fill_(2.0)
    envs.reset(seed=2)
    earned = sum(rewards for _, rewards, *_ in play(envs, 4))
    other = DreamVectorEnv(3, envs.model, horizon=6)
    other.state = envs.state
    earned = earned + other.step(ACTIONS)[1]
    *_, rewards, _, truncations, infos = other.step(ACTIONS)
    assert truncations.all()
    np.testing.assert_allclose(infos["final_info"]["episode"]["r"], earned + rewards, rtol=1e-5)
    assert infos["final_info"]["episode"]["l"].tolist() == [6, 6, 6]


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_a_row_that_awaits_its_reset_still_does_in_a_resumed_env(tmp_path, mode):
    envs, other = (DreamVectorEnv(3, tiny_world(), "codes", horizon=4, autoreset_mode=mode) for _ in range(2))
    for one in (envs, other):
        one.reset(seed=2)
    play(envs, 2)
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert play(envs, 2)[-1][3].tolist() == [True, False, True]
    envs.state.save(tmp_path / "state.safetensors")
    other.state = DreamState.load(tmp_path / "state.safetensors")
    if mode == "next_step":
        assert_equal_plays(play(other, 6), play(envs, 6))
        return
    for one in (envs, other):
        with pytest.raises(ResetNeeded, match=r"\[0, 2\]"):
            one.step(ACTIONS)


def test_an_env_that_resets_at_once_awaits_no_reset_after_a_state_of_one_that_does():
    waiting, envs = (DreamVectorEnv(3, tiny_world(), "codes", autoreset_mode=m) for m in ("next_step", "same_step"))
    waiting.rules = replace(waiting.rules, horizon=1)
    waiting.reset(seed=2)
    assert play(waiting, 1)[0][3].all()
    envs.state = waiting.state
    assert all(rewards.all() for _, rewards, *_ in play(envs, 2))  # rows that are being reset would get 0


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_an_env_that_resets_at_once_begins_rows_that_ended_before_their_state_was_taken(mode):
    waiting, envs, unbroken = (
        DreamVectorEnv(3, tiny_world(), "codes", horizon=3, autoreset_mode=m) for m in (mode, "same_step", "same_step")
    )
    for one in (waiting, unbroken):
        one.reset(seed=2)
        play(one, 1)
        one.reset(options={"reset_mask": np.array([False, True, False])})
        assert play(one, 2)[-1][3].tolist() == [True, False, True]
    envs.state = waiting.state
    assert_equal_plays(play(envs, 7), play(unbroken, 7))


@pytest.mark.parametrize("mask", [[False, True, False], [True, True, True]], ids=["one row", "all rows"])
def test_tensors_that_a_caller_added_to_a_state_stay_with_their_rows_through_resets(mask):
    envs = DreamVectorEnv(3, tiny_world(), "codes", horizon=4)
    envs.reset(seed=2)
    state = envs.state
    state.extras["player"] = torch.tensor([7, 8, 9])
    envs.state = state
    envs.reset(options={"reset_mask": np.array(mask)})
    play(envs, 5)
    assert envs.state.extras["player"].tolist() == [7, 8, 9]


def test_rows_of_a_state_can_be_selected_and_repeated():
    envs = DreamVectorEnv(3, tiny_world(), "codes")
    envs.reset(seed=2)
    play(envs, 2)
    state = envs.state
    straight = envs.step(ACTIONS)[0]
    copies = DreamVectorEnv(4, tiny_world(), "codes")
    copies.state = state.select([1]).repeat(4)
    observations = copies.step(np.array([1, 1, 1, 0]))[0]
    np.testing.assert_array_equal(observations[0], straight[1])
    np.testing.assert_array_equal(observations[0], observations[2])


def test_an_env_continues_from_a_state_begun_by_the_model():
    world = tiny_world()
    frames = np.random.default_rng(0).integers(256, size=(3, 1, 2, 16, 16, 3), dtype=np.uint8)
    envs = DreamVectorEnv(3, world, "codes")
    envs.state = world.start(frames, np.zeros((3, 0), np.int64), seeds=[5, 6, 7])
    state = world.start(frames, np.zeros((3, 0), np.int64), seeds=[5, 6, 7])
    _, out = world.step(state, torch.from_numpy(ACTIONS))
    np.testing.assert_array_equal(envs.step(ACTIONS)[0], out.codes)


def test_a_single_envs_state_is_that_of_a_row():
    env = DreamEnv(tiny_world(), obs="codes")
    env.reset(seed=4)
    state = env.state
    first = [env.step(a)[0] for a in (0, 1, 2)]
    env.state = state
    np.testing.assert_array_equal(first, [env.step(a)[0] for a in (0, 1, 2)])
    with pytest.raises(ValueError, match=r"dreams 1 rows, the state has 2; use state.select"):
        env.state = state.repeat(2)


@pytest.mark.parametrize("what", ["state", "imagine", "step_torch"])
def test_a_dream_must_begin_before_it_is_used(what):
    envs = DreamVectorEnv(3, tiny_world())
    asked = {
        "state": lambda: envs.state,
        "imagine": lambda: envs.imagine(np.zeros((3, 1, 1), np.int64)),
        "step_torch": lambda: envs.step_torch(torch.zeros(3, dtype=torch.int64)),
    }
    with pytest.raises(ResetNeeded, match=f"before {what}"):
        asked[what]()


# --- futures ---------------------------------------------------------------------------------------------------------


def test_an_imagined_future_comes_true_and_imagining_changes_nothing():
    envs, untouched = (DreamVectorEnv(3, tiny_world(), "codes") for _ in range(2))
    for one in (envs, untouched):
        one.model.heads.threshold.fill_(2.0)
        one.reset(seed=2)
        play(one, 2)
    actions = np.random.default_rng(0).integers(3, size=(3, 4, 5))
    branches = envs.imagine(actions)
    for t in range(5):
        observations, rewards, *_ = envs.step(actions[:, 0, t])
        np.testing.assert_array_equal(observations, branches.codes[:, 0, t])
        np.testing.assert_allclose(rewards, branches.rewards[:, 0, t], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(observations, untouched.step(actions[:, 0, t])[0])
    assert branches.rewards.shape == (3, 4, 5)


def test_a_single_env_imagines_n_futures():
    env = DreamEnv(tiny_world(), obs="codes")
    env.reset(seed=2)
    branches = env.imagine(np.array([[0, 1], [2, 0], [0, 1]]))
    assert branches.rewards.shape == (3, 2) and branches.codes.shape == (3, 2, 2, 2, 2)
    same = env.imagine(np.array([[0, 1], [0, 1]]), seeds=[7, 7])
    assert torch.equal(same.codes[0], same.codes[1])
    np.testing.assert_array_equal(env.step(0)[0], branches.codes[0, 0])


# --- on the device ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
def test_steps_in_torch_are_the_steps_in_numpy(obs):
    envs, on_device = (DreamVectorEnv(3, tiny_world(), obs, horizon=4, autoreset_mode="disabled") for _ in range(2))
    for one in (envs, on_device):
        one.reset(seed=0)
    for _ in range(9):
        observations, rewards, terminations, truncations, infos = envs.step(ACTIONS)
        dreamt = on_device.step_torch(torch.from_numpy(ACTIONS))
        np.testing.assert_array_equal(observations, dreamt.observations)
        np.testing.assert_array_equal(rewards, dreamt.rewards)
        np.testing.assert_array_equal(terminations, dreamt.terminations)
        np.testing.assert_array_equal(truncations, dreamt.truncations)
        for name in ("nll", "entropy", "HEALTH"):
            np.testing.assert_array_equal(infos[name], dreamt.infos[name])
        ended = dreamt.terminations | dreamt.truncations
        if ended.any():
            begun = on_device.reset_torch(ended)
            observations, _ = envs.reset(options={"reset_mask": ended.numpy()})
            np.testing.assert_array_equal(observations[ended.numpy()], begun)


@pytest.mark.parametrize("first", [0, 4])
@pytest.mark.parametrize("obs", ["rgb", "features"])
def test_a_reset_in_torch_of_no_row_begins_nothing(obs, first):
    envs, other = (DreamVectorEnv(3, tiny_world(first=first), obs) for _ in range(2))
    for one in (envs, other):
        one.reset(seed=4)
    begun = envs.reset_torch(torch.zeros(3, dtype=torch.bool))
    space = envs.observation_space
    assert begun.shape == (0, *space.shape[1:]) and begun.numpy().dtype == space.dtype
    assert_equal_plays(play(envs, 3), play(other, 3))


def test_a_masked_reset_shows_where_steps_in_torch_have_led_the_other_rows():
    envs = DreamVectorEnv(3, tiny_world(), "codes")
    begun, _ = envs.reset(seed=4)
    dreamt = envs.step_torch(torch.tensor(ACTIONS)).observations.numpy()
    again = envs.reset_torch(torch.tensor([False, False, True])).numpy()
    seen, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert (dreamt[1] != begun[1]).any() and (again[0] != begun[2]).any()
    np.testing.assert_array_equal(seen[1], dreamt[1])
    np.testing.assert_array_equal(seen[2], again[0])


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
def test_results_of_a_step_in_torch_outlive_the_reset_of_their_row(obs):
    envs = DreamVectorEnv(3, tiny_world(), obs, horizon=5)
    envs.reset(seed=4)
    step = envs.step_torch(torch.tensor(ACTIONS))
    seen, health = step.observations.clone(), step.infos["HEALTH"].clone()
    envs.reset_torch(torch.tensor([True, False, True]))
    assert torch.equal(step.observations, seen) and torch.equal(step.infos["HEALTH"], health)
    assert not torch.equal(step.infos["HEALTH"], envs.state.signals[:, 0])  # the rows did restart


@pytest.mark.parametrize("obs", ["rgb", "latent", "codes", "features"])
def test_a_policy_can_learn_from_steps_in_torch_and_change_them_in_place(obs):
    envs, other = (DreamVectorEnv(3, tiny_world(), obs) for _ in range(2))
    for one in (envs, other):
        one.reset(seed=4)
    actions = torch.tensor(ACTIONS)
    step, begun = envs.step_torch(actions), envs.reset_torch(torch.tensor([True, False, True]))
    other.step_torch(actions), other.reset_torch(torch.tensor([True, False, True]))
    for seen in (step.observations, begun):
        layer = torch.nn.Linear(seen[0].numel(), 1)
        layer(seen.flatten(1).float()).mean().backward()
        assert layer.weight.grad.any()
    for tensor in (*step[:4], *step.infos.values(), begun):
        tensor.zero_()
    assert torch.equal(envs.step_torch(actions).observations, other.step_torch(actions).observations)


@pytest.mark.gpu
def test_a_step_in_torch_never_waits_for_the_device():
    envs = DreamVectorEnv(64, "doom-hg", "latent", device="cuda", horizon=32)
    envs.reset(seed=0)
    actions = torch.zeros(64, dtype=torch.int64, device="cuda")
    envs.step_torch(actions)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            envs.step_torch(actions)
    finally:
        torch.cuda.set_sync_debug_mode("default")
