"""Tests for training/pixel_weights.py: rare colours weigh more, and the mean weight stays 1."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_config
from tests.training.recorded import recorded_store
from worldmodel.tokenizer import VQVAE
from worldmodel.tokenizer.files import load_tokenizer
from worldmodel.training import train_tokenizer as training
from worldmodel.training.fit import LoopConfig
from worldmodel.training.pixel_weights import colours, levels, rarity_weights
from worldmodel.training.train_tokenizer import TokenizerTraining, train_tokenizer

LOOP = LoopConfig(steps=4, batch_size=4, learning_rate=3e-3, warmup=1, evaluate_every=4, save_every=2)
CONFIG = TokenizerTraining(model=tiny_config().tokenizer, loop=LOOP, validation_steps=16)


def picture(channels: int = 3, rare: int = 4, size: int = 20) -> torch.Tensor:
    """(1, 1, 1, size, size, channels): gray, except for this many bright pixels in the first row."""
    frames = torch.full((1, 1, 1, size, size, channels), 100, dtype=torch.uint8)
    frames[0, 0, 0, 0, :rare] = 250
    return frames


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_weights_have_the_mean_1_and_rare_colours_weigh_more(channels):
    frames = picture(channels)
    weights = rarity_weights(frames, 0.5, 1000.0)(frames)
    assert weights.shape == frames.shape[:-1] and weights.dtype == torch.float32
    assert weights.mean().item() == pytest.approx(1.0)
    rare, frequent = weights[0, 0, 0, 0, 0].item(), weights[0, 0, 0, 5, 5].item()
    assert rare / frequent == pytest.approx((396 / 4) ** 0.5)


def test_a_power_of_1_makes_all_colours_count_equally():
    frames = picture()
    weights = rarity_weights(frames, 1.0, 1000.0)(frames)
    assert weights[0, 0, 0, 0, :4].sum().item() == pytest.approx(weights.sum().item() / 2)


def test_no_weight_is_above_the_limit_before_the_mean_is_1_again():
    frames = picture()
    free, bound = (rarity_weights(frames, 1.0, limit)(frames) for limit in (1000.0, 3.0))
    assert free.max() > 40
    assert bound.mean().item() == pytest.approx(1.0)
    # Bright pixels would weigh 50 and gray ones 50/99: bounded, 3 and 50/99, before both are divided by their mean.
    mean = (4 * 3 + 396 * 50 / 99) / 400
    assert bound.max().item() == pytest.approx(3 / mean) and bound.min().item() == pytest.approx(50 / 99 / mean)


def test_a_colour_that_never_occurred_weighs_as_much_as_the_rarest():
    frames = picture()
    weights = rarity_weights(frames, 0.5, 1000.0)
    new = torch.zeros(1, 1, 1, 2, 2, 3, dtype=torch.uint8)
    assert weights(new).unique().tolist() == [weights(frames).max().item()]


def test_all_frames_are_counted():
    frames = torch.cat([picture(rare=0).expand(200, -1, -1, -1, -1, -1), picture(rare=8)])
    weights = rarity_weights(frames, 1.0, 1e9)(frames)
    assert weights[-1, 0, 0, 0, 0] / weights[0, 0, 0, 0, 0] == pytest.approx((201 * 400 - 8) / 8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colours_are_distinguished_by_channel(channels):
    count = levels(channels)
    ends = torch.tensor([0, 255], dtype=torch.uint8)
    corners = torch.cartesian_prod(*[ends] * channels).reshape(-1, channels)
    numbers = colours(corners, count)
    assert len(numbers.unique()) == 2**channels
    assert numbers.min() == 0 and numbers.max() == count**channels - 1
    step = 256 // count
    near = torch.tensor([[step - 1] * channels, [step] * channels], dtype=torch.uint8)
    assert colours(near, count).tolist() == [0, (count**channels - 1) // (count - 1)]


# In training


def trained(folder, **changes) -> list[torch.Tensor]:
    train_tokenizer(folder.parent / "data", folder, replace(CONFIG, **changes))
    return list(load_tokenizer(folder / "last").state_dict().values())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    recorded_store(folder / "data", lengths=(12,) * 20)
    return folder


def test_without_rarity_the_training_is_the_old_one(data, monkeypatch):
    plain = trained(data / "plain")
    whole, given = VQVAE.loss, []

    def old(model, frames, weights=None):
        given.append(weights)
        return whole(model, frames)

    monkeypatch.setattr(VQVAE, "loss", old)
    assert all(torch.equal(a, b) for a, b in zip(plain, trained(data / "again"), strict=True))
    assert given == [None] * 4


def test_rarity_weighs_the_pixels_of_every_batch(data, monkeypatch):
    whole, given = VQVAE.loss, []

    def seen(model, frames, weights=None):
        given.append((frames, weights))
        return whole(model, frames, weights)

    monkeypatch.setattr(VQVAE, "loss", seen)
    weighed = trained(data / "weighed", rarity=0.5, rarity_limit=5.0)
    monkeypatch.undo()
    sample = training.sample_frames(
        training.open_stores(data / "data"), 2000, training.np.random.default_rng(0), "train"
    )
    expected = rarity_weights(sample, 0.5, 5.0)
    assert len(given) == 4
    assert all(torch.equal(weights, expected(frames)) for frames, weights in given)
    assert not all(torch.equal(a, b) for a, b in zip(trained(data / "without"), weighed, strict=True))


@pytest.mark.parametrize("changes", [{"rarity": -0.5}, {"rarity": 0.5, "rarity_limit": 0.5}])
def test_invalid_weights_are_refused(changes):
    with pytest.raises(ValueError, match="must be at least"):
        replace(CONFIG, **changes)


def test_a_training_begun_before_rarity_existed_resumes(data, monkeypatch):
    plain = trained(data / "unbroken")
    whole = training.asdict
    monkeypatch.setattr(  # config.json and the state as an earlier release wrote them
        training, "asdict", lambda config: {k: v for k, v in whole(config).items() if not k.startswith("rarity")}
    )
    drawing, calls = training.sample_frames, []

    def dying(*args):
        calls.append(args)
        if len(calls) == 5:  # of the pixels' statistics, of the validation, of three steps
            raise KeyboardInterrupt
        return drawing(*args)

    monkeypatch.setattr(training, "sample_frames", dying)
    with pytest.raises(KeyboardInterrupt):
        trained(data / "old")
    monkeypatch.undo()
    assert "rarity" not in (data / "old" / "config.json").read_text()
    with pytest.raises(ValueError, match=r"rarity is 0\.0 there, 0\.5 here"):
        trained(data / "old", rarity=0.5)
    assert all(torch.equal(a, b) for a, b in zip(plain, trained(data / "old"), strict=True))
