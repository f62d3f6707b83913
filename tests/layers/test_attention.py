import pytest
import torch
import torch.nn.functional as F

from worldmodel.layers.attention import AxialAttention, KVCache


def test_axial_attention_is_the_sum_of_attention_along_each_axis():
    torch.manual_seed(0)
    attention = AxialAttention(8, heads=2, axes=(2, 3))
    x = torch.randn(2, 1, 3, 4, 8)
    expected = torch.zeros_like(x)
    for axis, qkv, out in zip((2, 3), attention.qkv, attention.out, strict=True):
        lines = x.movedim(axis, -2)  # (..., tokens, D)
        q, k, v = qkv(lines).chunk(3, dim=-1)
        heads = [
            F.softmax(a @ b.transpose(-1, -2) / 2, dim=-1) @ c
            for a, b, c in zip(q.split(4, -1), k.split(4, -1), v.split(4, -1), strict=True)
        ]
        expected += out(torch.cat(heads, -1)).movedim(-2, axis)
    assert torch.allclose(attention(x), expected, atol=1e-5)


def test_axial_attention_stays_within_its_axis():
    attention = AxialAttention(8, heads=2, axes=(3,))
    x = torch.randn(1, 1, 3, 4, 8)
    changed = x.clone()
    changed[0, 0, 1] += 1
    same = torch.isclose(attention(x), attention(changed)).all(-1)[0, 0]
    assert same[0].all() and same[2].all() and not same[1].any()


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="divisible by the number of heads"):
        AxialAttention(8, heads=3, axes=(2,))


def make_cache(lengths: list[int], clock: int, window: int = 4) -> KVCache:
    keys = [torch.zeros(len(lengths), 1, window, 2, 2)]
    return KVCache(keys, [k.clone() for k in keys], torch.tensor(lengths), clock, min(lengths))


def test_a_recently_started_row_sees_only_its_own_steps():
    cache = make_cache([1, 4], clock=5)  # the current step is in slot 1, the one before in slot 0
    assert cache.valid()[:, 0, 0].tolist() == [[True, True, False, False], [True] * 4]


def test_before_the_ring_wraps_slots_from_the_clock_on_are_not_read_whatever_rows_hold():
    for lengths in ([2, 2], [0, 2]):
        cache = make_cache(lengths, clock=2)
        cache.wraps = False
        assert cache.slots == 3 and cache.all_visible == (min(lengths) == 2)
    assert cache.valid()[:, 0, 0].tolist() == [[False, False, True], [True, True, True]]
    assert make_cache([0, 2], clock=2).slots == 4  # of which nothing is known


def test_a_cache_moved_back_in_time_wraps_and_one_moved_on_does_not():
    cache = make_cache([3], clock=3)
    assert not cache.wraps and not cache.at(6, None).wraps and not cache.at(3, None).wraps
    moved = cache.at(1, None)
    assert moved.wraps and moved.slots == 4 and moved.valid() is None


def test_full_rows_need_no_mask():
    assert make_cache([3, 4], clock=5).valid() is None


def test_advancing_fills_rows_up_to_the_window():
    cache = make_cache([0, 3], clock=0)
    for _ in range(5):
        cache.advance()
    assert cache.lengths.tolist() == [4, 4] and cache.shortest == 4 and cache.clock == 5
