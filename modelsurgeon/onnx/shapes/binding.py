"""Open dimensions of a model's inputs: they get symbols, and the symbols are bound to sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import permutations
from keyword import iskeyword

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.shapes.dimension_expressions import expression_symbols, solutions

Dims = Mapping[str, int]

SYMBOL_PATTERN = re.compile(r"[A-Za-z_]\w*", re.ASCII)
OPEN_SHAPES_KEY = "modelsurgeon.open"  # model.meta: shapes by value, before the symbols in them were bound
RUN_TIME_SIZES_KEY = "modelsurgeon.run_time_sizes"  # model.meta: by symbol, sizes that no input determines
MAX_NAME_LENGTH = 60  # of a symbol that replaces a name
NO_NAMES = frozenset({"None", "none", "null"})  # written by exporters where a size has no name


def data_inputs(model: ir.Model) -> list[ir.Value]:
    """Inputs without initializers: IR version 3 lists the initializers among the inputs, too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def open_shapes(model: ir.Model) -> Callable[[ir.Value], ir.Shape | None]:
    """A function that returns a value's shape with its symbols, even if these have been bound since."""
    before: Mapping[ir.Value, ir.Shape | None] = model.meta.get(OPEN_SHAPES_KEY, {})
    return lambda value: before.get(value, value.shape)


def symbols(model: ir.Model) -> list[str]:
    """All open symbols of a bound model: those of its inputs, then those of sizes known at run time only."""
    return [*input_symbols(model), *model.meta.get(RUN_TIME_SIZES_KEY, ())]


def input_symbols(model: ir.Model) -> list[str]:
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
    """Give every dimension that is neither a size nor an expression a well-formed symbol of its own.

    Returns the symbols by what they replace: names that aren't valid in a formula (equal names get the same
    symbol, different names different ones), and dimensions without a name, such as `axis 0 of x`. A size of 0
    is a placeholder, and so such a dimension, except in tensors that Resize takes empty.
    """
    texts = [text for value in inputs for dim in value.shape or () if (text := _text(dim))]
    alone = set(filter(is_symbol, texts))
    taken = alone.union(*(expression_symbols(text, alone) for text in texts))
    renamed: dict[str, str] = {}
    for value in inputs:
        if value.shape is not None:
            dims = [
                dim
                if isinstance(dim, int) and (dim > 0 or (dim == 0 and _is_left_out(value)))
                else ir.SymbolicDim(_symbol(dim, (str(value.name), axis), alone, taken, renamed))
                for axis, dim in enumerate(value.shape)
            ]
            value.shape = ir.Shape(dims)
    return renamed


def _text(dim: int | ir.SymbolicDim) -> str:
    return "" if isinstance(dim, int) or dim.value is None else dim.value


def _is_left_out(value: ir.Value) -> bool:
    """Whether an empty input only stands for an optional one that is left out: roi or scales of Resize."""
    uses = value.uses()
    return bool(uses) and all(use.node.op_type == "Resize" and use.idx > 0 for use in uses)


def _symbol(
    dim: int | ir.SymbolicDim,
    position: tuple[str, int],
    alone: set[str],
    taken: set[str],
    renamed: dict[str, str],
) -> str:
    text = _text(dim)
    if text in alone or expression_symbols(text, alone):
        return text
    name, axis = position
    has_name = text not in NO_NAMES and any(letter.isalpha() for letter in text)
    key, wanted = (text, text) if has_name else (f"axis {axis} of {name}", f"{name}_{axis}")
    if key not in renamed:
        renamed[key] = free_name(as_symbol(wanted), taken)
    return renamed[key]


def is_symbol(text: str) -> bool:
    """Whether a text is a valid symbol; Python's keywords aren't, so that formulas can be evaluated."""
    return SYMBOL_PATTERN.fullmatch(text) is not None and text not in NO_NAMES and not iskeyword(text)


def as_symbol(text: str) -> str:
    """The text as a valid symbol: letters, digits and underscores, no digit first."""
    word = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")[:MAX_NAME_LENGTH] or "size"
    word = f"{word}_" if iskeyword(word) else word
    return word if SYMBOL_PATTERN.match(word) else f"_{word}"


