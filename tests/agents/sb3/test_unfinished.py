"""Interrupted trainings by PPO: resumed in dreams they give the agent of an unbroken one."""

import json
from contextlib import suppress
from itertools import combinations, product

import gymnasium as gym
import pytest
import torch
from safetensors.torch import load_file
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from tests.agents.trained import META, dreams, small
from tests.kills import kill_everywhere, litter
from tests.tiny import tiny_world
from tests.toy_game import ToyGame
from worldmodel.agents.sb3 import train as training
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.agents.sb3.eval_callback import RealEvalCallback
from worldmodel.agents.sb3.train import is_trained, train_policy, train_ppo
from worldmodel.agents.sb3.unfinished import FOLDER
from worldmodel.agents.sb3.vec_env import SB3VecEnv
from worldmodel.envs.dream.mixed import MixedDreams
from worldmodel.envs.dream.vector_env import DreamVectorEnv
from worldmodel.envs.wrappers import ThreadVectorEnv


@pytest.fixture(autouse=True)
def every_update_is_saved(monkeypatch):
    monkeypatch.setattr(training, "_SAVE_EVERY", 1)


class Stop(Exception):  # noqa: N818 (not an error)
    pass


def stop_after(updates):
    done = []

    def on_rollout(_):
        done.append(1)
        if len(done) == updates:
            raise Stop

    return on_rollout


def weights(folder):
    return load_file(folder / "agent" / "model.safetensors")


def assert_equal(ours, theirs):
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) and ours.keys() == theirs.keys()


MAKERS = {
    "latent": lambda: dreams("latent", horizon=5),
    "features": lambda: dreams("features", horizon=5),
    "rgb": lambda: dreams("rgb", horizon=5),
    "two worlds": lambda: MixedDreams([DreamVectorEnv(2, tiny_world(2), obs="latent", horizon=5) for _ in range(2)]),
}
CONFIGS = {
    "plain": {},
    "stacked": {"frame_stack": 3},
    "durations": {"previous_action": True, "durations": (1, 3)},
}


@pytest.mark.parametrize(
    ("envs", "config"), [("latent", "plain"), ("features", "durations"), ("rgb", "stacked"), ("two worlds", "stacked")]
)
def test_resumed_training_in_dreams_equals_unbroken_training(tmp_path, envs, config):
    settings = small(steps=96, **CONFIGS[config])
    train_ppo(MAKERS[envs](), settings, tmp_path / "unbroken", META)
    for updates in (2, 1):  # interrupted twice
        with pytest.raises(Stop):
            train_ppo(MAKERS[envs](), settings, tmp_path / "broken", META, on_rollout=stop_after(updates))
    assert not is_trained(tmp_path / "broken", settings, META)
    model = train_ppo(MAKERS[envs](), settings, tmp_path / "broken", META)
    assert model.num_timesteps == 96 and is_trained(tmp_path / "broken", settings, META)
    assert_equal(weights(tmp_path / "broken"), weights(tmp_path / "unbroken"))
    assert not (tmp_path / "broken" / FOLDER).exists()


