"""Usual sizes for what a model leaves open, and among them the ones that fit it.

A net for lines of text is as high as its last map is to be low, and one for sound is as long as its windows:
sizes at which a map is empty, or an axis to be squeezed isn't 1, can't be what the model was made for. Both
follow from the shapes that have been inferred with open sizes; nothing is run, or inferred again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, open_shapes

# Heights and widths that nets are made for: classifiers, detectors, readers of text lines, small images.
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
    """The stated default of every symbol that a bound model's inputs leave open.

    1 for batch-like axes (the first), 224 for the spatial axes of images, 128 for all others, or those of the
    `default_size_candidates` that fit the model better.
    """
    first = next(default_size_candidates(model))
    if not first:
        return first
    wanted = _demands(model)
    if not _missed(wanted, first):
        return first
    return min(default_size_candidates(model), key=lambda sizes: _missed(wanted, sizes))


def default_size_candidates(opened: ir.Model) -> Iterator[dict[str, int]]:
    """Sizes for all open symbols of a bound model, the most usual first; a batch stays 1 throughout."""
    defaults = _first(opened)
    axes = _image_axes(opened)
    spatial = set(axes) & set(defaults)
    free = {name for name, size in defaults.items() if size != 1} - spatial
    for pair in IMAGE_SIZES if spatial else (None,):
        for other in OTHER_SIZES if free else (None,):
            sizes = dict(defaults)
            sizes |= {name: pair[axes[name]] for name in spatial} if pair else {}
            sizes |= dict.fromkeys(free, other) if other else {}
            yield sizes


def _first(model: ir.Model) -> dict[str, int]:
    defaults: dict[str, int] = {}
    for value in data_inputs(model):
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                for name in sorted(dim.free_symbols()):
                    defaults.setdefault(name, _default(axis, value.shape))
    return defaults


def _default(axis: int, shape: ir.Shape | None) -> int:
    if axis == 0:
        return 1
    rank = 0 if shape is None else shape.rank()
    if shape is None or rank != 4:
        return 128
    return 224 if axis in _plane(shape) else 128


def _plane(shape: ir.Shape) -> tuple[int, int]:
    """Which axes of four are height and width: channels stand last where only there are as few as colours."""
    return (1, 2) if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else (2, 3)


def _image_axes(opened: ir.Model) -> dict[str, int]:
    """Symbol -> 0 for the height and 1 for the width of an image."""
    found: dict[str, int] = {}
    for value in data_inputs(opened):
        if value.shape is not None and len(value.shape) == 4:
            for place, axis in enumerate(_plane(value.shape)):
                dim = value.shape[axis]
                if isinstance(dim, ir.SymbolicDim):
                    found.setdefault(str(dim), place)
    return found


def _demands(opened: ir.Model) -> dict[ir.SymbolicDim, bool]:
    """Open sizes of what is computed, each with whether it has to be 1; all of them have to be positive."""
    found: dict[ir.SymbolicDim, bool] = {}
    shape_of = open_shapes(opened)
    for node in nodes(opened):
        for shape in map(shape_of, node.outputs):
            for dim in () if shape is None else shape.dims:
                if not isinstance(dim, int):
                    found.setdefault(dim, False)
        if node.op_type == "Squeeze" and not node.domain and node.inputs:
            found |= dict.fromkeys(_squeezed(node, shape_of), True)
    return found


def _squeezed(node: ir.Node, shape_of: Callable[[ir.Value], ir.Shape | None]) -> Iterator[ir.SymbolicDim]:
    """The open sizes of axes that this Squeeze names."""
    data = node.inputs[0]
    shape = None if data is None else shape_of(data)
    if shape is None:
        return
    told = small_constant(node.inputs[1]) if len(node.inputs) > 1 else None
    axes = node.attributes.get_ints("axes", ()) if told is None else told.flatten().tolist()
    for axis in axes:
        dim = shape[axis] if -len(shape) <= axis < len(shape) else 1
        if isinstance(dim, ir.SymbolicDim):
            yield dim


def _missed(wanted: dict[ir.SymbolicDim, bool], sizes: Dims) -> int:
    """How many demands these sizes don't meet."""
    found = ((dim.evaluate(sizes), single) for dim, single in wanted.items())
    return sum(isinstance(size, int) and (size < 1 or (single and size > 1)) for size, single in found)
