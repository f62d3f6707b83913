"""The scene of the pushing env: a bin of objects, a hand on three slides, a camera. Needs PyBullet.

The hand is what BAIR's second camera shows of its arm: the wrist and two fingers below a column. x points right, y away
from the camera, z up; metres. Letters: K objects, H W C pixels.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

PICTURE = 96  # height and width of a rendered image; larger than a frame, so that small motions change its colours
REACH = np.array((0.21, 0.15))  # the hand's centre stays within ± this of the bin's centre
LOW, HIGH = 0.008, 0.13  # height of the fingertips over the floor
SPEED = 0.035  # metres per frame at full deflection
MIN_OBJECTS, MAX_OBJECTS = 3, 6
_BIN = np.array((0.30, 0.23))  # half the floor
_OBJECT_KINDS = 1000  # in pybullet_data/random_urdfs; a few of them do not exist
_SUBSTEPS = 12  # of the physics per frame
_ITERATIONS = 20  # of its solver; with the default of 50 a frame takes a quarter longer
_SECONDS = 0.1  # per frame
_SETTLE_FRAMES = 8
_LIFT_SPEED = 0.07  # metres per frame
_GRIP_SPEED = 0.02
_OPEN, _CLOSED = 0.032, 0.009  # a finger's distance from the hand's centre
_MAX_LAG = 0.02  # metres that the commanded position may run ahead of a blocked hand
_FORCES = (25.0, 25.0, 15.0, 6.0, 6.0)  # newton, of the three slides and the two fingers

_EYE, _LOOKED_AT = (0.0, -0.66, 0.76), (0.0, -0.02, 0.0)  # of the camera
_ANGLE = 38.0  # field of view in degrees, vertical and horizontal

_WOOD, _BLACK, _RED = (0.80, 0.66, 0.47), (0.11, 0.10, 0.10), (0.56, 0.10, 0.17)
_PLANKS = (1.0, 0.96, 1.03, 0.98, 0.94, 1.02, 0.97, 1.0)  # brightness of each
# Half sizes, centre and colour of the boxes around the floor.
_FURNITURE = (
    ((0.05, 0.34, 0.03), (-0.35, 0.0, 0.03), (0.75, 0.70, 0.63)),
    ((0.05, 0.34, 0.03), (0.35, 0.0, 0.03), (0.75, 0.70, 0.63)),
    ((0.30, 0.05, 0.04), (0.0, 0.28, 0.04), (0.85, 0.80, 0.72)),
    ((0.45, 0.06, 0.02), (0.0, -0.29, 0.02), (0.93, 0.92, 0.90)),
    ((0.45, 0.01, 0.20), (0.0, -0.345, -0.16), (0.28, 0.20, 0.14)),
    ((1.50, 1.00, 0.01), (0.0, 1.4, -0.2), (0.90, 0.90, 0.92)),
    ((1.50, 1.50, 0.01), (0.0, 0.0, -0.4), (0.35, 0.30, 0.27)),
)


def load_pybullet() -> ModuleType:
    """PyBullet, without the line that it prints about its build."""
    if loaded := sys.modules.get("pybullet"):
        return loaded
    screen, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import pybullet
    except ImportError as error:
        raise DependencyNotInstalled(
            "PyBullet is missing. Run: pip install 'videogen-dream[push]'. PyBullet has wheels for Python 3.11; with a "
            "newer Python it must be built by a C++ compiler, or this env run with Python 3.11. "
            "Everything else works without it."
        ) from error
    finally:
        os.dup2(screen, 2)
        os.close(screen)
        os.close(nowhere)
    return pybullet


class PushScene:
    """One simulation, rebuilt for every episode, so that everything depends only on the seed and the moves."""

    def __init__(self) -> None:
        self._bullet = load_pybullet()
        import pybullet_data

        self._folder = Path(pybullet_data.getDataPath()) / "random_urdfs"
        self._client: int | None = None
        self._objects: list[int] = []
        self._hand = -1
        self._joints: list[int] = []
        self._order = np.zeros(5)  # commanded positions of the slides and fingers
        view = self._bullet.computeViewMatrix(_EYE, _LOOKED_AT, (0.0, 0.0, 1.0))
        lens = self._bullet.computeProjectionMatrixFOV(_ANGLE, 1.0, 0.1, 4.0)
        self._camera = {"viewMatrix": view, "projectionMatrix": lens}

    def build(self, seed: int, num_objects: int | None = None) -> None:
        """Empty the bin, drop new objects into it (None: 3 to 6) and move the hand above a random position.

        Once in thousands of episodes PyBullet places an object at NaN; the same scene succeeds in a new simulation, so
        that is what it gets.
        """
        self._build(seed, num_objects)
        if not np.isfinite(self.objects).all():
            self.close()
            self._build(seed, num_objects)

    def _build(self, seed: int, num_objects: int | None) -> None:
        rng = np.random.default_rng(seed)
        if num_objects is None:
            num_objects = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
        if self._client is None:
            self._client = self._bullet.connect(self._bullet.DIRECT)
        self._call("resetSimulation")
        self._call("setGravity", 0.0, 0.0, -9.8)
        self._call(
            "setPhysicsEngineParameter",
            fixedTimeStep=_SECONDS / _SUBSTEPS,
            numSolverIterations=_ITERATIONS,
            deterministicOverlappingPairs=1,
        )
        self._add_bin()
        start = rng.uniform(-REACH, REACH)
        self._add_hand(start)
        self._objects = []
        places: list[NDArray[np.float64]] = []
        for _ in range(num_objects):
            places.append(far_from(places, lambda: rng.uniform(-REACH, REACH) * 0.85, 0.12))
            self._objects.append(self._add_object(rng, places[-1]))
        for _ in range(_SETTLE_FRAMES):
            self.move(0.0, 0.0, 1.0, -1.0)

    def move(self, dx: float, dy: float, lift: float, grip: float) -> None:
        """Simulate one frame's time; all four in [-1, 1].

        Args:
            dx, dy: speed of the hand; 1 is 3.5 cm per frame.
            lift: height to go to: up to 0 the floor, 1 above all objects.
            grip: how far to close the fingers: -1 open, 1 closed.
        """
        where = self._slides()
        goal = np.clip(self._order, where - _MAX_LAG, where + _MAX_LAG)
        begin = goal.copy()
        goal[:2] = np.clip(goal[:2] + SPEED * np.array((dx, dy)), -REACH, REACH)
        height = LOW + (HIGH - LOW) * max(lift, 0.0)
        goal[2] += np.clip(height - goal[2], -_LIFT_SPEED, _LIFT_SPEED)
        opening = _OPEN + (_CLOSED - _OPEN) * (grip + 1.0) / 2.0
        goal[3:] += np.clip(opening - goal[3:], -_GRIP_SPEED, _GRIP_SPEED)
        speed = (goal - begin) / _SECONDS
        for k in range(1, _SUBSTEPS + 1):
            self._call(
                "setJointMotorControlArray",
                self._hand,
                self._joints,
                self._bullet.POSITION_CONTROL,
                targetPositions=begin + (goal - begin) * k / _SUBSTEPS,
                targetVelocities=speed,
                forces=_FORCES,
                positionGains=[0.5] * 5,
            )
            self._call("stepSimulation")
        self._order = goal

    def picture(self) -> NDArray[np.uint8]:
        """The camera's image, (96, 96, 3) uint8 RGB."""
        _, _, pixels, _, _ = self._call(
            "getCameraImage",
            PICTURE,
            PICTURE,
            **self._camera,
            lightDirection=(0.3, -0.5, 1.0),
            shadow=0,
            renderer=self._bullet.ER_TINY_RENDERER,
            flags=self._bullet.ER_NO_SEGMENTATION_MASK,
        )
        return np.reshape(pixels, (PICTURE, PICTURE, 4))[..., :3].astype(np.uint8)

    def put(self, index: int, place: NDArray) -> None:
        """Move object `index` to `place` (2,), keeping its height and orientation."""
        (*_, height), turn = self._call("getBasePositionAndOrientation", self._objects[index])
        self._call("resetBasePositionAndOrientation", self._objects[index], (*place, height), turn)

    @property
    def hand(self) -> NDArray[np.float32]:
        """(3,) position of the point between the fingertips."""
        return self._slides()[:3].astype(np.float32)

    @property
    def objects(self) -> NDArray[np.float32]:
        """(K, 3) centres."""
        poses = [self._call("getBasePositionAndOrientation", body)[0] for body in self._objects]
        return np.array(poses, np.float32).reshape(-1, 3)

    def close(self) -> None:
        """End the simulation; calling it again does nothing."""
        if self._client is not None:
            self._bullet.disconnect(self._client)
            self._client = None

    def _call(self, name: str, *args, **kwargs):
        return getattr(self._bullet, name)(*args, **kwargs, physicsClientId=self._client)

    def _slides(self) -> NDArray[np.float64]:
        """(5,) positions of the slides x, y, z and of the two fingers."""
        return np.array([state[0] for state in self._call("getJointStates", self._hand, self._joints)])

    def _visual(self, half: Sequence[float], colour: Sequence[float]) -> int:
        b = self._bullet
        return self._call("createVisualShape", b.GEOM_BOX, halfExtents=half, rgbaColor=(*colour, 1.0))

    def _collision(self, half: Sequence[float]) -> int:
        return self._call("createCollisionShape", self._bullet.GEOM_BOX, halfExtents=half)

    def _add_bin(self) -> None:
        """Visible planks and rims; an invisible slab and four high walls that keep the objects in."""
        width = _BIN[0] / len(_PLANKS)  # half a plank's
        for k, brightness in enumerate(_PLANKS):
            colour = np.clip(np.array(_WOOD) * brightness, 0.0, 1.0)
            visual = self._visual((width, _BIN[1], 0.02), colour.tolist())
            self._call("createMultiBody", 0.0, -1, visual, (width * (2 * k + 1) - _BIN[0], 0.0, -0.02))
        for half, centre, furniture in _FURNITURE:
            self._call("createMultiBody", 0.0, -1, self._visual(half, furniture), centre)
        x, y = _BIN
        walls = [((1.0, 1.0, 0.1), (0.0, 0.0, -0.1))]
        walls += [((0.1, 1.0, 0.5), (side * (x + 0.1), 0.0, 0.5)) for side in (-1, 1)]
        walls += [((1.0, 0.1, 0.5), (0.0, side * (y + 0.1), 0.5)) for side in (-1, 1)]
        # A body without a visual shape is drawn by its collision shape, so it gets a speck below the ground.
        b = self._bullet
        speck = self._call(
            "createVisualShape", b.GEOM_BOX, halfExtents=[1e-3] * 3, visualFramePosition=(0.0, 0.0, -3.0)
        )
        for half, centre in walls:
            self._call("createMultiBody", 0.0, self._collision(half), speck, centre)

    def _add_hand(self, start: NDArray) -> None:
        b = self._bullet
        slide, fixed = b.JOINT_PRISMATIC, b.JOINT_FIXED
        wrist, finger = (0.03, 0.025, 0.04), (0.006, 0.012, 0.035)
        # Parent (0: the base, k: row k - 1), joint, its axis, position on the parent, mass, half size, colour, touches
        parts = (
            (0, slide, (1, 0, 0), (0.0, 0.0, 0.0), 0.1, None, None, False),
            (1, slide, (0, 1, 0), (0.0, 0.0, 0.0), 0.1, None, None, False),
            (2, slide, (0, 0, 1), (0.0, 0.0, 0.0), 0.2, wrist, _BLACK, True),
            (3, slide, (-1, 0, 0), (0.0, 0.0, -0.075), 0.05, finger, _BLACK, True),
            (3, slide, (1, 0, 0), (0.0, 0.0, -0.075), 0.05, finger, _BLACK, True),
            (3, fixed, (0, 0, 1), (0.0, 0.0, -0.035), 0.01, (0.031, 0.026, 0.010), _RED, False),
            (3, fixed, (0, 0, 1), (0.0, 0.0, 0.055), 0.01, (0.036, 0.033, 0.016), _RED, False),
            (3, fixed, (0, 0, 1), (0.0, 0.0, 0.37), 0.01, (0.035, 0.032, 0.30), _BLACK, False),
        )
        parents, joints, axes, places, masses, halves, colours, touching = zip(*parts, strict=True)
        self._hand = self._call(
            "createMultiBody",
            0.0,
            # The vertical joint is measured from the lower end of the fingers: at z = 0 the tips touch the floor.
            basePosition=(0.0, 0.0, 0.11),
            linkMasses=masses,
            linkCollisionShapeIndices=[
                self._collision(half) if touches else -1 for half, touches in zip(halves, touching, strict=True)
            ],
            linkVisualShapeIndices=[
                self._visual(half, colour) if half else -1 for half, colour in zip(halves, colours, strict=True)
            ],
            linkPositions=places,
            linkOrientations=[(0.0, 0.0, 0.0, 1.0)] * len(parts),
            linkInertialFramePositions=[(0.0, 0.0, 0.0)] * len(parts),
            linkInertialFrameOrientations=[(0.0, 0.0, 0.0, 1.0)] * len(parts),
            linkParentIndices=parents,
            linkJointTypes=joints,
            linkJointAxis=axes,
        )
        self._joints = [k for k, joint in enumerate(joints) if joint == slide]
        self._order = np.array((*start, HIGH, _OPEN, _OPEN))
        for joint, value in zip(self._joints, self._order, strict=True):
            self._call("resetJointState", self._hand, joint, value)

    def _add_object(self, rng: np.random.Generator, place: NDArray) -> int:
        turn = self._bullet.getQuaternionFromEuler(rng.uniform(-np.pi, np.pi, 3))
        file = self._folder / "none"
        while not file.exists():
            kind = f"{rng.integers(_OBJECT_KINDS):03d}"
            file = self._folder / kind / f"{kind}.urdf"
        body = self._call("loadURDF", str(file), (*place, 0.08), turn)
        # Objects should come to rest where they are left; without this some keep rolling.
        self._call(
            "changeDynamics",
            body,
            -1,
            lateralFriction=0.7,
            rollingFriction=0.003,
            spinningFriction=0.003,
            linearDamping=0.5,
            angularDamping=0.5,
        )
        return body


def floor_at(row: float, column: float, size: int, height: float = 0.02) -> NDArray[np.float32]:
    """The position (x, y), metres, at a pixel of a square camera frame, `height` above the floor."""
    eye = np.array(_EYE)
    ahead = np.array(_LOOKED_AT) - eye
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    half = np.tan(np.radians(_ANGLE) / 2)
    across, up = (half * (2 * (pixel + 0.5) / size - 1) for pixel in (column, size - 1 - row))
    ray = ahead + across * right + up * np.cross(right, ahead)
    return (eye + ray * (height - eye[2]) / ray[2])[:2].astype(np.float32)


def far_from(others: Sequence[NDArray], draw, distance: float, tries: int = 60) -> NDArray[np.float64]:
    """The first sampled position at least `distance` from all others; if there is none, the one with most room."""
    best, most = draw(), -np.inf
    for _ in range(tries):
        place = draw()
        room = min((float(np.linalg.norm(place - other)) for other in others), default=np.inf)
        if room > most:
            best, most = place, room
        if room >= distance:
            break
    return best
