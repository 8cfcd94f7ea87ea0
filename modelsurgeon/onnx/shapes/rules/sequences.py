"""Shape rules of sequences and optional values: a sequence keeps the shapes of its elements.

The shape of a sequence's value is that of its elements, as in files; for the rest see `sequence_elements`.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant, taken_branch
from modelsurgeon.onnx.shapes.dimensions import Dim, integer_of, integers_of
from modelsurgeon.onnx.shapes.rules.registration import correct_rule, replace_rule
from modelsurgeon.onnx.shapes.sequence_elements import (
    ELEMENTS_KEY,
    Elements,
    Sizes,
    elements,
    named,
    set_elements,
    sizes_in,
)

LAST = -1


def register() -> None:
    """Put the rules in the place of the library's, which know only the types of elements."""
    for op, rule in (
        ("SequenceConstruct", _construct),
        ("SequenceEmpty", _empty),
        ("SequenceInsert", _insert),
        ("SequenceErase", _erase),
        ("SequenceAt", _at),
        ("SequenceLength", _length),
        ("SplitToSequence", _split),
        ("ConcatFromSequence", _concat),
        ("SequenceMap", _map),
    ):
        replace_rule(op, rule)
    for op in ("Identity", "Optional", "OptionalGetElement"):
        correct_rule(op, _keep_elements)
    correct_rule("OptionalHasElement", _has_element)
    correct_rule("If", _join_branches)


def _set_tensor(
    ctx: ShapeInferenceContext, value: ir.Value, sizes: Sizes | None, dtype: ir.DataType | None
) -> None:
    ctx.set_shape_and_dtype(value, None if sizes is None else named(ctx, sizes), dtype)


