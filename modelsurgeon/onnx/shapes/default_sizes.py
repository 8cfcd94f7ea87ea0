"""Default sizes for the open dimensions of a model: common sizes, chosen to fit the model.

A net for text lines needs the height that its last layers reduce to 1, and a net for audio at least the
length of its windows. Sizes don't fit if a computed value would be empty, or an axis that Squeeze removes
wouldn't be 1. Both follow from the shapes inferred with open sizes: nothing is run or inferred again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, open_shapes
from modelsurgeon.onnx.shapes.cache_lengths import with_fitting_lengths

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


def default_dims(model: ir.Model) -> dict[str, int]:
    """Default size of every symbol that is open in a bound model's inputs.

    1 for batch-like axes (the first), 224 for the spatial axes of images, 128 for all others, or another of
    the `default_size_candidates` if that fits the model better; lengths of a cache fit those of its masks.
    """
    first = next(default_size_candidates(model))
    if not first:
        return first
    constraints = _size_constraints(model)
    if not _violations(constraints, first):
        return with_fitting_lengths(model, first)
    best = min(default_size_candidates(model), key=lambda sizes: _violations(constraints, sizes))
    return with_fitting_lengths(model, best)


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
            yield sizes


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


def _size_constraints(opened: ir.Model) -> dict[ir.SymbolicDim, bool]:
    """Open sizes of computed values -> whether the size must be 1; all of them must be positive."""
    found: dict[ir.SymbolicDim, bool] = {}
    shape_of = open_shapes(opened)
    for node in nodes(opened):
        for shape in map(shape_of, node.outputs):
            for dim in () if shape is None else shape.dims:
                if not isinstance(dim, int):
                    found.setdefault(dim, False)
        if node.op_type == "Squeeze" and not node.domain and node.inputs:
            found |= dict.fromkeys(_squeezed_sizes(node, shape_of), True)
    return found


def _squeezed_sizes(
    node: ir.Node, shape_of: Callable[[ir.Value], ir.Shape | None]
) -> Iterator[ir.SymbolicDim]:
    """Open sizes of the axes that a Squeeze removes."""
    data = node.inputs[0]
    shape = None if data is None else shape_of(data)
    if shape is None:
        return
    axes_input = small_constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes", ()) if axes_input is None else axes_input.flatten().tolist()
    for axis in axes:
        dim = shape[axis] if -len(shape) <= axis < len(shape) else 1
        if isinstance(dim, ir.SymbolicDim):
            yield dim


def _violations(constraints: dict[ir.SymbolicDim, bool], sizes: Dims) -> int:
    """Number of constraints that these sizes don't meet."""
    values = ((dim.evaluate(sizes), single) for dim, single in constraints.items())
    return sum(isinstance(size, int) and (size < 1 or (single and size > 1)) for size, single in values)
