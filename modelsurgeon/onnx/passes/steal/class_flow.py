"""Where the classes of a head go: the axis on which every value behind it has one entry for each class.

Nodes that treat each class alone keep the axis; numbers for each class (of a batch norm, or added) have to
grow with it. Softmax, ArgMax, TopK and ReduceMax compare classes with each other: what they read are the
scores, the last values in which old classes must stay the same. Any other node that reads classes is a reason
not to grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.class_axis import REDUCTIONS
from modelsurgeon.onnx.passes.op_predicates import BINARY, UNARY, opset

SOFTMAX_ONE_AXIS_OPSET = 13  # the opset from which on Softmax works along a single axis
NEUTRAL = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0, "Pow": 1.0, "Sum": 0.0}
NEUTRAL_NORM = {1: 1.0, 2: 0.0, 3: 0.0, 4: 1.0}  # scale, shift, mean and variance, by the index of the input
COMPARING = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Where"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool"})
SOFTMAX = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
PICKING = {"ArgMax": 0, "ArgMin": 0, "TopK": -1}
RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


class ClassesMix(Exception):
    """A node behind a head for which more classes have no clear meaning; the message is the reason."""


@dataclass(frozen=True)
class PerClass:
    """Numbers for each class, on this axis of a node's input. neutral: of a new class; None for the mean."""

    node: ir.Node
    place: int
    axis: int
    neutral: float | None


@dataclass(frozen=True)
class SizeInput:
    """The constant sizes of a node's output among its inputs; that at this index is the number of classes."""

    node: ir.Node
    place: int
    index: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassFlow:
    """axes: value -> its axis of classes. scores: the last values before classes are compared, in file order.

    compared: values that depend on such a comparison. numbers, sizes: constants that change with the classes.
    stopped: the first node that has no clear meaning with more classes, and why.
    """

    context: PassContext
    classes: int
    axes: dict[ir.Value, int] = field(default_factory=dict)
    scores: dict[ir.Value, int] = field(default_factory=dict)
    compared: set[ir.Value] = field(default_factory=set)
    numbers: list[PerClass] = field(default_factory=list)
    sizes: list[SizeInput] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def dims(self, value: ir.Value | None) -> list[int | ir.SymbolicDim] | None:
        """The sizes of a value; None where the number of its axes isn't known."""
        shape = None if value is None else self.context.inferred(value).shape
        return None if shape is None else list(shape)

    def ndim(self, value: ir.Value | None) -> int:
        """The number of axes of a value. Raises ClassesMix where it isn't known."""
        if (dims := self.dims(value)) is None:
            raise ClassesMix("has an input or output of unknown shape")
        return len(dims)


def class_flow(context: PassContext, heads: Sequence[ir.Node], classes: int) -> ClassFlow:
    """Follow the classes of these nodes, one head, through the main graph."""
    flow = ClassFlow(context=context, classes=classes)
    for node in heads:
        out = node.outputs[0]
        ndim = context.ndim(out)
        flow.axes[out] = 1 if node.op_type in ("Conv", "ConvTranspose") or ndim is None else ndim - 1
    for node in list(context.graph):
        _follow(flow, node)
    for value, axis in flow.axes.items():
        if value.is_graph_output() and value not in flow.compared:
            flow.scores[value] = axis
        if inner := next((user for user, _ in value.uses() if user.graph is not context.graph), None):
            flow.stopped.append(f"{inner.op_type} {inner.name!r} in a subgraph reads its classes")
            flow.scores[value] = axis
    return flow


def _follow(flow: ClassFlow, node: ir.Node) -> None:
    read = [value for value in node.inputs if value is not None and value in flow.axes]
    if any(value in flow.compared for value in node.inputs if value is not None):
        flow.compared.update(node.outputs)
    if not read or node.op_type == "Shape":
        return
    try:
        axes = _axes_behind(flow, node, read[0])
    except ClassesMix as reason:
        flow.stopped.append(f"{node.op_type} {node.name or node.outputs[0].name!r} {reason}")
        axes = None
    if axes is None:
        flow.scores.update({value: flow.axes[value] for value in read if value not in flow.compared})
        flow.compared.update(node.outputs)
        axes = flow.axes[read[0]] if node.op_type in SOFTMAX else None
    if axes is not None:
        for value in node.outputs:
            if value.name and (node.op_type != "Dropout" or value is node.outputs[0]):
                flow.axes[value] = axes


