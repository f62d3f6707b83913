"""The VideoGen paper's recipe on ViZDoom, at a size for two cores: an agent's play, two priors, films by actions.

    python examples/paper_recipe.py

Train a policy, record 1,000 episodes of 100 steps of the trained one (split 8 : 1 : 1), train a tokenizer of clips and
two priors on them, one without conditions and one conditioned on all actions of a clip and one frame; then make films
from nothing, and of "turn right, then go forward" from three starts.
"""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from worldmodel.agents.sb3.config import REAL_GAME, AgentConfig
from worldmodel.agents.sb3.train import train_policy
from worldmodel.data import EpisodeStorage
from worldmodel.dynamics import FrameEncoderConfig, GPTConfig
from worldmodel.training.collect.collect import collect
from worldmodel.training.show.sample import SampleConfig, sample_videos
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

ACTIONS = ("turn_right*3", "move_forward*4")
CODES = "codes.safetensors"
_PRIOR = GPTConfig(order="raster", position="learned", condition_width=0, context_noise=0.0, action_condition="none")
_CONDITIONED = replace(
    _PRIOR,
    action_condition="clip",
    frame_condition=1,
    frame_condition_frames=1,
    frame_encoder=FrameEncoderConfig(width=16, depths=(1, 1, 1, 1)),
)


def _training(model: GPTConfig) -> DynamicsTraining:
    loop = replace(DynamicsTraining().loop, steps=2000, batch_size=4)
    return DynamicsTraining(model=model, loop=loop, num_starts=1)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Sizes of all parts; the paper's are the presets `videogen-2x4x4` and `videogen-paper`, on a GPU."""

    policy: AgentConfig = REAL_GAME
    episodes: int = 1000
    workers: int = 2
    game: dict[str, Any] = field(default_factory=lambda: {"episode_timeout": 400})  # tics, four for each step
    tokenizer: TokenizerTraining = field(default_factory=lambda: TokenizerTraining.of_preset("clip-small"))
    unconditional: DynamicsTraining = field(default_factory=lambda: _training(_PRIOR))
    conditioned: DynamicsTraining = field(default_factory=lambda: _training(_CONDITIONED))
    films: int = 8


def main(out: str = "runs/paper-recipe", env_id: str = "VideoGenReal-Doom", recipe: Recipe | None = None) -> list[Path]:
    recipe, folder = recipe or Recipe(), Path(out)
    train_policy(env_id, folder / "policy", recipe.policy, **recipe.game)
    collect(
        env_id,
        folder / "data",
        episodes=recipe.episodes,
        policy=folder / "policy",
        workers=recipe.workers,
        env_kwargs=recipe.game,
    )
    store = EpisodeStorage(folder / "data")
    train_tokenizer(store, folder / "tokenizer", recipe.tokenizer)
    train_dynamics(store, folder / "tokenizer" / "best", folder / "unconditional", recipe.unconditional)
    _share_codes(folder / "unconditional", folder / "conditioned")
    train_dynamics(store, folder / "tokenizer" / "best", folder / "conditioned", recipe.conditioned)
    alone = sample_videos(
        folder / "unconditional", folder / "from-nothing", SampleConfig(condition="none", n=recipe.films)
    )
    led = sample_videos(
        folder / "conditioned", folder / "by-actions", SampleConfig(condition="both", n=3), data=store, actions=ACTIONS
    )
    print(alone, led, sep="\n")
    return [*alone.files, *led.files]


def _share_codes(source: Path, target: Path) -> None:
    """Spare the second prior encoding the same clips with the same tokenizer."""
    target.mkdir(exist_ok=True)
    shutil.copyfile(source / CODES, target / CODES)


if __name__ == "__main__":  # workers are fresh processes that import this file
    main()
