"""The best blind policy of a game as a row of a report, or how to find it."""

BLIND = "best blind policy"


def blind_row(policy: str) -> str:
    """Name of the row."""
    return f"{BLIND}, `{policy}`"


def blind_hint(env_id: str) -> str:
    """What stands below a table without such a row."""
    return (
        f"A policy that sees nothing may do as well as an agent. The {BLIND} of this game is not known here; "
        f"`videogen-dream evaluate blind --env {env_id}` searches for it."
    )