def _axes_behind(flow: ClassFlow, node: ir.Node, value: ir.Value) -> int | None:
    """The axis of classes of the node's outputs; None where it compares the classes. Raises ClassesMix."""
    if node.domain:
        raise ClassesMix("isn't known to treat each class alone")
    if node.op_type in (*BINARY, *COMPARING):
        return _elementwise(flow, node)
    if node.inputs[0] is not value:
        raise ClassesMix("takes its classes as a parameter")
    rule = RULES.get(node.op_type)
    if rule is None:
        raise ClassesMix("isn't known to treat each class alone")
    return rule(flow, node, flow.axes[value])


def _elementwise(flow: ClassFlow, node: ir.Node) -> int:
    out = flow.ndim(node.outputs[0])
    behind = {
        flow.ndim(value) - flow.axes[value]
        for value in node.inputs
        if value is not None and value in flow.axes
    }
    if len(behind) > 1 or "broadcast" in node.attributes:
        raise ClassesMix("joins its classes on different axes")
    [from_end] = behind
    for place, value in enumerate(node.inputs):
        if value is None or value in flow.axes:
            continue
        array = constant_array(value)
        dims = list(array.shape) if array is not None else flow.dims(value)
        if dims is None:
            raise ClassesMix("joins them with a value of unknown shape")
        axis = len(dims) - from_end
        if axis < 0 or dims[axis] == 1:
            continue
        if array is None:
            raise ClassesMix("joins them with a value that doesn't grow")
        flow.numbers.append(PerClass(node, place, axis, NEUTRAL.get(node.op_type)))
    return out - from_end


def _same(_flow: ClassFlow, _node: ir.Node, axis: int) -> int:
    return axis


