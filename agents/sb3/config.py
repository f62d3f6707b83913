"""Settings of agents trained with Stable-Baselines3, and the config.json of saved ones."""

import math
from typing import Annotated, Literal

from pydantic import Field

from worldmodel.data import ActionSpec
from worldmodel.settings import PositiveFloat, PositiveInt, Probability, checked_dataclass

_MOST_NUMBERS = 2**26  # in a stacked observation: more than twice four frames of 1920 x 1080


@checked_dataclass
class AgentConfig:
    """PPO and its policy. The defaults are for dreams, selected by returns in the real game (docs/results.md)."""

    steps: PositiveInt = 100_000  # env steps of all envs together, rounded up to whole rollouts
    num_envs: PositiveInt = 64  # envs, the rows of a rollout
    n_steps: PositiveInt = 32  # steps of each env per rollout
    batch_size: Annotated[int, Field(ge=2)] = 256
    n_epochs: PositiveInt = 3
    learning_rate: PositiveFloat = 4e-4
    gamma: Probability = 0.98
    gae_lambda: Probability = 0.92
    clip_range: PositiveFloat = 0.2
    ent_coef: float = 0.005
    frame_stack: PositiveInt = 1  # use 2 for obs "latent" and "rgb", which show nothing of the past
    previous_action: bool = False  # show the agent its last action, as planes after the channels (`ActionMemory`)
    # Numbers of steps for which the policy may choose to repeat a discrete action, such as 1 2 4 8; a single number is
    # a fixed repeat. Each repeated step is an env step with its own observation (and the action), reward and discount;
    # it offers no choice, so it trains only the value. Empty: an action is chosen in every step.
    durations: tuple[Annotated[int, Field(ge=1, le=255)], ...] = ()
    features_dim: PositiveInt = 256  # width of the policy's last layer
    channels: PositiveInt = 32  # channels of the first convolution; the others have twice as many
    seed: int = 0

    def __post_init__(self) -> None:
        if len(set(self.durations)) < len(self.durations):
            raise ValueError(f"durations must differ, got {self.durations}")
        if self.rollout % self.batch_size:
            raise ValueError(
                f"batch_size must divide a rollout, n_steps x num_envs = {self.rollout}, got {self.batch_size}"
            )

    @property
    def shows_actions(self) -> bool:
        """Whether the agent sees its last action, as it must with durations."""
        return self.previous_action or bool(self.durations)

    @property
    def rollout(self) -> int:
        """Env steps between two updates."""
        return self.n_steps * self.num_envs


# For training in the real game: solves health_gathering in 77,000 decisions.
REAL_GAME = AgentConfig(
    num_envs=8,
    n_steps=128,
    batch_size=256,
    n_epochs=4,
    learning_rate=3e-4,
    gamma=0.99,
    gae_lambda=0.95,
    ent_coef=0.01,
    frame_stack=4,
)


@checked_dataclass
class AgentMeta:
    """The game and worlds in which an agent was trained."""

    env_id: str = ""  # of the real game
    view: Literal["real", "rgb", "latent", "features"] = "real"  # raw frames, or the obs of a DreamView
    world_model: str = ""  # name or folder of the view's model; empty for "real"
    more_worlds: tuple[str, ...] = ()  # further worlds of its training, as `world_and_weights` writes them
    reward: Literal["world", "survival"] = "world"  # of its training: the env's own, or 1 per step while it lives


def world_and_weights(name: str, weights: str) -> str:
    """A further world of an agent's training: name or folder, and hash of the weights."""
    return f"{name} (sha256 {weights})"


def name_and_weights(text: str) -> tuple[str, str]:
    """What `world_and_weights` joined."""
    name, _, weights = text.removesuffix(")").rpartition(" (sha256 ")
    return name, weights


@checked_dataclass
class AgentFile:
    """config.json of a saved agent: everything needed to rebuild its policy."""

    observation_shape: tuple[PositiveInt, ...]  # of one observation, before stacking
    pixels: bool  # uint8 frames; otherwise float32
    action: ActionSpec
    training: AgentConfig
    meta: AgentMeta

    def __post_init__(self) -> None:
        numbers = math.prod(self.observation_shape) * self.training.frame_stack
        if not self.observation_shape or numbers > _MOST_NUMBERS:
            raise ValueError(
                f"observation_shape must have at least one axis and at most {_MOST_NUMBERS:,} entries including "
                f"frame_stack, got {self.observation_shape} x {self.training.frame_stack}"
            )
