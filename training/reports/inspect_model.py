"""A world model, a tokenizer or an agent at a glance: its game, its sizes, its inputs and outputs."""

from pathlib import Path
from typing import Any

from worldmodel import checksums
from worldmodel.checkpoint import agent_folder, resolve
from worldmodel.checksums import check_sums
from worldmodel.dynamics import Sampling
from worldmodel.dynamics.generation import check_request
from worldmodel.envs.registry import steps_per_second
from worldmodel.files import JsonObject, read_json
from worldmodel.model import Starts, WorldModel
from worldmodel.tokenizer import Tokenizer
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training.show.sample_inputs import CONDITIONS

_REWARDED = {"world": "what its env rewards", "survival": "each step that it survives"}
_PATHS = {"none": "nothing", "frames": "first frames", "actions": "actions", "both": "first frames and actions"}


def model_facts(name: str, verify: bool = False) -> list[list[str]]:
    """Rows [what, value] of a checkpoint, or an agent, given by a shipped name, a folder or a Hugging Face id.

    Everything is loaded, and thereby checked: the files against their SHA256SUMS, where there are any.

    Args:
        name: of the checkpoint.
        verify: require sums of every file, and add a row that lists them.

    Raises: FileNotFoundError, ValueError: there is none, it is of another kind, damaged or cannot be verified.
    """
    folder = resolve(name)
    for place in (agent_folder(name), folder):
        if (place / "config.json").is_file() and read_json(place / "config.json", JsonObject).get("kind") == "agent":
            return [*_agent_rows(place), *_verified(place, verify)]
    if not (folder / "config.json").is_file():
        raise ValueError(f"{name} is neither a store of recorded play nor a model: it holds no config.json")
    about = read_json(folder / "config.json", JsonObject)
    if about.get("kind") == "tokenizer":
        return [["tokenizer", str(folder)], *_tokenizer_rows(load_tokenizer(folder)), *_verified(folder, verify)]
    return [*_world_rows(WorldModel.from_pretrained(folder), folder), *_verified(folder, verify)]


def _verified(folder: Path, verify: bool) -> list[list[str]]:
    """The row that lists the files of a loaded checkpoint whose sums were compared, if that is asked for."""
    if not verify:
        return []
    listed = check_sums(folder)
    if missing := [name for name in checksums.COVERED if name not in listed and (folder / name).is_file()]:
        raise ValueError(
            f"{folder} cannot be verified: its {checksums.NAME} does not list {', '.join(missing)} (older versions "
            "wrote none); save or fetch the checkpoint again"
        )
    return [["unchanged since saved", f"{', '.join(listed)} (SHA-256)"]]


def _tokenizer_rows(tokenizer: Tokenizer) -> list[list[str]]:
    config, (h, w) = tokenizer.config, tokenizer.grid
    return [
        ["step", f"{config.frames_per_step} frames of {config.height} x {config.width} x {config.channels}"],
        ["codes of a step", f"{h} x {w} tokens of {tokenizer.num_slices} codes, each one of {tokenizer.num_codes}"],
        ["coded as", {"step": "single steps", "causal": "causal steps", "clip": "whole clips"}[config.temporal]],
        ["parameters of the tokenizer", _millions(tokenizer)],
    ]


def _world_rows(wm: WorldModel, folder: Path) -> list[list[str]]:
    config, dynamics = wm.config, wm.config.dynamics
    speed = "" if config.steps_per_second else ", as far as is known"
    rows = [
        ["world model", str(folder)],
        ["game", f"{config.env_id or 'unknown'}, {steps_per_second(config):g} steps per second{speed}"],
        ["actions", str(config.action)],
        ["signals", ", ".join(config.signal_names) or "none"],
        ["reward", f"{config.reward}, distinguished up to {config.heads.limit:g}"],
        *_tokenizer_rows(wm.tokenizer),
        ["dynamics", dynamics.about],
        ["parameters of dynamics and heads", f"{_millions(wm.dynamics)} and {_millions(wm.heads)}"],
        ["makes video from", ", ".join(text for name, text in _PATHS.items() if _makes(wm, name))],
        ["dreams step by step", _dreams(wm)],
    ]
    return [*rows, ["recorded starts", _starts(wm.starts)]]


def _agent_rows(folder: Path) -> list[list[str]]:
    from worldmodel.agents.sb3.agent import load_agent

    agent = load_agent(folder)
    file, meta, training = agent.file, agent.meta, agent.file.training
    seen = "the game's own frames" if meta.view == "real" else f"the game as its world shows it, {meta.view}"
    shape = " x ".join(map(str, file.observation_shape))
    number = f"the last {training.frame_stack} of them" + ", and its actions" * training.shows_actions
    held = f", held for one of {', '.join(map(str, training.durations))} steps" if training.durations else ""
    return [
        ["agent", str(folder)],
        ["game", meta.env_id or "unknown"],
        ["world", meta.world_model or "none, it was trained in the game itself"],
        *([["also trained in", ", ".join(meta.more_worlds)]] if meta.more_worlds else []),
        ["sees", f"{seen}: {shape} {'uint8' if file.pixels else 'float32'}, {number}"],
        ["acts by", f"{file.action}{held}"],
        ["trained with PPO for", f"{training.steps:,} steps, as requested"],
        ["rewarded for", _REWARDED[meta.reward]],
        ["parameters", _millions(agent.policy)],
    ]


def _makes(wm: WorldModel, condition: str) -> bool:
    dynamics, (gives_frames, gives_actions) = wm.config.dynamics, CONDITIONS[condition]
    if gives_frames and not wm.reads_frames:
        return False
    try:
        check_request(dynamics, gives_frames, gives_actions, Sampling())
    except ValueError:
        return False
    return True


def _dreams(wm: WorldModel) -> str:
    if wm.config.tokenizer.temporal != "step":
        return "no, its tokenizer does not code single steps"
    if wm.dynamics.cannot_dream:
        return "no, its dynamics draw whole clips"
    return "no, it needs all actions at once" if wm.config.dynamics.action_condition == "clip" else "yes"


def _starts(starts: Starts | None) -> str:
    if starts is None:
        return "none"
    count, steps = starts.codes.shape[:2]
    first = "" if starts.first is None else f", and of {len(starts.first.codes)} episodes the beginning"
    return f"{count} of {steps} steps{first}"


def _millions(module: Any) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M"
