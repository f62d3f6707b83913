import numpy as np
import pytest
import torch

from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.training.codes import CodeStore, encode_store


@pytest.fixture
def store(tmp_path):
    return recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17) * 8)


@pytest.fixture
def codes(store):
    """Codes that tell where they come from: all of step t of episode e are 100 e + t, as a (1, 1, 1) grid."""
    marks = [torch.arange(n + 1).view(-1, 1, 1, 1) + 100 * e for e, n in enumerate(store.lengths)]
    return CodeStore(store, [m.to(torch.int16) for m in marks], "train")


def test_segments_stay_inside_their_episode_and_reach_its_end(codes, store):
    batch = codes.batch(2000, 6, np.random.default_rng(0))
    marks = batch.codes[:, :, 0, 0, 0]
    assert (marks // 100 == marks[:, :1] // 100).all()
    real = batch.padding_mask
    assert (marks.diff(dim=1)[real] == 1).all() and not marks.diff(dim=1)[~real].any()
    seen = {int(m) for m in marks.unique()}
    assert seen == {100 * e + t for e in codes.episodes for t in range(store.lengths[e] + 1)}


def test_what_belongs_to_a_step_stays_with_it(codes, store):
    batch = codes.batch(64, 6, np.random.default_rng(1))
    for row in range(64):
        for t in range(6):
            if batch.padding_mask[row, t]:
                episode, step = divmod(int(batch.codes[row, t]), 100)
                assert batch.actions[row, t] == store.actions(episode)[step]
                assert batch.rewards[row, t] == store.rewards(episode)[step]
                assert batch.signals[row, t] == store.signals(episode)[step]
                assert batch.terminated[row, t] == (step == store.lengths[episode] - 1)


def test_rare_rewards_are_drawn_more_often(store):
    marks = [torch.zeros(n + 1, 1, 1, 1, dtype=torch.int16) for n in store.lengths]
    codes = CodeStore(store, marks, "train")
    codes.events = np.array([int(codes.offsets[0]) + 20])  # one step of an episode of 40
    codes.rewards = torch.zeros_like(codes.rewards)
    codes.rewards[codes.events] = 1.0
    shares = [
        codes.batch(2000, 6, np.random.default_rng(0), share).rewards.sum(1).mean().item() for share in (0.0, 0.5)
    ]
    assert shares[0] < 0.05 and shares[1] == pytest.approx(0.5, abs=0.05)


def test_codes_are_cached_and_the_cache_belongs_to_its_tokenizer(tmp_path, store):
    first, other = tiny_world().tokenizer, tiny_world(seed=1).tokenizer
    cache = tmp_path / "codes.safetensors"
    codes = encode_store(store, first, cache)
    stamp = cache.stat().st_mtime_ns
    again = encode_store(store, first, cache)
    assert cache.stat().st_mtime_ns == stamp
    assert all(torch.equal(a, b) for a, b in zip(codes, again, strict=True))
    frames = torch.from_numpy(store.frames(1).copy()).unsqueeze(0)
    assert torch.equal(codes[1].long(), first.encode(frames)[0])
    assert not all(torch.equal(a, b) for a, b in zip(codes, encode_store(store, other, cache), strict=True))


def test_other_data_of_the_same_lengths_has_other_codes(tmp_path, store):
    other = recorded_store(tmp_path / "other", lengths=tuple(store.lengths), pace=5)
    tokenizer, cache = tiny_world().tokenizer, tmp_path / "codes.safetensors"
    first = encode_store(store, tokenizer, cache)
    assert other.fingerprint() != store.fingerprint()
    assert not all(torch.equal(a, b) for a, b in zip(first, encode_store(other, tokenizer, cache), strict=True))


def test_first_frames_are_those_of_the_segment(store):
    marks = [torch.arange(n + 1).view(-1, 1, 1, 1) + 100 * e for e, n in enumerate(store.lengths)]
    batch = CodeStore(store, marks, "train", frame_steps=2).batch(32, 6, np.random.default_rng(0))
    assert batch.frames.shape == (32, 2, 2, 16, 16, 3) and batch.frames.dtype == torch.uint8
    brightness = 2 * (batch.codes[:, :2, 0, 0, 0] % 100)  # step t of an episode is a flat image of brightness 2 t
    assert (batch.frames == brightness[:, :, None, None, None, None]).all()
