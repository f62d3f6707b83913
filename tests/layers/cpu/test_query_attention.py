"""Letters: B rows, n queries, H heads, K features of one head, W window in steps, S tokens per step, N keys."""

import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.cpu.query_attention import CachedKeys, QueryAttention, QueryRun, key_chunks
from worldmodel.layers.position import Rotation, rotation

B, H, W, S, K = 4, 2, 3, 8, 16
RUNS = [QueryRun(0, 2, 1), QueryRun(2, 3, 3), QueryRun(3, 4, 2)]
ROWS = [0, 1, 2, 2, 2, 3, 3]
POSITIONS = [1, 5, 0, 1, 2, 6, 7]  # of the second step


def make(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A cache's keys and values, and queries, keys and values of seven tokens."""
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, B, H, W, S, K, generator=generator)
    return keys, values, torch.randn(len(ROWS), 3 * H * K, generator=generator)


def attend(which: slice, runs: list[QueryRun], count: int, turns: Rotation | None = None):
    """Attention of some of the tokens in a separate cache; also that cache."""
    keys, values, product = make()
    rows, positions = torch.tensor(ROWS[which]), torch.tensor(POSITIONS[which])
    at = S + positions
    where = (rows.numpy()[:, None], torch.arange(H).numpy(), at.numpy()[:, None])
    bias = torch.full((len(rows), 1, count), -torch.inf)
    for one, last in zip(bias, at.tolist(), strict=True):
        one[:, : last + 1] = 0.0
    with torch.inference_mode():
        queries = QueryAttention(runs, H, K, count, turns)
        return queries.attend(product[which], CachedKeys(keys, values, count), where, bias).clone(), keys, values


@pytest.mark.parametrize("turns", [None, rotation(torch.tensor([3]), K)], ids=["plain", "turned"])
@pytest.mark.parametrize("count", [2 * S, W * S])
def test_queries_see_the_cache_and_earlier_tokens_of_their_row(count, turns):
    ours, new_keys, new_values = attend(slice(None), RUNS, count, turns)
    keys, values, product = make()
    q, k, v = product.view(-1, 3, H, K).unbind(1)
    if turns is not None:
        q, k = turns.turn(q), turns.turn(k)
    for row, position, key, value in zip(ROWS, POSITIONS, k, v, strict=True):
        keys[row, :, 1, position], values[row, :, 1, position] = key, value
    torch.testing.assert_close(new_keys, keys)
    torch.testing.assert_close(new_values, values)
    for mine, row, position, query in zip(ours, ROWS, POSITIONS, q, strict=True):
        seen = [part[row].flatten(1, 2)[:, : S + position + 1] for part in (keys, values)]
        theirs = F.scaled_dot_product_attention(query[:, None], *seen).flatten()
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_a_query_has_the_same_bits_alone_and_among_others():
    together, *_ = attend(slice(None), RUNS, W * S)
    for number in (0, 1, 2, 5):  # the others see tokens of the same pass
        row = ROWS[number]
        alone, *_ = attend(slice(number, number + 1), [QueryRun(row, row + 1, 1)], W * S)
        assert torch.equal(alone[0], together[number])


def test_chunks_cover_every_key_once_below_the_threading_threshold():
    cuts = key_chunks(320, 64)
    assert [key for cut in cuts for key in range(320)[cut]] == list(range(320))
    assert max(cut.stop - cut.start for cut in cuts) * 64 < 9216
