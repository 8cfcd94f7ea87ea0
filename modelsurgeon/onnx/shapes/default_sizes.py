"""Default sizes for the open dimensions of a model: common sizes, chosen to fit the model.

A net for text lines needs the height that its last layers reduce to 1, and a net for audio at least the
length of its windows. Sizes don't fit if a computed value would be empty, or a requirement of an operator
failed. Both follow from the shapes inferred with open sizes: nothing is run or inferred again. Where no usual
sizes fit, others are searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import onnx_ir as ir

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, open_shapes
from modelsurgeon.onnx.shapes.cache_lengths import with_fitting_lengths
from modelsurgeon.onnx.shapes.impossible import open_requirements
from modelsurgeon.onnx.shapes.pinned import known_requirements
from modelsurgeon.onnx.shapes.requirements import Relation, Requirement
from modelsurgeon.onnx.shapes.requirements.equations import roots_of_one, roots_of_two
from modelsurgeon.onnx.shapes.run_time.sizes import default_run_time_sizes, run_time_sizes

# Common heights and widths: of classifiers, detectors, text line recognizers, nets for small images.
IMAGE_SIZES = (
    (224, 224),
    (640, 640),
    (48, 320),
    (32, 320),
    (64, 256),
    (32, 100),
    (256, 256),
    (128, 128),
    (32, 32),
)
OTHER_SIZES = (128, 16, 512, 1)
RAISED_SIZES = (2, 3, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # where 1 or 128 is too small
USUAL_SIZES = (
    224,
    256,
    299,
    227,
    192,
    160,
    128,
    112,
    96,
    64,
    32,
    28,
    320,
    384,
    416,
    448,
    512,
    640,
    800,
    1024,
)
TRIED_SIZES = tuple(dict.fromkeys((*USUAL_SIZES, *range(32, 1025, 32), *range(1, 513))))
MAX_SEARCH_ROUNDS = 4
MAX_ROOTS = 64  # of an equation in two sizes


def default_dims(model: ir.Model) -> dict[str, int]:
    """Default size of every symbol that is open in a bound model's inputs.

    1 for batch-like axes (the first), 224 for the spatial axes of images, 128 for all others, or another of
    the `default_size_candidates` if that fits the model better. Lengths of a cache fit those of its
    masks. Sizes that are known at run time only get their bound, or else that of the tensor they are made
    from, or 1, or a size at which the nodes behind them can run.
    """
    dims = _default_input_dims(model)
    at_run_time = default_run_time_sizes(model, dims)
    return {**dims, **(_fitting_run_time_sizes(model, dims, at_run_time) if at_run_time else {})}


def _fitting_run_time_sizes(model: ir.Model, dims: Dims, sizes: dict[str, int]) -> dict[str, int]:
    """The sizes known at run time, larger ones where a node can't run, within their bounds."""
    bounds = [
        Requirement(relation=Relation.AT_LEAST, left=size.most, right=ir.SymbolicDim(name), reason="")
        for name, size in run_time_sizes(model).items()
        if size.most is not None
    ]
    required = [one for one in open_requirements(model) if one.symbols <= {*dims, *sizes}]
    constraints = [one.at(dims) for one in (*bounds, *required)]
    return _searched([one for one in constraints if one.symbols], sizes)


def _default_input_dims(model: ir.Model) -> dict[str, int]:
    first = next(default_size_candidates(model))
    if not first:
        return first
    constraints = _size_constraints(model)
    first = with_fitting_lengths(model, _joined(constraints, first))
    if not _violated(constraints, first):
        return first
    candidates = (with_fitting_lengths(model, sizes) for sizes in default_size_candidates(model))
    best = min(candidates, key=lambda sizes: len(_violated(constraints, sizes)))
    return _searched(constraints, best)


