"""The open dimensions of a model's inputs: their names, their defaults, and sizes in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape

Dims = Mapping[str, int]

SYMBOL = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
EXPRESSION = re.compile(r"[\w.+\-*() ]{1,80}", re.ASCII)


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """Inputs that carry data: IR version 3 lists the initializers among the inputs, too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def symbols(model: ir.Model) -> list[str]:
    """Symbols in the shapes of a bound model's inputs, in order of appearance."""
    found = (
        name
        for value in data_inputs(model)
        for dim in value.shape or ()
        if isinstance(dim, ir.SymbolicDim)
        for name in sorted(dim.free_symbols())
    )
    return list(dict.fromkeys(found))


def default_dims(model: ir.Model) -> dict[str, int]:
    """The stated default of every symbol that a bound model's inputs leave open.

    1 for batch-like axes (the first), 224 for the spatial axes of images, 128 for all others.
    """
    defaults: dict[str, int] = {}
    for value in data_inputs(model):
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, ir.SymbolicDim):
                for name in sorted(dim.free_symbols()):
                    defaults.setdefault(name, _default(axis, value.shape))
    return defaults


def name_open_dims(inputs: list[ir.Value]) -> None:
    """Give every dimension that is no size and no well-formed expression a symbol of its own."""
    taken = {str(dim) for value in inputs for dim in value.shape or () if not isinstance(dim, int)}
    for value in inputs:
        if value.shape is not None:
            dims = [_named(dim, f"{value.name}_{axis}", taken) for axis, dim in enumerate(value.shape)]
            value.shape = ir.Shape(dims)


def _named(dim: int | ir.SymbolicDim, place: str, taken: set[str]) -> int | ir.SymbolicDim:
    if isinstance(dim, int) and dim >= 0:
        return dim
    text = str(dim) if isinstance(dim, ir.SymbolicDim) and dim.value else ""
    if SYMBOL.fullmatch(text) or _is_expression(text):
        return ir.SymbolicDim(text)
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
    if word and not word.isdigit():  # "batch size" means the same wherever it stands
        return ir.SymbolicDim(word if SYMBOL.match(word) else f"_{word}")
    name = re.sub(r"\W+", "_", place, flags=re.ASCII)
    name = name if SYMBOL.match(name) else f"_{name}"
    while name in taken:
        name += "_"
    taken.add(name)
    return ir.SymbolicDim(name)


def _is_expression(text: str) -> bool:
    if "**" in text or not EXPRESSION.fullmatch(text) or not SYMBOL.search(text):
        return False
    try:
        return bool(ir.SymbolicDim(text).free_symbols())
    except ValueError:
        return False


def bind(model: ir.Model, shapes: Mapping[str, Sequence[int]], dims: Dims) -> None:
    """Give the inputs of a model these sizes, in place. Raises UnknownShape for what doesn't fit."""
    inputs = {str(value.name): value for value in data_inputs(model)}
    if odd := sorted(set(dims) - set(symbols(model))):
        known = ", ".join(symbols(model)) or "none"
        raise UnknownShape(f"no input has a dimension {odd[0]!r}; open dimensions are: {known}")
    if odd := sorted(name for name, size in dims.items() if size < 0):
        raise UnknownShape(f"{odd[0]} is bound to {dims[odd[0]]}: no size is negative")
    if odd := sorted(set(shapes) - set(inputs)):
        raise UnknownShape(f"the model has no input {odd[0]!r}; its inputs are: {', '.join(inputs)}")
    wanted = dict(dims)
    for name, shape in shapes.items():
        _bind_input(inputs[name], tuple(shape), wanted)
    for name, value in inputs.items():
        if value.shape is not None and name not in shapes:
            value.shape = value.shape.evaluate(wanted)


def _bind_input(value: ir.Value, shape: tuple[int, ...], wanted: dict[str, int]) -> None:
    """Give one input its shape, and note what that says about the symbols in it."""
    declared = value.shape if value.shape is not None else [None] * len(shape)
    where = f"input {value.name!r}"
    if len(declared) != len(shape) or any(size < 0 for size in shape):
        raise UnknownShape(f"{where} is {declared}; {list(shape)} doesn't fit it")
    for dim, size in zip(declared, shape, strict=True):
        if isinstance(dim, int) and dim != size:
            raise UnknownShape(f"{where} is {declared}, fixed in the model; {list(shape)} was asked for")
        name = str(dim)
        if SYMBOL.fullmatch(name) and dim is not None and wanted.setdefault(name, size) != size:
            raise UnknownShape(f"{name} is bound to {wanted[name]}, but {where} has {size} there")
    value.shape = ir.Shape(shape)


def _default(axis: int, shape: ir.Shape | None) -> int:
    if axis == 0:
        return 1
    rank = 0 if shape is None else shape.rank()
    if shape is None or rank != 4:
        return 128
    channels_last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    return 224 if axis in ((1, 2) if channels_last else (2, 3)) else 128
