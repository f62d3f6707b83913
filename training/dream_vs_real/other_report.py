"""The trust report on a world model of another project: blind policies in its dreams and in the real game."""

from dataclasses import asdict
from typing import Any

from worldmodel.envs.actions import named_actions
from worldmodel.layers.defaults import own_defaults
from worldmodel.training.dream_vs_real.compare import DreamReport, side_by_side
from worldmodel.training.dream_vs_real.game_starts import Openings, Wanted, open_real, plain_openings
from worldmodel.training.dream_vs_real.other_world import OtherWorld, checked
from worldmodel.training.dream_vs_real.paired_play import play_both
from worldmodel.training.dream_vs_real.policies import blind_for
from worldmodel.training.dream_vs_real.trust import trust_section

_UNUSED = (
    "starts",
    "temperature",
    "split",
    "samples",
    "context_steps",
    "drift_steps",
    "max_segments",
    "inverse_dynamics",
)
_ABSENT = {"absent": "it is not measured in a world model of another project"}


@own_defaults
def other_report(
    world: OtherWorld,
    env_id: str,
    *,
    episodes: int = 20,
    horizon: int = 300,
    seed: int = 10_000,
    config: DreamReport | None = None,
) -> dict[str, Any]:
    """Play sticky and random play and blind policies in another project's world and in the real game, and compare.

    Args:
        world: anything with the attribute and the two methods of `OtherWorld`.
        env_id: of the real game, whose rewards the world predicts.
        episodes: of each policy and each kind of start, in both worlds; at least 2.
        horizon: steps after which episodes are cut in both worlds, or earlier where the game's own time is up.
        seed: episode i is reset with seed + i, and its dream too.
        config: policies, epsilons, mid_play and lead; other settings do not apply and are refused.

    Returns: the sections of `dream_report`, those that need a model of our own absent.
    """
    config = config or DreamReport()
    checked(world)
    if episodes < 2 or horizon < 1:
        raise ValueError(f"a report needs at least 2 episodes and a horizon of 1 step, got {episodes} and {horizon}")
    if unused := [name for name in _UNUSED if getattr(config, name) != getattr(DreamReport(), name)]:
        raise ValueError(f"{', '.join(unused)} would have no effect on a world model of another project: leave it out")
    with open_real(env_id) as env:
        game: Any = env.unwrapped
        if not hasattr(game, "action_spec"):
            raise ValueError(
                f"{env_id} does not say what its actions are; use a VideoGenReal-… env, or wrap yours in "
                "worldmodel.envs.PixelGame (docs/own-game.md)"
            )
        wanted, unit = Wanted(named_actions(env)), getattr(game, "reward_kind", "native")
        players = blind_for(wanted.action, config.epsilons, config.policies)
        openings: dict[str, Openings] = {"first": plain_openings(wanted, env, episodes, seed, 1)}
        if config.mid_play:
            given = world.context_steps
            openings["mid"] = plain_openings(wanted, env, episodes, seed, given, config.lead, config.lead_steps)
    matches = play_both(world, env_id, players, openings, horizon=horizon, seed=seed, whole=("first",))
    settings = {
        "env_id": env_id,
        "learned_from": "",
        "reward_unit": unit,
        "episodes": episodes,
        "seed": seed,
        "data": None,
    } | asdict(config)
    absent = dict.fromkeys(("reward", "termination", "control", "drift"), _ABSENT)
    trust = trust_section([player.name for player in players], matches, seed)
    return {"settings": {}, "trust": trust} | side_by_side(players, matches["first"], horizon, settings) | absent