def _norm(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    if axis != 1:
        raise ClassesMix("normalizes along another axis than its classes")
    for place in range(1, len(node.inputs)):
        if constant_array(node.inputs[place]) is None:
            raise ClassesMix("has numbers for each class that are computed, or an input")
        flow.numbers.append(PerClass(node, place, 0, NEUTRAL_NORM[place]))
    return axis


def _pool(_flow: ClassFlow, _node: ir.Node, axis: int) -> int:
    if axis != 1:
        raise ClassesMix("pools its classes")
    return axis


def _axis_of(node: ir.Node, default: int, ndim: int) -> int:
    return node.attributes.get_int("axis", default) % ndim


def _softmax(flow: ClassFlow, node: ir.Node, axis: int) -> int | None:
    ndim = flow.ndim(node.inputs[0])
    if opset(flow.context) >= SOFTMAX_ONE_AXIS_OPSET:
        return None if _axis_of(node, -1, ndim) == axis else axis
    return None if _axis_of(node, 1, ndim) <= axis else axis


def _pick(flow: ClassFlow, node: ir.Node, axis: int) -> int | None:
    along = _axis_of(node, PICKING[node.op_type], flow.ndim(node.inputs[0]))
    if along == axis:
        return None
    kept = node.op_type == "TopK" or node.attributes.get_int("keepdims", 1) == 1
    return axis if kept or along > axis else axis - 1


def _reduce(flow: ClassFlow, node: ir.Node, axis: int) -> int | None:
    ndim = flow.ndim(node.inputs[0])
    along = _axes_of(node, 1, ndim) or list(range(ndim))
    if axis in along:
        if node.op_type == "ReduceMax" and along == [axis]:
            return None
        raise ClassesMix("reduces over its classes")
    return axis if node.attributes.get_int("keepdims", 1) else axis - sum(each < axis for each in along)


def _axes_of(node: ir.Node, place: int, ndim: int) -> list[int]:
    given = node.inputs[place] if len(node.inputs) > place else None
    if given is None:
        return [axis % ndim for axis in node.attributes.get_ints("axes", ())]
    array = constant_array(given)
    if array is None:
        raise ClassesMix("has axes that are computed")
    return [int(axis) % ndim for axis in array.reshape(-1)]


def _transpose(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    perm = list(node.attributes.get_ints("perm", ())) or list(reversed(range(flow.ndim(node.inputs[0]))))
    return perm.index(axis)


def _reshape(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    before, after = flow.dims(node.inputs[0]), flow.dims(node.outputs[0])
    if before is None or after is None:
        raise ClassesMix("has an input or output of unknown shape")
    parts = _product(before[:axis]), _product(before[axis + 1 :])
    found = [
        place
        for place, dim in enumerate(after)
        if dim == flow.classes and (_product(after[:place]), _product(after[place + 1 :])) == parts
    ]
    if len(found) != 1:
        raise ClassesMix("splits the axis of its classes, or merges it with others")
    if node.op_type == "Reshape":
        target = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        if len(node.inputs) < 2:
            raise ClassesMix("has its target in an attribute")
        if target is not None and target[found[0]] == flow.classes:
            flow.sizes.append(SizeInput(node, 1, found[0]))
    return found[0]


def _product(dims: Sequence[int | ir.SymbolicDim]) -> str:
    result: int | ir.SymbolicDim = 1
    for dim in dims:
        result = result * dim
    return str(result)


def _concat(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    if _axis_of(node, 1, flow.ndim(node.inputs[0])) == axis:
        raise ClassesMix("joins its classes with others, whose places would move")
    if any(value is None or flow.axes.get(value) != axis for value in node.inputs):
        raise ClassesMix("joins it with a value that doesn't grow")
    return axis


def _split(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    if _axis_of(node, 0, flow.ndim(node.inputs[0])) == axis:
        raise ClassesMix("splits its classes")
    return axis


def _slice(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    ndim = flow.ndim(node.inputs[0])
    if len(node.inputs) > 1 and len(node.inputs) <= 3:
        raise ClassesMix("takes some of its classes")
    if axis in (_axes_of(node, 3, ndim) or list(range(ndim))):
        raise ClassesMix("takes some of its classes")
    return axis


def _gather(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    along = _axis_of(node, 0, flow.ndim(node.inputs[0]))
    if along == axis:
        raise ClassesMix("picks classes by their number: new ones have no place there")
    indices = node.inputs[1]
    array = constant_array(indices)
    ndim = array.ndim if array is not None else flow.ndim(indices)
    return axis + ndim - 1 if along < axis else axis


def _resize(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    if axis != 1:
        raise ClassesMix("resizes along its classes")
    sizes = constant_array(node.inputs[3]) if len(node.inputs) > 3 else None
    if (
        sizes is not None
        and len(sizes) > axis
        and sizes[axis] == flow.classes
        and "axes" not in node.attributes
    ):
        flow.sizes.append(SizeInput(node, 3, axis))
    return axis


def _pad(flow: ClassFlow, node: ir.Node, axis: int) -> int:
    ndim = flow.ndim(node.inputs[0])
    pads = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    numbers = pads.reshape(-1).tolist() if pads is not None else list(node.attributes.get_ints("pads", ()))
    if len(numbers) != 2 * ndim or numbers[axis] or numbers[axis + ndim]:
        raise ClassesMix("pads its classes")
    return axis


def _reader(_flow: ClassFlow, _node: ir.Node, _axis: int) -> int:
    raise ClassesMix("is a layer that reads its classes: only the last layer grows")


RULES: Mapping[str, Callable[[ClassFlow, ir.Node, int], int | None]] = {
    **dict.fromkeys((*UNARY, "Not", "IsNaN", "IsInf"), _same),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _norm),
    **dict.fromkeys(POOLS, _pool),
    **dict.fromkeys(SOFTMAX, _softmax),
    **dict.fromkeys(PICKING, _pick),
    **dict.fromkeys(REDUCTIONS, _reduce),
    **dict.fromkeys(RESHAPING, _reshape),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"), _reader),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
}
