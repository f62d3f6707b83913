"""The main job in one call: play the real game, learn its dream, train an agent in it, judge it in the real game.

Every stage leaves its result in the run folder and is skipped when it is there. An interrupted stage goes on from its
last complete state, but for the agent's, which starts anew: PPO is not resumed.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from worldmodel.agents.blind.policies import FORMS, is_scripted
from worldmodel.agents.evaluate import compare_with_random, evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.world_report import world_report
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.leftovers import remove
from worldmodel.model import WorldModel
from worldmodel.training.collect.collect import collect
from worldmodel.training.pipeline.config import DemoConfig
from worldmodel.training.pipeline.stages import Stages, check_begins, staged
from worldmodel.training.reports.run import RETURN_KEYS, return_row, write_dream_vs_real, write_report
from worldmodel.training.train_agent import train_agent
from worldmodel.training.train_dynamics import train_dynamics
from worldmodel.training.train_tokenizer import train_tokenizer


def demo(out: str | Path = "runs/demo", config: DemoConfig | None = None, *, fresh: bool = False) -> Path:
    """Run all stages that are not done yet; returns the path of report.md.

    Args:
        out: the run folder; new, empty, or an earlier demo's.
        fresh: delete the earlier demo first.

    Raises:
        ValueError: `out` holds something else, or a demo of other settings and `fresh` is not set; or the settings
            cannot be played. Nothing is written then.
    """
    config, out = (config or DemoConfig()).seeded(), Path(out)
    check_begins(config.env_id, config.workers, config.seed)
    if not is_scripted(config.policy):
        raise ValueError(f"policy must be a scripted one ({FORMS}), got {config.policy!r}")
    with staged(out, config, fresh) as stages:
        return _run(out, config, stages)


def learn_world(out: Path, config: DemoConfig, stages: Stages, label: str = "") -> Path:
    """Play, and learn the dream of what was played; returns the world's folder.

    Args:
        out: gets `data`, `tokenizer` and `dynamics`.
        config: of one seed (`seeded`).
        label: with which the names of the stages begin.
    """
    with stages(f"{label}collect") as todo:
        if todo:
            collect(
                config.env_id,
                out / "data",
                steps=config.collect_steps,
                policy=config.policy,
                workers=config.workers,
                seed=config.seed,
            )
    with stages(f"{label}tokenizer") as todo:
        if todo:
            train_tokenizer(out / "data", out / "tokenizer", config.tokenizer)
    with stages(f"{label}dynamics") as todo:
        if todo:
            train_dynamics(out / "data", out / "tokenizer" / "best", out / "dynamics", config.dynamics)
    return out / "dynamics" / "best"


def _run(out: Path, config: DemoConfig, stages: Stages) -> Path:
    world = learn_world(out, config, stages)
    with stages("agent") as todo:
        if todo:
            remove(out / "agent")  # of an interrupted attempt
            train_agent(
                world, out / "agent", config.agent, allow_env=config.env_id if config.agent.eval_every else None
            )
    with stages("judge") as todo:
        if todo:
            write_json(out / "returns.json", _judge(out / "agent" / "agent", world, config))
    with stages("report") as todo:
        if todo:
            _report(out, world, config, stages.minutes)
    report = out / "report.md"
    print(report.read_text(encoding="utf-8"))
    print(f"Everything is in {out}: report.md, report.json, dream_vs_real.mp4, dream_vs_real.gif.")
    return report


def _judge(agent_folder: Path, world: Path, config: DemoConfig) -> list[dict[str, Any]]:
    """Returns of the agent and of random play in the real game, and of the agent in its dream."""
    agent = load_agent(agent_folder, seed=config.seed)
    real = compare_with_random(agent, config.env_id, config.episodes, seed=10_000, view=agent.view(world))
    print(f"the agent in the real game: {real.agent}\nrandom in the real game: {real.random}")
    model = WorldModel.from_pretrained(world)
    horizon = config.agent.horizon or _LONGEST
    dream = evaluate(
        agent,
        "VideoGenDream-Doom",  # any dream's id: the model decides what is dreamt
        64,
        seed=10_000,
        num_envs=64,
        model=model,
        obs=agent.obs,
        horizon=horizon,
        temperature=config.agent.temperature,
    )
    dream = replace(dream, env_id=f"its dream of {model.config.env_id}")
    return [
        return_row("agent trained in the dream", real.agent, "native"),
        return_row("random", real.random, "native"),
        return_row(f"agent trained in the dream, {horizon} steps", dream, model.config.reward),
    ]


def _report(out: Path, world: Path, config: DemoConfig, minutes: dict[str, float]) -> None:
    model = WorldModel.from_pretrained(world)
    store = EpisodeStorage.open(out / "data")
    write_dream_vs_real(model, store, out / "dream_vs_real", context_steps=config.dynamics.start_steps)
    command = "videogen-dream demo" + (f" --seed {config.seed}" if config.seed else "")
    facts = {
        "run": {"command": command, "seed": config.seed, "minutes": minutes},
        "returns": read_json(out / "returns.json", list[JsonObject], RETURN_KEYS),
        "video": "dream_vs_real.gif",
    }
    scores = world_report(model, store, context_steps=config.dynamics.start_steps, max_segments=256)
    write_report(out, facts | scores)


__all__ = ["DemoConfig", "demo", "learn_world"]

_LONGEST = 1000  # steps of a dream in which an agent without a horizon is judged
