"""Moving digits, after the VideoGen paper's figure 4: two digits bounce in a square; a clip continues from one frame.

    pip install '.[digits]'
    python examples/moving_digits.py

The digits are scikit-learn's, 8 x 8 pixels enlarged to 24 x 24, instead of MNIST's. The presets `moving-mnist` have the
paper's sizes; this trains narrower ones. The digits that it draws move and bounce, but they are not those of the given
frame (docs/videogen.md has a film).
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from worldmodel.data import ActionSpec, Episode, EpisodeStorage, StoreInfo
from worldmodel.training.show.sample import SampleConfig, sample_videos
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

SIZE, DIGIT, FRAMES = 64, 24, 16  # pixels of a side; frames of a clip
FRAMES_PER_STEP = 4


def make_store(out: Path, episodes: int, seed: int = 0) -> EpisodeStorage:
    """A store of clips of two bouncing digits; nobody acts in them."""
    store = EpisodeStorage.create(
        out,
        StoreInfo(
            env_id="MovingDigits",
            action=ActionSpec(kind="discrete", n=1, names=("none",)),
            frames_per_step=FRAMES_PER_STEP,
            height=SIZE,
            width=SIZE,
            channels=1,
        ),
    )
    pictures, rng = _digits(), np.random.default_rng(seed)
    steps = FRAMES // FRAMES_PER_STEP
    for _ in range(episodes):
        frames = moving(pictures[rng.choice(len(pictures), 2)], rng)
        store.append(
            Episode(
                frames=frames.reshape(steps, FRAMES_PER_STEP, SIZE, SIZE, 1),
                actions=np.zeros(steps - 1, np.int64),
                rewards=np.zeros(steps - 1, np.float32),
                terminated=False,
                truncated=True,
                signals=np.zeros((steps, 0), np.float32),
            )
        )
    return store


def moving(pictures: NDArray[np.uint8], rng: np.random.Generator, frames: int = FRAMES) -> NDArray[np.uint8]:
    """Pictures (N, DIGIT, DIGIT) that move straight at 2 to 4 pixels a frame and bounce: (frames, SIZE, SIZE) uint8."""
    room = SIZE - DIGIT
    film = np.zeros((frames, SIZE, SIZE), np.uint8)
    for picture in pictures:
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(2, 4)
        path = rng.uniform(0, room, 2) + np.arange(frames)[:, None] * speed * np.array([np.cos(angle), np.sin(angle)])
        places = room - np.abs(path % (2 * room) - room)  # folded at both walls
        for frame, (y, x) in zip(film, places.round().astype(int), strict=True):
            part = frame[y : y + DIGIT, x : x + DIGIT]
            np.maximum(part, picture, out=part)
    return film


def _digits() -> NDArray[np.uint8]:
    """Handwritten digits (N, DIGIT, DIGIT) uint8."""
    from sklearn.datasets import load_digits

    small = (load_digits().images * (255 / 16)).astype(np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((DIGIT, DIGIT), Image.Resampling.BICUBIC)) for image in small]
    )


def trainings() -> tuple[TokenizerTraining, DynamicsTraining]:
    """Those of `moving-mnist`, narrower, coarser, and with what trains fast: 4 x 8 x 8 codes, few of them, and Muon."""
    tokenizer, dynamics = TokenizerTraining.of_preset("moving-mnist"), DynamicsTraining.of_preset("moving-mnist")
    encoder = replace(dynamics.model.frame_encoder, width=16)
    return (
        TokenizerTraining(
            model=replace(
                tokenizer.model,
                stage_widths=(16, 32, 64),
                residual_units=32,
                codebook=replace(tokenizer.model.codebook, num_codes=128, rate_weight=0.05),
            ),
            loop=replace(TokenizerTraining().loop, steps=1500, batch_size=16),
        ),
        DynamicsTraining(
            model=replace(dynamics.model, dropout=0.0, frame_encoder=encoder),
            loop=replace(DynamicsTraining().loop, steps=1200, batch_size=8),
            num_starts=1,
        ),
    )


def _store(out: Path, episodes: int) -> EpisodeStorage:
    """The store of `make_store`; one that was interrupted is written again."""
    if out.is_dir():
        store = EpisodeStorage.open(out)
        if len(store) == episodes:
            return store
        shutil.rmtree(out)
    return make_store(out, episodes)


def main(
    out: str = "runs/moving-digits",
    episodes: int = 6000,
    tokenizer: TokenizerTraining | None = None,
    dynamics: DynamicsTraining | None = None,
) -> dict[str, float]:
    folder, (usual_tokenizer, usual_dynamics) = Path(out), trainings()
    store = _store(folder / "data", episodes)
    train_tokenizer(store, folder / "tokenizer", tokenizer or usual_tokenizer)
    scores = train_dynamics(store, folder / "tokenizer" / "best", folder / "dynamics", dynamics or usual_dynamics)
    sample_videos(folder / "dynamics", folder / "samples", SampleConfig(condition="frames", n=8, fps=5), data=store)
    print(f"bits per code: {scores['bits_per_code']:.2f}; {folder / 'samples.gif'}")
    return scores


if __name__ == "__main__":
    main()
