"""Whether a graph still means the same where axes of its inputs are open.

An axis of a value is open where its size depends on an open axis of an input. A node keeps positions apart if
each position of its output depends on a window of its input alone, the same window at every position, and if
no open axis mixes with another one. Only operators listed here are trusted, each under its conditions: that
the open axes aren't those along which it works. A mean or maximum over all positions takes any size, too, but
its result belongs to the whole map and must not meet positions again on the way to an output with open axes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.op_predicates import BINARY, UNARY

Reason = str | None
Dim = int | ir.SymbolicDim
SOFTMAX_ONE_AXIS_OPSET = 13  # the opset from which on Softmax works along a single axis
NO_SIZE = "has no known shape at another size"
MERGES = "merges positions with other axes, or takes them apart"
MIXES = "works along an axis whose size is opened"


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenGraph:
    """A graph with inferred shapes and these symbols for the sizes that are opened.

    sizes: value -> which of its numbers are sizes of open axes. whole: value -> the node that made it, or a
    value that it depends on, from all positions.
    """

    symbols: frozenset[str]
    opset: int
    sizes: dict[ir.Value, NDArray[np.bool_]] = field(default_factory=dict)
    whole: dict[ir.Value, ir.Node] = field(default_factory=dict)

    def is_open(self, dim: Dim) -> bool:
        """Whether this size depends on an open one."""
        return isinstance(dim, ir.SymbolicDim) and bool(dim.free_symbols() & self.symbols)

    def axes(self, value: ir.Value | None) -> list[int]:
        """The open axes of a value."""
        shape = () if value is None or value.shape is None else value.shape
        return [axis for axis, dim in enumerate(shape) if self.is_open(dim)]


def why_meaning_changes(model: ir.Model, symbols: frozenset[str]) -> Reason:
    """The first node that doesn't keep positions apart, with the reason; None where all do.

    model: with the shapes of its values inferred, `symbols` in those of its inputs.
    """
    graph = OpenGraph(symbols=symbols, opset=model.opset_imports.get("", 1))
    for node in model.graph:
        if (reason := _why_node_mixes(graph, node)) is not None:
            users = list(node.outputs[0].uses()) if node.op_type == "Flatten" else []
            before = f", before {_label(users[0].node)}," if users else ""
            return f"{_label(node)}{before} {reason}"
    for value in model.graph.outputs:
        if value in graph.whole and graph.axes(value):
            return f"{_label(graph.whole[value])} takes the whole map, and its result meets positions again"
    return None


def _label(node: ir.Node) -> str:
    return f"{node.op_type} {node.name or node.outputs[0].name!r}"


def _why_node_mixes(graph: OpenGraph, node: ir.Node) -> Reason:
    for value in node.inputs:
        if value in graph.whole:
            graph.whole.update(dict.fromkeys(node.outputs, graph.whole[value]))
    read = [value for value in (*node.inputs, *_outer_values(node)) if value is not None]
    opened, sized = any(graph.axes(value) for value in read), any(value in graph.sizes for value in read)
    if not opened and not sized:
        return None
    if node.domain or any(
        attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()
    ):
        return "isn't known to treat all positions alike"
    if node.op_type in SIZE_OPERATORS and (sized or node.op_type == "Shape"):
        return SIZE_OPERATORS[node.op_type](graph, node)
    if sized and any(
        value in graph.sizes and place not in SHAPE_INPUTS.get(node.op_type, ())
        for place, value in enumerate(node.inputs)
    ):
        return "computes with the size of a map that is opened"
    if any(value.shape is None for value in node.outputs):
        return NO_SIZE
    rule = RULES.get(node.op_type)
    return "isn't known to treat all positions alike" if rule is None else rule(graph, node)


def _outer_values(node: ir.Node) -> list[ir.Value | None]:
    """The values of outer graphs that the node's subgraphs read."""
    graphs = [
        graph
        for attr in node.attributes.values()
        for graph in (
            [attr.as_graph()]
            if attr.type == ir.AttributeType.GRAPH
            else attr.as_graphs()
            if attr.type == ir.AttributeType.GRAPHS
            else []
        )
    ]
    return [value for graph in graphs for inner in graph.all_nodes() for value in inner.inputs]


# Numbers that are sizes: which of them belong to open axes.


def _shape_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return NO_SIZE
    picked = slice(node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape)))
    return _set_sizes(graph, node, np.array([graph.is_open(dim) for dim in shape], bool)[picked])


