"""Rewards and ends by the user's rules, doubt, and episode statistics."""

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from tests.tiny import tiny_world
from worldmodel.envs.dream.env import DreamEnv
from worldmodel.envs.dream.vector_env import DreamVectorEnv

ACTIONS = np.array([0, 1, 2])


def rollout(envs, steps=6, seed=3):
    """Rewards, terminations, truncations and infos of each step."""
    envs.reset(seed=seed)
    return [envs.step(ACTIONS)[1:] for _ in range(steps)]


def never_ending_world(**changes):
    world = tiny_world(**changes)
    world.heads.threshold.fill_(2.0)
    return world


# --- rewards and ends ------------------------------------------------------------------------------------------------


def test_a_reward_function_replaces_the_models_reward_and_sees_the_whole_step():
    seen = []

    def reward(step):
        seen.append((step.actions.tolist(), step.signals["HEALTH"].numpy(), step.signals_before["HEALTH"].numpy()))
        return step.signals["HEALTH"] - step.signals_before["HEALTH"] + 10 * step.actions

    envs = DreamVectorEnv(3, never_ending_world(), reward_fn=reward)
    _, first = envs.reset(seed=3)
    health = first["HEALTH"]
    for now, (rewards, *_, infos) in enumerate(rollout(envs)):
        np.testing.assert_allclose(rewards, infos["HEALTH"] - health + [0, 10, 20], rtol=1e-4, atol=1e-3)
        health = infos["HEALTH"]
        assert seen[now][0] == [0, 1, 2]
        np.testing.assert_array_equal(seen[now][1], health)
    assert rewards.dtype == np.float32


def test_the_dream_itself_does_not_depend_on_the_rewards():
    plain = DreamVectorEnv(3, never_ending_world(), obs="codes")
    paid = DreamVectorEnv(3, never_ending_world(), obs="codes", reward_fn=lambda step: step.reward * 0 + 1)
    for envs in (plain, paid):
        envs.reset(seed=1)
    for _ in range(5):
        one, other = plain.step(ACTIONS), paid.step(ACTIONS)
        np.testing.assert_array_equal(one[0], other[0])
        assert (other[1] == 1).all() and not (one[1] == 1).any()


@pytest.mark.parametrize("look", ["frames", "latents"])
def test_a_reward_can_look_at_the_step(look):
    def reward(step):
        made = getattr(step, look)()
        return made.float().flatten(1).mean(1)

    envs = DreamVectorEnv(3, never_ending_world(), obs="rgb", reward_fn=reward)
    envs.reset(seed=0)
    observations, rewards, *_ = envs.step(ACTIONS)
    if look == "frames":  # two frames, of which the observation is the last
        assert np.abs(rewards - observations.reshape(3, -1).mean(1)).max() < 30
    else:
        latent = DreamVectorEnv(3, never_ending_world(), obs="latent")
        latent.reset(seed=0)
        np.testing.assert_allclose(rewards, latent.step(ACTIONS)[0].reshape(3, -1).mean(1), rtol=1e-4, atol=1e-5)


def test_the_same_function_works_in_a_single_env():
    env = DreamEnv(never_ending_world(), reward_fn=lambda step: step.actions + 0.5)
    env.reset(seed=0)
    assert env.step(2)[1] == 2.5


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda step: 1.0, TypeError, "reward_fn must return a torch.Tensor"),
        (lambda step: step.latents(), ValueError, r"reward_fn must return shape \(3,\)"),
        (lambda step: step.reward / 0, ValueError, "reward_fn must return finite numbers"),
    ],
)
def test_invalid_rewards_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        rollout(DreamVectorEnv(3, never_ending_world(), reward_fn=given))


def test_a_game_variable_can_end_a_dream():
    plain = DreamVectorEnv(3, never_ending_world(), autoreset_mode="disabled")
    limit = np.median([infos["HEALTH"] for *_, infos in rollout(plain)])
    ending = DreamVectorEnv(3, never_ending_world(), terminate_when=f"HEALTH <= {limit:.3f}")
    ends = 0
    for _, terminations, truncations, infos in rollout(ending):
        health = np.where(terminations, infos.get("final_info", infos)["HEALTH"], infos["HEALTH"])
        np.testing.assert_array_equal(terminations, health <= round(float(limit), 3))
        assert not truncations.any()
        ends += terminations.sum()
        if ends:
            break  # what follows a reset begins with another health
    assert ends