def default_size_candidates(opened: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for all open symbols of a bound model, the most common first; the batch is always 1."""
    defaults = _defaults_by_axis(opened)
    axes = _spatial_symbols(opened)
    spatial = set(axes) & set(defaults)
    free = {name for name, size in defaults.items() if size != 1} - spatial
    for pair in IMAGE_SIZES if spatial else (None,):
        for other in OTHER_SIZES if free else (None,):
            sizes = dict(defaults)
            sizes |= {name: pair[axes[name]] for name in spatial} if pair else {}
            sizes |= dict.fromkeys(free, other) if other else {}
            yield _raised(opened, sizes)


def _raised(opened: ir.Model, sizes: dict[str, int]) -> dict[str, int]:
    """The sizes, larger ones where a dimension of an input such as `N - 1` or `floor(N/2)` would be empty."""
    expressions = [
        dim
        for value in data_inputs(opened)
        for dim in value.shape or ()
        if isinstance(dim, ir.SymbolicDim) and str(dim) not in sizes and dim.free_symbols() <= sizes.keys()
    ]
    for dim in expressions:
        for name in sorted(dim.free_symbols()):
            found = dict(sizes)
            tries = (found | {name: size} for size in (sizes[name], *RAISED_SIZES) if size >= sizes[name])
            sizes = next((tried for tried in tries if _is_size(dim, tried)), sizes)
    return sizes


def _is_size(dim: ir.SymbolicDim, sizes: Dims) -> bool:
    size = dim.evaluate(sizes)
    return isinstance(size, int) and size > 0


def _defaults_by_axis(model: ir.Model) -> dict[str, int]:
    defaults: dict[str, int] = {}
    for value in data_inputs(model):
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                for name in sorted(dim.free_symbols()):
                    defaults.setdefault(name, _default_size(axis, value.shape))
    return defaults


def _default_size(axis: int, shape: ir.Shape | None) -> int:
    if axis == 0:
        return 1
    rank = 0 if shape is None else shape.rank()
    if shape is None or rank != 4:
        return 128
    return 224 if axis in _spatial_axes(shape) else 128


def _spatial_axes(shape: ir.Shape) -> tuple[int, int]:
    """Axes of height and width in a shape of 4. Channels are last if only the last size is 1, 3 or 4."""
    return (1, 2) if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else (2, 3)


def _spatial_symbols(opened: ir.Model) -> dict[str, int]:
    """Symbols of the spatial axes of images -> 0 for height, 1 for width."""
    found: dict[str, int] = {}
    for value in data_inputs(opened):
        if value.shape is not None and len(value.shape) == 4:
            for index, axis in enumerate(_spatial_axes(value.shape)):
                dim = value.shape[axis]
                if isinstance(dim, ir.SymbolicDim):
                    found.setdefault(str(dim), index)
    return found


def _size_constraints(opened: ir.Model) -> list[Requirement]:
    """What the nodes require of open sizes, and that no computed value is empty."""
    sizes: dict[ir.SymbolicDim, None] = {}
    shape_of = open_shapes(opened)
    for node in nodes(opened):
        for shape in map(shape_of, node.outputs):
            for dim in () if shape is None else shape.dims:
                if not isinstance(dim, int):
                    sizes.setdefault(dim)
    filled = [Requirement(relation=Relation.AT_LEAST, left=dim, right=1, reason="") for dim in sizes]
    return [*filled, *(requirement for _, requirement in known_requirements(opened))]


def _joined(constraints: Sequence[Requirement], sizes: Dims) -> dict[str, int]:
    """The sizes, where a symbol of 1 that has to be equal to another symbol gets the size of that."""
    joined = dict(sizes)
    for names in map(_equal_symbols, constraints):
        if len(names) == 2 and names <= joined.keys():
            largest = max(joined[name] for name in names)
            joined |= {name: largest for name in names if joined[name] == 1}
    return joined


def _violated(constraints: Sequence[Requirement], sizes: Dims) -> list[Requirement]:
    """The constraints that these sizes don't meet."""
    return [constraint for constraint in constraints if constraint.at(sizes).fails]


def _searched(constraints: Sequence[Requirement], sizes: dict[str, int]) -> dict[str, int]:
    """Sizes that meet more constraints than the given ones, as near to usual sizes as possible."""
    for _ in range(MAX_SEARCH_ROUNDS):
        violated = _violated(constraints, sizes)
        better = _better(constraints, violated, sizes) if violated else None
        if better is None:
            break
        sizes = better
    return sizes


def _better(
    constraints: Sequence[Requirement], violated: Sequence[Requirement], sizes: dict[str, int]
) -> dict[str, int] | None:
    equals = [pair for pair in map(_equal_symbols, constraints) if pair <= sizes.keys() and len(pair) == 2]
    for changes in _changes(violated, sizes):
        tried = {**sizes, **_followed(equals, changes)}
        # Few constraints are violated, and many hold: the few are tested first.
        if len(_violated(violated, tried)) < len(violated):
            found = _violated(constraints, tried)
            if len(found) < len(violated):
                return tried
    return None


def _equal_symbols(constraint: Requirement) -> set[str]:
    """The two symbols that have to be equal; others than two where that isn't required."""
    return {str(constraint.left), str(constraint.right)} if constraint.relation is Relation.EQUAL else set()


def _followed(equals: Sequence[set[str]], changes: dict[str, int]) -> dict[str, int]:
    """Changes of sizes, and of those that have to be equal to a changed one."""
    changes, before = dict(changes), -1
    while len(changes) > before:
        before = len(changes)
        for pair in equals:
            for name in pair & changes.keys():
                for other in pair - changes.keys():
                    changes[other] = changes[name]
    return changes


def _changes(violated: Sequence[Requirement], sizes: Dims) -> Iterator[dict[str, int]]:
    """Other sizes for the symbols of violated constraints: of all together, of one, of two by an equation."""
    names = [name for name in sizes if any(name in constraint.symbols for constraint in violated)]
    for size in TRIED_SIZES:
        yield dict.fromkeys((name for name in names if sizes[name] != 1), size)
    for name in names:
        for size in TRIED_SIZES:
            yield {name: size}
    for constraint in violated:
        if constraint.relation is Relation.EQUAL:
            yield from _roots(constraint, sizes)


def _roots(constraint: Requirement, sizes: Dims) -> Iterator[dict[str, int]]:
    """Sizes of one or two symbols at which an equation holds."""
    names = sorted(constraint.symbols & set(sizes))
    for name in names:
        rest = {other: size for other, size in sizes.items() if other != name}
        yield from islice(({name: root} for root in roots_of_one(constraint.at(rest), name)), MAX_ROOTS)
    for first, second in pairwise(names):
        rest = {name: size for name, size in sizes.items() if name not in (first, second)}
        roots = roots_of_two(constraint.at(rest), first, second)
        yield from islice(({first: a, second: b} for a, b in roots), MAX_ROOTS)
