"""Names of sizes that are known at run time only.

NonZero finds as many elements as the data have, and a Reshape may take its target from an input. Inference
gives such a size a symbol of its own, `_d0`. Here it is named after the node, or as the file declares it, and
laid down at the outputs of that node. A size that follows from shapes alone is left unnamed: at known sizes
it is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Set
from functools import cache

import onnx_ir as ir

from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.graph.randomness import RANDOM_OPERATORS
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import as_symbol
from modelsurgeon.onnx.shapes.dimension_expressions import solutions
from modelsurgeon.onnx.shapes.loops import loop_body
from modelsurgeon.onnx.shapes.run_time.bounds import largest_size, usual_size
from modelsurgeon.onnx.shapes.run_time.declared_shapes import (
    BATCH_LIKE_KEY,
    BELIEVED_KEY,
    FILE_SHAPES_KEY,
    Dim,
    declared_dim,
    input_names,
    laid_down,
)
from modelsurgeon.onnx.shapes.run_time.sizes import RunTimeSize, run_time_sizes, symbols_of

NAMED_KEY = "modelsurgeon.named_sizes"  # model.meta: name of a size by operator, operands and axis
GROWING_PREFIX = "grows_"  # symbols of sizes that change from one iteration of a Loop to the next
SIZING_INPUTS = {  # operator -> the inputs whose contents decide the size of an output
    "NonZero": (0,),
    "Unique": (0,),
    "Compress": (1,),
    "NonMaxSuppression": (0, 1, 2, 3, 4),
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Pad": (1, 3),
    "TopK": (1,),
    "OneHot": (1,),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "MaxUnpool": (2,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "AffineGrid": (1,),
    "StringSplit": (0,),
    "StringNormalizer": (0,),
    "If": (0,),
    "Loop": (0, 1),
    "HannWindow": (0,),
    "HammingWindow": (0,),
    "BlackmanWindow": (0,),
    "DFT": (1, 2),
    "STFT": (1, 3),
}
COUNTED = {  # operator -> what it does with those that it counts
    "NonZero": "as many as {} finds",
    "NonMaxSuppression": "as many as {} keeps",
    "Compress": "as many as {} keeps",
    "Unique": "as many different ones as {} finds",
}
Origin = tuple[ir.Node, ir.Value, int]


def name_run_time_sizes(model: ir.Model, known: set[str], computed: Mapping[ir.Value, ir.Shape]) -> bool:
    """Name the sizes that inference left open and that depend on data; return whether there was any new one.

    known: the symbols in use, to which the new ones are added. computed: shapes that are known as soon as all
    inputs have sizes.
    """
    _register_declared(model)
    origins = {
        name: origin for name, origin in _origins(model, known).items() if not _is_computed(origin, computed)
    }
    if not origins:
        return False
    named = _declared_sizes(model, origins, known)
    changing = _changing_inputs(model)
    for symbol, (node, value, axis) in origins.items():
        has_name = symbol in named or node.domain or node.op_type not in SIZING_INPUTS
        if not has_name and _from_data(node, changing):
            named[symbol] = _named_size(model, node, value, axis, known)
    return _lay_down(model, named)


def _is_computed(origin: Origin, computed: Mapping[ir.Value, ir.Shape]) -> bool:
    """Whether a size is known as soon as all inputs have sizes."""
    _, value, axis = origin
    shape = computed.get(value)
    return shape is not None and axis < len(shape) and isinstance(shape[axis], int)


def _register_declared(model: ir.Model) -> None:
    """Register the new symbols of the declared shapes that are believed."""
    known = {*input_names(model), *run_time_sizes(model)}
    for value, shape in laid_down(model).items():
        for axis, dim in enumerate(shape):
            for name in sorted(dim.free_symbols() - known) if isinstance(dim, ir.SymbolicDim) else ():
                known.add(name)
                what = f"axis {axis} of {value.name!r}, open in the file"
                usual = model.meta[BATCH_LIKE_KEY].get(name, 1)
                run_time_sizes(model)[name] = RunTimeSize(name=name, what=what, usual=usual)


def _origins(model: ir.Model, known: set[str]) -> dict[str, Origin]:
    """Unknown symbols in the shapes of computed values -> node, value and axis where each is first seen."""

    @cache
    def unknown_symbols(dims: tuple[Dim, ...]) -> tuple[tuple[str, int], ...]:
        return tuple(
            (name, axis)
            for axis, dim in enumerate(dims)
            if not isinstance(dim, int)
            for name in sorted(dim.free_symbols() - known)
            if not name.startswith(GROWING_PREFIX)
        )

    found: dict[str, Origin] = {}
    for node in nodes(model):
        for value in node.outputs:
            dims = () if value.shape is None else value.shape.dims
            for name, axis in unknown_symbols(dims):
                is_whole = str(dims[axis]) == name  # the size itself, not one made from it
                if name not in found or (is_whole and found[name][1] is value):
                    found[name] = (node, value, axis)
    return found


def _declared_sizes(model: ir.Model, origins: Mapping[str, Origin], known: set[str]) -> dict[str, Dim]:
    """Unknown symbol -> the size that the file declares where a value has that symbol as a size."""
    found: dict[str, Dim] = {}
    for value in model.meta[FILE_SHAPES_KEY]:
        shape = value.shape
        if shape is None or len(shape) != len(model.meta[FILE_SHAPES_KEY][value]):
            continue
        for axis, dim in enumerate(shape):
            symbol = _only_unknown(dim, origins.keys() - found.keys())
            declared = None if symbol is None else declared_dim(model, value, axis, known)
            size = None if symbol is None or declared is None else _solved(dim, symbol, declared)
            if symbol is not None and size is not None:
                found[symbol] = size
                model.meta[BELIEVED_KEY][str(value.name)] = model.meta[FILE_SHAPES_KEY][value]
                _register_size(model, size, origins[symbol], known)
    return found


def _only_unknown(dim: Dim, unknown: Set[str]) -> str | None:
    """The unknown symbol of a size, if that is its only symbol."""
    names = frozenset() if isinstance(dim, int) else dim.free_symbols()
    return next(iter(names)) if len(names) == 1 and names <= unknown else None


def _solved(dim: Dim, symbol: str, declared: Dim) -> Dim | None:
    """The size of a symbol at which a size made from it is as declared; None where that isn't clear."""
    if isinstance(dim, int) or str(dim) == symbol:
        return declared
    found = solutions(dim, symbol, declared) if isinstance(declared, int) else []
    return found[0] if len(found) == 1 and found[0] > 0 else None


