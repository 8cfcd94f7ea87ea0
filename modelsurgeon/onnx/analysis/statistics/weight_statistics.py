"""Statistics of a graph's weights, one tensor at a time: each is released before the next one is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.statistics.weight import Weight, WeightInUse, measure_weight
from modelsurgeon.inspection.statistics.weights import Weights
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.params import Param, params
from modelsurgeon.onnx.analysis.statistics import dequantize
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.layers import weight_axes
from modelsurgeon.onnx.shapes import Dims, bound, sizes
from modelsurgeon.progress import Progress, with_progress


def collect_weight_statistics(
    model: ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    watch: Progress | None = None,
) -> Weights:
    """Statistics of every weight tensor of a model; each once, for the first node that uses it.

    Tensors that the graph concatenates to one weight, such as the gates of an LSTM, count as that weight.
    shapes, dims: sizes that the model leaves open; spectra of convolutions depend on the size of their maps.
    watch: called with the number of tensors done and their total. Raises UnknownShape for bindings that don't
    fit the model.
    """
    bound_model = bound(model, shapes, dims)
    names, model_params = layer_names(bound_model), params(bound_model, constant_values(bound_model))
    measured: list[Weight] = []
    seen: set[tuple[ir.Node, int]] = set()
    for param in with_progress(
        sorted(model_params, key=_sort_key(bound_model)), "weights", len(model_params), watch
    ):
        weight_in_use = (
            None if (param.node, param.index) in seen else _weight_in_use(param, names[param.node])
        )
        if weight_in_use is not None:
            measured.append(measure_weight(weight_in_use))
        if weight_in_use is not None and weight_in_use.linear is not None:
            seen.add((param.node, param.index))  # concatenated tensors are one weight
        _release(param.value)
    return Weights(tensors=measured)


def _sort_key(model: ir.Model) -> Callable[[Param], tuple[int, int]]:
    order = {node: number for number, node in enumerate(model.graph.all_nodes())}
    return lambda param: (order[param.node], param.index)


def _weight_in_use(param: Param, name: str) -> WeightInUse | None:
    """A param as its layer uses it, or as stored where that can't be computed; None where unreadable."""
    node = param.node
    array = dequantize.dequantized_input(node, param.index)
    layer = None if array is None else weight_axes.as_layer(node, param.index, array)
    if array is None and (array := dequantize.dequantized_constant(param.value)) is None:
        return None
    return WeightInUse(
        layer=name,
        op=node.op_type,
        role=weight_axes.role(node, param.index, layer),
        dtype=dtype_name(param.value) or "",
        array=array,
        linear=layer,
        size=_map_size(node) if layer is not None and layer.kernel else None,
        scaled=node.op_type not in dequantize.QUANTIZED_OPERATORS,
    )


def _map_size(node: ir.Node) -> tuple[int, ...] | None:
    """Spatial sizes of the feature map that a convolution reads."""
    shape = sizes(node.inputs[0])
    return None if shape is None else shape[2:]


def _release(value: ir.Value) -> None:
    """Release the memory map of an external tensor."""
    if isinstance(tensor := constant_tensor(value), ir.ExternalTensor):
        tensor.release()
