import json
import os
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.toy_game import ToyGame
from worldmodel import checkpoint
from worldmodel.agents.sb3.agent import check_fits, load_agent
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.model import WorldModel
from worldmodel.training import agent_tries
from worldmodel.training import train_agent as module
from worldmodel.training.cli.main import main
from worldmodel.training.train_agent import DreamTraining, train_agent

CONFIG = DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4)


@pytest.fixture
def world(tmp_path):
    return tiny_world().save_pretrained(tmp_path / "world")


def test_a_finished_agent_is_kept_and_any_other_refused(world, tmp_path, capsys):
    folder = train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    written = (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns
    assert train_agent(world, tmp_path / "run", CONFIG, device="cpu") == folder
    assert "has its 16 steps already" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"other settings \(.* there, .* here\); use another --out"):
        train_agent(world, tmp_path / "run", replace(CONFIG, horizon=5), device="cpu")
    tiny_world(seed=1).save_pretrained(world)
    with pytest.raises(ValueError, match=r"other settings \(.* there, .* here\); use another --out"):
        train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    assert (tmp_path / "run" / "metrics.jsonl").stat().st_mtime_ns == written


def test_an_agent_knows_its_world_from_any_working_folder(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = train_agent(os.path.relpath(world), tmp_path / "run", CONFIG, device="cpu")
    assert load_agent(folder).meta.world_model == str(world.resolve())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["horizon"] == 4


@pytest.fixture
def toy_world(tmp_path):
    """A world of the toy game, in place of a real one."""
    gym.register("TrainToy-v0", entry_point=ToyGame)
    world = tiny_world()
    world.config = replace(world.config, env_id="TrainToy-v0")
    yield world.save_pretrained(tmp_path / "toy-world")
    del gym.registry["TrainToy-v0"]


def test_an_agent_of_latents_is_evaluated_in_the_real_game_while_it_trains(toy_world, tmp_path, capsys):
    sizes = ["--agent.steps", "32", "--agent.num-envs", "4", "--agent.n-steps", "4", "--agent.batch-size", "8"]
    options = ["--obs", "latent", "--eval-every", "16", "--eval-episodes", "3", "--device", "cpu", *sizes]
    run = tmp_path / "run"
    assert main(["train-agent", "--world", str(toy_world), "--out", str(run), *options]) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["time/total_timesteps"] for line in lines if "eval/mean_reward" in line] == [16, 32]
    assert f"best agent: {run / 'best'}, " in (said := capsys.readouterr().out)
    assert "highest of 2 judgements (mean of 3 episodes, seeds 50000 to 50002)" in said
    selection = json.loads((run / "selection.json").read_text())
    means = [line["eval/mean_reward"] for line in lines if "eval/mean_reward" in line]
    assert selection["judgements"] == [{"steps": 16 * (1 + i), "mean": mean} for i, mean in enumerate(means)]
    assert selection["best"] in selection["judgements"] and selection["best"]["mean"] == max(means)
    assert selection["seeds"] == [50_000, 50_001, 50_002] and selection["episodes"] == 3
    for folder in (run / "agent", run / "best"):
        agent = load_agent(folder)
        assert agent.meta.view == "latent" and agent.meta.env_id == "TrainToy-v0"
    judge = ["evaluate", str(run / "best"), "--episodes", "3"]
    assert main([*judge, "--env", "TrainToy-v0"]) == 0
    assert main([*judge, "--env", "VideoGenDream-Doom", "--world", str(toy_world), "--horizon", "4"]) == 0
    assert main(["train-agent", "--world", str(toy_world), "--out", str(run), *options, "--eval-episodes", "4"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_evaluations_do_not_change_the_training(toy_world, tmp_path):
    weights = []
    for name, config in (("a", CONFIG), ("b", replace(CONFIG, eval_every=16, eval_episodes=1))):
        folder = train_agent(toy_world, tmp_path / name, config, device="cpu")
        weights.append((folder / "model.safetensors").read_bytes())
    assert weights[0] == weights[1] and not (tmp_path / "a" / "best").exists()


def test_evaluations_use_the_requested_seeds(toy_world, tmp_path):
    judged = replace(CONFIG, eval_every=16, eval_episodes=4)
    means = []
    for name, seed in (("usual", 50_000), ("other", 7)):
        train_agent(toy_world, tmp_path / name, replace(judged, eval_seed=seed), device="cpu")
        selection = json.loads((tmp_path / name / "selection.json").read_text())
        assert selection["seeds"] == [seed, seed + 1, seed + 2, seed + 3]
        means.append(selection["best"]["mean"])
    assert means[0] != means[1]


def test_survival_rewards_steps_and_is_stored_with_the_agent(world, tmp_path, monkeypatch):
    folder = train_agent(world, tmp_path / "run", replace(CONFIG, reward="survival"), device="cpu")
    assert load_agent(folder).meta.reward == "survival"
    assert load_agent(train_agent(world, tmp_path / "usual", CONFIG, device="cpu")).meta.reward == "world"
    with pytest.raises(ValueError, match=r"other settings \(meta\.reward is 'survival' there, 'world' here\)"):
        train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    monkeypatch.setattr(module, "train_ppo", lambda envs, *_, **__: seen.append(play(envs)))
    seen: list = []
    mortal = tiny_world()
    mortal.heads.threshold.fill_(0.06)  # ends about a quarter of the steps
    mortal.save_pretrained(world)
    for reward in ("survival", "world"):
        train_agent(world, tmp_path / f"not trained, {reward}", replace(CONFIG, reward=reward), device="cpu")
    (paid, ended), (rewarded, as_before) = seen
    assert (ended == as_before).all() and ended.any() and not ended.all()
    assert (paid == ~ended).all() and not np.isin(rewarded, (0, 1)).all()


def play(envs):
    """Rewards and terminations of 24 steps of each row, (24, B) each."""
    envs.reset(seed=0)
    steps = [envs.step(np.zeros(envs.num_envs, np.int64)) for _ in range(24)]
    return np.stack([step[1] for step in steps]), np.stack([step[2] for step in steps])


@pytest.fixture
def sister(world, tmp_path):
    """A world with the same tokenizer as the first and other dynamics."""
    other = tiny_world(seed=1)
    other.tokenizer.load_state_dict(tiny_world().tokenizer.state_dict())
    return other.save_pretrained(tmp_path / "sister")


def test_an_agent_of_two_worlds_has_the_first_as_its_world_and_names_both(world, sister, tmp_path, capsys):
    options = ["--agent.steps", "16", "--agent.num-envs", "5", "--agent.n-steps", "4", "--agent.batch-size", "10"]
    run = ["train-agent", "--out", str(tmp_path / "run"), "--device", "cpu", *options, "--world", str(world)]
    assert main([*run, str(sister)]) == 0
    meta = load_agent(tmp_path / "run").meta
    assert meta.world_model == str(world) and len(meta.more_worlds) == 1
    assert meta.more_worlds[0] == f"{sister} (sha256 {checkpoint.weights_name(sister)})"
    assert main(["inspect", str(tmp_path / "run")]) == 0 and meta.more_worlds[0] in capsys.readouterr().out
    assert main([*run, str(sister)]) == 0 and "steps already" in capsys.readouterr().out
    assert main(run) == 2 and "other settings (meta.more_worlds" in capsys.readouterr().err


def test_an_agent_of_two_worlds_plays_in_both_and_in_no_third(world, sister, tmp_path):
    config = replace(CONFIG, agent=replace(CONFIG.agent, num_envs=4))
    agent = load_agent(train_agent([world, sister], tmp_path / "run", config, device="cpu"))
    for folder in (world, sister):
        check_fits(agent, "it", WorldModel.from_pretrained(folder))
    third = tiny_world(seed=2)
    third.tokenizer.load_state_dict(tiny_world().tokenizer.state_dict())
    with pytest.raises(ValueError, match="features of other dynamics"):
        check_fits(agent, "it", third.prepare())
    third.save_pretrained(sister)  # no longer the world in which it was trained
    with pytest.raises(ValueError, match="features of other dynamics"):
        check_fits(agent, "it", WorldModel.from_pretrained(sister))


def test_rows_dream_of_all_worlds(world, sister, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "train_ppo", lambda envs, *_, **__: seen.append(envs.parts))
    seen: list = []
    config = replace(CONFIG, agent=replace(CONFIG.agent, num_envs=3, batch_size=6), reward="survival")
    train_agent([world, sister], tmp_path / "run", config, device="cpu")
    assert [part.num_envs for part in seen[0]] == [2, 1]
    rewards = [play(part)[0] for part in seen[0]]
    assert all((each == 1).all() for each in rewards)
    weights = [part.model.dynamics.state_dict() for part in seen[0]]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_worlds_that_do_not_fit_together_leave_no_run_behind(world, tmp_path):
    other, paid = tiny_world(seed=1), tiny_world()
    paid.config = replace(paid.config, reward="native")
    other, paid = (each.save_pretrained(tmp_path / name) for each, name in ((other, "other"), (paid, "paid")))
    for worlds, message in (
        ([world, other], f"{other} has another tokenizer than {world}"),
        ([world, paid], "predicts the reward 'native', .* 'health': .*reward=\"survival\""),
        ([world] * 5, "5 worlds need at least as many rows, got 4"),
        ([], "no world to train in"),
    ):
        with pytest.raises(ValueError, match=message):
            train_agent(worlds, tmp_path / "run", CONFIG, device="cpu")
    assert not (tmp_path / "run").exists()
    train_agent([world, paid], tmp_path / "run", replace(CONFIG, reward="survival"), device="cpu")


def test_a_finished_agent_of_an_earlier_release_is_kept(world, tmp_path, capsys):
    folder = train_agent(world, tmp_path / "run", CONFIG, device="cpu")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    for name in ("reward", "more_worlds"):
        del config["meta"][name]
    for name in ("previous_action", "durations"):
        del config[name]
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    assert train_agent(world, tmp_path / "run", CONFIG, device="cpu") == folder
    assert "has its 16 steps already" in capsys.readouterr().out


def test_a_world_without_a_game_cannot_evaluate(tmp_path):
    world = tiny_world()
    world.config = replace(world.config, env_id="")
    with pytest.raises(ValueError, match="does not name its game"):
        train_agent(world.save_pretrained(tmp_path / "world"), tmp_path / "run", replace(CONFIG, eval_every=1))
    assert not (tmp_path / "run").exists()


def test_a_world_without_rewards_cannot_train_an_agent(tmp_path):
    world = tiny_world()
    world.config = replace(world.config, reward="none")
    folder = world.save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match=r"had no rewards, .* reward_fn="):
        train_agent(folder, tmp_path / "run", CONFIG)
    assert not (tmp_path / "run").exists()
    train_agent(folder, tmp_path / "run", replace(CONFIG, reward="survival"), device="cpu")


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="eval_every must be at least 0, got -1"):
        DreamTraining(eval_every=-1)


