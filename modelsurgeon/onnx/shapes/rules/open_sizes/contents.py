"""Contents of small tensors that hold sizes: what Shape returns, and what is computed from it.

onnx_shape_inference follows such contents, too, but only through sums and products of vectors. Here they are
followed through every operator that exports use on sizes: division, comparison, selection, rounding and the
operators that move elements. What isn't known of a tensor is left open element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
import sympy
from numpy.typing import NDArray
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.onnx.graph.constant_folding import EVALUATION_ERRORS, small_constant
from modelsurgeon.onnx.shapes.dimensions import CONTENTS_KEY
from modelsurgeon.onnx.shapes.rules.open_sizes import arithmetic
from modelsurgeon.onnx.shapes.rules.open_sizes.arithmetic import Entry
from modelsurgeon.onnx.shapes.rules.registration import correct_rule

MAX_ENTRIES = 256
FOLLOWED_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE)

Entries = NDArray[np.object_]
Evaluation = Callable[[ir.Node, Sequence["Entries | None"]], "Sequence[Entries | None] | None"]


def register() -> None:
    """Follow contents after the rules of all operators of which that is known."""
    for op, evaluate in EVALUATIONS.items():
        if registry.version_boundaries("", op):
            correct_rule(op, partial(_follow, evaluate))


def contents(value: ir.Value | None) -> Entries | None:
    """The contents of a small tensor, of constants as well; None where nothing is known of them."""
    if value is None:
        return None
    if (found := value.meta.get(CONTENTS_KEY)) is not None:
        return found  # type: ignore[no-any-return]
    constant = small_constant(value)
    return None if constant is None or constant.size > MAX_ENTRIES else _entries(constant)


def contents_are_followed(value: ir.Value | None) -> bool:
    """Whether a tensor's contents were computed from sizes."""
    return value is not None and CONTENTS_KEY in value.meta


def is_followed(value: ir.Value) -> bool:
    """Whether all of a tensor's contents were computed from sizes."""
    found = value.meta.get(CONTENTS_KEY)
    return found is not None and all(entry is not None for entry in found.flat)


def integers_of(value: ir.Value | None) -> list[Entry] | None:
    """The known integers of a small tensor, flattened; None where it isn't known; an entry may be None."""
    found = contents(value)
    return None if found is None else list(found.ravel())


def in_dims(entry: Entry) -> int | ir.SymbolicDim:
    """An entry as a dimension."""
    return int(entry) if isinstance(entry, int) else ir.SymbolicDim(entry)


def as_entry(dim: int | ir.SymbolicDim) -> Entry:
    """A dimension as an entry; None where it has no name."""
    # onnx_ir has no public name for the expression of a dimension.
    return dim if isinstance(dim, int) else dim._expr


def _entries(constant: NDArray[Any]) -> Entries:
    found = np.empty(constant.shape, object)
    for place in np.ndindex(constant.shape):
        found[place] = _entry(constant[place])
    return found


def _entry(number: Any) -> Entry:  # noqa: ANN401
    if isinstance(number, np.bool_):
        return bool(number)
    if isinstance(number, np.integer | ml_dtypes.int4 | ml_dtypes.uint4):
        return int(number)
    exact = float(number) if isinstance(number, np.floating) else float("nan")
    return arithmetic.plain(sympy.Rational(exact)) if np.isfinite(exact) else None


