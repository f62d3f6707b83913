import pytest
import torch

from worldmodel.layers.position import BroadcastPosition, rotation


def test_tables_are_broadcast_and_concatenated():
    position = BroadcastPosition((2, 3), width=4)
    table = position()
    assert table.shape == (2, 3, 4)
    assert torch.equal(table[0, :, 2:], table[1, :, 2:])  # the second half depends on the second axis only
    assert torch.equal(table[:, 0, :2], table[:, 2, :2])
    assert not torch.equal(table[0, 0], table[1, 0])


def test_axes_of_one_have_no_table():
    assert len(BroadcastPosition((1, 4, 4), width=8).tables) == 2


def test_width_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible by 2"):
        BroadcastPosition((4, 4), width=5)


@pytest.mark.parametrize("products", [None, torch.float32])
def test_dot_products_of_rotated_vectors_depend_on_the_time_between_them(products):
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 8)

    def product(query_time: int, key_time: int) -> float:
        of_query, of_key = (rotation(torch.tensor([time]), 8, products=products) for time in (query_time, key_time))
        return float((of_query.turn(q) * of_key.turn(k)).sum())

    assert product(3, 1) == pytest.approx(product(1_000_003, 1_000_001), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(4, 1), abs=1e-3)


@pytest.mark.parametrize("times", [[5], [3, 4, 5]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 3e-2)])
def test_rotating_by_matmuls_equals_rotating_elementwise(times, dtype, tolerance):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 2 * len(times), 8).to(dtype)  # two tokens of each time
    one, other = rotation(torch.tensor(times), 8), rotation(torch.tensor(times), 8, products=dtype)
    turned = other.turn(x)
    assert torch.equal(other.turn(x.repeat(1, 2, 1, 1)[:, :3]), turned)  # a part of a larger tensor
    assert turned.dtype == dtype and turned.shape == x.shape
    torch.testing.assert_close(turned.float(), one.turn(x).float(), atol=tolerance, rtol=tolerance)
    by_hand = rotation(torch.tensor(times[-1:]), 8, products=dtype).turn(x[..., -2:, :])
    torch.testing.assert_close(turned[..., -2:, :].float(), by_hand.float(), atol=tolerance, rtol=tolerance)
