"""Single tokens through the prepared layers equal single tokens through `GPT._advance`.

Letters: B rows, S tokens per step, D width.
"""

import pytest
import torch

from tests.tiny import tiny_world
from worldmodel.dynamics import FrameEncoderConfig
from worldmodel.layers.attention import KVCache
from worldmodel.layers.precision import cast_matmuls

AGES = {"unbroken": (5, 5), "full": (9, 9), "filling, rows of two ages": (2, 5), "full beside young": (9, 2)}
KINDS = {
    "rotation": {},
    "learned positions": {"position": "learned", "max_steps": 8, "width": 24},
    "frames": {"frame_condition": 1, "frame_encoder": FrameEncoderConfig(width=4, depths=(1, 1))},
}


def make_cache(gpt, lookup, ages: tuple[int, ...]) -> KVCache:
    """Rows with this many steps each, at the clock of the oldest."""
    generator = torch.Generator().manual_seed(1)
    caches = []
    for age in ages:
        codes = torch.randint(16, (1, age, 4, 2), generator=generator)
        actions = torch.randint(3, (1, age - 1), generator=generator)
        cache, _ = gpt.burn_in(codes, gpt.condition(1, age, actions), lookup)
        caches.append(gpt.move(cache, max(ages)))
    joined = [
        [torch.cat(layer) for layer in zip(*(getattr(c, name) for c in caches), strict=True)]
        for name in ("keys", "values")
    ]
    return KVCache(*joined, torch.cat([c.lengths for c in caches]), max(ages), min(c.shortest for c in caches))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("ages", AGES.values(), ids=AGES.keys())
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@torch.inference_mode()
def test_prepared_layers_equal_whole_blocks(kind, ages, dtype):
    if kind.get("position") == "learned" and max(ages) > 7:
        pytest.skip("longer than its context")
    world = tiny_world(order="raster", **{"window": 8} | kind).prepare(torch.float32)
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    if dtype == torch.bfloat16:
        cast_matmuls(gpt, dtype)
    cache = make_cache(gpt, lookup, ages)
    other = cache.map(torch.clone)
    condition = gpt.condition(len(ages), 1, torch.tensor([[0], [2]]))
    shared, again = gpt._begin(condition, cache), gpt._begin(condition, other)
    advance = gpt.token_pass(shared, cache)
    contents = torch.randn(len(ages), 4, gpt.config.width, generator=torch.Generator().manual_seed(2))
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    for place in range(4):
        one = slice(place, place + 1)
        fast, slow = advance(contents[:, one], place), gpt._advance(contents[:, one], again, other, one)
        torch.testing.assert_close(fast, slow, atol=tolerance, rtol=tolerance)
    for mine, theirs in zip((*cache.keys, *cache.values), (*other.keys, *other.values), strict=True):
        torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=tolerance)


@torch.inference_mode()
def test_a_row_equals_the_row_alone_bit_for_bit():
    """At sizes whose weights are held in the processor's layout."""
    world = tiny_world(order="raster", width=128, window=8)
    gpt, lookup = world.dynamics, world.tokenizer.lookup
    cache = make_cache(gpt, lookup, (5,) * 16)
    alone = cache.map(lambda t: t[:1].clone())
    contents = torch.randn(16, 4, 128, generator=torch.Generator().manual_seed(2))
    actions = torch.arange(16)[:, None] % 3
    together = gpt.token_pass(gpt._begin(gpt.condition(16, 1, actions), cache), cache)
    one = gpt.token_pass(gpt._begin(gpt.condition(1, 1, actions[:1]), alone), alone)
    for place in range(4):
        part = contents[:, place : place + 1]
        assert torch.equal(together(part, place)[:1], one(part[:1], place))
