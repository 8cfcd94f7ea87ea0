"""Nodes whose output is a value before them: alone, or together with the nodes between.

Zeros of both signs are equal, but x + 0 turns -0 into 0, which 1 / x can tell: an addition of 0 changes
nothing only where no operator of the model tells them apart (`tells_zeros_apart`). Sizes that the model
leaves open are compared as formulas of the symbols of its inputs.

Source: ONNX operator specification, opset 1 to 24.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.graph.randomness import dropout_mode, is_dropout
from modelsurgeon.onnx.graph.traversal import nodes

SAME_ORDER = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})  # elements keep their order
REPEATING = frozenset({"Expand", "Tile"})
ONE_INPUT = frozenset({"Concat", "Max", "Mean", "Min", "Sum"})
NEUTRAL = {"Add": 0.0, "Mul": 1.0}  # operators with a constant that changes nothing, on either side
NEUTRAL_RIGHT = {"Sub": 0.0, "Div": 1.0, "Pow": 1.0}  # on the right only
CANCELLING = frozenset({"Cast", "Transpose"}) | SAME_ORDER
TELLS_ZEROS_APART = frozenset({"BitCast", "Div", "Pow", "Reciprocal"})
OVERRIDING_IR_VERSION = 4  # before, every initializer had to be listed as an input
NO_END = 2**31 - 1  # from here on, the end of a Slice is that of the axis, whatever its size

Shape = ir.Shape | Sequence[int | ir.SymbolicDim]


@dataclass(frozen=True, kw_only=True, eq=False)
class ValueTypes:
    """What is known of values. shape, dtype: None where it isn't known. symbols: axes of inputs by symbol.

    opset: of the default domain. signed_zeros: whether an operator tells -0 from 0.
    """

    shape: Callable[[ir.Value], Shape | None]
    dtype: Callable[[ir.Value], ir.DataType | None]
    symbols: Mapping[str, int]
    opset: int
    signed_zeros: bool

    @classmethod
    def of(
        cls,
        model: ir.Model,
        shape: Callable[[ir.Value], Shape | None],
        dtype: Callable[[ir.Value], ir.DataType | None],
    ) -> ValueTypes:
        """The types of a model's values, by functions of a value.

        What depends on integers that a caller may override has no shape: it would be that of the defaults.
        """
        open_values = _dependent_on_defaults(model)
        if open_values:
            return cls.of_fixed(model, lambda value: None if value in open_values else shape(value), dtype)
        return cls.of_fixed(model, shape, dtype)

    @classmethod
    def of_fixed(
        cls,
        model: ir.Model,
        shape: Callable[[ir.Value], Shape | None],
        dtype: Callable[[ir.Value], ir.DataType | None],
    ) -> ValueTypes:
        """The same, for shapes that hold whatever a caller gives."""
        shapes = [shape(value) or () for value in model.graph.inputs]
        return cls(
            shape=shape,
            dtype=dtype,
            symbols=Counter(s for dims in shapes for dim in dims for s in _symbols(dim)),
            opset=model.opset_imports.get("", 1),
            signed_zeros=tells_zeros_apart(model),
        )


def _dependent_on_defaults(model: ir.Model) -> set[ir.Value]:
    """Values that depend on initializers that are inputs, too, and may hold sizes."""
    if model.ir_version < OVERRIDING_IR_VERSION:
        return set()
    found = {
        value
        for value in model.graph.inputs
        if value.is_initializer() and not (value.dtype is not None and value.dtype.is_floating_point())
    }
    if found:
        for node in nodes(model):
            if not found.isdisjoint(inputs_and_captures(node)):
                found.update(node.outputs)
    return found


def tells_zeros_apart(model: ir.Model) -> bool:
    """Whether an operator gives another result for -0 than for 0: one that divides, or an unknown one."""
    return any(_tells_zeros_apart(node) for node in nodes(model)) or bool(model.functions)


def _tells_zeros_apart(node: ir.Node) -> bool:
    if node.domain not in STANDARD_DOMAINS:
        return True
    divides = node.op_type == "Div" and small_constant(node.inputs[1]) is None
    powers = node.op_type == "Pow" and not _has_positive_exponent(node)
    return divides or powers or node.op_type in TELLS_ZEROS_APART - {"Div", "Pow"}


def _has_positive_exponent(node: ir.Node) -> bool:
    exponent = small_constant(node.inputs[1])
    return exponent is not None and bool((exponent.astype(np.float64) > 0).all())


def unchanged_input(node: ir.Node, types: ValueTypes) -> ir.Value | None:
    """The input that a node's first output equals, in type, shape and every element; None where none does."""
    if node.domain or node.op_type not in NO_OPERATORS or not node.inputs or not node.outputs:
        return None
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return None
    if node.op_type in NEUTRAL or node.op_type in NEUTRAL_RIGHT:
        return _neutral_operand(node, types)
    return node.inputs[0] if node.inputs[0] is not None and _keeps_input(node, types) else None


