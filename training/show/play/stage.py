"""A scene with its timeline, and for a real game the world model that follows it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from worldmodel.model import WorldModel
from worldmodel.training.show.play.looking import Onlooker, code_colors, seen_in, usual_surprise
from worldmodel.training.show.play.timeline import Moment, Seen, Timeline
from worldmodel.training.show.scenes import DreamScene, GameScene, Scene


class Stage:
    """One game or dream of a session, and the past steps of its episode."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.timeline = scene, Timeline()
        self.onlooker_name = ""  # of the dream whose world follows the game
        self._onlooker: Onlooker | None = None
        self._onlooking: WorldModel | None = None

    @property
    def world(self) -> WorldModel | None:
        """The world that dreams, or that follows the game."""
        return self.scene.dream.model if isinstance(self.scene, DreamScene) else self._onlooking

    @cached_property
    def usual(self) -> float | None:
        """Typical surprise of this world, in nats per step; None without a world."""
        return None if self.world is None else usual_surprise(self.world)

    @cached_property
    def code_colors(self) -> dict[str, Any]:
        """How the page draws the codes (`looking.code_colors`); no colours without a world."""
        if self.world is None:
            return {"palette": "", "num_codes": 0, "slices": 0}
        return code_colors(self.world.tokenizer)

    def set_onlooker(self, name: str, dream: DreamScene) -> None:
        """Let the world of a dream follow this game, whose episode has just begun."""
        assert isinstance(self.scene, GameScene) and self.scene.shown is not None and self.scene.shown.step == 0
        self.onlooker_name, self._onlooking = name, dream.dream.model
        self._onlooker = Onlooker(self._onlooking)
        self.timeline.begin(Moment(self.scene.shown, self._seen_first(self.scene)))

    def begin(self, options: Mapping[str, Any] | None = None) -> None:
        shown = self.scene.begin(options)
        self.timeline.begin(Moment(shown, self._seen_first(self.scene)))

    def _seen_first(self, scene: Scene) -> Seen | None:
        if isinstance(scene, DreamScene):
            return seen_in(scene)
        if self._onlooker is None or not isinstance(scene, GameScene):
            return None
        recent = scene.recent()
        return self._onlooker.begin(recent["frames"][-1], recent["signals"])

    def step(self, action: Any) -> None:
        """Take one step with an action, or with the scene's own policy (None)."""
        shown = self.scene.step(action)
        seen: Seen | None = None
        if isinstance(self.scene, DreamScene):
            seen = seen_in(self.scene)
        elif self._onlooker is not None and isinstance(self.scene, GameScene):
            done, frames = self.scene.last_step()
            seen = self._onlooker.step(done, frames)
        self.timeline.add(Moment(shown, seen))

    def back_to(self, step: int) -> int:
        """Take a dream back to a step, or as far as possible; returns the step reached."""
        assert isinstance(self.scene, DreamScene)
        now = self.timeline.last.shown.step
        here = self.scene.take_back(max(0, now - max(step, self.timeline.first))).step
        self.timeline.cut(here)
        return here

    def looks_like(self, dream: DreamScene) -> bool:
        """Whether a dream can continue this game: equal in actions, signals and frames."""
        game, model = self.scene, dream.dream.model
        if not isinstance(game, GameScene):
            return False
        ours, theirs = game.action, dream.action
        alike = (ours.kind, ours.n, ours.low, ours.high) == (theirs.kind, theirs.n, theirs.low, theirs.high)
        frames = (model.frames_per_step, model.height, model.width, model.config.tokenizer.channels)
        return alike and game.signal_names == dream.signal_names and game.recent()["frames"].shape[1:] == frames
