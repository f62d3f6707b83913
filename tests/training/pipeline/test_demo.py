import json
from dataclasses import replace
from functools import partial

import pytest

from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.agents.evaluate import Comparison, Evaluation
from worldmodel.agents.sb3.config import AgentConfig
from worldmodel.dynamics import GPTConfig
from worldmodel.evaluation.evaluate_model import summarize_model
from worldmodel.tokenizer import CodebookConfig, VQVAEConfig
from worldmodel.training.fit import LoopConfig
from worldmodel.training.pipeline import demo as module
from worldmodel.training.pipeline import round as round_module
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.pipeline.demo import demo
from worldmodel.training.pipeline.stages import Stages
from worldmodel.training.train_agent import DreamTraining, train_agent
from worldmodel.training.train_dynamics import DynamicsTraining
from worldmodel.training.train_tokenizer import TokenizerTraining

LOOP = LoopConfig(steps=4, batch_size=4, evaluate_every=2, save_every=2)
SMALL = DemoConfig(
    collect_steps=1500,
    workers=1,
    tokenizer=TokenizerTraining(
        model=VQVAEConfig(stage_widths=(8, 8, 8, 16), residual_units=8, codebook=CodebookConfig(num_codes=16)),
        loop=LOOP,
        validation_steps=16,
    ),
    dynamics=DynamicsTraining(
        model=GPTConfig(layers=1, width=16, heads=2), loop=LOOP, num_starts=8, validation_segments=8
    ),
    agent=DreamTraining(agent=AgentConfig(steps=16, num_envs=4, n_steps=4, batch_size=8), horizon=4),
    episodes=2,
)


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("config", [None, "{}", '{"steps": 3}'])
def test_a_folder_that_holds_something_else_is_not_changed(tmp_path, fresh, config):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "thesis.txt").write_text("precious")
    if config:
        (tmp_path / "config.json").write_text(config)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match="something other than a demo's run; use another --out"):
        demo(tmp_path, SMALL, fresh=fresh)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_agent_stage_is_left_to_the_training_to_resume(tmp_path, monkeypatch):
    stages = Stages(tmp_path, SMALL.with_seed(), fresh=False)
    for name in ("collect", "tokenizer", "dynamics"):
        stages(name, lambda: None)
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "metrics.jsonl").write_text("of the first attempt")

    def train(world, out, config, **_):
        assert (out / "metrics.jsonl").read_text() == "of the first attempt"
        raise KeyboardInterrupt

    monkeypatch.setattr(round_module, "train_agent", train)
    with pytest.raises(KeyboardInterrupt):
        demo(tmp_path, SMALL)