def undone_value(node: ir.Node, types: ValueTypes) -> ir.Value | None:
    """The value before other nodes that a node restores from their output; None where it restores none.

    Two Transposes, a Cast back from a type that holds every number, reshapes back to an earlier shape.
    """
    if node.domain or node.op_type not in CANCELLING or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    if before is None or before.domain or not before.inputs or before.inputs[0] is None:
        return None
    if node.op_type in SAME_ORDER:
        return _same_shape_before(node, types)
    if before.op_type != node.op_type:
        return None
    undone = (
        _casts_back(before, node, types) if node.op_type == "Cast" else _transposes_back(before, node, types)
    )
    return before.inputs[0] if undone else None


def transpose_order(node: ir.Node, types: ValueTypes) -> Sequence[int] | None:
    """The axes of a Transpose; None where they aren't known."""
    given = node.attributes.get_ints("perm", ())
    shape = None if node.inputs[0] is None else types.shape(node.inputs[0])
    if given or shape is None:
        return given or None
    return range(len(shape))[::-1]


def _keeps_input(node: ir.Node, types: ValueTypes) -> bool:
    """Whether a node of one data input returns it."""
    return KEEPS_INPUT[node.op_type](node, types)


def _is_inactive_dropout(node: ir.Node, types: ValueTypes) -> bool:
    return is_dropout(node) and dropout_mode(node, types.opset) == "inference"


def _keeps_order(node: ir.Node, types: ValueTypes) -> bool:
    order = transpose_order(node, types)
    return order is not None and list(order) == sorted(order)


def _repeats_once(node: ir.Node, types: ValueTypes) -> bool:
    return _equal_shapes(node.inputs[0], node.outputs[0], types, broadcast=True)


def _keeps_shape(node: ir.Node, types: ValueTypes) -> bool:
    return _reshapes_to_itself(node, types) or _equal_shapes(node.inputs[0], node.outputs[0], types)


def _same_type(node: ir.Node, types: ValueTypes) -> bool:
    given = None if node.inputs[0] is None else types.dtype(node.inputs[0])
    if node.op_type == "CastLike":
        like = node.inputs[1] if len(node.inputs) > 1 else None
        return given is not None and like is not None and types.dtype(like) == given
    return given is not None and _target_type(node) == given


def _target_type(node: ir.Node) -> ir.DataType | None:
    """The type that a Cast names; None where it isn't a number, as before opset 6."""
    attribute = node.attributes.get("to")
    named = attribute is not None and not attribute.is_ref() and attribute.type == ir.AttributeType.INT
    return ir.DataType(attribute.as_int()) if attribute is not None and named else None


def _equal_shapes(
    a: ir.Value | None, b: ir.Value | None, types: ValueTypes, *, broadcast: bool = False
) -> bool:
    """Whether two values have one shape, whatever sizes the model leaves open.

    broadcast: whether an axis of `b` may come from another value: its symbol must then stand for one axis of
    one input, because nothing makes callers give two axes the same size.
    """
    shapes = [None if value is None else types.shape(value) for value in (a, b)]
    if shapes[0] is None or shapes[1] is None or len(shapes[0]) != len(shapes[1]):
        return False
    return all(
        _same_size(x, y, types.symbols, broadcast=broadcast)
        for x, y in zip(shapes[0], shapes[1], strict=True)
    )


def _same_size(
    a: int | ir.SymbolicDim, b: int | ir.SymbolicDim, symbols: Mapping[str, int], *, broadcast: bool
) -> bool:
    if isinstance(a, int) or isinstance(b, int):
        return a == b
    if a.value is None or str(a) != str(b):
        return False
    counts = [symbols.get(symbol, 0) for symbol in _symbols(a)]
    return all(count == 1 if broadcast else count for count in counts)


def _symbols(dim: int | ir.SymbolicDim) -> Iterable[str]:
    return () if isinstance(dim, int) or dim.value is None else map(str, dim.free_symbols())


def _reshapes_to_itself(node: ir.Node, types: ValueTypes) -> bool:
    """Whether a Reshape's constant target copies or repeats every size of its input but one."""
    if node.op_type != "Reshape" or node.inputs[0] is None:
        return False
    if len(node.inputs) > 1:
        found = None if _is_given(node.inputs[1]) else small_constant(node.inputs[1])
        target = None if found is None else found.ravel().tolist()
    else:
        target = list(node.attributes.get_ints("shape", ())) or None
    shape = types.shape(node.inputs[0])
    if target is None or shape is None or len(target) != len(shape):
        return False
    copies = not node.attributes.get_int("allowzero", 0)
    left = [n for n, size in zip(target, shape, strict=True) if n != size and not (n == 0 and copies)]
    return left in ([], [-1])


def _pads_nothing(node: ir.Node) -> bool:
    if "pads" in node.attributes:
        return not any(node.attributes.get_ints("pads", ()))
    pads = small_constant(node.inputs[1]) if len(node.inputs) > 1 and not _is_given(node.inputs[1]) else None
    return pads is not None and not pads.any()