def _register_size(model: ir.Model, declared: Dim, origin: Origin, known: set[str]) -> None:
    """Register the symbols of a declared size; one that is a name has the bound that its node gives."""
    if isinstance(declared, int):
        return
    node, value, axis = origin
    for name in sorted(declared.free_symbols() - {*input_names(model), *run_time_sizes(model)}):
        known.add(name)
        is_whole = declared.value == name
        run_time_sizes(model)[name] = RunTimeSize(
            name=name,
            what=_in_words(node) if is_whole else f"axis {axis} of {value.name!r}, open in the file",
            most=largest_size(node, axis) if is_whole else None,
            usual=usual_size(node, axis) if is_whole else 1,
        )


def _named_size(
    model: ir.Model, node: ir.Node, value: ir.Value, axis: int, known: set[str]
) -> ir.SymbolicDim:
    """The symbol of a size: equal for nodes that do the same to the same operands."""
    named: dict[Hashable, str] = model.meta.setdefault(NAMED_KEY, {})
    output = node.outputs.index(value)
    key = node.op_type, tuple(node.inputs), attribute_values(node), output, axis
    if key not in named:
        name = named[key] = free_name(_wanted_name(model, node, value, axis), known)
        run_time_sizes(model)[name] = RunTimeSize(
            name=name,
            what=_in_words(node),
            most=largest_size(node, axis),
            usual=usual_size(node, axis),
        )
    return ir.SymbolicDim(named[key])