def _follow(evaluate: Evaluation, ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Compute the contents of the outputs from those of the inputs, where one of these comes from sizes."""
    for value in node.outputs:
        value.meta.pop(CONTENTS_KEY, None)
    if node.op_type not in SOURCES and not any(map(contents_are_followed, node.inputs)):
        return
    try:
        found = evaluate(node, [_contents_or_unknown(value) for value in node.inputs])
    except EVALUATION_ERRORS:
        return
    for value, entries in zip(node.outputs, found or (), strict=False):
        if entries is not None and entries.size <= MAX_ENTRIES and any(x is not None for x in entries.flat):
            _record(ctx, value, entries)


def _contents_or_unknown(value: ir.Value | None) -> Entries | None:
    """Contents; where they aren't known, an array of None if the tensor is known to be small."""
    found = contents(value)
    if found is not None or value is None or value.shape is None or not value.shape.is_static():
        return found
    shape = tuple(int(size) for size in value.shape.numpy())
    return np.full(shape, None, object) if np.prod(shape, dtype=np.int64) <= MAX_ENTRIES else None


def _record(ctx: ShapeInferenceContext, value: ir.Value, entries: Entries) -> None:
    if value.dtype in FOLLOWED_FLOATS and not any(map(arithmetic.is_open, entries.flat)):
        return  # computed when constants are folded, with the rounding of its type
    value.meta[CONTENTS_KEY] = entries
    if value.shape is None or value.shape.rank() != entries.ndim:
        return
    listed = list(entries.flat)
    if all(isinstance(entry, int) for entry in listed):
        if value.dtype is not None and not value.dtype.is_floating_point():
            constant = np.array(entries.tolist(), value.dtype.numpy()).reshape(entries.shape)
            value.const_value = ir.tensor(constant, name=value.name)
            return
        listed = [sympy.Integer(entry) for entry in listed]
    if value.dtype == ir.DataType.BOOL:
        return
    ctx.set_symbolic_value(value, [_as_dim(ctx, entry) for entry in listed])


def _as_dim(ctx: ShapeInferenceContext, entry: Entry) -> int | ir.SymbolicDim:
    if entry is None or not isinstance(entry, int | sympy.Expr):
        dim: ir.SymbolicDim = ctx.new_symbolic_dim()
        return dim
    return in_dims(entry)


# Evaluations


def _shape(node: ir.Node, _: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    data = node.inputs[0]
    if data is None or data.shape is None:
        return None
    rank = data.shape.rank()
    begin, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", rank)
    return [_vector([as_entry(dim) for dim in data.shape.dims][begin:end])]


def _size(node: ir.Node, _: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    data = node.inputs[0]
    if data is None or data.shape is None:
        return None
    product: Entry = 1
    for dim in data.shape.dims:
        entry = as_entry(dim)
        product = None if entry is None or product is None else arithmetic.plain(product * entry)
    return [_scalar(product)]


def _vector(entries: Sequence[Entry]) -> Entries:
    found = np.empty(len(entries), object)
    for place, entry in enumerate(entries):
        found[place] = entry
    return found


def _scalar(entry: Entry) -> Entries:
    found = np.empty((), object)
    found[()] = entry
    return found


def _each(function: Callable[..., Entry], *arrays: Entries) -> Entries:
    """The function of all entries, broadcast; None where an entry isn't known."""

    def known(*entries: Entry) -> Entry:
        found = None if any(entry is None for entry in entries) else function(*entries)
        return found if arithmetic.is_readable(found) else None

    return np.asarray(np.frompyfunc(known, len(arrays), 1)(*arrays), object)


def _elementwise(
    integers: Callable[..., Entry], floats: Callable[..., Entry] | None = None, operands: int = 2
) -> Evaluation:
    """An operator on each entry. floats: on floats; without it contents of floats aren't followed."""

    def evaluate(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
        function = floats if _is_float(node) else integers
        used = [array for array in arrays if array is not None]
        if function is None or len(used) < len(arrays) or len(used) != operands:
            return None
        return [_each(function, *used)]

    return evaluate


def _is_float(node: ir.Node) -> bool:
    first = node.inputs[0]
    return first is not None and (first.dtype is None or first.dtype.is_floating_point())


def _unrounded(function: Callable[..., Entry]) -> Callable[..., Entry]:
    """The function on floats, where none of its operands was rounded."""
    return lambda *entries: None if any(map(arithmetic.rounded_once, entries)) else function(*entries)


def _fold(function: Callable[[Entry, Entry], Entry]) -> Evaluation:
    """An operator on each entry of any number of operands."""

    def evaluate(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
        if any(array is None for array in arrays):
            return None
        found, *others = arrays
        exact = _unrounded(function) if _is_float(node) else function
        for other in others:
            found = _each(exact, found, other)  # type: ignore[arg-type]
        return [found]

    return evaluate


def _sum(one: Entry, other: Entry) -> Entry:
    return arithmetic.plain(one + other)


def _difference(one: Entry, other: Entry) -> Entry:
    return arithmetic.plain(one - other)


def _product(one: Entry, other: Entry) -> Entry:
    return arithmetic.plain(one * other)


def _power(one: Entry, other: Entry) -> Entry:
    return arithmetic.plain(one**other) if isinstance(other, int) and 0 <= other <= 16 else None


def _absolute(entry: Entry) -> Entry:
    return entry if arithmetic.never_negative(entry) else arithmetic.plain(abs(entry))


def _modulo(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    truncates = node.attributes.get_int("fmod", 0)
    function = arithmetic.truncated_remainder if truncates else arithmetic.remainder
    return _elementwise(function, _unrounded(arithmetic.truncated_remainder))(node, arrays)


def _whole(entry: Entry) -> Entry:
    """The entry if it is an integer at all sizes: then Round changes nothing."""
    return entry if isinstance(entry, int) or entry.is_integer else None


def _relation(relation: Callable[[Entry, Entry], Entry]) -> Evaluation:
    def holds(one: Entry, other: Entry) -> Entry:
        if any(isinstance(entry, sympy.Basic) and entry.has(sympy.Piecewise) for entry in (one, other)):
            return None  # sympy would solve it for the sizes at which it holds
        return arithmetic.plain(relation(one, other))

    return _elementwise(holds, _unrounded(holds))


def _equal(one: Entry, other: Entry) -> Entry:
    if _is_truth(one) or _is_truth(other):
        return sympy.Equivalent(one, other)
    return sympy.Eq(one, other)


def _junction(function: Callable[..., Entry], operands: int = 2) -> Evaluation:
    return _elementwise(lambda *entries: arithmetic.plain(function(*entries)), None, operands)


def _where(_: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    if any(array is None for array in arrays):
        return None

    def choose(condition: Entry, one: Entry, other: Entry) -> Entry:
        if isinstance(condition, bool):
            return one if condition else other
        if one is None or other is None:
            return None
        if one == other:
            return one
        return None if condition is None else arithmetic.selected(condition, one, other)

    return [np.asarray(np.frompyfunc(choose, 3, 1)(*arrays), object)]  # type: ignore[arg-type]


def _cast(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    kind = node.outputs[0].dtype
    array = arrays[0]
    if array is None or kind is None or (kind.is_floating_point() and kind not in FOLLOWED_FLOATS):
        return None
    return [_each(partial(_as_type, kind), array)]


def _is_truth(entry: Entry) -> bool:
    """Whether an entry is a truth value; sympy's symbols may be both."""
    condition = isinstance(entry, sympy.logic.boolalg.Boolean) and not isinstance(entry, sympy.Expr)
    return condition or isinstance(entry, bool)


def _as_type(kind: ir.DataType, entry: Entry) -> Entry:
    truth = _is_truth(entry)
    if kind == ir.DataType.BOOL:
        return entry if truth else arithmetic.plain(sympy.Ne(entry, 0))
    if truth:
        return arithmetic.selected(entry, 1, 0)
    return entry if kind.is_floating_point() else arithmetic.truncated(entry)


def _clip(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    array, *limits = [*arrays, None, None][:3]
    for index, function in ((0, arithmetic.largest), (1, arithmetic.smallest)):
        given = index + 1 < len(node.inputs) and node.inputs[index + 1] is not None
        if array is None or (given and limits[index] is None) or ("min", "max")[index] in node.attributes:
            return None
        if given:
            array = _each(function, array, limits[index])  # type: ignore[arg-type]
    return [array]


def _reduce(function: Callable[[Entry, Entry], Entry]) -> Evaluation:
    def evaluate(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
        array = arrays[0]
        axes = _listed(node, arrays, 1, "axes")
        if array is None or axes is None or _is_float(node):
            return None
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            return [array]
        keep = node.attributes.get_int("keepdims", 1) != 0
        for axis in sorted({axis % array.ndim for axis in axes or range(array.ndim)}, reverse=True):
            if array.shape[axis] == 0:
                return None
            parts = [np.asarray(part, object) for part in np.moveaxis(array, axis, 0)]
            found = parts[0]
            for part in parts[1:]:
                found = _each(function, found, part)
            array = np.expand_dims(found, axis) if keep else found
        return [array]

    return evaluate


def _listed(
    node: ir.Node, arrays: Sequence[Entries | None], index: int, name: str, default: Sequence[int] = ()
) -> list[int] | None:
    """Integers of an input, or of the attribute that it was before; None where they aren't known."""
    if index < len(node.inputs) and node.inputs[index] is not None:
        array = arrays[index]
        entries = None if array is None else list(array.ravel())
        return entries if entries is not None and all(isinstance(x, int) for x in entries) else None
    return list(node.attributes.get_ints(name, ()) or default)


def _moved(move: Callable[[ir.Node, Sequence[Entries | None]], Entries | None]) -> Evaluation:
    """An operator with one output that only moves entries."""
    return lambda node, arrays: [move(node, arrays)]


def _gather(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data, indices = arrays[:2]
    if data is None or indices is None or not all(isinstance(index, int) for index in indices.flat):
        return None
    return np.asarray(
        np.take(data, indices.astype(np.int64), axis=node.attributes.get_int("axis", 0)), object
    )


def _concat(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    if any(array is None for array in arrays):
        return None
    return np.concatenate(arrays, axis=node.attributes.get_int("axis", 1))  # type: ignore[arg-type]


def _reshape(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    shape = _listed(node, arrays, 1, "shape")
    data = arrays[0]
    if data is None or shape is None:
        return None
    return data.reshape([data.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _squeeze(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    axes, data = _listed(node, arrays, 1, "axes"), arrays[0]
    if data is None or axes is None:
        return None
    return np.squeeze(data, tuple(axes) if axes else None)


def _unsqueeze(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    axes, data = _listed(node, arrays, 1, "axes"), arrays[0]
    return None if data is None or axes is None else np.expand_dims(data, tuple(axes))


def _transpose(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data = arrays[0]
    return None if data is None else np.transpose(data, list(node.attributes.get_ints("perm", ())) or None)


def _flatten(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data, axis = arrays[0], node.attributes.get_int("axis", 1)
    return None if data is None else data.reshape((int(np.prod(data.shape[:axis], dtype=np.int64)), -1))


def _expand(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data, shape = arrays[0], _listed(node, arrays, 1, "shape")
    if data is None or shape is None or np.prod(shape, dtype=float) > MAX_ENTRIES:
        return None
    return np.array(np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape))))


def _tile(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data, repeats = arrays[0], _listed(node, arrays, 1, "repeats")
    if data is None or repeats is None or np.prod(repeats, dtype=float) * data.size > MAX_ENTRIES:
        return None
    return np.tile(data, repeats)


def _slice(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    data = arrays[0]
    starts, ends = _listed(node, arrays, 1, "starts"), _listed(node, arrays, 2, "ends")
    if data is None or starts is None or ends is None:
        return None
    axes = _listed(node, arrays, 3, "axes", range(len(starts)))
    steps = _listed(node, arrays, 4, "steps", [1] * len(starts))
    if axes is None or steps is None:
        return None
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = data.shape[axis]
        first = min(max(start + size if start < 0 else start, 0), size - 1 if step < 0 else size)
        count = arithmetic.slice_size(size, start, end, step)
        data = np.take(data, [first + step * place for place in range(count)], axis=axis)
    return data


def _split(node: ir.Node, arrays: Sequence[Entries | None]) -> Sequence[Entries | None] | None:
    data, sizes = arrays[0], _listed(node, arrays, 1, "split")
    axis = node.attributes.get_int("axis", 0)
    if data is None or sizes is None:
        return None
    if not sizes:
        chunk = -(-data.shape[axis] // len(node.outputs))
        sizes = [chunk] * (len(node.outputs) - 1)
    ends = np.cumsum(sizes)[: len(node.outputs) - 1].tolist()
    return [np.asarray(part, object) for part in np.split(data, ends, axis)]


def _constant_of_shape(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    shape = arrays[0]
    if shape is None or not all(isinstance(size, int) for size in shape.flat):
        return None
    if np.prod(shape.astype(np.float64)) > MAX_ENTRIES:
        return None
    tensor = node.attributes.get_tensor("value", None)
    entry = sympy.Integer(0) if tensor is None else _entry(tensor.numpy().ravel()[0])
    return np.full(tuple(shape.tolist()), entry, object)


def _range(node: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    count = range_length(node)
    start, _, step = (None if array is None else array.item() for array in arrays)
    if not isinstance(count, int) or count > MAX_ENTRIES or start is None or step is None or _is_float(node):
        return None
    return _vector([arithmetic.plain(start + step * place) for place in range(count)])


def range_length(node: ir.Node) -> Entry:
    """Number of elements that Range counts up or down to; None where it isn't known."""
    found = [integers_of(value) for value in node.inputs[:3]]
    if len(found) < 3 or any(one is None or len(one) != 1 or one[0] is None for one in found):
        return None
    start, limit, step = (one[0] for one in found if one is not None)
    if not isinstance(step, int | sympy.Rational) or step == 0:
        return None
    exact = not any(map(arithmetic.rounded_once, (start, limit, step)))
    return arithmetic.largest(0, arithmetic.raised_quotient(limit - start, step)) if exact else None


def _pass_on(_: ir.Node, arrays: Sequence[Entries | None]) -> Entries | None:
    return arrays[0]


SOURCES = ("ConstantOfShape", "Shape", "Size", "Slice")
EVALUATIONS: dict[str, Evaluation] = {
    "Abs": _elementwise(_absolute, _absolute, 1),
    "Add": _elementwise(_sum, _unrounded(_sum)),
    "And": _junction(sympy.And),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _elementwise(arithmetic.raised, arithmetic.raised, 1),
    "Clip": _clip,
    "Concat": _moved(_concat),
    "ConstantOfShape": _moved(_constant_of_shape),
    "Div": _elementwise(arithmetic.truncated_quotient, _unrounded(arithmetic.ratio)),
    "Equal": _relation(_equal),
    "Expand": _moved(_expand),
    "Flatten": _moved(_flatten),
    "Floor": _elementwise(arithmetic.floored, arithmetic.floored, 1),
    "Gather": _moved(_gather),
    "Greater": _relation(sympy.Gt),
    "GreaterOrEqual": _relation(sympy.Ge),
    "Identity": _moved(_pass_on),
    "Less": _relation(sympy.Lt),
    "LessOrEqual": _relation(sympy.Le),
    "Max": _fold(arithmetic.largest),
    "Min": _fold(arithmetic.smallest),
    "Mod": _modulo,
    "Mul": _elementwise(_product, arithmetic.float_product),
    "Neg": _elementwise(lambda entry: arithmetic.plain(-entry), lambda entry: arithmetic.plain(-entry), 1),
    "Not": _junction(sympy.Not, 1),
    "Or": _junction(sympy.Or),
    "Pow": _elementwise(_power, None),
    "Range": _moved(_range),
    "ReduceMax": _reduce(arithmetic.largest),
    "ReduceMin": _reduce(arithmetic.smallest),
    "ReduceProd": _reduce(_product),
    "ReduceSum": _reduce(_sum),
    "Reshape": _moved(_reshape),
    "Round": _elementwise(_whole, _whole, 1),
    "Shape": _shape,
    "Size": _size,
    "Slice": _moved(_slice),
    "Split": _split,
    "Squeeze": _moved(_squeeze),
    "Sub": _elementwise(_difference, _unrounded(_difference)),
    "Sum": _fold(_sum),
    "Tile": _moved(_tile),
    "Transpose": _moved(_transpose),
    "Unsqueeze": _moved(_unsqueeze),
    "Where": _where,
    "Xor": _junction(sympy.Xor),
}
