"""Default lengths of caches of keys and values, and of the masks and sequences that go with them.

A decoder takes the keys of `past` tokens, new tokens, and a mask over both: the three lengths must fit. The
equations are those of operands that are broadcast, and of attention operators with a cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import data_inputs, open_shapes

Size = int | ir.SymbolicDim

DEFAULT_LENGTH = 128
IMAGE_AXES = 4  # of a map; the last of them is its width, while keys have their features there
CONTENT_KEY = "pkg.onnx_shape_inference.sym_data"  # value.metadata_props: integers that inference found
SAME_SHAPE_OPERATORS = frozenset({"Cast", "DequantizeLinear", "Identity", "QuantizeLinear"})
BROADCASTING_OPERATORS = frozenset({"Add", "And", "Div", "Max", "Min", "Mul", "Or", "Sub", "Sum", "Where"})
# Attention operators with a cache: the input that is the past, its axis of length, the input with the new
# keys (the queries, if it is left out), and the inputs whose last axis has the length of past and new keys.
CACHED_ATTENTION = {
    ("", "Attention"): (4, 2, 1, (3,)),
    (MICROSOFT_DOMAIN, "Attention"): (4, 3, 0, (3, 5)),
    (MICROSOFT_DOMAIN, "QAttention"): (8, 3, 0, (5,)),
    (MICROSOFT_DOMAIN, "MultiHeadAttention"): (6, 2, 1, (4, 5)),
    (MICROSOFT_DOMAIN, "GroupQueryAttention"): (3, 2, 1, (10,)),
}
TOTAL_LENGTH = 6  # the input of GroupQueryAttention whose content is the length of past and new keys


def with_fitting_lengths(model: ir.Model, defaults: Mapping[str, int]) -> dict[str, int]:
    """The defaults, with lengths of caches that are none of an image, and lengths that fit each other."""
    sizes = dict(defaults)
    lengths = _cache_lengths(model)
    if not lengths:
        return sizes
    caches = {name for length in lengths for name in _symbols(length) if name in sizes}
    sizes |= dict.fromkeys(caches, DEFAULT_LENGTH)
    settled: set[str] = set()
    for left, right in dict.fromkeys(_equal_lengths(model)):
        if _difference(left, right, sizes) not in (0, None):
            free = (_symbols(left) | _symbols(right)) & set(sizes) - settled
            whole = {str(left), str(right)}
            _settle(left, right, sizes, sorted(free, key=lambda name: (name in caches, name not in whole)))
        settled |= _symbols(left) | _symbols(right)
    return sizes


def _settle(left: Size, right: Size, sizes: dict[str, int], candidates: list[str]) -> None:
    """Change the defaults so that two sizes become equal: of one symbol, the first by which it can be done.

    Where none is enough, all but one become 1, and a cache is that one before others.
    """
    ones = {**sizes, **dict.fromkeys(candidates, 1)}
    tried = [*((name, sizes) for name in candidates), *((name, ones) for name in reversed(candidates))]
    for name, start in tried:
        offset, next_one = (_difference(left, right, {**start, name: size}) for size in (0, 1))
        slope = 0 if offset is None or next_one is None else next_one - offset
        size = -offset // slope if offset is not None and slope else 0
        if size > 0 and _difference(left, right, {**start, name: size}) == 0:
            sizes.update({**start, name: size})
            return


def _difference(left: Size, right: Size, sizes: Mapping[str, int]) -> int | None:
    one, another = _evaluated(left, sizes), _evaluated(right, sizes)
    return None if one is None or another is None else one - another


def _evaluated(size: Size, sizes: Mapping[str, int]) -> int | None:
    found = size if isinstance(size, int) else size.evaluate(sizes)
    return found if isinstance(found, int) else None


def _symbols(size: Size) -> set[str]:
    return set() if isinstance(size, int) or size.value is None else set(size.free_symbols())


def _cache_lengths(model: ir.Model) -> set[Size]:
    """Sizes of input axes along which new keys are joined."""
    found: set[Size] = set()
    shape_of = open_shapes(model)
    for value in data_inputs(model):
        shape = shape_of(value)
        if shape is not None and shape.rank() > 2:
            found |= {shape[axis] for axis in _joined_axes(value, shape.rank())}
    return found


def _joined_axes(value: ir.Value, rank: int) -> Iterator[int]:
    """Axes but the first along which a value of the same shape is joined to others, or is a cache."""
    for node, index in value.uses():
        attention = CACHED_ATTENTION.get((node.domain, node.op_type))
        if attention is not None and index == attention[0]:
            yield attention[1]
        elif node.domain:
            continue
        elif node.op_type == "Concat" and _joins_new(node):
            axis = node.attributes.get_int("axis", 0) % rank
            if axis and not (rank == IMAGE_AXES and axis == rank - 1):
                yield axis
        elif node.op_type in SAME_SHAPE_OPERATORS:
            yield from _joined_axes(node.outputs[0], rank)


def _joins_new(node: ir.Node) -> bool:
    """Whether a Concat joins what the model computes to one of its inputs."""
    return any(value is not None and value.producer() is not None for value in node.inputs)


def _equal_lengths(model: ir.Model) -> Iterator[tuple[Size, Size]]:
    """Pairs of different open sizes that must be equal when the model runs."""
    shape_of = open_shapes(model)
    for node in nodes(model):
        shapes = [None if value is None else shape_of(value) for value in node.inputs]
        if not node.domain and node.op_type in BROADCASTING_OPERATORS:
            yield from _broadcast_sizes([shape for shape in shapes if shape is not None])
        elif (node.domain, node.op_type) in CACHED_ATTENTION:
            yield from _attention_lengths(node, shapes)


def _broadcast_sizes(shapes: list[ir.Shape]) -> Iterator[tuple[Size, Size]]:
    for shape in shapes[1:]:
        for one, another in zip(reversed(shapes[0]), reversed(shape), strict=False):
            if one != another and 1 not in (one, another):
                yield one, another


def _attention_lengths(node: ir.Node, shapes: list[ir.Shape | None]) -> Iterator[tuple[Size, Size]]:
    """The length of past and new keys, beside that of each mask."""
    past_index, axis, new_index, masks = CACHED_ATTENTION[node.domain, node.op_type]
    shapes = [*shapes, *[None] * 16]
    past, new = shapes[past_index], shapes[new_index] or shapes[0]
    if past is None or new is None:
        return
    total = past[axis] + (new[2] if new.rank() == 4 else new[1])
    others: list[Size] = [mask[-1] for index in masks if (mask := shapes[index]) is not None]
    if node.op_type == "GroupQueryAttention":
        if isinstance(past[axis], int):  # a buffer for more
            return
        others += _contents(node.inputs[TOTAL_LENGTH])[:1] if len(node.inputs) > TOTAL_LENGTH else []
    for length in others:
        if length != total:
            yield length, total


def _contents(value: ir.Value | None) -> list[Size]:
    """The integers in a value, as far as shape inference found them."""
    text = "[]" if value is None else value.metadata_props.get(CONTENT_KEY, "[]")
    return [entry if isinstance(entry, int) else ir.SymbolicDim(entry) for entry in json.loads(text)]
