"""The trust section alone, with blind policies and few episodes: cheap enough for every evaluation."""

from typing import Any

from worldmodel.evaluation.open_loop import given_steps
from worldmodel.layers.defaults import own_defaults
from worldmodel.model import WorldModel
from worldmodel.model.checks import check_dreams
from worldmodel.settings import AtLeastTwo, PositiveInt, Temperature, checked_dataclass
from worldmodel.training.dream_vs_real.game_starts import first_steps, mid_play, open_game
from worldmodel.training.dream_vs_real.paired_play import play_both
from worldmodel.training.dream_vs_real.policies import make_players
from worldmodel.training.dream_vs_real.trust import trust_section


@checked_dataclass
class QuickTrust:
    """Which policies play, from which starts, and how much."""

    episodes: AtLeastTwo = 10  # of each policy and each kind of beginning, in the dream and in the game
    horizon: PositiveInt = 200  # steps after which both are cut
    policies: tuple[str, ...] = ()  # blind ones beside sticky and random play; none: a family for the game's actions
    lead: str = "diverse"  # blind policy that leads to the middle of episodes
    lead_steps: PositiveInt = 200  # largest number of steps of the lead
    context_steps: PositiveInt = 8  # real steps of context of a dream from there
    temperature: Temperature = 1.0
    seed: int = 10_000


@own_defaults
def quick_trust(wm: WorldModel, env_id: str, config: QuickTrust | None = None) -> dict[str, Any]:
    """Play blind policies in the dream and in the real game, from first frames and from the middle of play.

    Args:
        wm: the dream, prepared (`from_pretrained`, or `wm.prepare()`).
        env_id: of the real game that it was learned from.

    Returns: the section "trust" (`trust_section`) with its "settings". A model that needs more first steps than the
    game shows is judged from mid-play alone.
    """
    config = config or QuickTrust()
    check_dreams(wm)
    players = make_players(wm, policies=config.policies)
    openings = {}
    with open_game(wm, env_id) as env:
        count, seed, given = config.episodes, config.seed, given_steps(wm, config.context_steps)
        if wm.config.dynamics.frame_condition <= 1:
            openings["first"] = first_steps(wm, env, count, seed)
        openings["mid"] = mid_play(wm, env, count, seed, given, config.lead, config.lead_steps)
    matches = play_both(
        wm, env_id, players, openings, horizon=config.horizon, seed=seed, temperature=config.temperature
    )
    settings = {"env_id": env_id, "episodes": count, "horizon": config.horizon}
    section = trust_section([player.name for player in players], matches, seed)
    return {"settings": settings | {"policies": len(players), "lead": config.lead, "seed": seed}} | section
