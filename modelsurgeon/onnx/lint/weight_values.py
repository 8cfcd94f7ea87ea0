"""Rules about the numbers in weights: NaN, infinity, all zeros, broken statistics. They read weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.layers import Array
from modelsurgeon.onnx.analysis.params import Param, params
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import show

ZERO_ROLES = frozenset(
    {"weight", "scale", "table", "W", "R"}
)  # a bias or a shift of zeros is usual, and a slope
STATISTICS = ("mean", "variance")  # of a batch norm


@dataclass(frozen=True, kw_only=True, eq=False)
class ReadParam:
    """A param with its numbers, as the layer uses them, and the row of its layer.

    of_layer: whether it is the weight, bias, scale, ... of a layer; other constants are masks, bounds, fills.
    """

    param: Param
    row: LayerRow
    role: str
    array: Array
    of_layer: bool


@rule(
    "not-finite",
    "error",
    summary="a weight holds NaN or infinity",
    advice="Export {layer} again from a sound checkpoint: its outputs can't be trusted.",
    weights=True,
)
def not_finite(net: Net) -> Iterator[Hit]:
    """A weight, bias, scale or table has NaN or infinite numbers, which spread to the outputs.

    Infinity in a constant that is no layer's weight, such as a mask, is usual and isn't reported.
    """
    for found in _read_params(net):
        odd = ~np.isfinite(found.array) if found.of_layer else np.isnan(found.array)
        if (count := int(odd.sum())) and found.role not in STATISTICS:
            what = "NaN" if np.isnan(found.array).any() else "infinite"
            yield Hit(
                layer=found.row.name,
                message=f"{count} of {found.array.size} numbers of its {found.role} "
                f"{found.param.value.name!r} are {what}",
                badness=count,
                evidence={"count": count, "weight": str(found.param.value.name)},
            )


@rule(
    "batchnorm-broken",
    "error",
    summary="statistics of a batch norm are negative, NaN or infinite",
    advice="`modelsurgeon bn sanitize MODEL -o OUT`",
    weights=True,
)
def batchnorm_broken(net: Net) -> Iterator[Hit]:
    """A variance is below zero, or a mean or variance is NaN or infinite, in a norm that uses them.

    The square root of a negative variance is NaN, or a wrong number where epsilon outweighs it.
    """
    from modelsurgeon.onnx.passes.batchnorm.nodes import is_training  # imports scipy, which info doesn't need

    for found in _read_params(net):
        if found.role not in STATISTICS or is_training(net.model, found.param.node):
            continue
        negative = int((found.array < 0).sum()) if found.role == "variance" else 0
        odd = int((~np.isfinite(found.array)).sum())
        if negative or odd:
            texts = [f"below zero in {negative}"] * bool(negative) + [f"NaN or infinite in {odd}"] * bool(odd)
            yield Hit(
                layer=found.row.name,
                message=f"its {found.role} is {' and '.join(texts)} of {found.array.size} channels",
                badness=negative + odd,
                evidence={"negative": negative, "not_finite": odd, "channels": found.array.size},
                otherwise="Export {layer} again from a sound checkpoint.",
            )


@rule(
    "zero-weight",
    "warning",
    summary="a weight is all zeros",
    advice="Load the trained weight of {layer}, or remove the layer: its output doesn't depend on its input.",
    weights=True,
)
def zero_weight(net: Net) -> Iterator[Hit]:
    """All numbers of a layer's weight or table, or of a norm's scale, are zero: its output is constant.

    It was never trained, never loaded, or pruned away. Biases and shifts may well be zero.
    """
    for found in _read_params(net):
        if found.role in ZERO_ROLES and found.array.size and not found.array.any():
            yield Hit(
                layer=found.row.name,
                message=f"all {show(found.array.size, 'count')} numbers of its {found.role} are zero",
                badness=found.array.size,
                evidence={"elements": found.array.size, "weight": str(found.param.value.name)},
            )


def _read_params(net: Net) -> Iterator[ReadParam]:
    """Every param of a node that may run, dequantized; read one at a time."""
    from modelsurgeon.onnx.analysis.statistics.dequantize import dequantized_constant, dequantized_input
    from modelsurgeon.onnx.layers import weight_axes  # heavy imports, which info doesn't need

    for param in params(net.model, net.constants):
        row = net.row_of.get(param.node)
        if row is None or not net.may_run(param.node):
            continue
        array = dequantized_input(param.node, param.index)
        if array is None:
            array = dequantized_constant(param.value)
        if array is None or array.dtype.kind not in "fV":
            continue
        try:
            layer = weight_axes.as_layer(param.node, param.index, array)
        except UnsupportedLayer:
            layer = None
        number = array if array.dtype.kind == "f" else array.astype(np.float32)
        yield ReadParam(
            param=param,
            row=row,
            role=weight_axes.role(param.node, param.index, layer),
            array=number,
            of_layer=layer is not None or param.node.op_type in weight_axes.INPUT_ROLES or bool(row.macs),
        )