def _construct(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    tensors = [value for value in node.inputs if value is not None]
    found = Elements.listed([sizes_in(value.shape) for value in tensors])
    set_elements(ctx, node.outputs[0], found, _tensor_type(tensors[0].dtype) if tensors else None)


def _empty(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    dtype = ir.DataType(node.attributes.get_int("dtype", ir.DataType.FLOAT))
    set_elements(ctx, node.outputs[0], Elements.listed([]), ir.TensorType(dtype))


def _insert(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    sequence, tensor = node.inputs[:2]
    before = elements(sequence)
    end = len(before.each) if before.each is not None else None
    position = end if _is_left_out(node, 2) else _number(node.inputs[2])
    found = before.inserted(sizes_in(tensor.shape) if tensor is not None else None, position)
    set_elements(ctx, node.outputs[0], found, _element_type(sequence))


def _erase(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    position = LAST if _is_left_out(node, 1) else _number(node.inputs[1])
    found = elements(node.inputs[0]).erased(position)
    set_elements(ctx, node.outputs[0], found, _element_type(node.inputs[0]))


def _at(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    sequence, position = node.inputs[:2]
    found = elements(sequence).at(integer_of(position))
    _set_tensor(ctx, node.outputs[0], found, sequence.dtype if sequence is not None else None)


def _length(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape(()), ir.DataType.INT64)
    length = elements(node.inputs[0]).length
    if length is not None:
        ctx.set_symbolic_value(node.outputs[0], [length])


def _split(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    data = node.inputs[0]
    sizes = sizes_in(data.shape) if data is not None else None
    if data is None or sizes is None:
        set_elements(ctx, node.outputs[0], Elements(), _element_type(data))
        return
    axis = node.attributes.get_int("axis", 0) % len(sizes)
    if _is_left_out(node, 1):
        kept = (1,) if node.attributes.get_int("keepdims", 1) else ()
        found = Elements.equal((*sizes[:axis], *kept, *sizes[axis + 1 :]), sizes[axis])
    else:
        found = _split_elements(sizes, axis, node.inputs[1])
    set_elements(ctx, node.outputs[0], found, _element_type(data))


def _split_elements(sizes: Sizes, axis: int, split: ir.Value | None) -> Elements:
    """Elements of sizes that an input gives: one for all elements (a scalar), or one for each."""
    given, whole = integers_of(split), sizes[axis]

    def part(size: Dim | None) -> Sizes:
        return (*sizes[:axis], size, *sizes[axis + 1 :])

    rank = split.shape.rank() if split is not None and split.shape is not None else None
    if given is None or rank is None:
        return Elements(shape=part(None))
    if rank:
        return Elements.listed([part(size) for size in given])
    chunk = given[0]
    if chunk == 1:
        return Elements.equal(part(1), whole)
    if not isinstance(chunk, int) or chunk < 1 or whole is None:
        return Elements(shape=part(None))
    if isinstance(whole, int):
        return Elements.listed([part(min(chunk, whole - start)) for start in range(0, whole, chunk)])
    length = -(-whole // chunk)
    by_axis = Elements.equal(sizes, length).totals or ()
    totals = tuple(whole if index == axis else total for index, total in enumerate(by_axis))
    return Elements(length=length, shape=part(None), totals=totals)


def _concat(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    sequence = node.inputs[0]
    found, dtype = elements(sequence), sequence.dtype if sequence is not None else None
    if found.shape is None:
        _set_tensor(ctx, node.outputs[0], None, dtype)
        return
    dims = list(found.shape)
    if node.attributes.get_int("new_axis", 0):
        dims.insert(node.attributes.get_int("axis", 0) % (len(dims) + 1), found.length)
    else:
        axis = node.attributes.get_int("axis", 0) % len(dims)
        dims[axis] = None if found.totals is None else found.totals[axis]
    _set_tensor(ctx, node.outputs[0], tuple(dims), dtype)


def _map(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Every output is a sequence of the body's outputs, as long as the first input."""
    body = node.attributes.get_graph("body", None)
    length = elements(node.inputs[0]).length
    for output, result in zip(node.outputs, () if body is None else body.outputs, strict=False):
        each = sizes_in(result.shape)
        found = Elements(length=length) if each is None else Elements.equal(each, length)
        set_elements(ctx, output, found, result.type)


def _keep_elements(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The output of Identity, Optional or OptionalGetElement has the elements of its input."""
    source, output = (node.inputs[0] if node.inputs else None), node.outputs[0]
    if source is None or not isinstance(unwrapped(source.type), ir.SequenceType):
        return
    if node.op_type != "Optional":
        output.type = unwrapped(source.type) if node.op_type == "OptionalGetElement" else source.type
    output.meta[ELEMENTS_KEY] = found = elements(source)
    output.shape = None if found.shape is None else named(ctx, found.shape)


def _has_element(_: ShapeInferenceContext, node: ir.Node) -> None:
    """Whether an optional value has an element follows where it is made or left out in the graph."""
    value = node.inputs[0] if node.inputs else None
    maker = value.producer() if value is not None else None
    if value is None or (maker is not None and maker.op_type == "Optional" and not maker.domain):
        has = value is not None and maker is not None and bool(maker.inputs) and maker.inputs[0] is not None
    elif value.type is not None and not isinstance(value.type, ir.OptionalType):
        has = True
    else:
        return
    node.outputs[0].const_value = ir.tensor(np.asarray(has), name=node.outputs[0].name)


def _join_branches(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A sequence that an If makes has what those of both branches have, or that of the one that is taken."""
    taken = taken_branch(node)
    both = [node.attributes.get_graph(name, None) for name in ("then_branch", "else_branch")]
    branches = both if taken is None else [taken, taken]
    for index, output in enumerate(node.outputs):
        if not isinstance(output.type, ir.SequenceType):
            continue
        ends = [branch.outputs[index] for branch in branches if branch is not None]
        if len(ends) == len(branches):
            set_elements(ctx, output, elements(ends[0]).joined(elements(ends[1])))


def unwrapped(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    """The type of an optional value's element; any other type itself."""
    return kind.elem_type if isinstance(kind, ir.OptionalType) else kind


def _is_left_out(node: ir.Node, index: int) -> bool:
    return index >= len(node.inputs) or node.inputs[index] is None


def _number(value: ir.Value | None) -> int | None:
    """A constant position; None where it is computed when the model runs."""
    array = small_constant(value)
    return int(array.item()) if array is not None and array.size == 1 else None


def _tensor_type(dtype: ir.DataType | None) -> ir.TypeProtocol | None:
    return None if dtype is None else ir.TensorType(dtype)


def _element_type(value: ir.Value | None) -> ir.TypeProtocol | None:
    return None if value is None else _tensor_type(value.dtype)
