"""The weights of a graph, one tensor at a time: read, measured, and let go before the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.statistics.weight import Weight, WeightInUse, weigh
from modelsurgeon.inspection.statistics.weights import Weights
from modelsurgeon.onnx.analysis import dequantize
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.params import Param, params
from modelsurgeon.onnx.graph.constant_folding import tensor_of
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.layers import weight_axes
from modelsurgeon.onnx.shapes import Dims, bound, sizes
from modelsurgeon.progress import Progress, counted


def collect_weight_statistics(
    model: ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    watch: Progress | None = None,
) -> Weights:
    """What every weight tensor of a model looks like; each once, at the first node that works with it.

    Tensors that are put together to one weight, such as the gates of an LSTM, are that weight.
    shapes, dims: sizes that the model leaves open: those of its maps are what convolutions are measured at.
    watch: told the tensors that are done, and how many there are.
    """
    whole = bound(model, shapes, dims)
    names, found = layer_names(whole), params(whole, constant_values(whole))
    measured: list[Weight] = []
    seen: set[tuple[ir.Node, int]] = set()
    for param in counted(sorted(found, key=_place(whole)), "weights", len(found), watch):
        held = None if (param.node, param.index) in seen else _held(param, names[param.node])
        if held is not None:
            measured.append(weigh(held))
        if held is not None and held.linear is not None:
            seen.add((param.node, param.index))  # tensors that are put together are one weight
        _release(param.value)
    return Weights(tensors=measured)


def _place(model: ir.Model) -> Callable[[Param], tuple[int, int]]:
    order = {node: number for number, node in enumerate(model.graph.all_nodes())}
    return lambda param: (order[param.node], param.index)


def _held(param: Param, name: str) -> WeightInUse | None:
    """The tensor as its layer uses it; as it is stored, where the way between isn't followed."""
    node = param.node
    array = dequantize.weight(node, param.index)
    layer = None if array is None else weight_axes.as_layer(node, param.index, array)
    if array is None and (array := dequantize.numbers(param.value)) is None:
        return None
    return WeightInUse(
        layer=name,
        op=node.op_type,
        role=weight_axes.role(node, param.index, layer),
        dtype=dtype_name(param.value) or "",
        array=array,
        linear=layer,
        size=_size(node) if layer is not None and layer.kernel else None,
        scaled=node.op_type not in dequantize.QUANTIZED_OPERATORS,
    )


def _size(node: ir.Node) -> tuple[int, ...] | None:
    """Of the map that a convolution reads."""
    found = sizes(node.inputs[0])
    return None if found is None else found[2:]


def _release(value: ir.Value) -> None:
    """Give mapped memory back."""
    if isinstance(tensor := tensor_of(value), ir.ExternalTensor):
        tensor.release()
