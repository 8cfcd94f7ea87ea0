"""Rules about nodes that change nothing, alone or together with the node before them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import show

MIN_SHARE = 0.001  # of the bytes of all activations: on small tensors such nodes cost nothing
RESHAPING = frozenset({"Expand", "Flatten", "Reshape", "Squeeze", "Tile", "Unsqueeze"})
# Operators with a constant that changes nothing, and that constant; `right`: only as the second operand.
NEUTRAL = {"Add": 0.0, "Mul": 1.0}
NEUTRAL_RIGHT = {"Sub": 0.0, "Div": 1.0, "Pow": 1.0}
ONE_INPUT = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})


@rule(
    "no-op",
    "note",
    summary="a node returns its input unchanged",
    advice="Connect what reads {layer} to its input, as onnxruntime does when it loads the model.",
)
def no_op(net: Net) -> Iterator[Hit]:
    """An Identity, a Cast to the type that its input has, a Reshape to the same shape, an addition of zero.

    Also a Transpose that keeps the order of the axes, a Pad of nothing, a product with one. Only where the
    output has a thousandth of the bytes of all activations; an Identity that names an output is usual.
    """
    for node, row in net.nodes(*BY_NODE, *BY_SHAPE):
        if _is_no_op(net, node) and _notable(net, node, row.output_bytes):
            yield Hit(
                layer=row.name,
                message=f"its output is its input: {show(row.output_bytes, 'bytes')} for nothing",
                badness=row.output_bytes,
                evidence={"output_bytes": row.output_bytes},
            )


@rule(
    "cancels",
    "note",
    summary="a node undoes the node before it",
    advice="Connect what reads {layer} to the input of the node before it.",
)
def cancels(net: Net) -> Iterator[Hit]:
    """Two Transposes whose axes are in order again, or a Cast back from a type that holds every number.

    A Cast to fewer bits and back rounds, so it isn't reported.
    """
    for node, row in net.nodes("Cast", "Transpose"):
        first = node.inputs[0].producer() if node.inputs[0] is not None else None
        if first is None or first.op_type != node.op_type or first.domain or first.inputs[0] is None:
            continue
        undone = _casts_back(first, node) if node.op_type == "Cast" else _transposes_back(first, node)
        if undone and not _is_no_op(net, first) and _notable(net, node, row.output_bytes):
            before = net.row_of[first].name if first in net.row_of else first.op_type
            yield Hit(
                layer=row.name,
                message=f"undoes {before!r} before it: {show(row.output_bytes, 'bytes')} for nothing",
                badness=row.output_bytes,
                evidence={"first": before, "output_bytes": row.output_bytes},
            )


def _is_no_op(net: Net, node: ir.Node) -> bool:
    if node.op_type in BY_NODE:
        return BY_NODE[node.op_type](node)
    return node.op_type in BY_SHAPE and BY_SHAPE[node.op_type](net, node)


def _notable(net: Net, node: ir.Node, output_bytes: int) -> bool:
    """Whether a node is large enough to be reported, and its input can take the place of its output."""
    if output_bytes < max(1, MIN_SHARE * net.activation_bytes):
        return False
    is_output = any(node.outputs[0] is value for graph in net.graphs for value in graph.outputs)
    return not is_output or (node.op_type != "Identity" and not _is_fixed_name(node.inputs[0]))


def _is_fixed_name(value: ir.Value | None) -> bool:
    return value is None or value.is_graph_input() or value.is_graph_output() or value.is_initializer()


def _same_type(node: ir.Node) -> bool:
    value = node.inputs[0]
    return value is not None and value.dtype is not None and value.dtype == node.outputs[0].dtype


def _same_shape(net: Net, node: ir.Node) -> bool:
    """Whether the first input and the output have one shape, whatever sizes the model leaves open."""
    return node.inputs[0] is not None and _equal_shapes(net, node.inputs[0], node.outputs[0])


def _equal_shapes(net: Net, a: ir.Value, b: ir.Value) -> bool:
    shapes = [net.symbolic_shapes.get(value) if net.symbolic_shapes else value.shape for value in (a, b)]
    sizes = [None if shape is None else [_size_text(dim) for dim in shape] for shape in shapes]
    return sizes[0] is not None and sizes[0] == sizes[1] and None not in sizes[0]


def _size_text(dim: int | ir.SymbolicDim) -> str | None:
    """A size as a number or a formula; None where it isn't known."""
    return None if isinstance(dim, ir.SymbolicDim) and dim.value is None else str(dim)


