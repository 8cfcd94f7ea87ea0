"""Open dimensions of a model's inputs: they get symbols, and the symbols are bound to sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import permutations

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.graph.names import free_name

Dims = Mapping[str, int]

SYMBOL_PATTERN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OPEN_SHAPES_KEY = "modelsurgeon.open"  # model.meta: shapes by value, before the symbols in them were bound
EXPRESSION_PATTERN = re.compile(r"[\w+\-*() ]{1,80}", re.ASCII)


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """Inputs without initializers: IR version 3 lists the initializers among the inputs, too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def open_shapes(model: ir.Model) -> Callable[[ir.Value], ir.Shape | None]:
    """A function that returns a value's shape with its symbols, even if these have been bound since."""
    before: Mapping[ir.Value, ir.Shape | None] = model.meta.get(OPEN_SHAPES_KEY, {})
    return lambda value: before.get(value, value.shape)


def symbols(model: ir.Model) -> list[str]:
    """Symbols in the input shapes of a bound model, in order of appearance."""
    found = (
        name
        for shape in map(open_shapes(model), data_inputs(model))
        for dim in shape or ()
        if isinstance(dim, ir.SymbolicDim)
        for name in sorted(dim.free_symbols())
    )
    return list(dict.fromkeys(found))


def name_open_dims(inputs: list[ir.Value]) -> dict[str, str]:
    """Give every dimension that is neither a size nor a well-formed expression a symbol of its own.

    Returns the symbols by what they replace: names that aren't valid in a formula (equal names get the same
    symbol, different names different ones), and dimensions without a name, such as `axis 0 of x`.
    """
    open_dims = [dim for value in inputs for dim in value.shape or () if isinstance(dim, ir.SymbolicDim)]
    taken = {name for dim in open_dims if _is_well_formed(str(dim)) for name in dim.free_symbols()}
    renamed: dict[str, str] = {}
    for value in inputs:
        if value.shape is not None:
            dims = [
                _named_dim(dim, (str(value.name), axis), taken, renamed)
                for axis, dim in enumerate(value.shape)
            ]
            value.shape = ir.Shape(dims)
    return renamed


def _named_dim(
    dim: int | ir.SymbolicDim, position: tuple[str, int], taken: set[str], renamed: dict[str, str]
) -> int | ir.SymbolicDim:
    if isinstance(dim, int) and dim >= 0:
        return dim
    text = str(dim) if isinstance(dim, ir.SymbolicDim) and dim.value else ""
    if _is_well_formed(text):
        return ir.SymbolicDim(text)
    name, axis = position
    has_letters = any(letter.isalpha() for letter in text)
    key, wanted = (text, text) if has_letters else (f"axis {axis} of {name}", f"{name}_{axis}")
    if key not in renamed:
        renamed[key] = free_name(_as_symbol(wanted), taken)
    return ir.SymbolicDim(renamed[key])


def _as_symbol(text: str) -> str:
    """The text as a valid symbol: letters, digits and underscores, no digit first."""
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or "size"
    return word if SYMBOL_PATTERN.match(word) else f"_{word}"


def _is_well_formed(text: str) -> bool:
    return SYMBOL_PATTERN.fullmatch(text) is not None or _is_expression(text)


def _is_expression(text: str) -> bool:
    if "**" in text or not EXPRESSION_PATTERN.fullmatch(text) or not SYMBOL_PATTERN.search(text):
        return False
    try:
        return bool(ir.SymbolicDim(text).free_symbols())
    except ValueError:
        return False


def bind(model: ir.Model, shapes: Mapping[str, Sequence[int]], dims: Dims) -> Dims:
    """Give the inputs of a model these sizes, in place; return the sizes of all bound symbols.

    shapes: input name -> sizes. dims: symbol -> size. Raises UnknownShape for unknown names and for sizes
    that don't fit the model or each other.
    """
    inputs = {str(value.name): value for value in data_inputs(model)}
    if invalid := sorted(set(dims) - set(symbols(model))):
        known = ", ".join(symbols(model)) or "none"
        raise UnknownShape(f"no input has a dimension {invalid[0]!r}; open dimensions are: {known}")
    if invalid := sorted(name for name, size in dims.items() if size < 0):
        raise UnknownShape(f"{invalid[0]} is bound to {dims[invalid[0]]}: no size is negative")
    if invalid := sorted(set(shapes) - set(inputs)):
        raise UnknownShape(f"the model has no input {invalid[0]!r}; its inputs are: {', '.join(inputs)}")
    bound_sizes = dict(dims)
    declared = {name: inputs[name].shape for name in shapes}
    for name, shape in shapes.items():
        _bind_input(inputs[name], tuple(shape), bound_sizes)
    for name, shape in shapes.items():
        _check_expressions(name, declared[name], shape, bound_sizes)
    for name, value in inputs.items():
        if value.shape is not None and name not in shapes:
            value.shape = value.shape.evaluate(bound_sizes)
    return bound_sizes


def _bind_input(value: ir.Value, shape: tuple[int, ...], bound_sizes: dict[str, int]) -> None:
    """Give one input its shape, and add the sizes of its symbols to `bound_sizes`."""
    declared = value.shape if value.shape is not None else [None] * len(shape)
    where = f"input {value.name!r}"
    if len(declared) != len(shape) or any(size < 0 for size in shape):
        raise UnknownShape(f"{where} is {declared}; {list(shape)} doesn't fit it")
    for dim, size in zip(declared, shape, strict=True):
        if isinstance(dim, int) and dim != size:
            hint = _other_order(list(declared), shape)
            raise UnknownShape(
                f"{where} is {declared}, fixed in the model; {list(shape)} was asked for{hint}"
            )
        name = str(dim)
        if SYMBOL_PATTERN.fullmatch(name) and dim is not None and bound_sizes.setdefault(name, size) != size:
            raise UnknownShape(f"{name} is bound to {bound_sizes[name]}, but {where} has {size} there")
    value.shape = ir.Shape(shape)


def orders_of_axes(count: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Other orders of axes after the first, each with a question; those that are mistaken most come first."""
    if not 3 <= count <= 5:
        return
    inner = tuple(range(1, count))
    usual = {(0, inner[-1], *inner[:-1]): "channels last? ", (0, *inner[1:], 1): "channels first? "}
    yield from usual.items()
    for order in permutations(inner):
        if (0, *order) not in usual and order != inner:
            yield (0, *order), "another order of the axes? "


def _other_order(declared: Sequence[int | ir.SymbolicDim | None], shape: Sequence[int]) -> str:
    """A hint at an order of the axes that fits the fixed sizes of an input; empty if none does."""
    for order, question in orders_of_axes(len(shape)):
        other = [shape[axis] for axis in order]
        if all(not isinstance(dim, int) or dim == size for dim, size in zip(declared, other, strict=True)):
            return f"; {question}{other} fits"
    return ""


def _check_expressions(name: str, declared: ir.Shape | None, shape: Sequence[int], bound_sizes: Dims) -> None:
    """Raise UnknownShape where a dimension such as `past + new` differs from its value at the bound sizes."""
    for dim, size in zip(declared or (), shape, strict=False):
        computed = size if isinstance(dim, int) or dim.value is None else dim.evaluate(bound_sizes)
        if isinstance(computed, int) and computed != size:
            raise UnknownShape(f"{dim} is {computed}, but input {name!r} has {size} there")
