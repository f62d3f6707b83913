"""Statistics of a store after a collection, as a printable summary."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from worldmodel.counted import counted
from worldmodel.data import EpisodeStorage
from worldmodel.data.facts import dataset_facts, episode_returns, signal_changes
from worldmodel.files import read_json_lines
from worldmodel.training.collect.workers import Played

RETURNS = "returns.jsonl"  # one line per episode with its native return, which the store itself does not hold


@dataclass(frozen=True, kw_only=True, slots=True)
class CollectStats:
    """Statistics of a store after a collection; print it for a summary."""

    episodes: int
    steps: int
    terminated: int  # episodes that the game ended
    truncated: int  # episodes ended by a time limit
    lengths: np.ndarray  # (episodes,) steps of each
    returns: np.ndarray  # (episodes,) in the store's own unit
    native_returns: np.ndarray  # (episodes,) in the game's unit; NaN where it was not recorded
    reward_unit: str
    action_counts: dict[str, int]  # steps per discrete action; empty for box actions
    reward_signs: tuple[int, int]  # steps with a reward above and below 0
    signal_changes: dict[str, tuple[int, int]]  # steps in which a signal rose and fell
    new_steps: int  # stored by this run
    seconds: float  # duration of this run

    def __str__(self) -> str:
        per_thousand = 1000 / max(self.steps, 1)
        up, down = self.reward_signs
        lines = [
            f"{counted(self.episodes, 'episode')}, {counted(self.steps, 'step')} ({self.terminated} ended by the game, "
            f"{self.truncated} by the clock)",
            f"length: {_spread(self.lengths)}",
            f"return ({self.reward_unit}): {_spread(self.returns)}",
            f"reward events per 1,000 steps: {up * per_thousand:.1f} above 0, {down * per_thousand:.1f} below 0",
        ]
        known = self.native_returns[~np.isnan(self.native_returns)]
        if self.reward_unit != "native" and len(known):
            of = "" if len(known) == self.episodes else f" (known of {len(known)} episodes)"
            lines.insert(3, f"return (native): {_spread(known)}{of}")
        for name, (rises, falls) in self.signal_changes.items():
            lines.append(f"{name} per 1,000 steps: rises {rises * per_thousand:.1f}, falls {falls * per_thousand:.1f}")
        if self.action_counts:
            shares = (f"{name} {100 * n / max(self.steps, 1):.0f} %" for name, n in self.action_counts.items())
            lines.append(f"actions: {', '.join(shares)}")
        if self.new_steps:
            rate = self.new_steps / self.seconds
            lines.append(f"this run: {self.new_steps} steps in {self.seconds:.1f} s ({rate:,.0f} steps/s)")
        return "\n".join(lines)


def statistics(store: EpisodeStorage, steps_before: int, seconds: float) -> CollectStats:
    facts = dataset_facts(store)
    native = read_returns(store.root / RETURNS)
    return CollectStats(
        episodes=facts["episodes"],
        steps=facts["steps"],
        terminated=facts["terminated"],
        truncated=facts["truncated"],
        lengths=np.array(store.lengths),
        returns=episode_returns(store),
        native_returns=np.array([native.get(episode_id, np.nan) for episode_id in store.ids.tolist()]),
        reward_unit=store.info.reward,
        action_counts=facts.get("actions", {}),
        reward_signs=(facts["positive_rewards"], facts["negative_rewards"]),
        signal_changes=signal_changes(store),
        new_steps=store.num_steps - steps_before,
        seconds=seconds,
    )


def read_returns(path: Path) -> dict[int, float]:
    """Native return of each episode by id; lines that a kill cut short, or that are damaged otherwise, are left out."""
    returns = {}
    for _, record in read_json_lines(path) if path.exists() else ():
        if record is not None and set(record) == set(Played._fields):
            played = Played(**record)
            if type(played.episode_id) is int and type(played.native_return) in (int, float):
                returns[played.episode_id] = played.native_return
    return returns


def _spread(values: np.ndarray) -> str:
    return f"mean {values.mean():.1f}, standard deviation {values.std():.1f}, {values.min():.1f} to {values.max():.1f}"
