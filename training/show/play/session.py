"""One player's session: handles the page's messages. Transport-independent."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from gymnasium.error import Error

from worldmodel.training.show.play import words
from worldmodel.training.show.play.futures import Futures
from worldmodel.training.show.play.keys import Keys
from worldmodel.training.show.play.player import Wheel
from worldmodel.training.show.play.stage import Stage
from worldmodel.training.show.play.timeline import CLIP_KINDS
from worldmodel.training.show.scenes import DreamScene, GameScene, Scene

_TAKEN_BACK = 9  # steps undone by one press of "back": about a second of Doom
_HIGHEST_TEMPERATURE = 3.0


class MessageError(ValueError):
    """An invalid message."""


class Answer(NamedTuple):
    """An answer to the page."""

    words: dict[str, Any]  # JSON; "parts" names the arrays that follow and gives their shapes
    parts: tuple[np.ndarray, ...]  # uint8 each


class Session:
    """One player's games and dreams, and which of them is on the screen.

    Args:
        scenes: name -> function that opens the scene, called when it is first needed.
        player: name of the scenes' own policy on the page.
    """

    def __init__(self, scenes: Mapping[str, Callable[[], Scene]], player: str = "agent") -> None:
        self._open = scenes
        self._stages: dict[str, Stage] = {}
        self._name = next(iter(scenes))
        self._wheel = Wheel(player)
        self._came_from = ""  # the game from which the dream on the screen was continued
        self._futures: Futures | None = None

    def close(self) -> None:
        for stage in self._stages.values():
            stage.scene.close()

    def waits_for(self, message: Mapping[str, Any]) -> str:
        """A text for the player about what must be loaded to answer this message; "" for nothing."""
        name = message.get("world") if message.get("do") == "go" else self._name
        if isinstance(name, str) and name in self._open and name not in self._stages:
            return f"Opening {name}. This takes a few seconds."
        if message.get("do") == "clip":
            return "Making the film."
        return ""

    def answer(self, message: Mapping[str, Any]) -> Answer:
        """Handle a message.

        Messages: {"do": "step", "keys": […]}; "show" describes the screen; "begin" starts an episode; "back" goes back
        to the step "to", or one second; "look" shows the step "at"; "drive" lets "who" play; "go" switches to another
        "world"; "dream" continues a real game as a dream, from its current step or the step "at", and "game" returns to
        it; "fork" splits a dream into four futures, "choose" keeps the future "which", or none of them; "temperature"
        sets its "value"; "clip" makes a video of a "kind".

        Raises:
            MessageError: the message is invalid.
        """
        what = message.get("do")
        if not isinstance(what, str) or what not in _ANSWERS:
            raise MessageError(f"a message must do one of {', '.join(_ANSWERS)}, got {what!r}")
        if what != "go":
            self._stage()
        return _ANSWERS[what](self, message)

    # --- scenes --------------------------------------------------------------------------------------------------

    def _stage(self, name: str | None = None) -> Stage:
        """The stage of this name (default: the one on the screen), with an episode started."""
        name = self._name if name is None else name
        if name not in self._stages:
            self._stages[name] = Stage(self._open[name]())
        stage = self._stages[name]
        if stage.scene.shown is None:
            stage.begin()
            if isinstance(stage.scene, GameScene):
                self._look_on(stage)
            self._wheel.begin(stage.scene)
        return stage

    def _look_on(self, stage: Stage) -> None:
        """Let the first dream of this game follow it; dreams that cannot be opened are skipped."""
        for name, opened in self._open.items():
            try:
                if name not in self._stages:
                    self._stages[name] = Stage(opened())
            except (ValueError, TypeError, OSError, RuntimeError, Error):
                continue
            other = self._stages[name].scene
            if isinstance(other, DreamScene) and stage.looks_like(other):
                stage.set_onlooker(name, other)
                return

    def _everything(self, note: str = "") -> Answer:
        """The full answer, after anything but a step."""
        stage = self._stage()
        message = words.about(self._name, list(self._open), stage, self._wheel, self._came_from)
        message |= {"note": note, "history": stage.timeline.points()}
        return self._now(message)

    def _now(self, message: dict[str, Any]) -> Answer:
        stage = self._stage()
        if self._futures is not None:
            return Answer(*words.of_futures(message, stage, self._futures.shown))
        return Answer(*words.of_moment(message, stage, stage.timeline.last))

    # --- messages ------------------------------------------------------------------------------------------------

    def _show(self, _: Mapping[str, Any]) -> Answer:
        return self._everything()

    def _step(self, message: Mapping[str, Any]) -> Answer:
        stage = self._stage()
        held = message.get("keys", [])
        if not isinstance(held, list) or not all(isinstance(key, str) for key in held):
            raise MessageError(f'"keys" must be a list of names of keys, got {held!r}')
        action = Keys(stage.scene.action).action(held)
        if self._futures is not None:
            if not self._futures.ended:
                self._futures.step(action if held else self._wheel.blind_action(stage.scene, action))
        elif not stage.scene.shown or not stage.scene.shown.ended:
            stage.step(action if held else self._wheel.action(stage.scene, action))
        return self._now({})

    def _begin(self, _: Mapping[str, Any]) -> Answer:
        self._futures, self._came_from, stage = None, "", self._stage()
        stage.begin()
        self._wheel.begin(stage.scene)
        return self._everything()

    def _back(self, message: Mapping[str, Any]) -> Answer:
        stage = self._stage()
        before = stage.timeline.last.shown.step
        to = _integer(message, "to", before - _TAKEN_BACK)
        self._futures = None
        if not isinstance(stage.scene, DreamScene):
            return self._everything("A real game does not go back.")
        went = before - stage.back_to(to)
        return self._everything(f"{went} steps back." if went != 1 else "One step back.")

    def _look(self, message: Mapping[str, Any]) -> Answer:
        stage = self._stage()
        moment = stage.timeline.at(_integer(message, "at"))
        return Answer(*words.of_moment({"looking": moment is not stage.timeline.last}, stage, moment))

    def _drive(self, message: Mapping[str, Any]) -> Answer:
        who, scene = message.get("who"), self._stage().scene
        if not isinstance(who, str) or who not in self._wheel.offers(scene):
            raise MessageError(f'"who" must be one of {", ".join(self._wheel.offers(scene))}, got {who!r}')
        self._wheel.give(who, scene)
        return self._everything()

    def _go(self, message: Mapping[str, Any]) -> Answer:
        name = message.get("world")
        if not isinstance(name, str) or name not in self._open:
            raise MessageError(f'"world" must be one of {", ".join(self._open)}, got {name!r}')
        self._stage(name)
        self._name, self._came_from, self._futures = name, "", None
        return self._everything()

    def _dream(self, message: Mapping[str, Any]) -> Answer:
        """Switch from the real game to a dream that continues it."""
        game = self._stage()
        if not isinstance(game.scene, GameScene) or not game.onlooker_name:
            return self._everything("No dream of this game is open: start with the dream's id beside the game's.")
        moment = game.timeline.at(_integer(message, "at", game.timeline.last.shown.step))
        if moment.shown.ended:
            return self._everything("The game has ended here: choose an earlier step, or begin a new episode.")
        back = game.timeline.last.shown.step - moment.shown.step
        dream = self._stage(game.onlooker_name)
        dream.scene.fps = game.scene.fps
        dream.begin(game.scene.recent(back))
        self._wheel.begin(dream.scene)
        self._came_from, self._name = self._name, game.onlooker_name
        return self._everything("The dream continues from the real game.")

    def _game(self, _: Mapping[str, Any]) -> Answer:
        if not self._came_from:
            return self._everything("This dream did not begin in a real game.")
        self._name, self._came_from, self._futures = self._came_from, "", None
        return self._everything("Back in the real game, where it stood.")

    def _fork(self, _: Mapping[str, Any]) -> Answer:
        scene = self._stage().scene
        if not isinstance(scene, DreamScene):
            return self._everything("A real game has one future. Dreams have several.")
        if self._stage().timeline.last.shown.ended:
            return self._everything("The episode has ended: go back first, or begin a new one.")
        self._futures = Futures(scene)
        return self._everything("Four futures. Choose one to continue.")

    def _choose(self, message: Mapping[str, Any]) -> Answer:
        which = _integer(message, "which", -1)
        if self._futures is None:
            return self._everything()
        if which < 0:
            self._futures = None
            return self._everything("Back to where the futures parted.")
        for moment in self._futures.choose(which):
            self._stage().timeline.add(moment)
        self._futures = None
        return self._everything(f"The dream continues as future {which + 1}.")

    def _temperature(self, message: Mapping[str, Any]) -> Answer:
        value, scene = message.get("value"), self._stage().scene
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _HIGHEST_TEMPERATURE:
            raise MessageError(f'"value" must be a temperature from 0 to {_HIGHEST_TEMPERATURE:g}, got {value!r}')
        if isinstance(scene, DreamScene):
            scene.temperature = float(value)
            if self._futures is not None:
                self._futures.set_temperature(float(value))
        return self._everything()

    def _clip(self, message: Mapping[str, Any]) -> Answer:
        kind, stage = message.get("kind"), self._stage()
        if kind not in CLIP_KINDS:
            raise MessageError(f'"kind" must be one of {", ".join(CLIP_KINDS)}, got {kind!r}')
        data = stage.timeline.clip(kind, stage.scene.fps, stage.scene.is_dream)
        stem = re.sub(r"[^\w.-]+", "-", self._name).strip("-.") or "clip"
        name = f"{stem}-{stage.scene.seed}-{stage.timeline.first}-{stage.timeline.last.shown.step}.{kind}"
        part = np.frombuffer(data, np.uint8)
        return Answer({"file": name, "kind": kind, "parts": [["file", [len(data)]]]}, (part,))


_ANSWERS: dict[str, Callable[[Session, Mapping[str, Any]], Answer]] = {
    "show": Session._show,
    "step": Session._step,
    "begin": Session._begin,
    "back": Session._back,
    "look": Session._look,
    "drive": Session._drive,
    "go": Session._go,
    "dream": Session._dream,
    "game": Session._game,
    "fork": Session._fork,
    "choose": Session._choose,
    "temperature": Session._temperature,
    "clip": Session._clip,
}


def _integer(message: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = message.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise MessageError(f'"{name}" must be an integer, got {value!r}')
    return value
