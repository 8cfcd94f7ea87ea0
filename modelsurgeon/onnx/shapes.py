"""The shape of every value: symbols where the model leaves a size open, numbers where it is fixed or bound.

The work of inference is onnx_shape_inference's. What is added here is what real files need before it can
work: open dimensions get names, shapes that the file only claims are cleared, and a node that inference
can't do leaves its outputs unknown, with the reason, in place of ending everything.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass
from onnx_shape_inference import OpUsageError, ShapeInferenceError, infer_symbolic_shapes, registry

from modelsurgeon.cost import Number
from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.onnx import rules
from modelsurgeon.onnx.ahead import settle

Dims = Mapping[str, int]

UNKNOWN = "modelsurgeon.unknown"  # node.meta: why inference could not do this node

SYMBOL = re.compile(r"[A-Za-z_][\w.]*", re.ASCII)
EXPRESSION = re.compile(r"[\w.+\-*() ]{1,80}", re.ASCII)
ORIGIN = "modelsurgeon.origin"  # node.meta: the same in every inlined copy of one node of a function
ROUNDS = 32
ASIDE = "modelsurgeon.aside"  # a domain of which inference knows nothing


def bound(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
) -> ir.Model:
    """A clone whose inputs are bound and whose shapes are inferred; tensors are shared, `model` is untouched.

    Functions are inlined, so that every call has shapes of its own. The clone is for measuring: inference
    notes what it learns about small integer tensors on its values.

    shapes: input name -> sizes. dims: symbol -> size. Raises UnknownShape for an input or a symbol that the
    model doesn't have, a wrong number of axes, and sizes that contradict each other.
    """
    clone = inlined(model)
    _know_constants(clone)
    _name_open_dims(data_inputs(clone))
    _bind(clone, shapes or {}, dims or {})
    _forget(clone)
    _forget_loops(clone)
    _settle(clone)
    return clone


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


def sizes(value: ir.Value | None, dims: Dims | None = None) -> tuple[int, ...] | None:
    """Shape of a value in numbers, its symbols replaced by `dims`; None where a size stays open."""
    if value is None or value.shape is None:
        return None
    found = tuple(_size(dim, dims or {}) for dim in value.shape)
    return None if None in found else found  # type: ignore[return-value]


def expressions(value: ir.Value, given: Collection[str]) -> tuple[Number, ...] | None:
    """Shape of a value in numbers and sympy expressions of the given symbols; None where more is open."""
    if value.shape is None or not value.shape.free_symbols() <= set(given):
        return None
    # onnx_ir keeps the expression that it computes with to itself.
    return tuple(dim if isinstance(dim, int) else dim._expr for dim in value.shape)


def _size(dim: int | ir.SymbolicDim, dims: Dims) -> int | None:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    if dim.value is None:
        return None
    size = dims.get(dim.value, dim.evaluate(dims))
    return size if isinstance(size, int) and size >= 0 else None


def _default(axis: int, shape: ir.Shape | None) -> int:
    if axis == 0:
        return 1
    rank = 0 if shape is None else shape.rank()
    if shape is None or rank != 4:
        return 128
    channels_last = shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    return 224 if axis in ((1, 2) if channels_last else (2, 3)) else 128


def inlined(model: ir.Model) -> ir.Model:
    """A clone in which every call of a function is the function's nodes; tensors are shared."""
    clone = _clone(model)
    if not clone.functions:
        return clone
    for function in clone.functions.values():
        for number, node in enumerate(function.all_nodes()):
            node.meta[ORIGIN] = (function.identifier(), number)
    try:
        InlinePass()(clone)
    except ValueError:  # a function of another opset: its calls stay, and are reported as they are
        return _clone(model)
    return clone


def _clone(model: ir.Model) -> ir.Model:
    try:
        return model.clone()
    except RuntimeError as error:  # a value is used before it is made, or never made
        raise BadModel("nodes use values that no node before them makes: sort the graph") from error


def _know_constants(model: ir.Model) -> None:
    """An initializer or Constant is what its tensor is, whatever else the file says of it, or doesn't.

    onnx_ir would find the tensor of a Constant by itself, but give it another name, and it is the caller's.
    """
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.type = ir.TensorType(value.const_value.dtype)
                value.shape = ir.Shape(value.const_value.shape.numpy())
    for node in model.graph.all_nodes():
        if node.op_type == "Constant" and not node.domain and node.outputs:
            node.outputs[0].const_value = node.attributes.get_tensor("value", None)


def _name_open_dims(inputs: list[ir.Value]) -> None:
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


def _bind(model: ir.Model, shapes: Mapping[str, Sequence[int]], dims: Dims) -> None:
    inputs = {value.name: value for value in data_inputs(model)}
    wanted = dict(dims)
    if odd := set(dims) - set(symbols(model)):
        known = ", ".join(symbols(model)) or "none"
        raise UnknownShape(f"no input has a dimension {sorted(odd)[0]!r}; open dimensions are: {known}")
    for name, shape in shapes.items():
        if name not in inputs:
            raise UnknownShape(
                f"the model has no input {name!r}; its inputs are: {', '.join(map(str, inputs))}"
            )
        _bind_input(inputs[name], tuple(shape), wanted)
    for value in inputs.values():
        if value.shape is not None and value.name not in shapes:
            value.shape = value.shape.evaluate(wanted)