def symbols_by_either_name(dims: Dims, renamed: Mapping[str, str], known: Collection[str]) -> dict[str, int]:
    """Sizes by symbol. dims: by symbol, or by the name that the symbol replaces (`renamed`).

    Raises UnknownShape where both are given, with different sizes.
    """
    found: dict[str, int] = {}
    for name, size in dims.items():
        symbol = name if name in known else renamed.get(name, name)
        if found.setdefault(symbol, size) != size:
            raise UnknownShape(
                f"{name!r} and {symbol!r} are one dimension, bound to {size} and {found[symbol]}"
            )
    return found


def check_names(given: Collection[str], known: Sequence[str]) -> None:
    """Raise UnknownShape for a name that is no open dimension of the model."""
    if invalid := sorted(set(given) - set(known)):
        raise UnknownShape(
            f"no input has a dimension {invalid[0]!r}; open dimensions are: {', '.join(known) or 'none'}"
        )


def bind(model: ir.Model, shapes: Mapping[str, Sequence[int]], dims: Dims) -> Dims:
    """Give the inputs of a model these sizes, in place; return the sizes of all bound symbols.

    shapes: input name -> sizes. dims: symbol -> size; those of other symbols are returned as well. Raises
    UnknownShape for unknown inputs and for sizes that don't fit the model or each other.
    """
    inputs = {str(value.name): value for value in data_inputs(model)}
    if invalid := sorted(name for name, size in dims.items() if size < 0):
        raise UnknownShape(f"{invalid[0]} is bound to {dims[invalid[0]]}: no size is negative")
    if invalid := sorted(set(shapes) - set(inputs)):
        raise UnknownShape(f"the model has no input {invalid[0]!r}; its inputs are: {', '.join(inputs)}")
    bound_sizes = dict(dims)
    declared = {name: inputs[name].shape for name in shapes}
    for name, shape in shapes.items():
        _bind_input(inputs[name], tuple(shape), bound_sizes)
    for name, shape in shapes.items():
        _solve_expressions(declared[name], shape, bound_sizes)
    for name, shape in shapes.items():
        _check_expressions(name, declared[name], shape, bound_sizes)
    for name, value in inputs.items():
        if value.shape is not None and name not in shapes:
            value.shape = _evaluated(value, value.shape, bound_sizes)
    return bound_sizes


def _evaluated(value: ir.Value, shape: ir.Shape, bound_sizes: Dims) -> ir.Shape:
    """The shape at these sizes. Raises UnknownShape where a dimension such as `N - 1` is no size then."""
    found: ir.Shape = shape.evaluate(bound_sizes)
    for dim, size in zip(shape, found, strict=True):
        is_open = isinstance(size, ir.SymbolicDim) and (size.value is None or size.free_symbols())
        if not is_open and (isinstance(size, ir.SymbolicDim) or size < 0):
            raise UnknownShape(f"{dim} of input {value.name!r} is {size}, which is no size: bind other sizes")
    return found


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


def _solve_expressions(declared: ir.Shape | None, shape: Sequence[int], bound_sizes: dict[str, int]) -> None:
    """Add the size of a symbol that is the only open one of a dimension such as `N - 1`."""
    for dim, size in zip(declared or (), shape, strict=False):
        rest = dim if isinstance(dim, int) else dim.evaluate(bound_sizes)
        if isinstance(rest, ir.SymbolicDim) and len(names := rest.free_symbols()) == 1:
            (name,) = names
            bound_sizes |= [(name, found) for found in solutions(rest, name, size)]


def orders_of_axes(count: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Other orders of axes after the first, each with a question; those that are mistaken most come first."""
    if not 3 <= count <= 5:
        return
    inner = tuple(range(1, count))
    usual = {(0, inner[-1], *inner[:-1]): "channels last? ", (0, *inner[1:], 1): "channels first? "}
    if count == 3:  # both are one order
        usual = {(0, 2, 1): "channels first or last? "}
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
