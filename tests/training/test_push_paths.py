"""Robot pushing, simulated and imported from BAIR's records: both presets' models make video on all four paths."""

from dataclasses import replace

import pytest

from tests.data.bair.test_exporter import make_push
from worldmodel import dynamics, tokenizer
from worldmodel.data import ActionSpec, EpisodeStorage
from worldmodel.data.bair.exporter import export_bair
from worldmodel.data.bair.importer import import_bair
from worldmodel.dynamics import FrameEncoderConfig, HeadsConfig
from worldmodel.training.cli.main import main
from worldmodel.training.fit import LoopConfig
from worldmodel.training.train_dynamics import DynamicsTraining, train_dynamics
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

ONCE = LoopConfig(steps=1, batch_size=2)
HELD = ActionSpec(kind="box", n=4, low=(-1.0,) * 4, high=(1.0,) * 4)


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """One action held for each step, and the same episodes with an action for each frame."""
    folder = tmp_path_factory.mktemp("push")
    make_push(folder / "simulated", num_episodes=30, action=HELD)
    export_bair(folder / "simulated", folder / "raw")
    import_bair(folder / "raw", folder / "imported")
    assert [EpisodeStorage.open(folder / name).info.action.n for name in ("simulated", "imported")] == [4, 8]
    return folder


def narrow(preset):
    """The same model with all sizes at their least."""
    coder = tokenizer.preset(preset)
    book = replace(coder.codebook, num_codes=8, code_dim=4)
    coder = replace(coder, residual_units=8, residual_layers=1, codebook=book)
    widths = (12,) * (4 if coder.patch == 1 else 3)  # 4 x 4 tokens a step: drawing them takes the time
    encoder = FrameEncoderConfig(width=8, depths=(1, 1))
    gpt = replace(dynamics.preset(preset).model, layers=1, width=24, heads=2, frame_encoder=encoder)
    return replace(coder, stage_widths=widths), gpt


@pytest.mark.parametrize(
    ("store", "preset"),
    [
        ("simulated", "push-small"),
        ("imported", "bair-paper"),
        pytest.param("simulated", "bair-paper", marks=pytest.mark.slow),
        pytest.param("imported", "push-small", marks=pytest.mark.slow),
    ],
)
def test_pushing_is_sampled_on_every_path(stores, tmp_path, store, preset):
    coder, gpt = narrow(preset)
    data, world = stores / store, tmp_path / "world"
    train_tokenizer(
        data,
        tmp_path / "coder",
        replace(TokenizerTraining.of_preset(preset), model=coder, loop=ONCE, validation_steps=8),
    )
    config = replace(
        DynamicsTraining.of_preset(preset),
        model=gpt,
        loop=ONCE,
        num_starts=4,
        validation_segments=8,
        heads=HeadsConfig(token_width=2, width=8, bins=5),
    )
    train_dynamics(data, tmp_path / "coder" / "best", world, config)
    for condition in ("none", "frames", "actions", "both"):
        given = ["--data", str(data)] if condition != "none" else []
        out = tmp_path / f"{condition}.gif"
        options = ["--condition", condition, "--n", "2", "--steps", "8", "--scale", "1", "--out", str(out)]
        assert main(["sample", str(world / "best"), *given, *options]) == 0
        assert out.stat().st_size > 0
