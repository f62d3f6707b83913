"""Encoding a store: the cache, and the clips that are cut for clip and causal tokenizers."""

import numpy as np
import pytest
import torch

from tests.clips import CLIP, clip_tokenizer
from tests.tiny import tiny_world
from tests.training.recorded import recorded_store
from worldmodel.tokenizer import VQVAE
from worldmodel.training.encode_store import clip_starts, codes_name, encode_store


@pytest.fixture
def store(tmp_path):
    return recorded_store(tmp_path / "data", lengths=(40, 9, 3, 17) * 8)


@pytest.fixture
def clip_coder():
    torch.manual_seed(0)
    return VQVAE(clip_tokenizer()).eval()


def test_codes_are_cached_per_tokenizer(tmp_path, store):
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


@pytest.mark.parametrize(
    ("steps", "clip", "stride", "starts"),
    [(3, 4, 2, [0]), (8, 4, 2, [0, 2, 4, 5]), (7, 4, 2, [0, 2, 4]), (9, 4, 20, [0, 6]), (2, 4, 1, [])],
)
def test_clips_begin_at_a_stride_and_the_last_one_ends_with_the_episode(steps, clip, stride, starts):
    assert clip_starts(steps, clip, stride).tolist() == starts


@pytest.mark.parametrize("temporal", ["clip", "causal"])
def test_each_clip_is_coded_on_its_own(tmp_path, store, temporal):
    torch.manual_seed(0)
    coder = VQVAE(clip_tokenizer(temporal)).eval()
    codes = encode_store(store, coder, tmp_path / "codes.safetensors", stride=3)
    assert [len(part) for part in codes[:4]] == [len(clip_starts(n, CLIP, 3)) for n in (40, 9, 3, 17)]
    frames, starts = store.frames(3), clip_starts(17, CLIP, 3)
    for row, start in zip(codes[3], starts.tolist(), strict=True):
        clip = torch.from_numpy(np.stack([frames[start : start + CLIP]]))
        assert torch.equal(row.long(), coder.encode(clip)[0])


def test_codes_of_clips_are_named_by_their_stride_and_those_of_steps_are_not(tmp_path, store, clip_coder):
    assert codes_name(store, clip_coder, 2) != codes_name(store, clip_coder, 3)
    single = tiny_world().tokenizer
    assert codes_name(store, single, 2) == codes_name(store, single, 3)
    cache = tmp_path / "codes.safetensors"
    first, second = (encode_store(store, clip_coder, cache, stride) for stride in (2, 3))
    assert len(second[0]) < len(first[0])


def test_a_store_without_a_whole_clip_is_refused(tmp_path, clip_coder):
    short = recorded_store(tmp_path / "short", lengths=(2, 1))
    with pytest.raises(ValueError, match="as long as a clip of 4 steps, the longest has 3"):
        encode_store(short, clip_coder, tmp_path / "codes.safetensors")