def _set_sizes(graph: OpenGraph, node: ir.Node, flags: NDArray[np.bool_]) -> Reason:
    if flags.any():
        graph.sizes[node.outputs[0]] = flags
    return None


def _flags(graph: OpenGraph, value: ir.Value | None) -> NDArray[np.bool_] | None:
    """Which of a value's numbers are open sizes; None where their count isn't known."""
    if value is None or value in graph.sizes:
        return None if value is None else graph.sizes[value]
    shape = value.shape
    if shape is None or not all(isinstance(dim, int) for dim in shape):
        return None
    return np.zeros(prod(dim for dim in shape if isinstance(dim, int)), bool)


def _picked_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    flags, places = _flags(graph, node.inputs[0]), constant_array(node.inputs[1])
    if flags is None or places is None:
        return "picks sizes that aren't known"
    return _set_sizes(graph, node, flags[places.reshape(-1)])


def _sliced_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    flags = _flags(graph, node.inputs[0])
    if node.op_type == "Slice" and len(node.inputs) > 1:
        bounds = [constant_array(value) for value in node.inputs[1:]]
    else:
        bounds = [np.array(node.attributes.get_ints(name, (0,))) for name in ("starts", "ends")]
    if flags is None or len(bounds) < 2 or any(each is None for each in bounds[:2]):
        return "picks sizes that aren't known"
    step = bounds[3] if len(bounds) > 3 else None
    numbers = [int(each.reshape(-1)[0]) for each in bounds[:2] if each is not None]
    return _set_sizes(
        graph, node, flags[numbers[0] : numbers[1] : 1 if step is None else int(step.reshape(-1)[0])]
    )


def _joined_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    flags = [_flags(graph, value) for value in node.inputs]
    known = [each for each in flags if each is not None]
    if len(known) < len(flags):
        return NO_SIZE
    return _set_sizes(graph, node, np.concatenate(known))


def _same_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    flags = _flags(graph, node.inputs[0])
    return None if flags is None else _set_sizes(graph, node, flags)


def _computed_sizes(graph: OpenGraph, node: ir.Node) -> Reason:
    if any(graph.axes(value) for value in node.inputs):
        return "computes with the size of a map that is opened"
    count = max((len(each) for value in node.inputs if (each := _flags(graph, value)) is not None), default=1)
    return _set_sizes(graph, node, np.ones(count, bool))


SIZE_OPERATORS: Mapping[str, Callable[[OpenGraph, ir.Node], Reason]] = {
    "Shape": _shape_sizes,
    "Gather": _picked_sizes,
    "Slice": _sliced_sizes,
    "Concat": _joined_sizes,
    **dict.fromkeys(("Cast", "Identity", "Squeeze", "Unsqueeze"), _same_sizes),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Floor", "Ceil", "Mod", "Max", "Min"), _computed_sizes),
}
# The inputs of operators that hold sizes: what they do is seen in the shape of the output.
SHAPE_INPUTS: Mapping[str, tuple[int, ...]] = {
    "Reshape": (1,),
    "Expand": (1,),
    "Resize": (3,),
    "ConstantOfShape": (0,),
}


# Nodes on data.


def _elementwise(graph: OpenGraph, node: ir.Node) -> Reason:
    """At each open axis the operands have one size, or the size 1."""
    shapes = [
        list(reversed(value.shape)) for value in node.inputs if value is not None and value.shape is not None
    ]
    if len(shapes) < sum(value is not None for value in node.inputs):
        return NO_SIZE
    for axis in range(max(map(len, shapes), default=0)):
        dims = {str(shape[axis]): shape[axis] for shape in shapes if axis < len(shape) and shape[axis] != 1}
        if any(map(graph.is_open, dims.values())) and len(dims) > 1:
            one = any(not graph.is_open(dim) for dim in dims.values())
            return "has a constant of one size" if one else "joins maps of different sizes"
    return None


def _sliding(graph: OpenGraph, node: ir.Node) -> Reason:
    """A window that slides over spatial axes."""
    if any(axis < 2 for axis in graph.axes(node.inputs[0])):
        return MIXES
    if any(graph.axes(value) for value in node.inputs[1:]):
        return "has a weight whose size is opened"
    unused = all(not value.uses() and not value.is_graph_output() for value in node.outputs[1:])
    return None if unused else "gives more than a map"


def _whole_map(graph: OpenGraph, node: ir.Node) -> Reason:
    graph.whole.update(dict.fromkeys(node.outputs, node))
    return _sliding(graph, node)


