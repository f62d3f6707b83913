import torch

from tests.dynamics.pixelcnn.pairs import make_codes
from worldmodel.dynamics.pixelcnn.layout import join, split


def test_a_token_holds_its_top_code_and_then_the_bottom_codes_below_it():
    codes = torch.arange(3 * 4 * 5 * 9).view(1, 3, 4, 5, 9)
    top, bottom = split(codes)
    assert top.shape == (1, 3, 4, 5) and bottom.shape == (1, 6, 8, 10)
    for t, y, x in [(0, 0, 0), (2, 1, 3), (1, 3, 4)]:
        below = [bottom[0, 2 * t + n, 2 * y + i, 2 * x + j] for n in (0, 1) for i in (0, 1) for j in (0, 1)]
        assert codes[0, t, y, x].tolist() == [top[0, t, y, x], *below]


def test_join_is_the_inverse_of_split():
    codes = make_codes((2, 3, 2, 4, 9), 512)
    assert torch.equal(join(split(codes)), codes)