def test_a_resumed_training_keeps_one_line_of_metrics_for_each_update(tmp_path):
    settings = small(steps=80)
    train_ppo(dreams("latent", horizon=5), settings, tmp_path / "unbroken", META)
    with pytest.raises(Stop):
        train_ppo(dreams("latent", horizon=5), settings, tmp_path / "broken", META, on_rollout=stop_after(3))
    with open(tmp_path / "broken" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"time/total_timesteps": 64}\n{"time/tot')  # of an update that was not saved, and half a line
    train_ppo(dreams("latent", horizon=5), settings, tmp_path / "broken", META)
    runs = [
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("unbroken", "broken")
    ]
    for name in ("time/total_timesteps", "rollout/ep_rew_mean", "train/loss"):
        assert [line.get(name) for line in runs[0]] == [line.get(name) for line in runs[1]]
    assert [line["time/total_timesteps"] for line in runs[1]] == [16, 32, 48, 64, 80]


def test_damaged_lines_of_metrics_are_left_out_and_counted(tmp_path, capsys):
    with pytest.raises(Stop):
        train_ppo(dreams("latent"), small(steps=48), tmp_path, META, on_rollout=stop_after(2))
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    name = b'{"time/total_timesteps": '
    odd = [b"\xff\xfe\x00", b"3", b"[]", b"null", b"{}", b"[" * 100_000, name + b"null}", name + b'"16"}']
    path.write_bytes(b"\n".join(odd) + b"\n" + whole)
    train_ppo(dreams("latent"), small(steps=48), tmp_path, META)
    assert f"{path}: {len(odd)} damaged lines are left out" in capsys.readouterr().out
    steps = [json.loads(line)["time/total_timesteps"] for line in path.read_text().splitlines()]
    assert steps == [16, 32, 48]


def test_a_training_that_was_stopped_resumes_too(tmp_path):
    settings = small(steps=64)
    train_ppo(dreams("latent"), settings, tmp_path / "unbroken", META)
    train_ppo(dreams("latent"), settings, tmp_path / "stopped", META, on_rollout=lambda _: False)
    assert not is_trained(tmp_path / "stopped", settings, META)
    train_ppo(dreams("latent"), settings, tmp_path / "stopped", META)
    assert is_trained(tmp_path / "stopped", settings, META)


def test_evaluations_resume_with_the_training(tmp_path):
    def judged(folder, updates=None):
        seen = []
        games = VecMonitor(SB3VecEnv(dreams("latent", 2, horizon=4)))
        judge = RealEvalCallback(games, 32, 2, on_best=lambda model: seen.append(model.num_timesteps))
        stop = None if updates is None else stop_after(updates)
        with suppress(Stop):
            train_ppo(dreams("latent"), small(steps=96), tmp_path / folder, META, on_rollout=stop, callback=judge)
        return judge.judgements, judge.best_timesteps, judge.best_mean_reward

    unbroken = judged("unbroken")
    judged("broken", 3)
    assert judged("broken") == unbroken and [steps for steps, _ in unbroken[0]] == [32, 64, 96]


def test_a_training_on_a_game_resumes_with_new_episodes(tmp_path, monkeypatch):
    gym.register("Toy-resumed", entry_point=ToyGame)
    save, made = training.save_agent, []

    def failing(model, *args):
        made.append(model.num_timesteps)
        if len(made) == 3:
            raise Stop
        return save(model, *args)

    monkeypatch.setattr(training, "save_agent", failing)
    try:
        with pytest.raises(Stop):
            train_policy("Toy-resumed", tmp_path, small(steps=96))
        folder = train_policy("Toy-resumed", tmp_path, small(steps=96))
    finally:
        del gym.registry["Toy-resumed"]
    load_agent(folder)
    assert made == [16, 32, 48, 48, 64, 80, 96]  # the update that was not saved is made again


def test_a_resumed_training_on_a_game_does_not_repeat_its_first_episodes(tmp_path):
    def games():
        return SB3VecEnv(ThreadVectorEnv(ToyGame, 4))

    def first_frames(envs, **options):
        seen, reset = [], envs.reset
        envs.reset = lambda: seen.append(reset()) or seen[-1]
        with suppress(Stop):
            train_ppo(envs, small(steps=48), tmp_path, META, **options)
        envs.close()
        assert len(seen) == 1
        return seen[0]

    begun = first_frames(games(), on_rollout=stop_after(1))
    again = [first_frames(games(), on_rollout=stop_after(1)), first_frames(games())]
    assert is_trained(tmp_path, small(steps=48), META)
    for earlier, later in combinations([begun, *again], 2):
        assert not any((frame == other).all() for frame, other in product(earlier, later))


def test_envs_under_wrappers_of_ones_own_resume_with_new_dreams(tmp_path):
    def wrapped():
        return VecNormalize(SB3VecEnv(dreams("latent")), norm_obs=False)

    with pytest.raises(Stop):
        train_ppo(wrapped(), small(steps=64), tmp_path, META, on_rollout=stop_after(2))
    assert not list((tmp_path / FOLDER).glob("dream-*"))
    assert train_ppo(wrapped(), small(steps=64), tmp_path, META).num_timesteps == 64


def test_a_training_killed_before_its_first_save_starts_over(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_SAVE_EVERY", 1000)
    with pytest.raises(Stop):
        train_ppo(dreams("latent"), small(steps=64), tmp_path, META, on_rollout=stop_after(2))
    assert not (tmp_path / FOLDER).exists()
    train_ppo(dreams("latent"), small(steps=64), tmp_path, META)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["time/total_timesteps"] for line in lines] == [16, 32, 48, 64]


def test_a_damaged_state_is_refused_and_names_the_way_out(tmp_path):
    with pytest.raises(Stop):
        train_ppo(dreams("latent"), small(steps=64), tmp_path, META, on_rollout=stop_after(2))
    file = tmp_path / FOLDER / "ppo.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"ppo\.pt is damaged.*delete .*resume to train from the first step"):
        train_ppo(dreams("latent"), small(steps=64), tmp_path, META)


def test_an_unfinished_agent_of_other_settings_is_left_alone(tmp_path):
    with pytest.raises(Stop):
        train_ppo(dreams("latent"), small(steps=64), tmp_path, META, on_rollout=stop_after(2))
    with pytest.raises(ValueError, match=r"an unfinished agent with other settings \(seed is 0 there, 1 here\)"):
        train_ppo(dreams("latent"), small(steps=64, seed=1), tmp_path, META)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("every", [29, pytest.param(3, marks=pytest.mark.slow)])
def test_a_training_killed_at_any_file_operation_resumes_with_the_same_command(tmp_path, every):
    settings = small(steps=48)

    def train(folder):
        train_ppo(dreams("latent"), settings, folder, META)

    train(tmp_path / "unbroken")
    kills = 0
    for _ in kill_everywhere(tmp_path / "nothing", tmp_path / "killed" / "run", train, first=1, every=every):
        kills += 1
        train(tmp_path / "killed" / "run")
        assert_equal(weights(tmp_path / "killed" / "run"), weights(tmp_path / "unbroken"))
        assert is_trained(tmp_path / "killed" / "run", settings, META)
        assert not (tmp_path / "killed" / "run" / FOLDER).exists() and not litter(tmp_path / "killed")
    assert kills * every > 65