def _reduced_axes(node: ir.Node, ndim: int) -> list[int] | None:
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None:
        array = constant_array(given)
        return (
            None if array is None else [int(axis) % ndim for axis in array.reshape(-1)] or list(range(ndim))
        )
    axes = node.attributes.get_ints("axes", ())
    return [axis % ndim for axis in axes] or list(range(ndim))


def _reduction(graph: OpenGraph, node: ir.Node) -> Reason:
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    axes = None if shape is None else _reduced_axes(node, len(shape))
    if shape is None or axes is None:
        return NO_SIZE
    reduced = [axis for axis in graph.axes(node.inputs[0]) if axis in axes]
    if not reduced:
        return None
    if node.op_type not in ("ReduceMean", "ReduceMax", "ReduceMin") or 0 in axes:
        return MIXES
    graph.whole.update(dict.fromkeys(node.outputs, node))
    return None


def _along_axis(default: int) -> Callable[[OpenGraph, ir.Node], Reason]:
    """The rule of operators that work along one axis."""

    def rule(graph: OpenGraph, node: ir.Node) -> Reason:
        for value in node.inputs:
            ndim = len(value.shape) if value is not None and value.shape is not None else 0
            if graph.axes(value) and node.attributes.get_int("axis", default) % max(ndim, 1) in graph.axes(
                value
            ):
                return MIXES
        return None

    return rule


def _softmax(graph: OpenGraph, node: ir.Node) -> Reason:
    if graph.opset >= SOFTMAX_ONE_AXIS_OPSET:
        return _along_axis(-1)(graph, node)
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return NO_SIZE
    first = node.attributes.get_int("axis", 1) % len(shape)
    return MIXES if any(axis >= first for axis in graph.axes(node.inputs[0])) else None


def _joined(graph: OpenGraph, node: ir.Node) -> Reason:
    reason = _along_axis(1)(graph, node)
    if reason is not None:
        return reason
    shapes = [value.shape for value in node.inputs if value is not None]
    for axis in {axis for value in node.inputs for axis in graph.axes(value)}:
        if len({"?" if shape is None or len(shape) <= axis else str(shape[axis]) for shape in shapes}) > 1:
            return "joins maps of different sizes"
    return None


def _picked(graph: OpenGraph, node: ir.Node) -> Reason:
    return (
        _along_axis(0)(graph, node)
        if not graph.axes(node.inputs[1])
        else "has indices whose number is opened"
    )


