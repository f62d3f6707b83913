"""Somebody plays games and dreams: what keys mean, and what the messages of the page do. Knows nothing of sockets."""

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.error import Error

from worldmodel.media.write import write_video
from worldmodel.training.show.play_keys import Keys
from worldmodel.training.show.scenes import DreamScene, Frames, GameScene, Scene, Shown

_TAKEN_BACK = 9  # steps of one press of "back": about a second of Doom
_CLIP_STEPS = 1000  # of the episode that is on the screen, kept for saving
_MOST_CLIPS = 100  # in a folder: whoever can play can save


class MessageError(ValueError):
    """A message that means nothing."""


class Session:
    """One player's games and dreams, and which of them is on the screen.

    Args:
        scenes: names, and what opens each; a scene is opened when it is first looked at.
        out: folder for saved clips.
    """

    def __init__(self, scenes: Mapping[str, Callable[[], Scene]], out: Path) -> None:
        self._open, self._names = scenes, list(scenes)
        self._out = out.absolute()  # a game that starts moves the process to another folder for a moment
        self._opened: dict[str, Scene] = {}
        self._name = self._names[0]
        self._clip: list[Frames] = []
        self._agent_plays = False

    def close(self) -> None:
        for scene in self._opened.values():
            scene.close()

    def answer(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], Frames]:
        """What a message leads to: words for the page, and the frames to show, (F, H, W, 3) uint8.

        Messages: {"do": "step", "keys": […]}; "show" says what is on the screen, "begin" begins an episode, "back"
        takes a second back, "agent" lets it play or stops it, "next" goes to the next scene, "save" writes a clip.

        Raises:
            MessageError: no such message.
        """
        what = message.get("do")
        if not isinstance(what, str) or what not in _ANSWERS:
            raise MessageError(f"a message must do one of {', '.join(_ANSWERS)}, got {what!r}")
        if what != "next":
            scene = self._scene()
            if scene.shown is None:
                self._begin(scene)
        note = _ANSWERS[what](self, message)
        return self._words(note), self._shown.frames

    @property
    def _shown(self) -> Shown:
        shown = self._scene().shown
        assert shown is not None, "the scene has begun"
        return shown

    def _scene(self, name: str | None = None) -> Scene:
        """The scene of this name, or the one on the screen."""
        name = self._name if name is None else name
        if name not in self._opened:
            self._opened[name] = self._open[name]()
        return self._opened[name]

    def _begin(self, scene: Scene, options: Mapping[str, Any] | None = None) -> None:
        self._clip = [scene.begin(options).frames]

    def _step(self, message: Mapping[str, Any]) -> str:
        scene = self._scene()
        if self._shown.ended:
            return ""
        held = message.get("keys", [])
        if not isinstance(held, list) or not all(isinstance(key, str) for key in held):
            raise MessageError(f'"keys" must be a list of names of keys, got {held!r}')
        alone = self._agent_plays and scene.has_policy and not held
        shown = scene.step(None if alone else Keys(scene.action).action(held))
        self._clip = [*self._clip[-_CLIP_STEPS:], shown.frames]
        return ""

    def _begin_again(self, _: Mapping[str, Any]) -> str:
        self._begin(self._scene())
        return ""

    def _back(self, _: Mapping[str, Any]) -> str:
        scene = self._scene()
        if not isinstance(scene, DreamScene):
            return "a real game does not go back"
        before = self._shown.step
        went = before - scene.take_back(_TAKEN_BACK).step
        self._clip = self._clip[: max(1, len(self._clip) - went)]
        return f"{went} steps back"

    def _agent(self, _: Mapping[str, Any]) -> str:
        if not self._scene().has_policy:
            return "there is no agent: start with --agent FOLDER"
        self._agent_plays = not self._agent_plays
        return "the agent plays; hold a key to take over" if self._agent_plays else "you play"

    def _next(self, _: Mapping[str, Any]) -> str:
        """The next scene that opens. A dream of the game that was on the screen goes on from where that stands."""
        before, place, failures = self._opened.get(self._name), self._names.index(self._name), []
        for name in self._names[place + 1 :] + self._names[: place + 1]:
            try:
                scene = self._scene(name)
                break
            except (ValueError, TypeError, OSError, RuntimeError, Error) as error:
                failures.append(f"{name} cannot be opened: {error}")
        else:
            raise ValueError("; ".join(failures))
        note = self._enter(before, scene)
        self._name = name
        return "; ".join(filter(None, [*failures, note]))

    def _enter(self, before: Scene | None, scene: Scene) -> str:
        if (
            isinstance(before, GameScene)
            and before.shown is not None
            and not before.shown.ended
            and isinstance(scene, DreamScene)
            and _same_game(before, scene)
        ):
            scene.fps = before.fps
            self._begin(scene, before.recent())
            return "the dream goes on from the game"
        self._begin(scene)
        return ""

    def _save(self, _: Mapping[str, Any]) -> str:
        path = self._new_file()
        if path is None:
            return f"not saved: {self._out} holds {_MOST_CLIPS} clips already; move or delete some"
        frames = np.concatenate(self._clip)
        try:
            write_video(path, frames, self._scene().fps * len(self._shown.frames), scale=4)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return f"saved {path}"

    def _new_file(self) -> Path | None:
        """An empty file for the next clip, which no other player takes; None if there are too many."""
        self._out.mkdir(parents=True, exist_ok=True)
        for number in range(1, _MOST_CLIPS + 1):
            path = self._out / f"clip-{number:03}.mp4"
            with suppress(FileExistsError):
                path.touch(exist_ok=False)
                return path
        return None

    def _show(self, _: Mapping[str, Any]) -> str:
        return ""

    def _words(self, note: str) -> dict[str, Any]:
        scene, shown = self._scene(), self._shown
        numbers = {"step": shown.step, "reward": shown.reward, "return": shown.total}
        if shown.native is not None:
            numbers["native return"] = shown.native
        if shown.nll is not None:
            numbers["surprise, nats"] = shown.nll
        numbers |= shown.signals
        return {
            "name": self._name,
            "dream": scene.is_dream,
            "fps": scene.fps,
            "shape": shown.frames.shape,
            "numbers": {name: value if math.isfinite(value) else str(value) for name, value in numbers.items()},
            "ended": shown.ended,
            "has_agent": scene.has_policy,
            "agent": self._agent_plays and scene.has_policy,
            "bindings": Keys(scene.action).bindings,
            "more": len(self._names) > 1,
            "note": note,
        }


_ANSWERS: dict[str, Callable[[Session, Mapping[str, Any]], str]] = {
    "show": Session._show,
    "step": Session._step,
    "begin": Session._begin_again,
    "back": Session._back,
    "agent": Session._agent,
    "next": Session._next,
    "save": Session._save,
}


def _same_game(game: GameScene, dream: DreamScene) -> bool:
    """Whether a dream can go on from a game: alike in actions, signals and frames."""
    assert game.shown is not None, "the game has begun"
    ours, theirs, model = game.action, dream.action, dream.dream.model
    alike = (ours.kind, ours.n, ours.low, ours.high) == (theirs.kind, theirs.n, theirs.low, theirs.high)
    frames = (model.frames_per_step, model.height, model.width, model.config.tokenizer.channels)
    return alike and game.signal_names == dream.signal_names and game.recent()["frames"].shape[1:] == frames
