"""The open dimensions of a model's inputs: their names, and sizes in their place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape

Dims = Mapping[str, int]

SYMBOL_PATTERN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OPEN_SHAPES_KEY = "modelsurgeon.open"  # model.meta: shapes by value, before the symbols in them were bound
EXPRESSION_PATTERN = re.compile(r"[\w+\-*() ]{1,80}", re.ASCII)


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """Inputs that carry data: IR version 3 lists the initializers among the inputs, too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def open_shapes(model: ir.Model) -> Callable[[ir.Value], ir.Shape | None]:
    """What tells the shape of a value as it was inferred with its symbols, be they bound since or not."""
    before: Mapping[ir.Value, ir.Shape | None] = model.meta.get(OPEN_SHAPES_KEY, {})
    return lambda value: before.get(value, value.shape)


def symbols(model: ir.Model) -> list[str]:
    """Symbols in the shapes of a bound model's inputs, in order of appearance."""
    found = (
        name
        for shape in map(open_shapes(model), data_inputs(model))
        for dim in shape or ()
        if isinstance(dim, ir.SymbolicDim)
        for name in sorted(dim.free_symbols())
    )
    return list(dict.fromkeys(found))


def name_open_dims(inputs: list[ir.Value]) -> dict[str, str]:
    """Give every dimension that is no size and no well-formed expression a symbol of its own.

    Returns the symbols by what they replace: the names that can't stand in a formula (the same name is the
    same symbol, wherever it stands, and no two names are one), and places such as `axis 0 of x`.
    """
    open_dims = [dim for value in inputs for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)]
    taken = {name for dim in open_dims if _is_sound(str(dim)) for name in dim.free_symbols()}
    renamed: dict[str, str] = {}
    for value in inputs:
        if value.shape is not None:
            dims = [
                _named(dim, (str(value.name), axis), taken, renamed) for axis, dim in enumerate(value.shape)
            ]
            value.shape = ir.Shape(dims)
    return renamed


def _named(
    dim: int | ir.SymbolicDim, place: tuple[str, int], taken: set[str], renamed: dict[str, str]
) -> int | ir.SymbolicDim:
    if isinstance(dim, int) and dim >= 0:
        return dim
    text = str(dim) if isinstance(dim, ir.SymbolicDim) and dim.value else ""
    if _is_sound(text):
        return ir.SymbolicDim(text)
    name, axis = place
    means = any(letter.isalpha() for letter in text)
    key, word = (text, text) if means else (f"axis {axis} of {name}", f"{name}_{axis}")
    if key not in renamed:
        renamed[key] = _free(_word(word), taken)
    return ir.SymbolicDim(renamed[key])


def _word(text: str) -> str:
    """The text as a name, as far as that goes."""
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "size"
    return word if SYMBOL_PATTERN.match(word) else f"_{word}"


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _is_sound(text: str) -> bool:
    return SYMBOL_PATTERN.fullmatch(text) is not None or _is_expression(text)


def _is_expression(text: str) -> bool:
    if "**" in text or not EXPRESSION_PATTERN.fullmatch(text) or not SYMBOL_PATTERN.search(text):
        return False
    try:
        return bool(ir.SymbolicDim(text).free_symbols())
    except ValueError:
        return False


def bind(model: ir.Model, shapes: Mapping[str, Sequence[int]], dims: Dims) -> Dims:
    """Give the inputs of a model these sizes, in place; what all symbols are then bound to.

    Raises UnknownShape for what doesn't fit.
    """
    inputs = {str(value.name): value for value in data_inputs(model)}
    if odd := sorted(set(dims) - set(symbols(model))):
        known = ", ".join(symbols(model)) or "none"
        raise UnknownShape(f"no input has a dimension {odd[0]!r}; open dimensions are: {known}")
    if odd := sorted(name for name, size in dims.items() if size < 0):
        raise UnknownShape(f"{odd[0]} is bound to {dims[odd[0]]}: no size is negative")
    if odd := sorted(set(shapes) - set(inputs)):
        raise UnknownShape(f"the model has no input {odd[0]!r}; its inputs are: {', '.join(inputs)}")
    wanted = dict(dims)
    declared = {name: inputs[name].shape for name in shapes}
    for name, shape in shapes.items():
        _bind_input(inputs[name], tuple(shape), wanted)
    for name, shape in shapes.items():
        _check_sums(name, declared[name], shape, wanted)
    for name, value in inputs.items():
        if value.shape is not None and name not in shapes:
            value.shape = value.shape.evaluate(wanted)
    return wanted


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
        if SYMBOL_PATTERN.fullmatch(name) and dim is not None and wanted.setdefault(name, size) != size:
            raise UnknownShape(f"{name} is bound to {wanted[name]}, but {where} has {size} there")
    value.shape = ir.Shape(shape)


def _check_sums(name: str, declared: ir.Shape | None, shape: Sequence[int], wanted: Dims) -> None:
    """Whether sizes such as `past + new` are what their parts say."""
    for dim, size in zip(declared or (), shape, strict=False):
        total = size if isinstance(dim, int) or dim.value is None else dim.evaluate(wanted)
        if isinstance(total, int) and total != size:
            raise UnknownShape(f"{dim} is {total}, but input {name!r} has {size} there")
