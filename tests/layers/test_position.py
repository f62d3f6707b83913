import pytest
import torch

from worldmodel.layers.position import BroadcastPosition, rotate, rotation


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


def test_products_of_rotated_vectors_depend_on_the_time_between_them():
    torch.manual_seed(0)
    q, k = torch.randn(2, 8)

    def product(query_time: int, key_time: int) -> float:
        cos, sin = rotation(torch.tensor([query_time, key_time]), 8)
        return float(rotate(q, cos[0], sin[0]) @ rotate(k, cos[1], sin[1]))

    assert product(3, 1) == pytest.approx(product(1_000_003, 1_000_001), abs=1e-4)
    assert product(3, 1) != pytest.approx(product(4, 1), abs=1e-3)
