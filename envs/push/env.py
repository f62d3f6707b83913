"""Robot pushing in simulation as a Gymnasium environment: the twin of the BAIR recordings, with continuous actions.

Letters: F frames per step, K object slots, G signals, H W C pixels.
"""

from typing import Any, Literal

import gymnasium as gym
import numpy as np
from gymnasium.error import InvalidAction, ResetNeeded
from numpy.typing import NDArray

from worldmodel.data import ActionSpec
from worldmodel.data.bair.shapes import FRAMES_PER_SECOND
from worldmodel.envs.push.scene import MAX_OBJECTS, PICTURE, REACH, PushScene, far_from
from worldmodel.errors import check_known, refuse_unknown
from worldmodel.media.resize import area_resize

SIZE = 64  # height and width of a stored frame
AT_TARGET = 0.04  # metres: the object counts as at its target
_REWARDS = ("none", "motion", "dense", "sparse")
_METRES_PER_REWARD = 0.1
_PUSH = (0.10, 0.20)  # metres from an object to its target
_BEHIND = 0.08  # metres from an object to where the hand begins to push it
_ROOM = 0.10  # metres from a target to the other objects


class PushEnv(gym.Env[np.ndarray, np.ndarray]):
    """A hand over a bin with 3 to 6 objects; a step holds one action for F frames.

    The observation is the last frame of the step, (64, 64, 3) uint8 RGB, from a camera placed like BAIR's second. An
    action has 4 dimensions in [-1, 1]:

    - ``dx``, ``dy``: speed of the hand to the right and away from the camera; 1 is 3.5 cm per frame;
    - ``lift``: height to go to: up to 0 down at the floor, 1 above all objects (about two frames away);
    - ``grip``: how far to close the fingers: -1 open, 1 closed.

    BAIR records an action per frame and holds each for two. Here one action is held for the whole step, so a store
    keeps 4 values per step, as the dream expects them; the actions of the single frames are these values F times.

    `info`, at reset and at every step, holds:

    - ``frames``: (F, 64, 64, 3) uint8, the frames of the step; at reset the first frame F times;
    - ``signals``: (G,) float32 in the order of `signal_names`, metres from the bin's centre and over its floor; all 0
      for slots without an object (an object's Z is above 0). Each signal is repeated under its own name;
    - ``native_reward``: the "dense" reward of the step with a goal, else the "motion" one; 0.0 at reset;
    - with a goal also ``goal_image``: (64, 64, 3) uint8, the first scene with object 0 at its target; ``target``: (2,)
      float32, its x and y; ``distance``: metres from object 0 to it; ``is_success``: whether that is below 4 cm.

    Episodes never terminate; they truncate after `episode_frames`.

    Args:
        goal: object 0 is to be pushed to a target, 10 to 20 cm away; nearer where the others leave no room.
        reward: "none" is always 0; "motion" is 1 for every 10 cm that all objects together were pushed along the floor
            in this step; "dense" is 1 for every 10 cm that object 0 came nearer to its target; "sparse" is 1 in each
            step after which it is at its target, else 0. None: "dense" with a goal, "motion" without.
        frames_per_step: F.
        episode_frames: frames after the first one; a multiple of F. BAIR's recordings have 29.
        num_objects: 1 to 6; None: 3 to 6, drawn for every episode.
        render_mode: "rgb_array" or None; `render()` returns the 96 × 96 image from which the last frame was made.

    Raises:
        ValueError: an option's value is not valid.
        TypeError: an option is unknown.
        DependencyNotInstalled: PyBullet is missing; the message says what to do.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FRAMES_PER_SECOND / 2}  # noqa: RUF012

    def __init__(
        self,
        *,
        goal: bool = False,
        reward: Literal["none", "motion", "dense", "sparse"] | None = None,
        frames_per_step: int = 2,
        episode_frames: int = 30,
        num_objects: int | None = None,
        render_mode: str | None = None,
        **unknown: object,
    ) -> None:
        refuse_unknown(unknown, PushEnv)
        if reward is None:
            reward = "dense" if goal else "motion"
        check_known("reward", reward, _REWARDS)
        if reward in ("dense", "sparse") and not goal:
            raise ValueError(
                f"reward={reward!r} needs a target to push to; set goal=True, or make VideoGenReal-PushGoal"
            )
        if frames_per_step < 1 or episode_frames < 1 or episode_frames % frames_per_step:
            raise ValueError(
                "episode_frames must be a multiple of frames_per_step, both at least 1, "
                f"got episode_frames={episode_frames} and frames_per_step={frames_per_step}"
            )
        if num_objects is not None and not 1 <= num_objects <= MAX_OBJECTS:
            raise ValueError(f"num_objects must be 1 to {MAX_OBJECTS}, or None, got {num_objects}")
        if render_mode is not None:
            check_known("render_mode", render_mode, ["rgb_array"])

        self.goal = goal
        self.reward_kind = reward
        self.frames_per_step = frames_per_step
        self.episode_frames = episode_frames
        self.num_objects = num_objects
        self.action_spec = ActionSpec(
            kind="box", n=4, names=("dx", "dy", "lift", "grip"), low=(-1.0,) * 4, high=(1.0,) * 4
        )
        self.signal_names = tuple(
            f"{thing}_{axis}" for thing in ("GRIPPER", *(f"OBJECT{k}" for k in range(MAX_OBJECTS))) for axis in "XYZ"
        )
        self.action_space = self.action_spec.to_gym()
        self.observation_space = gym.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.render_mode = render_mode
        self.metadata = self.metadata | {"render_fps": FRAMES_PER_SECOND / frames_per_step}

        self._scene = PushScene()
        self._picture = np.zeros((PICTURE, PICTURE, 3), np.uint8)
        self._frames_left = 0
        self._target: NDArray[np.float32] | None = None
        self._goal_image = np.zeros((SIZE, SIZE, 3), np.uint8)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the same seed gives the same frames, and so do the unseeded resets that follow it."""
        super().reset(seed=seed)
        scene_seed = int(self.np_random.integers(2**31))
        self._scene.build(scene_seed, self.num_objects)
        if self.goal:
            self._set_goal(np.random.default_rng((scene_seed, 1)))  # apart from the scene's own draws
            # The object was moved for the picture. Moving it back would not restore its exact position.
            self._scene.build(scene_seed, self.num_objects)
        self._picture = self._scene.picture()
        self._frames_left = self.episode_frames
        frame = _shrink([self._picture])
        return frame[0].copy(), self._info(np.repeat(frame, self.frames_per_step, axis=0), native_reward=0.0)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action for F frames."""
        if not self._frames_left:
            raise ResetNeeded("No episode is running: it has not begun, or it has ended. Call reset() before step().")
        given = np.asarray(action)
        if given.dtype.kind not in "fiu" or not self.action_space.contains(given := given.astype(np.float32)):
            names = ", ".join(self.action_spec.names)
            raise InvalidAction(f"action must be 4 numbers ({names}), shape (4,), in [-1, 1]; got {action!r}")

        before, places = self._distance(), self._scene.objects[:, :2]
        pictures = []
        for _ in range(self.frames_per_step):
            self._scene.move(*given.tolist())
            pictures.append(self._scene.picture())
        self._picture = pictures[-1]
        self._frames_left -= self.frames_per_step
        frames = _shrink(pictures)

        dense = (before - self._distance()) / _METRES_PER_REWARD
        motion = float(np.linalg.norm(self._scene.objects[:, :2] - places, axis=1).sum()) / _METRES_PER_REWARD
        sparse = float(self.goal and self._distance() < AT_TARGET)
        rewards = {"none": 0.0, "motion": motion, "dense": dense, "sparse": sparse}
        truncated = self._frames_left == 0
        return (
            frames[-1].copy(),
            rewards[self.reward_kind],
            False,
            truncated,
            self._info(frames, native_reward=dense if self.goal else motion),
        )

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The last camera image, (96, 96, 3) uint8, or None without a render mode."""
        return self._picture.copy() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the simulation; calling it again does nothing."""
        self._frames_left = 0
        self._scene.close()

    def _set_goal(self, rng: np.random.Generator) -> None:
        """Choose a target for object 0, and take an image of it there."""
        first, *others = self._scene.objects[:, :2]

        def draw() -> NDArray[np.float64]:
            angle, far = rng.uniform(0.0, 2 * np.pi), rng.uniform(*_PUSH)
            way = np.array((np.cos(angle), np.sin(angle)))
            way[abs(first - _BEHIND * way) > REACH] *= -1.0  # the hand would not get behind the object
            return np.clip(first + far * way, -REACH, REACH)

        # Clipping can bring the target too close to the object, so the object's own position is kept clear too.
        self._target = far_from([first, *others], draw, _ROOM).astype(np.float32)
        self._scene.put(0, self._target)
        self._goal_image = _shrink([self._scene.picture()])[0]

    def _distance(self) -> float:
        """Metres from object 0 to its target; 0.0 without a goal."""
        return 0.0 if self._target is None else float(np.linalg.norm(self._scene.objects[0, :2] - self._target))

    def _info(self, frames: np.ndarray, native_reward: float) -> dict[str, Any]:
        signals = np.zeros((1 + MAX_OBJECTS, 3), np.float32)
        objects = self._scene.objects
        signals[0], signals[1 : 1 + len(objects)] = self._scene.hand, objects
        named = dict(zip(self.signal_names, signals.ravel().tolist(), strict=True))
        info = {"frames": frames, "signals": signals.ravel(), "native_reward": native_reward, **named}
        if self._target is not None:
            distance = self._distance()
            info |= {
                "goal_image": self._goal_image.copy(),
                "target": self._target.copy(),
                "distance": distance,
                "is_success": distance < AT_TARGET,
            }
        return info


def _shrink(pictures: list[np.ndarray]) -> np.ndarray:
    return area_resize(np.stack(pictures), SIZE, SIZE)
