"""List the worlds that ship with the package, with their figures: `videogen-dream worlds`."""

import re
from json import dumps
from pathlib import Path

import gymnasium as gym

from worldmodel import checkpoint
from worldmodel.model import WorldModelConfig
from worldmodel.training.reports.inspect_store import columns

_VERDICT = re.compile(r"\*\*(trusted|not trusted|undecided)\*\*")
_ROW = re.compile(r"^\| (.+?) \| (.+?) \|$", re.MULTILINE)


def worlds(json: bool = False) -> str:
    """List the shipped worlds: their dreams and games, their sizes, and the scores and the verdict on their cards.

    Args:
        json: print JSON, for programs.

    Returns: for each world its name and two columns of text; or JSON.
    """
    facts = {name: world_facts(checkpoint.resolve(name), name) for name in checkpoint.shipped()}
    if json:
        return dumps(facts, indent=2)
    return "\n\n".join(f"{name}\n{columns(list(map(list, rows.items())))}" for name, rows in facts.items())


def world_facts(folder: Path, name: str) -> dict[str, str]:
    """What config.json and the card of a world say of it; nothing is loaded or measured."""
    config = checkpoint.load_config(folder, "world_model", WorldModelConfig)
    tokenizer, dynamics, book = config.tokenizer, config.dynamics, config.tokenizer.codebook
    card = (folder / "README.md").read_text(encoding="utf-8")
    (height, width), megabytes = tokenizer.grid, (folder / "model.safetensors").stat().st_size / 1e6
    slices = tokenizer.num_slices
    codes = f"{height * width * slices}: {height} x {width} tokens of {slices}, each one of {book.num_codes}"
    verdict = _VERDICT.search(card)
    rows = {
        "dream": ", ".join(_dreams_of(name)) or "none",
        "game": config.env_id,
        "actions": str(config.action),
        "codes per step": codes,
        "dynamics": f"{dynamics.about}, {megabytes:.1f} MB",
        **{what: value.replace("`", "") for what, value in _ROW.findall(card) if what not in ("what", "---")},
        "trust": verdict[1] if verdict else "no verdict on the card",
    }
    return rows | ({"note": note} if (note := _note(card)) else {})


def _dreams_of(model: str) -> list[str]:
    """Env ids whose dreams are this world's; of an id and its twin with a version, the first."""
    ids = [id_ for id_, spec in gym.registry.items() if spec.namespace is None and spec.kwargs.get("model") == model]
    return sorted(id_ for id_ in ids if id_.startswith("VideoGenDream-"))


def _note(card: str) -> str:
    """What the card adds to its first sentence, such as an agent's return."""
    paragraph = next((line for line in card.splitlines() if line.startswith("A world model of")), "")
    return paragraph.partition(". ")[2].replace("`", "")