def _wanted_name(model: ir.Model, node: ir.Node, value: ir.Value, axis: int) -> str:
    """Such as `nms_count` or `crop_size_2`: the node's own name, or that of the value."""
    last_parts = Counter(_last_part(other.name) for other in nodes(model))
    last = _last_part(node.name)
    stem = last if last and last_parts[last] == 1 else str(node.name or value.name)
    if node.name and stem == node.name and sum(other.name == node.name for other in nodes(model)) > 1:
        stem = str(value.name)
    if node.op_type in COUNTED:
        return f"{as_symbol(stem)}_count"
    return f"{as_symbol(stem)}_size" + (
        f"_{axis}" if value.shape is not None and len(value.shape) > 1 else ""
    )


def _last_part(name: str | None) -> str:
    return (name or "").rsplit("/", 1)[-1]


def _in_words(node: ir.Node) -> str:
    operator = f"{node.op_type} {str(node.name or node.outputs[0].name)!r}"
    return COUNTED.get(node.op_type, "a size that {} gets at run time").format(operator)


def _changing_inputs(model: ir.Model) -> set[ir.Value]:
    """The inputs of the bodies of Loops, other than the condition: the number of the iteration, the state."""
    bodies = [body for node in nodes(model) if (body := loop_body(node)) is not None]
    return {value for body in bodies for index, value in enumerate(body.inputs) if index != 1}


def _from_data(node: ir.Node, changing: set[ir.Value]) -> bool:
    """Whether the contents that decide a node's output sizes depend on data, not on shapes alone.

    changing: inputs of bodies that change from one iteration to the next; what depends on these is no single
    size.
    """
    is_data = False
    pending = [node.inputs[index] for index in SIZING_INPUTS[node.op_type] if index < len(node.inputs)]
    if node.op_type == "Loop" and (body := node.attributes.get_graph("body", None)) is not None:
        pending.extend(body.outputs[:1])
    seen: set[ir.Value | None] = {None}
    while pending:
        value = pending.pop()
        if value in seen or value is None or constant_tensor(value) is not None:
            continue
        if value in changing:
            return False
        seen.add(value)
        maker = value.producer()
        if maker is None:
            is_data = is_data or not _passes_through(node, value)
            continue
        is_data = is_data or maker.op_type in RANDOM_OPERATORS
        if maker.op_type not in ("Shape", "Size") or maker.domain:
            pending.extend(maker.inputs)
    return is_data


def _passes_through(node: ir.Node, value: ir.Value) -> bool:
    """Whether a value is the condition that a Loop's own body takes, which only hands it on."""
    body = node.attributes.get_graph("body", None) if node.op_type == "Loop" else None
    return body is not None and value in tuple(body.inputs)[:2]


def _lay_down(model: ir.Model, named: Mapping[str, Dim]) -> bool:
    """Lay down the shapes that contain sizes with a name, at the nodes that make these sizes."""
    new = False
    for node in nodes(model):
        from_inputs = symbols_of(node.inputs)
        for value in node.outputs:
            shape = value.shape
            made = symbols_of([value]) & named.keys() - from_inputs
            if shape is not None and made:
                laid_down(model)[value] = ir.Shape([_renamed(dim, named) for dim in shape])
                new = True
    return new


def _renamed(dim: Dim, named: Mapping[str, Dim]) -> Dim:
    """A size with other symbols, numbers or expressions in place of some of its symbols."""
    if isinstance(dim, int) or not dim.free_symbols() & named.keys():
        return dim
    whole = dim._expr  # onnx_ir has no public name for the expression of a dimension
    if whole is None:
        return dim
    places = {
        symbol: size if isinstance(size, int) else size._expr
        for symbol in whole.free_symbols
        if (size := named.get(str(symbol))) is not None
    }
    return ir.SymbolicDim(whole.subs(places, simultaneous=True)).evaluate({})
