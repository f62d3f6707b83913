"""Attention with relative distances: its bias, its kinds, and its blocks."""

from itertools import product

import torch

from worldmodel.dynamics.subscale.relative_attention import RelativeAttention, RelativeDistances

SHAPE = (2, 3, 4)


def _random(module):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    return module.requires_grad_(False)


def test_a_bias_is_the_sum_of_one_entry_per_axis():
    distances = _random(RelativeDistances(2, SHAPE))
    bias = distances()
    places = list(product(*map(range, SHAPE)))
    for (i, query), (j, key) in product(enumerate(places), repeat=2):
        entries = [
            table[:, size - 1 + q - k] for table, size, q, k in zip(distances.tables, SHAPE, query, key, strict=True)
        ]
        torch.testing.assert_close(bias[:, i, j], sum(entries))


def test_distances_alone_equal_the_general_attention_with_these_weights():
    kinds = {kind: _random(RelativeAttention(12, 2, 4, kind, SHAPE)) for kind in ("query-key", "relative")}
    relative, general = kinds["relative"], kinds["query-key"]
    general.qkv.weight[:16] = 0.0  # neither queries nor keys
    general.qkv.weight[16:] = relative.value.weight
    general.out.load_state_dict(relative.out.state_dict())
    x, bias = torch.randn(3, 24, 12, generator=torch.Generator().manual_seed(1)), relative.distances()
    torch.testing.assert_close(relative(x, bias)[0], general(x, bias)[0], atol=1e-6, rtol=1e-6)


def test_keys_alone_equal_the_general_attention_with_one_query_for_all():
    key, general = (_random(RelativeAttention(12, 2, 4, kind, SHAPE)) for kind in ("key", "query-key"))
    general.qkv.weight[8:16], general.qkv.weight[16:] = key.key.weight, key.value.weight
    general.out.load_state_dict(key.out.state_dict())
    # An input whose last feature is 1 lets the query matrix make the constant u.
    x = torch.randn(3, 24, 12, generator=torch.Generator().manual_seed(1))
    x[..., -1] = 1.0
    general.qkv.weight[:8] = 0.0
    general.qkv.weight[:8, -1] = key.query.flatten()
    bias = key.distances()
    torch.testing.assert_close(key(x, bias)[0], general(x, bias)[0], atol=1e-5, rtol=1e-5)


def test_blocks_do_not_see_each_other():
    bias = RelativeDistances(2, SHAPE, block=(1, 2, 4))()
    blocks = torch.tensor([(t, y // 2) for t, y, _ in product(*map(range, SHAPE))])
    apart = (blocks[:, None] != blocks).any(-1)
    assert torch.equal(bias[0].isinf(), apart)
