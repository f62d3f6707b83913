"""Functions of tensors as ONNX graphs whose weights take half the bytes.

Weights are rounded to float16 before the export, and stored as that wherever nothing more is lost; a graph makes
float32 of them when it is loaded, and computes in float32.
"""

import copy
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from gymnasium.error import DependencyNotInstalled
from torch import Tensor, nn

from worldmodel.model import WorldModel

if TYPE_CHECKING:
    import onnx

OPSET = 20
_WORTH_HALVING = 256  # numbers in a tensor


def check_onnx() -> None:
    """DependencyNotInstalled if onnx, which writes the graphs, is missing."""
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise DependencyNotInstalled(
            "exporting a world for the browser needs onnx: pip install 'videogen-dream[web]'"
        ) from error


def rounded(world: WorldModel) -> WorldModel:
    """A copy of a world in float32 whose weights have the precision of float16; small tensors stay as they are."""
    half = copy.deepcopy(world).cpu().prepare(torch.float32)
    halve(half)
    half.dynamics.forget_derived()
    return half


@torch.no_grad()
def halve(module: nn.Module) -> None:
    """Round the large tensors of a module to float16, in place; ValueError if one does not fit."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and tensor.numel() >= _WORTH_HALVING:
            half = tensor.half()
            if not half.isfinite().all():
                raise ValueError(
                    f"{name} holds numbers up to {tensor.abs().max():.3g}; a weight of half size must be below 65,504"
                )
            tensor.copy_(half)


def to_onnx(function: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str]) -> bytes:
    """A function as an ONNX graph, for inputs of these shapes and dtypes.

    By torch's older exporter, which traces: the newer one takes fifteen times as long for graphs without branches.
    """
    import onnx

    written = io.BytesIO()
    # The layers' own fast paths, kernels of this processor, are for weights that need no gradients.
    function.requires_grad_(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, about sizes that become constants
            torch.onnx.export(
                function.eval(),
                tuple(inputs.values()),
                written,  # type: ignore[arg-type]  # a stream does, too
                input_names=list(inputs),
                output_names=outputs,
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        function.requires_grad_(False)
    model = onnx.load_from_string(written.getvalue())
    store_half(model)
    return model.SerializeToString()


def store_half(model: "onnx.ModelProto") -> None:
    """Store large float32 weights as float16, each behind a cast, where that loses nothing."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    for node in list(graph.node):  # a constant is a weight that the exporter has computed
        value = node.attribute[0].t if node.op_type == "Constant" and node.attribute[0].HasField("t") else None
        if value is not None and value.data_type == TensorProto.FLOAT:
            value.name = node.output[0]
            graph.initializer.append(value)
            graph.node.remove(node)
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if values.size < _WORTH_HALVING or not np.array_equal(half.astype(np.float32), values):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}.cast", to=TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    for node in graph.node:  # where the exporter found each node in its sources
        node.doc_string = ""
