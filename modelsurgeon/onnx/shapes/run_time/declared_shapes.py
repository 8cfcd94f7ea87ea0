"""Shapes that the file declares for computed values: believed where inference has no result.

A shape is laid down at a value before inference, which keeps it and goes on from there. What follows from
the rules, be it only once all inputs have sizes, is never overruled. Sizes of the file may belong to the
example that it was exported with: where the batch of the inputs is open, a first size that is fixed to the
batch of the example stands for the batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx_ir as ir
from onnx_shape_inference import registry

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import NO_NAMES, as_symbol, data_inputs, is_symbol
from modelsurgeon.onnx.shapes.dimension_expressions import expression_symbols
from modelsurgeon.onnx.shapes.inference import unknown

FILE_SHAPES_KEY = "modelsurgeon.declared"  # model.meta: the shapes that the file declares, by computed value
INPUT_SHAPES_KEY = "modelsurgeon.input_shapes"  # model.meta: shapes of the inputs before any size was bound
FILE_NAMES_KEY = "modelsurgeon.declared_names"  # model.meta: symbols by the names that the file has for them
LAID_DOWN_KEY = "modelsurgeon.believed"  # model.meta: shapes that are laid down before inference, by value
BELIEVED_KEY = (
    "modelsurgeon.as_the_file_says"  # model.meta: names of the values whose declaration is believed
)
BATCH_LIKE_KEY = "modelsurgeon.batch_like"  # model.meta: the batch of the inputs, by symbol of a first size
CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})
MAX_NAMED_VALUES = 3  # in a note
LIBRARY_FAILURE = "Shape inference failed for"  # onnx_shape_inference met an error of its own

Dim = int | ir.SymbolicDim


def record_declared_shapes(model: ir.Model, renamed: Mapping[str, str]) -> None:
    """Store the declared shapes of all computed values, and the names in use, before shapes are cleared."""
    model.meta[FILE_SHAPES_KEY] = {
        value: value.shape for node in nodes(model) for value in node.outputs if value.shape is not None
    }
    model.meta[INPUT_SHAPES_KEY] = {value: value.shape for value in data_inputs(model)}
    model.meta[FILE_NAMES_KEY] = dict(renamed)
    model.meta[LAID_DOWN_KEY] = {}
    model.meta[BELIEVED_KEY] = {}
    model.meta[BATCH_LIKE_KEY] = {}


def laid_down(model: ir.Model) -> dict[ir.Value, ir.Shape]:
    """Shapes that inference starts from, by value."""
    found: dict[ir.Value, ir.Shape] = model.meta[LAID_DOWN_KEY]
    return found


def declared_names(model: ir.Model) -> dict[str, str]:
    """Symbols by the names that the file has for them, where these can't stand in a formula."""
    found: dict[str, str] = model.meta[FILE_NAMES_KEY]
    return found


def input_names(model: ir.Model) -> set[str]:
    """The symbols of the inputs, those that are bound included."""
    shapes: Iterable[ir.Shape | None] = model.meta[INPUT_SHAPES_KEY].values()
    return {name for shape in shapes if shape is not None for name in shape.free_symbols()}


def believe_declared_shapes(model: ir.Model, known: set[str], computed: Mapping[ir.Value, ir.Shape]) -> bool:
    """Lay down the declared shapes of the first values without a shape; return whether there was any.

    Values behind them wait: their shapes may follow. known: the symbols in use, to which new ones are added.
    computed: shapes that are known as soon as all inputs have sizes, and so aren't taken from the file.
    """
    gaps = [(node, value) for node, value in _first_gaps(model) if value not in computed]
    inside = [(node, value) for node, value in gaps if node.op_type not in CONTROL_FLOW or node.domain]
    found = inside or gaps
    for _, value in found:
        shape = declared_shape(model, value, known)
        laid_down(model)[value] = shape
        model.meta[BELIEVED_KEY][str(value.name)] = shape
    return bool(found)


