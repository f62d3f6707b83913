"""Weights are rounded to float16, and stored as that where nothing more is lost."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.tiny import tiny_world
from worldmodel.training.show.web.onnx_files import halve, rounded, store_half


def product(weight: np.ndarray) -> onnx.ModelProto:
    """The graph of x @ weight."""
    size = len(weight)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, size)) for name in "xy")
    node = helper.make_node("MatMul", ["x", "weight"], ["y"])
    graph = helper.make_graph([node], "product", [x], [y], [numpy_helper.from_array(weight, "weight")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_weights_are_stored_as_float16_where_nothing_is_lost():
    exact = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float16).astype(np.float32)
    x, sizes = np.ones((1, 32), np.float32), []
    for weight, casts in ((exact, 1), (np.full((32, 32), 1 / 3, np.float32), 0), (exact[:4, :4], 0)):
        model = product(weight)
        store_half(model)
        assert [node.op_type for node in model.graph.node] == ["Cast"] * casts + ["MatMul"]
        sizes.append(len(model.SerializeToString()))
        (found,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x[:, : len(weight)]})
        np.testing.assert_allclose(found, x[:, : len(weight)] @ weight, rtol=1e-5, atol=1e-5)
    assert sizes[0] < 32 * 32 * 3 < 32 * 32 * 4 < sizes[1]


def test_rounding_keeps_the_given_world_and_changes_large_weights_to_float16():
    world = tiny_world()
    before = world.dynamics.neighbours.weight.clone()
    half = rounded(world)
    assert torch.equal(world.dynamics.neighbours.weight, before)
    assert torch.equal(half.dynamics.neighbours.weight, before.half().float())
    assert not torch.equal(half.dynamics.neighbours.weight, before)
    assert torch.equal(half.heads.two_hot.centers, world.heads.two_hot.centers)  # small


def test_weights_that_float16_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"weight holds numbers up to 7e\+04; .* below 65,504"):
        halve(torch.nn.Linear(32, 32).requires_grad_(False).apply(lambda layer: layer.weight.fill_(7e4)))