def test_an_agent_is_compared_with_random_and_blind_play_and_judged_in_its_dream(tmp_path):
    world = tiny_world().save_pretrained(tmp_path / "world")
    agent = train_agent(world, tmp_path / "agent", SMALL.agent, device="cpu")
    real = Evaluation(env_id="Toy", seed=0, returns=(1.0, 2.0), env_returns=(1.0, 2.0), lengths=(1, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "compare_with_random", lambda *_, **__: Comparison(real, real))
        patch.setattr(module, "play_best_blind", lambda *asked: asked == (SMALL.env_id, 2) and ("hold:0.9", real))
        rows = module._judge(agent, world, SMALL)
        patch.setattr(module, "play_best_blind", lambda *_: None)
        of_unknown = module._judge(agent, world, SMALL)
    assert [row["policy"] for row in rows[1:3]] == ["random", "best blind policy, `hold:0.9`"]
    assert of_unknown == [*rows[:2], rows[3]]
    assert rows[-1]["env_id"] == "its dream of VideoGenReal-DoomHealthGathering"


def test_an_agent_is_judged_in_the_kind_of_dream_that_it_was_trained_in(tmp_path, monkeypatch):
    world = tiny_world().save_pretrained(tmp_path / "world")
    trained = replace(SMALL.agent, starts="middle", temperature=0.5)
    agent = train_agent(world, tmp_path / "agent", trained, device="cpu")
    real = Evaluation(env_id="Toy", seed=0, returns=(1.0, 2.0), env_returns=(1.0, 2.0), lengths=(1, 1))
    asked = {}
    monkeypatch.setattr(module, "compare_with_random", lambda *_, **__: Comparison(real, real))
    monkeypatch.setattr(module, "play_best_blind", lambda *_: None)
    monkeypatch.setattr(module, "evaluate", lambda *_, **options: asked.update(options) or real)
    module._judge(agent, world, replace(SMALL, agent=trained))
    assert {name: asked[name] for name in ("starts", "temperature", "horizon")} == {
        "starts": "middle",
        "temperature": 0.5,
        "horizon": 4,
    }


@pytest.fixture
def of_an_earlier_release(tmp_path):
    """A demo that has collected, from before the setting `policy` existed."""
    Stages(tmp_path, SMALL.with_seed(), fresh=False)("collect", lambda: None)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["policy"], config["tokenizer"]["rarity"], config["tokenizer"]["rarity_limit"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_a_demo_of_an_earlier_release_continues_with_the_sticky_policy(of_an_earlier_release, monkeypatch):
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(round_module, "train_tokenizer", train)
    with pytest.raises(ValueError, match=r"policy is 'sticky' there, 'diverse' here"):
        demo(of_an_earlier_release, SMALL)
    with pytest.raises(KeyboardInterrupt):
        demo(of_an_earlier_release, replace(SMALL, policy="sticky"))


@pytest.mark.parametrize("name", ["episodes", "collect_steps", "workers"])
def test_sizes_that_would_fail_after_the_trainings_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        replace(SMALL, **{name: 0})


def test_a_demo_collects_with_the_diverse_policy_or_the_requested_one(tmp_path, monkeypatch):
    asked = []

    def collect(env_id, out, **options):
        asked.append(options["policy"])
        raise KeyboardInterrupt

    monkeypatch.setattr(round_module, "collect", collect)
    for name, config in (("usual", SMALL), ("held", replace(SMALL, policy="hold:0.9"))):
        with pytest.raises(KeyboardInterrupt):
            demo(tmp_path / name, config)
    assert asked == ["diverse", "hold:0.9"]
    with pytest.raises(ValueError, match=r"policy must be a scripted one .*got 'runs/agent'"):
        demo(tmp_path / "none", replace(SMALL, policy="runs/agent"))
    assert not (tmp_path / "none").exists()


def test_the_report_names_the_command_that_repeats_the_demo(tmp_path, monkeypatch):
    world = tiny_world().save_pretrained(tmp_path / "world")
    recorded_store(tmp_path / "data")
    (tmp_path / "returns.json").write_text("[]")
    monkeypatch.setattr(module, "write_dream_vs_real", lambda *_, **__: [])
    monkeypatch.setattr(module, "summarize_model", lambda *_, **__: {})
    made = []
    for config in (DemoConfig(), DemoConfig(seed=3), DemoConfig(env_id="Toy", episodes=5, seed=3)):
        module._report(tmp_path, world, config.with_seed(), {})
        made.append(json.loads((tmp_path / "report.json").read_text())["run"]["command"])
    assert made[:2] == ["videogen-dream demo", "videogen-dream demo --seed 3"]
    assert made[2] == "videogen-dream demo --env-id Toy --episodes 5 --seed 3"


def test_the_seed_reaches_every_stage():
    config = DemoConfig(seed=7).with_seed()
    assert config.tokenizer.loop.seed == config.dynamics.loop.seed == config.agent.agent.seed == 7


@pytest.mark.vizdoom
def test_the_demo_runs_from_nothing_to_a_report_and_repeats_no_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "summarize_model", partial(summarize_model, samples=2, max_segments=16))
    report = demo(tmp_path, SMALL)
    data = json.loads((tmp_path / "report.json").read_text())
    assert {"run", "returns", "dataset", "tokenizer", "open_loop", "dynamics", "heads", "speed"} <= set(data)
    policies = [row["policy"] for row in data["returns"]]
    assert policies[1:3] == ["random", "best blind policy, `cycle:move_forward*32,turn_right*8`"]
    assert all(
        row["mean"] > 100 and row["episodes"] == 2 for row in data["returns"][:3]
    )  # native returns: 4 for each step survived
    assert set(data["run"]["minutes"]) >= {"collect", "tokenizer", "dynamics", "agent", "judge"}
    for name in ("dream_vs_real.mp4", "dream_vs_real.gif"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "dream_vs_real.gif" in report.read_text()

    def never(*_, **__):
        raise AssertionError("this stage was done already")

    for stage in ("collect", "train_tokenizer", "train_dynamics", "train_agent"):
        monkeypatch.setattr(round_module, stage, never)
    for stage in ("_judge", "_report"):
        monkeypatch.setattr(module, stage, never)
    assert demo(tmp_path, SMALL) == report
    assert "collect: done before" in capsys.readouterr().out