def _first_gaps(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Values without a shape that the file declares, none behind another unless nothing infers it."""
    declared: Mapping[ir.Value, ir.Shape] = model.meta[FILE_SHAPES_KEY]
    waiting: set[ir.Value] = set()
    for node in nodes(model):
        gaps = [value for value in node.outputs if value.shape is None and value.name]
        if not gaps:
            continue
        behind = not waiting.isdisjoint(value for value in node.inputs if value is not None)
        for value in gaps:
            shape = None if value in laid_down(model) or _fails(model, node) else declared.get(value)
            has_rule = _has_rule(model, node)
            is_new = shape is not None and len(shape) > 0  # exporters declare outputs as scalars that aren't
            if is_new and not (behind and has_rule):
                yield node, value
            if is_new or behind:
                waiting.add(value)


def _fails(model: ir.Model, node: ir.Node) -> bool:
    """Whether a node contradicts the shapes of its inputs, so that its outputs don't exist."""
    reason = unknown(model).get(node)
    return reason is not None and not reason.startswith(LIBRARY_FAILURE)


def _has_rule(model: ir.Model, node: ir.Node) -> bool:
    version = model.opset_imports.get(node.domain, 1)
    is_function = node.op_identifier() in model.functions
    return is_function or registry.get(node.domain, node.op_type, version=version) is not None


def declared_shape(model: ir.Model, value: ir.Value, known: set[str]) -> ir.Shape:
    """The declared shape of a value in well-formed symbols, new ones for sizes without a name."""
    shape: ir.Shape = model.meta[FILE_SHAPES_KEY][value]
    dims = [declared_dim(model, value, axis, known) for axis in range(len(shape))]
    stem = as_symbol(str(value.name))
    batch = _batch_of_sources(model, value)
    if batch is not None and dims and dims[0] == _example_batch(model):
        dims[0] = batch
    found = [
        _new_symbol(f"{stem}_size_{axis}", known) if dim is None else dim for axis, dim in enumerate(dims)
    ]
    if batch is not None and dims and dims[0] is None:
        model.meta[BATCH_LIKE_KEY][str(found[0])] = batch
    return ir.Shape(found)


def _new_symbol(wanted: str, known: set[str]) -> ir.SymbolicDim:
    name = wanted
    while name in known:
        name += "_"
    known.add(name)
    return ir.SymbolicDim(name)


def declared_dim(model: ir.Model, value: ir.Value, axis: int, known: set[str]) -> Dim | None:
    """One declared size: a number, a symbol or an expression; None where it says nothing."""
    dim: Dim = model.meta[FILE_SHAPES_KEY][value][axis]
    if isinstance(dim, int):
        return dim if dim > 0 else None
    text, names = dim.value or "", declared_names(model)
    if text in NO_NAMES or not any(letter.isalpha() for letter in text):
        return None
    if is_symbol(text) or expression_symbols(text, known):
        return ir.SymbolicDim(text)
    if text not in names:
        names[text] = str(_new_symbol(as_symbol(text), known))
    return ir.SymbolicDim(names[text])


def _batch_of_sources(model: ir.Model, value: ir.Value) -> ir.SymbolicDim | None:
    """The symbol that is the first size of every input with open sizes that a value is computed from."""
    open_inputs = [shape for shape in _shapes_of_sources(model, value) if shape is None or shape.is_dynamic()]
    firsts = {shape[0] if shape is not None and len(shape) else None for shape in open_inputs}
    first = firsts.pop() if len(firsts) == 1 else None
    return first if isinstance(first, ir.SymbolicDim) else None


def _shapes_of_sources(model: ir.Model, value: ir.Value) -> list[ir.Shape | None]:
    """Shapes, as they were before any size was bound, of the inputs that a value is computed from."""
    seen: set[ir.Value] = set()
    pending = [value]
    while pending:
        found = pending.pop()
        if found not in seen:
            seen.add(found)
            node = found.producer()
            pending.extend(entry for entry in (node.inputs if node else ()) if entry is not None)
    return [shape for entry, shape in model.meta[INPUT_SHAPES_KEY].items() if entry in seen]


def _example_batch(model: ir.Model) -> int:
    """The batch of the example that the file was exported with: 1, unless declared shapes show another.

    They do where a value whose first size is the batch of the inputs is declared with a number.
    """
    batches = {
        shape[0] for shape in model.meta[INPUT_SHAPES_KEY].values() if shape is not None and len(shape)
    }
    batches = {dim for dim in batches if isinstance(dim, ir.SymbolicDim)}
    batches |= {
        entry.shape[0]
        for entry, shape in model.meta[INPUT_SHAPES_KEY].items()
        if shape is not None and len(shape) and shape[0] in batches and entry.shape
    }
    for value, declared in model.meta[FILE_SHAPES_KEY].items():
        inferred = value.shape
        if inferred and len(declared) == len(inferred) and inferred[0] in batches:
            first = declared[0]
            if isinstance(first, int) and first > 0 and first != inferred[0]:
                return first
    return 1


def declaration_notes(model: ir.Model) -> list[str]:
    """A note on the values whose declared shapes are believed."""
    believed: Mapping[str, ir.Shape] = model.meta.get(BELIEVED_KEY, {})
    if not believed:
        return []
    first = [f"{name} is {_as_text(shape)}" for name, shape in list(believed.items())[:MAX_NAMED_VALUES]]
    rest = f", and {len(believed) - len(first)} more" if len(believed) > len(first) else ""
    return [f"shapes that nothing else determines are taken as the file says: {', '.join(first)}{rest}"]


def _as_text(shape: ir.Shape) -> str:
    return " x ".join(map(str, shape)) or "a scalar"