def _normalized(graph: OpenGraph, node: ir.Node) -> Reason:
    """LayerNormalization and the like: along this axis and all after it."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None:
        return NO_SIZE
    first = node.attributes.get_int("axis", -1) % len(shape)
    return MIXES if any(axis >= first for axis in graph.axes(node.inputs[0])) else None


def _product(graph: OpenGraph, node: ir.Node) -> Reason:
    """A matrix product with a matrix that has no open axis, summed along none."""
    opened = [place for place, value in enumerate(node.inputs) if graph.axes(value)]
    if len(opened) > 1:
        return "multiplies positions with each other"
    value = node.inputs[opened[0]]
    ndim = len(value.shape) if value is not None and value.shape is not None else 0
    if opened[0] > 1:
        return "has a constant of one size"
    turned = node.attributes.get_int("transA" if opened[0] == 0 else "transB", 0)
    summed = ndim - 1 if (opened[0] == 0) != bool(turned) else max(ndim - 2, 0)
    return "has a matrix for one size" if summed in graph.axes(value) else None


def _kept_axes(graph: OpenGraph, node: ir.Node) -> Reason:
    """Slice, Pad, Expand, Tile, Split: the open axes keep their sizes."""
    before, after = node.inputs[0].shape if node.inputs[0] is not None else None, node.outputs[0].shape
    if before is None or after is None or len(before) != len(after):
        return NO_SIZE
    axes = set(graph.axes(node.inputs[0])) | set(graph.axes(node.outputs[0]))
    if any(graph.axes(value) for value in node.inputs[1:]):
        return NO_SIZE
    return "picks positions by their place" if any(str(before[a]) != str(after[a]) for a in axes) else None


def _resized(graph: OpenGraph, node: ir.Node) -> Reason:
    mode = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    if mode in ("align_corners", "tf_crop_and_resize") or any(
        axis < 2 for axis in graph.axes(node.inputs[0])
    ):
        return "resizes by the place of the corners"
    kept = len(graph.axes(node.inputs[0])) == len(graph.axes(node.outputs[0]))
    return None if kept else "has fixed sizes in its target"


def _any(_graph: OpenGraph, _node: ir.Node) -> Reason:
    return None


def _reshaped(graph: OpenGraph, node: ir.Node) -> Reason:
    """Open axes stay whole: each alone, or merged with other open axes only."""
    before, after = node.inputs[0].shape if node.inputs[0] is not None else None, node.outputs[0].shape
    if before is None or after is None:
        return NO_SIZE
    if graph.axes(node.inputs[0]) and not graph.axes(node.outputs[0]):
        return "has fixed sizes in its target"
    return _why_axes_merge(graph, [d for d in before if d != 1], [d for d in after if d != 1])


def _why_axes_merge(graph: OpenGraph, before: Sequence[Dim], after: Sequence[Dim]) -> Reason:
    """The reason why a reshape between these sizes, none of them 1, takes open axes apart or merges them."""
    while before and after:
        if str(before[0]) == str(after[0]):
            before, after = before[1:], after[1:]
            continue
        if str(before[-1]) == str(after[-1]):
            before, after = before[:-1], after[:-1]
            continue
        break
    opened = [graph.is_open(dim) for dim in before]
    if not any(opened) and not any(map(graph.is_open, after)):
        return None
    if all(opened) and len(after) == 1 and str(_product_of(before)) == str(_product_of(after)):
        return None
    count = sum(opened)
    first = opened.index(True) if count else 0
    run = before[first : first + count]
    merged = [place for place, dim in enumerate(after) if graph.is_open(dim)]
    if all(opened[first : first + count]) and len(merged) == 1:
        alone = str(_product_of(run)) == str(_product_of([after[merged[0]]]))
        left = (before[:first], after[: merged[0]])
        right = (before[first + count :], after[merged[0] + 1 :])
        if alone and all(str(_product_of(a)) == str(_product_of(b)) for a, b in (left, right)):
            return None
    fixed = [[dim for dim in dims if isinstance(dim, int)] for dims in (before, after)]
    same = str(_product_of(fixed[0])) == str(_product_of(fixed[1]))
    return "has fixed sizes in its target" if not same and len(merged) == 1 and fixed[1] else MERGES


def _product_of(dims: Sequence[Dim]) -> Dim:
    result: Dim = 1
    for dim in dims:
        result = result * dim
    return result


def _squeezed(graph: OpenGraph, node: ir.Node) -> Reason:
    before = node.inputs[0].shape if node.inputs[0] is not None else None
    given = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = given.reshape(-1).tolist() if given is not None else list(node.attributes.get_ints("axes", ()))
    if before is None:
        return NO_SIZE
    if not axes:
        return "removes every axis of size 1"
    return MIXES if {axis % len(before) for axis in axes} & set(graph.axes(node.inputs[0])) else None


RULES: Mapping[str, Callable[[OpenGraph, ir.Node], Reason]] = {
    **dict.fromkeys((*UNARY, *BINARY), _elementwise),
    **dict.fromkeys(("And", "Or", "Xor", "Not", "Equal", "Greater", "Less", "Where", "Mod"), _elementwise),
    **dict.fromkeys(("GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf", "Mean"), _elementwise),
    **dict.fromkeys(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "ConvInteger"), _sliding),
    **dict.fromkeys(("QLinearConv", "BatchNormalization", "LRN"), _sliding),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _sliding),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _along_axis(1)),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool"), _whole_map),
    **dict.fromkeys(("InstanceNormalization", "GroupNormalization"), _whole_map),
    **dict.fromkeys(
        ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2"),
        _reduction,
    ),
    **dict.fromkeys(("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"), _reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(("ArgMax", "ArgMin"), _along_axis(0)),
    **dict.fromkeys(("TopK", "LpNormalization"), _along_axis(-1)),
    "Split": _along_axis(0),
    "Concat": _joined,
    "Gather": _picked,
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalized),
    **dict.fromkeys(("MatMul", "Gemm"), _product),
    **dict.fromkeys(("Slice", "Tile", "Expand"), _kept_axes),
    "Pad": _any,
    **dict.fromkeys(("Resize", "Upsample"), _resized),
    "Transpose": _any,
    **dict.fromkeys(("Reshape", "Flatten"), _reshaped),
    "Squeeze": _squeezed,
    "Unsqueeze": _any,
    "ConstantOfShape": _any,
    "Shape": _shape_sizes,
}