def _bind_input(value: ir.Value, shape: tuple[int, ...], wanted: dict[str, int]) -> None:
    """Give one input its shape, and note what that says about the symbols in it."""
    declared = value.shape if value.shape is not None else [None] * len(shape)
    if len(declared) != len(shape) or any(size < 0 for size in shape):
        raise UnknownShape(f"input {value.name!r} is {declared}; {list(shape)} doesn't fit it")
    for dim, size in zip(declared, shape, strict=True):
        if isinstance(dim, int) and dim != size:
            raise UnknownShape(
                f"input {value.name!r} is {declared}, fixed in the model; {list(shape)} was asked for"
            )
        if (
            isinstance(dim, ir.SymbolicDim)
            and SYMBOL.fullmatch(str(dim))
            and wanted.setdefault(str(dim), size) != size
        ):
            raise UnknownShape(
                f"{dim} is bound to {wanted[str(dim)]}, but input {value.name!r} has {size} there"
            )
    value.shape = ir.Shape(shape)


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    yield from graph.subgraphs()


def _forget(model: ir.Model) -> None:
    """Drop the shapes that the file claims for computed values; inference would keep them otherwise."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None
            if node.op_type != "Constant":
                value.const_value = None


def _forget_loops(model: ir.Model) -> None:
    """Drop what the file claims of the inputs of Loop bodies: they take the sizes of what enters the Loop."""
    for _, body in _loops(model):
        for number, value in enumerate(body.inputs):
            value.shape = ir.Shape(()) if number < 2 else None


def _loops(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Graph]]:
    for node in model.graph.all_nodes():
        body = node.attributes.get_graph("body", None) if node.op_type == "Loop" else None
        if body is not None and not node.domain and UNKNOWN not in node.meta:
            yield node, body


def _open_what_grows(model: ir.Model, grown: set[str]) -> bool:
    """Give a symbol to every size that changes from one iteration of a Loop to the next; whether any did."""
    before = len(grown)
    for node, body in _loops(model):
        for start, end in zip(body.inputs[2:], body.outputs[1:], strict=False):
            if start.shape is None or isinstance(start.type, ir.SequenceType | ir.OptionalType):
                continue
            if end.shape is None or end.shape.rank() != start.shape.rank():
                node.meta[UNKNOWN] = f"the shape of {start.name!r} changes from one iteration to the next"
                start.shape = None
                grown.add(str(node.meta[UNKNOWN]))
                continue
            dims = list(start.shape)  # the shape itself may be shared with the value that enters the Loop
            for axis, size in enumerate(end.shape):
                if size != dims[axis] and str(dims[axis]) not in grown:
                    dims[axis] = ir.SymbolicDim(f"grows_{len(grown)}")
                    grown.add(str(dims[axis]))
            start.shape = ir.Shape(dims)
    return len(grown) > before


def _settle(model: ir.Model) -> None:
    """Infer, and compute ahead what inference lacks, until neither learns anything more from the other."""
    grown: set[str] = set()
    for _ in range(ROUNDS):
        _infer(model)
        if _open_what_grows(model, grown):
            _forget(model)
        elif settle(model, _unknown(model)):
            for value in _unknown(model):
                value.shape = None  # inference would keep a symbol that it made up
        else:
            break


def _unknown(model: ir.Model) -> Iterator[ir.Value]:
    """Computed values whose shape doesn't follow from the inputs' sizes (yet)."""
    given = set(symbols(model))
    for node in model.graph.all_nodes():
        for output in node.outputs:
            if output.shape is None or not output.shape.free_symbols() <= given:
                yield output


def _infer(model: ir.Model) -> None:
    """Infer in place. A node that fails is set aside, with the reason in its meta, and the rest goes on."""
    rules.register()
    nodes = {f"{ASIDE}:{number}": node for number, node in enumerate(model.graph.all_nodes())}
    own = [(node, node.name, node.domain) for node in nodes.values()]
    for label, node in nodes.items():
        if UNKNOWN in node.meta:
            node.domain = ASIDE
        node.name = label  # an error tells a name, and no more, of where it arose
    try:
        while (failed := _attempt(model, nodes)) is not None:
            node, reason = failed
            node.meta[UNKNOWN] = reason
            node.domain = ASIDE
            for value in node.outputs:
                value.shape = None
    finally:
        for node, name, domain in own:
            node.name, node.domain = name, domain


def _attempt(model: ir.Model, nodes: Mapping[str, ir.Node]) -> tuple[ir.Node, str] | None:
    """One run of inference; the node that ended it and why, or None when it went through."""
    try:
        infer_symbolic_shapes(model, warn_on_missing=False, adopt_declared_symbols=False)
    except OpUsageError as error:
        return nodes.get(error.node.name or "") or _without_rule(model, nodes), error.message
    except ShapeInferenceError as error:
        return nodes.get(error.node_name or "") or _without_rule(model, nodes), error.message
    return None


def _without_rule(model: ir.Model, nodes: Mapping[str, ir.Node]) -> ir.Node:
    """The node in whose built-in function inference failed: the first one unknown that has no rule."""
    for node in nodes.values():
        version = model.opset_imports.get(node.domain, 1)
        unknown = node.domain != ASIDE and bool(node.outputs) and node.outputs[0].shape is None
        if unknown and registry.get(node.domain, node.op_type, version=version) is None:
            return node
    raise BadModel("shape inference fails in this graph, at no node that it names; check the model")