def _keeps_axes(node: ir.Node) -> bool:
    order = _order(node)
    return order is not None and list(order) == sorted(order)


def _order(node: ir.Node) -> Sequence[int] | None:
    """The axes of a Transpose; None where they aren't known."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    given = node.attributes.get_ints("perm", ())
    if given or shape is None:
        return given or None
    return range(shape.rank())[::-1]


def _transposes_back(first: ir.Node, second: ir.Node) -> bool:
    orders = (_order(first), _order(second))
    if orders[0] is None or orders[1] is None or len(orders[0]) != len(orders[1]):
        return False
    return [orders[0][axis] for axis in orders[1]] == sorted(orders[0])


def _casts_back(first: ir.Node, second: ir.Node) -> bool:
    """Whether a Cast goes back to the type before another Cast, which lost nothing."""
    value, middle, end = first.inputs[0], first.outputs[0].dtype, second.outputs[0].dtype
    start = None if value is None else value.dtype
    return start is not None and start == end and middle is not None and _holds(middle, start)


def _holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether a type holds every number of another one of its kind."""
    kinds = [np.dtype(dtype.numpy()) for dtype in (wide, narrow)]
    if any(kind.kind not in "biuf" for kind in kinds):
        return narrow == ir.DataType.BFLOAT16 and wide in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
    integers = all(kind.kind in "biu" for kind in kinds)
    return (integers or kinds[0].kind == kinds[1].kind) and np.can_cast(kinds[1], kinds[0], "safe")


def _pads_nothing(node: ir.Node) -> bool:
    if "pads" in node.attributes:
        return not any(node.attributes.get_ints("pads", ()))
    pads = small_constant(node.inputs[1]) if len(node.inputs) > 1 and not _is_given(node.inputs[1]) else None
    return pads is not None and not pads.any()


def _is_neutral(net: Net, node: ir.Node) -> bool:
    """Whether one operand is a constant that changes nothing, neither values nor shape."""
    if len(node.inputs) != 2 or None in node.inputs:
        return False
    operands = [(node.inputs[0], node.inputs[1])]
    if node.op_type in NEUTRAL:
        operands.append((node.inputs[1], node.inputs[0]))
    number = {**NEUTRAL, **NEUTRAL_RIGHT}[node.op_type]
    return any(
        data is not None
        and _is_filled_with(other, number)
        and data.dtype == node.outputs[0].dtype
        and _equal_shapes(net, data, node.outputs[0])
        for data, other in operands
    )


def _is_filled_with(value: ir.Value | None, number: float) -> bool:
    array = None if value is None or _is_given(value) else small_constant(value)
    return array is not None and array.size > 0 and bool((array.astype(np.float64) == number).all())


def _is_given(value: ir.Value | None) -> bool:
    return value is not None and value.is_graph_input()


def _has_one_input(node: ir.Node) -> bool:
    return len([value for value in node.inputs if value is not None]) == 1


BY_NODE: dict[str, Callable[[ir.Node], bool]] = {
    "Identity": lambda _: True,
    "Cast": _same_type,
    "Transpose": _keeps_axes,
    "Pad": _pads_nothing,
    **dict.fromkeys(sorted(ONE_INPUT), _has_one_input),
}
BY_SHAPE: dict[str, Callable[[Net, ir.Node], bool]] = {
    **dict.fromkeys(sorted(RESHAPING), _same_shape),
    **dict.fromkeys([*NEUTRAL, *NEUTRAL_RIGHT], _is_neutral),
}
