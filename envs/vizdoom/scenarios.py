"""The Doom scenarios: their buttons, game variables and time limits.

Actions are "noop", then one button each in the order of `buttons`, then the `chords`: buttons held together, named
"move_forward+attack". Signals are ViZDoom game variables.
"""

from dataclasses import dataclass

from worldmodel.errors import check_known

_HEALTH_GATHERING_BUTTONS = ("TURN_LEFT", "TURN_RIGHT", "MOVE_FORWARD")
# Players of battle2 turn while they walk and shoot while they do either.
_BATTLE2_CHORDS = (
    ("MOVE_FORWARD", "TURN_LEFT"),
    ("MOVE_FORWARD", "TURN_RIGHT"),
    ("MOVE_FORWARD", "ATTACK"),
    ("MOVE_BACKWARD", "ATTACK"),
    ("MOVE_LEFT", "ATTACK"),
    ("MOVE_RIGHT", "ATTACK"),
    ("TURN_LEFT", "ATTACK"),
    ("TURN_RIGHT", "ATTACK"),
    ("MOVE_FORWARD", "TURN_LEFT", "ATTACK"),
    ("MOVE_FORWARD", "TURN_RIGHT", "ATTACK"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One Doom map with its controls."""

    name: str
    buttons: tuple[str, ...]  # ViZDoom button names
    signals: tuple[str, ...]  # ViZDoom game variable names
    timeout: int | None  # tics (35 per second) after which an episode is truncated; None: never
    objects: tuple[str, ...] = ()  # ViZDoom names of the classes that labels distinguish
    settings: str | None = None  # None: ViZDoom ships map and settings; else the settings of a downloaded map
    chords: tuple[tuple[str, ...], ...] = ()  # sets of ViZDoom button names

    @property
    def action_names(self) -> tuple[str, ...]:
        """Readable names, in the order of the actions."""
        return tuple("+".join(held).lower() or "noop" for held in self._held)

    @property
    def presses(self) -> list[list[int]]:
        """For each action and each of `buttons` 1 if it is held, else 0."""
        return [[int(button in held) for button in self.buttons] for held in self._held]

    @property
    def _held(self) -> list[tuple[str, ...]]:
        return [(), *((button,) for button in self.buttons), *self.chords]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="health_gathering",
            buttons=_HEALTH_GATHERING_BUTTONS,
            signals=("HEALTH",),
            timeout=2100,
            objects=("Medikit",),
        ),
        Scenario(
            name="health_gathering_supreme",
            buttons=_HEALTH_GATHERING_BUTTONS,
            signals=("HEALTH",),
            timeout=2100,
            objects=("CustomMedikit", "Poison"),
        ),
        Scenario(
            name="take_cover",
            buttons=("MOVE_LEFT", "MOVE_RIGHT"),
            signals=("HEALTH",),
            timeout=None,
            objects=("DoomImp", "DoomImpBall"),
        ),
        Scenario(
            name="defend_the_center",
            buttons=("TURN_LEFT", "TURN_RIGHT", "ATTACK"),
            signals=("HEALTH", "AMMO2", "KILLCOUNT"),
            timeout=2100,
            objects=("Demon", "MarineChainsawVzd", "BulletPuff", "Blood"),
        ),
        Scenario(
            name="deadly_corridor",
            buttons=(
                "MOVE_LEFT",
                "MOVE_RIGHT",
                "ATTACK",
                "MOVE_FORWARD",
                "MOVE_BACKWARD",
                "TURN_LEFT",
                "TURN_RIGHT",
            ),
            signals=("HEALTH", "ARMOR", "AMMO2", "KILLCOUNT"),
            timeout=2100,
            objects=("Zombieman", "ShotgunGuy", "ChaingunGuy", "GreenArmor", "BulletPuff", "Blood"),
        ),
        Scenario(
            name="basic",
            buttons=("MOVE_LEFT", "MOVE_RIGHT", "ATTACK"),
            signals=("AMMO2", "KILLCOUNT"),
            timeout=300,
            objects=("Cacodemon", "BulletPuff"),
        ),
        Scenario(
            name="battle2",
            buttons=(
                "MOVE_FORWARD",
                "MOVE_BACKWARD",
                "MOVE_LEFT",
                "MOVE_RIGHT",
                "TURN_LEFT",
                "TURN_RIGHT",
                "ATTACK",
            ),
            chords=_BATTLE2_CHORDS,
            signals=("HEALTH", "AMMO2", "KILLCOUNT"),
            timeout=2100,
            objects=("DoomImp", "DoomImpBall", "CustomMedikit", "Clip", "ExplosiveBarrel", "BulletPuff"),
            settings="""
                doom_map = map01
                doom_skill = 2
                episode_start_time = 14
                render_crosshair = true
                render_decals = false
                render_particles = false
            """,
        ),
    )
}


def find_scenario(name: str) -> Scenario:
    """The scenario called `name`; an unknown name raises ValueError with the nearest valid one."""
    check_known("scenario", name, SCENARIOS)
    return SCENARIOS[name]
