"""The best blind policies found so far in our games, so that every table of returns can show them.

Found by `videogen-dream evaluate blind`, or by hand where that did better (docs/results/agents.md). In the games that
are missing here, none was better than random play, or none was searched for.
"""

_BEST = {
    "DoomHealthGathering": "cycle:move_forward*32,turn_right*8",
    "Doom": "cycle:turn_left*8,move_forward*20",
    "DoomTakeCover": "cycle:move_left*24,move_right*32",
    "DoomDefendTheCenter": "cycle:turn_right*3,attack*2",
    "DoomDeadlyCorridor": "constant:move_forward",
}
BEST_BLIND = {f"VideoGenReal-{name}": policy for name, policy in _BEST.items()}
BEST_BLIND |= {f"VideoGenReal/{name}-v0": policy for name, policy in _BEST.items()}


def best_blind(env_id: str) -> str | None:
    """Name of the best known blind policy of a game; None where none has been searched for."""
    return BEST_BLIND.get(env_id.rpartition(":")[2])