def test_an_agent_can_start_from_another_and_then_differs_from_one_that_does_not(world, tmp_path):
    first = train_agent(world, tmp_path / "first", CONFIG, device="cpu")
    still = replace(CONFIG, agent=replace(CONFIG.agent, learning_rate=1e-12, seed=1))
    second = train_agent(world, tmp_path / "second", still, start_from=first, device="cpu")
    weights = [load_agent(folder).policy.state_dict() for folder in (first, second)]
    assert all(torch.allclose(weight, weights[1][name], atol=1e-6) for name, weight in weights[0].items())
    assert train_agent(world, tmp_path / "second", still, start_from=first, device="cpu") == second
    with pytest.raises(ValueError, match=r"other settings \(.* there, .* here\); use another --out"):
        train_agent(world, tmp_path / "second", still, device="cpu")


def test_a_world_is_refused_as_an_agent_to_start_from(world, tmp_path):
    with pytest.raises(ValueError, match="holds a world model, wanted an agent"):
        train_agent(world, tmp_path / "run", CONFIG, start_from=world, device="cpu")
    assert not (tmp_path / "run").exists()


def test_an_agent_trains_in_dreams_without_a_horizon_that_never_end(tmp_path, capsys):
    world = tiny_world(first=4)
    world.heads.threshold.fill_(2.0)
    folder = world.save_pretrained(tmp_path / "world")
    sizes = ["--agent.steps", "32", "--agent.num-envs", "4", "--agent.n-steps", "4", "--agent.batch-size", "8"]
    options = ["--device", "cpu", "--out", str(tmp_path / "run"), "--horizon", "None", *sizes]
    assert main(["train-agent", "--world", str(folder), *options]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["horizon"] is None
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert not any("rollout/ep_rew_mean" in line for line in lines) and lines[-1]["train/n_updates"]
    load_agent(tmp_path / "run")
    assert main(["train-agent", "--world", str(folder), *options]) == 0
    assert "has its 32 steps already" in capsys.readouterr().out


def test_dreams_begin_with_the_requested_starts(tmp_path, monkeypatch):
    folder = tiny_world(first=4).save_pretrained(tmp_path / "world")
    asked = []

    class Watched(module.DreamVectorEnv):
        def __init__(self, *args, **options):
            asked.append(options["starts"])
            super().__init__(*args, **options)

    monkeypatch.setattr(module, "DreamVectorEnv", Watched)
    for starts in ("all", "first"):
        train_agent(folder, tmp_path / starts, replace(CONFIG, starts=starts), device="cpu")
    assert asked == ["all", "first"]
    found = [json.loads((tmp_path / starts / "config.json").read_text()) for starts in ("all", "first")]
    assert "starts" not in found[0] and found[1]["starts"] == "first"  # those of earlier releases are kept


TRIES = replace(CONFIG, agent=replace(CONFIG.agent, steps=48), tries=3, try_steps=16)


def test_the_try_of_the_highest_dreamt_return_continues(world, tmp_path, capsys):
    run = tmp_path / "run"
    train_agent(world, run, TRIES, device="cpu")
    listed = json.loads((run / "tries" / "tries.json").read_text())["tries"]
    returns = [one["dreamt_return"] for one in listed]
    best = int(np.argmax(returns))
    assert [one["best"] for one in listed] == [index == best for index in range(3)] and len(set(returns)) == 3
    assert f"agent: try {best + 1} of 3 continues" in capsys.readouterr().out
    steps = [json.loads(line)["time/total_timesteps"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 32  # with the 16 of the try, 48
    further = replace(CONFIG, agent=replace(CONFIG.agent, steps=32))
    alone = train_agent(world, tmp_path / "alone", further, start_from=run / "tries" / str(best), device="cpu")
    assert load_agent(run).file.training.steps == 48
    weights = [load_agent(folder).policy.state_dict() for folder in (run / "agent", alone)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


def test_a_judged_agents_steps_are_counted_from_the_beginning_of_its_try(toy_world, tmp_path, capsys):
    config = replace(TRIES, eval_every=16, eval_episodes=2)
    train_agent(toy_world, tmp_path / "run", config, device="cpu")
    selection = json.loads((tmp_path / "run" / "selection.json").read_text())
    assert [judged["steps"] for judged in selection["judgements"]] == [32, 48]
    assert f"after {selection['best']['steps']} steps" in capsys.readouterr().out


def test_tries_are_kept_after_an_interruption_and_give_the_same_agent(world, tmp_path, monkeypatch, capsys):
    whole = train_agent(world, tmp_path / "whole", TRIES, device="cpu")
    train_ppo = agent_tries.train_ppo

    def broken_off(envs, config, folder, *args, **kwargs):
        if folder.name == "2":
            raise KeyboardInterrupt
        return train_ppo(envs, config, folder, *args, **kwargs)

    monkeypatch.setattr(agent_tries, "train_ppo", broken_off)
    with pytest.raises(KeyboardInterrupt):
        train_agent(world, tmp_path / "run", TRIES, device="cpu")
    monkeypatch.undo()
    kept = (tmp_path / "run" / "tries" / "0" / "metrics.jsonl").stat().st_mtime_ns
    folder = train_agent(world, tmp_path / "run", TRIES, device="cpu")
    assert (tmp_path / "run" / "tries" / "0" / "metrics.jsonl").stat().st_mtime_ns == kept
    weights = [load_agent(one).policy.state_dict() for one in (whole, folder)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    capsys.readouterr()
    assert train_agent(world, tmp_path / "run", TRIES, device="cpu") == folder
    assert "has its 48 steps already" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"other settings \(tries is 3 there, 2 here\)"):
        train_agent(world, tmp_path / "run", replace(TRIES, tries=2), device="cpu")


def test_tries_that_cannot_be_compared_or_continued_are_refused(world, tmp_path):
    with pytest.raises(ValueError, match=r"try_steps must be below agent\.steps.* got 48 of 48"):
        replace(TRIES, try_steps=48)
    with pytest.raises(ValueError, match="tries above 1"):
        DreamTraining(try_steps=16)
    assert DreamTraining(tries=2, agent=AgentConfig(steps=30_000)).first_steps == 10_000
    with pytest.raises(ValueError, match=r"no dream ended in the last updates of .*0, so tries cannot be compared"):
        train_agent(world, tmp_path / "run", replace(TRIES, horizon=100), device="cpu")


def test_tries_of_neighbouring_agents_have_seeds_far_apart():
    seeds = sorted(seed for agent in range(4) for seed in agent_tries.try_seeds(agent, 3))
    assert min(np.diff(seeds)) > 10_000
