"""The whole pipeline in one call: one round, whose agent is also evaluated in its dream, and a report."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from worldmodel.agents.blind.policies import FORMS, is_scripted
from worldmodel.agents.evaluate import compare_with_random, evaluate
from worldmodel.agents.sb3.agent import load_agent
from worldmodel.data import EpisodeStorage
from worldmodel.evaluation.evaluate_model import summarize_model
from worldmodel.files import JsonObject, read_json, write_json
from worldmodel.model import WorldModel
from worldmodel.training.cli.command_lines import command_line, options_of
from worldmodel.training.pipeline.config import SEEDS, DemoConfig
from worldmodel.training.pipeline.round import JUDGED_FROM, Play, Round, play_best_blind, run_round
from worldmodel.training.pipeline.stages import Stages, check_begins, staged
from worldmodel.training.reports.blind import blind_row
from worldmodel.training.reports.run import RETURN_KEYS, return_row, write_dream_vs_real, write_report

_LONGEST = 1000  # steps of the dream in which an agent without a horizon is evaluated


def demo(out: str | Path = "runs/demo", config: DemoConfig | None = None, *, fresh: bool = False) -> Path:
    """Run the stages that are not finished; returns the path of report.md.

    Args:
        out: the run folder; new, empty, or an earlier demo's.
        fresh: delete the earlier demo first.

    Raises:
        ValueError: `out` holds something else, or a demo with other settings without `fresh`; or a setting is not
            valid. Nothing is written then.
    """
    config, out = (config or DemoConfig()).with_seed(), Path(out)
    check_begins(config.env_id, config.workers, config.seed)
    if not is_scripted(config.policy):
        raise ValueError(f"policy must be a scripted one ({FORMS}), got {config.policy!r}")
    with staged(out, config, fresh) as stages:
        here = single_round(out, config, stages)
        run_round(here, lambda: write_json(out / "returns.json", _judge(here.agent, here.world, config)))
        here.stage("report", lambda: _report(out, here.world, config, stages.minutes))
    report = out / "report.md"
    print(report.read_text(encoding="utf-8"))
    print(f"Everything is in {out}: report.md, report.json, dream_vs_real.mp4, dream_vs_real.gif.")
    return report


def single_round(out: Path, config: DemoConfig, stages: Stages, label: str = "") -> Round:
    """The round of a demo; its config must have one seed (`with_seed`)."""
    play = Play("data", config.collect_steps, config.policy, config.seed)
    return Round(folder=out, config=config, stages=stages, plays=(play,), data=lambda: out / play.store, label=label)


def _judge(agent_folder: Path, world: Path, config: DemoConfig) -> list[dict[str, Any]]:
    """Returns of the agent, random play and the best blind policy in the real game, and of the agent in its dream."""
    agent = load_agent(agent_folder, seed=config.seed)
    real = compare_with_random(agent, config.env_id, config.episodes, seed=JUDGED_FROM, view=agent.view(world))
    print(f"the agent in the real game: {real.agent}\nrandom in the real game: {real.random}")
    blind = play_best_blind(config.env_id, config.episodes)
    model = WorldModel.from_pretrained(world)
    horizon = config.agent.horizon or _LONGEST
    dream = evaluate(
        agent,
        "VideoGenDream-Doom",  # any dream's id: the model decides what is dreamt
        64,
        seed=JUDGED_FROM,
        num_envs=64,
        model=model,
        obs=agent.obs,
        horizon=horizon,
        temperature=config.agent.temperature,
        starts=config.agent.starts,
    )
    dream = replace(dream, env_id=f"its dream of {model.config.env_id}")
    return [
        return_row("agent trained in the dream", real.agent, "native"),
        return_row("random", real.random, "native"),
        *([return_row(blind_row(blind[0]), blind[1], "native")] if blind else []),
        return_row(f"agent trained in the dream, {horizon} steps", dream, model.config.reward),
    ]


def _report(out: Path, world: Path, config: DemoConfig, minutes: dict[str, float]) -> None:
    model = WorldModel.from_pretrained(world)
    store = EpisodeStorage.open(out / "data")
    write_dream_vs_real(model, store, out / "dream_vs_real", context_steps=config.dynamics.start_steps)
    command = command_line("demo", *options_of(config, DemoConfig(), leave_out=SEEDS))
    facts = {
        "run": {"command": command, "seed": config.seed, "minutes": minutes},
        "returns": read_json(out / "returns.json", list[JsonObject], RETURN_KEYS),
        "video": "dream_vs_real.gif",
    }
    scores = summarize_model(model, store, context_steps=config.dynamics.start_steps, max_segments=256)
    write_report(out, facts | scores)


__all__ = ["DemoConfig", "demo", "single_round"]
