"""The measurements of a world model that fit on one page: the report of a run, and the card of a published world."""

from typing import Any

from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import dataset_facts
from worldmodel.evaluation.held_out import (
    check_measurable,
    dream_speed,
    dynamics_scores,
    encode_segments,
    real_codes,
    tokenizer_scores,
)
from worldmodel.evaluation.open_loop import OPEN_LOOP_STEPS, open_loop, open_loop_scores
from worldmodel.evaluation.scores import code_use, head_scores
from worldmodel.model import WorldModel


def world_report(
    wm: WorldModel,
    store: EpisodeStorage,
    split: str = "test",
    *,
    context_steps: int = 8,
    num_starts: int = 64,
    max_segments: int = 512,
    temperature: float = 1.0,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Measure a world model on held-out episodes.

    Args:
        wm: prepared for dreaming (`from_pretrained`, or `wm.prepare()`).
        store: recorded play; thresholds are chosen on its validation episodes, everything else is measured on `split`.
        split: "test", "validation", "train" or "all".
        context_steps: real steps that an open-loop dream is given before it goes on alone. Where no episode is long
            enough for these and 16 dreamt ones, a fourth of the longest one is given and the rest dreamt.
        num_starts: open-loop dreams.
        max_segments: held-out segments for the losses and the heads, drawn at random if there are more; and as many
            single steps for the tokenizer.
        temperature: of the open-loop dreams.
        seed: of the draws of segments, and of the dreams.

    Returns: the sections "dataset", "tokenizer", "open_loop", "dynamics", "heads" and "speed" of `write_report`.
    """
    check_measurable(wm, store)
    held_out = encode_segments(wm, store, split, max_segments, seed)
    validation = None
    if len(store.split("validation")):
        validation = encode_segments(wm, store, "validation", max_segments, seed)
    context_steps, dreamt = steps_that_fit(store, split, context_steps)
    dreams = open_loop(wm, store, split, num_starts, context_steps, temperature, seed, dreamt)
    return {
        "dataset": dataset_facts(store),
        "tokenizer": tokenizer_scores(wm, store, split, max_segments, seed)
        | code_use(real_codes(held_out), wm.tokenizer.num_codes),
        "open_loop": open_loop_scores(dreams)
        | {"starts": num_starts, "context_steps": context_steps, "temperature": temperature},
        "dynamics": dynamics_scores(wm, held_out),
        "heads": head_scores(wm, held_out, validation),
        "speed": dream_speed(wm, held_out),
    }


def steps_that_fit(store: EpisodeStorage, split: str, context_steps: int) -> tuple[int, int]:
    """Context and dreamt steps of an open-loop dream; fewer than wanted if no episode is long enough."""
    episodes = store.split(split)
    if not len(episodes):
        raise ValueError(f"split {split!r} of {store.root} has no episode to dream of; collect more or choose another")
    dreamt, longest = max(OPEN_LOOP_STEPS), max(store.lengths[episode] for episode in episodes)
    if context_steps + dreamt - 1 > longest:
        context_steps = max(longest // 4, 1)
        dreamt = longest + 1 - context_steps
    return context_steps, dreamt
