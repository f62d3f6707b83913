"""Letters: B batch, t slices, h w rows and columns."""

import pytest
import torch
import torch.nn.functional as F

from worldmodel.dynamics.pixelcnn.gated import GatedLayer, VisibleConv, bottom_shape, gate, top_shape


def cases():
    for reach in (1, 2):
        for past in (True, False):
            for layer in ("first", "later"):
                for stack in (0, 1):
                    name = f"top-{reach}-{'full' if past else 'raster'}-{layer}-{stack}"
                    yield pytest.param(getattr(top_shape(reach, past), layer)[stack], id=name)
        for layer in ("first", "later"):
            for stack in (0, 1):
                yield pytest.param(getattr(bottom_shape(reach), layer)[stack], id=f"bottom-{reach}-{layer}-{stack}")


def masked(conv: VisibleConv, x: torch.Tensor) -> torch.Tensor:
    """The same by a dense kernel of 2 x 7 x 7 whose other weights are zero."""
    kernel = torch.zeros(*conv.now.weight.shape[:2], 2, 7, 7)
    for time, part, window in ((1, conv.now, conv.planes.now), (0, conv.past, conv.planes.past)):
        if part is not None and window is not None:
            rows, columns = slice(3 + window.top, 4 + window.bottom), slice(3 + window.left, 4 + window.right)
            kernel[:, :, time, rows, columns] = part.weight.squeeze(2)
    return F.conv3d(F.pad(x, (3, 3, 3, 3, 1, 0)), kernel, conv.now.bias)


@pytest.mark.parametrize("planes", list(cases()))
@torch.inference_mode()
def test_convolutions_of_a_window_equal_masked_ones(planes):
    torch.manual_seed(0)
    conv = VisibleConv(3, 4, planes)
    for slices in (1, 3):
        x = torch.randn(2, 3, slices, 5, 4)
        assert torch.allclose(conv(x), masked(conv, x), atol=1e-5)


@pytest.mark.parametrize("planes", list(cases()))
@torch.inference_mode()
def test_a_row_alone_equals_that_row_of_the_whole(planes):
    torch.manual_seed(0)
    conv = VisibleConv(3, 4, planes)
    x = torch.randn(2, 3, 2, 5, 4)
    whole = conv(x)
    for y in range(5):
        row = conv.now(planes.now.row(x[:, :, 1:], y))
        if conv.past is not None and planes.past is not None:
            row = row + conv.past(planes.past.row(x[:, :, :1], y))
        assert torch.allclose(row[:, :, 0, 0], whole[:, :, 1, y], atol=1e-5)


def test_after_the_first_layer_of_the_top_no_kernel_reaches_both_rows_and_columns():
    """The planes of rows and time, and of columns and time."""
    for past in (True, False):
        vertical, horizontal = top_shape(2, past).later
        assert all(window.kernel[2] == 1 for window in vertical if window is not None)
        assert all(window.kernel[1] == 1 for window in horizontal if window is not None)


def test_a_gate_closes_and_opens():
    x = torch.tensor([[0.5, -100.0], [0.5, 100.0]])[:, :, None]
    assert torch.allclose(gate(x).squeeze(), torch.tensor([0.0, 0.5]).tanh(), atol=1e-6)


def test_features_keep_their_size_through_the_vertical_stack():
    """It has no residual connection: with the default initialisation a code would be lost after a few layers."""
    torch.manual_seed(0)
    v = h = torch.randn(2, 48, 3, 6, 6)
    shape, nothing = top_shape(1, True), torch.zeros(2, 48, 3, 6, 6)
    with torch.no_grad():
        for _ in range(12):
            v, h = GatedLayer(48, 48, shape)(v, h, nothing)
    assert 0.1 < v.std() < 3 and 0.3 < h.std() < 5
