"""Sizes at which a model runs, where it leaves them open and nobody has named any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.data import Input, noise
from modelsurgeon.errors import SurgeryError, UnknownShape
from modelsurgeon.onnx import run, shapes

# Heights and widths that nets are made for: classifiers, detectors, readers of text lines, small images.
IMAGES = (
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
OTHERS = (128, 16, 512, 1)


def workable(
    model: ir.Model,
    asked: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
) -> dict[str, int]:
    """A size for every open symbol of the inputs: the first of the usual ones at which the model runs.

    asked, dims: shapes and symbols that are bound already. Raises UnknownShape where none of them works.
    """
    opened = shapes.bound(model, asked, dims)
    if not shapes.default_dims(opened):
        return {}
    ready = run.runner(model, optimize=False)
    problem: SurgeryError | None = None
    for sizes in _usual(opened):
        try:
            ready(next(iter(noise(inputs(model, opened, sizes), samples=1, seed=seed))))
        except SurgeryError as error:
            problem = problem or error
        else:
            return sizes
    raise UnknownShape(f"the model runs at none of the usual sizes: give --shape or --data ({problem})")


def inputs(model: ir.Model, opened: ir.Model, sizes: Mapping[str, int]) -> list[Input]:
    """The model's inputs, their open sizes filled in. opened: the model with shapes bound."""
    found = {value.name: shapes.sizes(value, sizes) for value in shapes.data_inputs(opened)}
    return [
        Input(name=each.name, dtype=each.dtype, shape=found[each.name] or each.shape)
        for each in run.inputs(model)
    ]


def _usual(opened: ir.Model) -> Iterator[dict[str, int]]:
    """The stated defaults, then the others; a batch stays 1 throughout."""
    defaults = shapes.default_dims(opened)
    axes = _image_axes(opened)
    spatial = set(axes) & set(defaults)
    free = {name for name, size in defaults.items() if size != 1} - spatial
    for pair in IMAGES if spatial else (None,):
        for other in OTHERS if free else (None,):
            sizes = dict(defaults)
            sizes |= {name: pair[axes[name]] for name in spatial} if pair else {}
            sizes |= dict.fromkeys(free, other) if other else {}
            yield sizes


def _image_axes(opened: ir.Model) -> dict[str, int]:
    """Symbol -> 0 for the height and 1 for the width of an image, channels first or last."""
    found: dict[str, int] = {}
    for value in shapes.data_inputs(opened):
        if value.shape is not None and len(value.shape) == 4:
            first = 1 if value.shape[3] in (1, 3, 4) and value.shape[1] not in (1, 3, 4) else 2
            for place in (0, 1):
                dim = value.shape[first + place]
                if isinstance(dim, ir.SymbolicDim):
                    found.setdefault(str(dim), place)
    return found