def _keeps_everything(node: ir.Node, types: ValueTypes) -> bool:
    """Whether a Slice takes its whole input, at steps of 1."""
    shape = None if node.inputs[0] is None else types.shape(node.inputs[0])
    starts, ends, axes, steps = (_slice_part(node, at, name) for at, name in enumerate(SLICE_PARTS, 1))
    if shape is None or starts is None or ends is None or axes is None or steps is None:
        return False
    if any(step != 1 for step in steps):
        return False
    places = axes or range(len(starts))
    return all(
        _is_whole_axis(start, end, shape[axis]) for start, end, axis in zip(starts, ends, places, strict=True)
    )


SLICE_PARTS = ("starts", "ends", "axes", "steps")


def _slice_part(node: ir.Node, place: int, name: str) -> list[int] | None:
    """Numbers of a Slice, from an input or an attribute; empty where left out, None where not constant."""
    if len(node.inputs) <= 1:
        return list(node.attributes.get_ints(name, ()))
    if place >= len(node.inputs) or node.inputs[place] is None:
        return []
    array = None if _is_given(node.inputs[place]) else small_constant(node.inputs[place])
    return None if array is None else [int(n) for n in array.ravel()]


def _is_whole_axis(start: int, end: int, size: int | ir.SymbolicDim) -> bool:
    if isinstance(size, int):
        return (start == 0 or start <= -size) and end >= size
    return start == 0 and end >= NO_END


def _neutral_operand(node: ir.Node, types: ValueTypes) -> ir.Value | None:
    """The operand that a constant leaves as it is, in values and shape."""
    if len(node.inputs) != 2 or None in node.inputs:
        return None
    operands = [(node.inputs[0], node.inputs[1])]
    if node.op_type in NEUTRAL:
        operands.append((node.inputs[1], node.inputs[0]))
    for data, other in operands:
        if data is None or types.dtype(data) is None or types.dtype(data) != types.dtype(node.outputs[0]):
            continue
        shaped = _equal_shapes(data, node.outputs[0], types, broadcast=True)
        if shaped and _is_neutral(node.op_type, other, types):
            return data
    return None


def _is_neutral(op: str, value: ir.Value | None, types: ValueTypes) -> bool:
    array = None if value is None or _is_given(value) else small_constant(value)
    if array is None or not array.size:
        return False
    numbers = array.astype(np.float64)
    if not (numbers == {**NEUTRAL, **NEUTRAL_RIGHT}[op]).all():
        return False
    if op not in ("Add", "Sub") or array.dtype.kind in "iub":
        return True
    exact = np.signbit(numbers).all() if op == "Add" else not np.signbit(numbers).any()
    return bool(exact) or not types.signed_zeros


def _is_given(value: ir.Value | None) -> bool:
    return value is not None and value.is_graph_input()


def _same_shape_before(node: ir.Node, types: ValueTypes) -> ir.Value | None:
    """The first value of this node's shape from which reshapes alone lead to it; None where there is none."""
    found, value = None, node.inputs[0]
    while value is not None:
        before = value.producer()
        if before is None or before.domain or before.op_type not in SAME_ORDER or before.inputs[0] is None:
            return found
        value = before.inputs[0]
        if _equal_shapes(value, node.outputs[0], types):
            found = value
    return found


def _transposes_back(first: ir.Node, second: ir.Node, types: ValueTypes) -> bool:
    orders = (transpose_order(first, types), transpose_order(second, types))
    if orders[0] is None or orders[1] is None or len(orders[0]) != len(orders[1]):
        return False
    return [orders[0][axis] for axis in orders[1]] == sorted(orders[0])


def _casts_back(first: ir.Node, second: ir.Node, types: ValueTypes) -> bool:
    """Whether a Cast goes back to the type before another Cast, which lost nothing."""
    start = None if first.inputs[0] is None else types.dtype(first.inputs[0])
    middle, end = _target_type(first), _target_type(second)
    return start is not None and start == end and middle is not None and _holds(middle, start)


def _holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether a type holds every number of another one of its kind."""
    if ir.DataType.STRING in (wide, narrow):
        return False
    kinds = [np.dtype(dtype.numpy()) for dtype in (wide, narrow)]
    if any(kind.kind not in "biuf" for kind in kinds):
        return narrow == ir.DataType.BFLOAT16 and wide in (ir.DataType.FLOAT, ir.DataType.DOUBLE)
    integers = all(kind.kind in "biu" for kind in kinds)
    return (integers or kinds[0].kind == kinds[1].kind) and np.can_cast(kinds[1], kinds[0], "safe")


KEEPS_INPUT: Mapping[str, Callable[[ir.Node, ValueTypes], bool]] = {
    "Cast": _same_type,
    "CastLike": _same_type,
    "Dropout": _is_inactive_dropout,
    "Identity": lambda *_: True,
    "Pad": lambda node, _: _pads_nothing(node),
    "Slice": _keeps_everything,
    "Transpose": _keeps_order,
    **dict.fromkeys(sorted(ONE_INPUT), lambda node, _: len(node.inputs) == 1),
    **dict.fromkeys(sorted(REPEATING), _repeats_once),
    **dict.fromkeys(sorted(SAME_ORDER), _keeps_shape),
}
NO_OPERATORS = frozenset({*KEEPS_INPUT, *NEUTRAL, *NEUTRAL_RIGHT})