def test_a_function_can_end_a_dream_and_the_models_own_ends_stay():
    world = tiny_world()
    world.heads.threshold.fill_(-1.0)  # every step ends
    envs = DreamVectorEnv(3, world, terminate_when=lambda step: step.actions == 1)
    assert rollout(envs, 1)[0][1].all()
    envs = DreamVectorEnv(3, never_ending_world(), terminate_when=lambda step: step.actions == 1)
    assert rollout(envs, 1)[0][1].tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"terminate_when": "HEALTH below 3"}, ValueError, 'such as "HEALTH <= 0"'),
        ({"terminate_when": "HELTH <= 3"}, ValueError, "Did you mean 'HEALTH'"),
        ({"terminate_when": 3}, ValueError, "NAME COMPARISON NUMBER"),
        ({"reward_fn": "sparse"}, TypeError, "function of a Transition"),
        ({"max_uncertainty": 0}, ValueError, "max_uncertainty must be above 0"),
        ({"uncertainty_penalty": -1}, ValueError, "uncertainty_penalty must be at least 0"),
        ({"uncertainty_penalty": np.inf}, ValueError, "uncertainty_penalty must be at least 0 and finite"),
        ({"uncertainty_penalty": None}, TypeError, "uncertainty_penalty must be a number, got None"),
        ({"horizon": "32"}, TypeError, "horizon must be a number or None, got '32'"),
        ({"horizon": np.nan}, ValueError, "horizon must be at least 1 step"),
        ({"horizon": 2.5}, ValueError, "horizon must be at least 1 step"),
        ({"temperature": "1"}, TypeError, "temperature must be a number, got '1'"),
    ],
)
def test_invalid_rules_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        DreamVectorEnv(3, tiny_world(), **options)


# --- doubt -----------------------------------------------------------------------------------------------------------


def test_uncertainty_truncates_and_costs():
    plain = rollout(DreamVectorEnv(3, never_ending_world(), autoreset_mode="disabled"), 1)[0]
    entropy = plain[3]["entropy"]
    limit = float(np.sort(entropy)[1])
    doubting = DreamVectorEnv(3, never_ending_world(), max_uncertainty=limit, uncertainty_penalty=0.5)
    rewards, terminations, truncations, _ = rollout(doubting, 1)[0]
    np.testing.assert_array_equal(truncations, entropy > limit)
    assert truncations.sum() == 1 and not terminations.any()
    np.testing.assert_allclose(rewards, plain[0] - 0.5 * entropy, rtol=1e-5)


def test_a_termination_is_never_a_truncation_however_uncertain_the_model_is():
    world = tiny_world()
    world.heads.threshold.fill_(-1.0)
    _, terminations, truncations, _ = rollout(DreamVectorEnv(3, world, max_uncertainty=1e-6, horizon=1), 1)[0]
    assert terminations.all() and not truncations.any()


# --- episode statistics ----------------------------------------------------------------------------------------------


def test_an_ended_dream_reports_its_return_and_length():
    ends = {2: [0, 2], 5: [1]}  # by action and time: rows 0 and 2 after three steps, row 1 after six
    envs = DreamVectorEnv(3, never_ending_world(), terminate_when=lambda step: step.reward > 1e9, horizon=4)
    sums, lengths, reported = np.zeros(3), np.zeros(3, int), 0
    for rewards, terminations, truncations, infos in rollout(envs, 13):
        sums, lengths, ended = sums + rewards, lengths + 1, terminations | truncations
        assert ("final_info" in infos) == ended.any()
        if ended.any():
            episode = infos["final_info"]["episode"]
            np.testing.assert_array_equal(infos["final_info"]["_episode"], ended)
            np.testing.assert_allclose(episode["r"][ended], sums[ended], rtol=1e-5)
            np.testing.assert_array_equal(episode["l"][ended], lengths[ended])
            sums[ended], lengths[ended] = 0, 0
            reported += ended.sum()
    assert reported == 9 and ends


@pytest.mark.parametrize("mode", ["next_step", "disabled"])
def test_gymnasiums_own_statistics_are_right_in_the_other_modes(mode):
    envs = RecordEpisodeStatistics(DreamVectorEnv(3, never_ending_world(), horizon=3, autoreset_mode=mode))
    envs.reset(seed=3)
    sums, reported = np.zeros(3), 0
    for _ in range(3):
        _, rewards, _, truncations, infos = envs.step(ACTIONS)
        sums += rewards
        if truncations.all():
            np.testing.assert_allclose(infos["episode"]["r"], sums, rtol=1e-5)
            assert infos["episode"]["l"].tolist() == [3, 3, 3]
            reported += 1
    assert reported == 1


def test_rules_of_the_wrong_type_are_refused_and_the_old_ones_stay():
    envs = DreamVectorEnv(3, never_ending_world(), horizon=4)
    with pytest.raises(
        TypeError, match=r"rules must be DreamRules, such as dataclasses.replace\(env.rules, horizon=9\)"
    ):
        envs.rules = {"horizon": 3}
    assert envs.rules.horizon == 4


def test_rules_can_change_while_dreams_are_running():
    envs, other = (DreamVectorEnv(3, never_ending_world(), "codes") for _ in range(2))
    for one in (envs, other):
        one.reset(seed=3)
        one.step(ACTIONS)
    envs.rules = replace(envs.rules, horizon=3, reward_fn=lambda step: step.reward * 0 + 7)
    other.step(ACTIONS)
    assert (envs.step(ACTIONS)[1] == 7).all()
    dreamt, straight = envs.step(ACTIONS), other.step(ACTIONS)
    assert dreamt[3].all()  # the third step since the reset, not since the change
    np.testing.assert_array_equal(np.stack(dreamt[4]["final_obs"]), straight[0])
    with pytest.raises(ValueError, match="Did you mean 'HEALTH'"):
        envs.rules = replace(envs.rules, terminate_when="HEALHT < 3")
    assert envs.rules.horizon == 3
