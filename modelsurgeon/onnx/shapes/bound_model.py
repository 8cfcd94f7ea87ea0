"""The shape of every value: symbols where the model leaves a size open, numbers where it is fixed or bound.

The work of inference is onnx_shape_inference's. What is added here is what real files need before it can
work: open dimensions get names, shapes that the file only claims are cleared, and a node that inference
can't do leaves its outputs unknown, with the reason, in place of ending everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

import onnx
import onnx_ir as ir
from onnx_shape_inference import registry

from modelsurgeon.errors import BadModel
from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.graph.constant_folding import fold_constants
from modelsurgeon.onnx.graph.traversal import CACHED_BODIES, CACHED_NODES, bodies, nodes
from modelsurgeon.onnx.shapes.binding import (
    OPEN_SHAPES_KEY,
    Dims,
    bind,
    data_inputs,
    name_open_dims,
    open_shapes,
    symbols,
)
from modelsurgeon.onnx.shapes.default_sizes import default_dims
from modelsurgeon.onnx.shapes.inference import UNKNOWN_KEY, infer, unknown

__all__ = [
    "Dims",
    "bound",
    "bound_to_defaults",
    "data_inputs",
    "default_dims",
    "expressions",
    "inlined",
    "open_shapes",
    "sizes",
    "symbols",
]

RENAMED_KEY = "modelsurgeon.renamed"  # model.meta: symbols by the malformed names that they replace
ORIGIN_KEY = "modelsurgeon.origin"  # node.meta: the same in every inlined copy of one node of a function
LEARNT_KEY = "pkg.onnx_shape_inference.sym_data"  # value.metadata_props: what inference knows of its content
BELIEVED_KEY = "modelsurgeon.believed"  # model.meta: shapes in the file by value, where inference has no rule
MAX_ROUNDS = 32


def bound(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    *,
    spend: bool = False,
) -> ir.Model:
    """A clone whose inputs are bound and whose shapes are inferred; tensors are shared, `model` is untouched.

    Functions are inlined, so that every call has shapes of its own. The clone is for measuring: inference
    notes what it learns about small integer tensors on its values.

    shapes: input name -> sizes. dims: symbol -> size; a symbol that had to be renamed, which the clone's
    meta tells, has both names. spend: nobody needs `model` as it is any more: one without functions, branches
    and loops is bound itself. Raises UnknownShape for an input or a symbol that the model doesn't have, a
    wrong number of axes, and sizes that contradict each other.
    """
    own = spend and not model.functions and next(model.graph.subgraphs(), None) is None
    clone = model if own else inlined(model)
    inside = () if own else tuple(clone.graph.subgraphs())
    clone.meta.update(
        {
            CACHED_NODES: tuple(clone.graph.all_nodes()),
            CACHED_BODIES: inside,
            UNKNOWN_KEY: {},
            OPEN_SHAPES_KEY: {},
        }
    )
    _know_constants(clone)
    renamed = clone.meta[RENAMED_KEY] = name_open_dims(data_inputs(clone))
    _believe(clone, renamed)
    wanted = bind(clone, shapes or {}, {renamed.get(name, name): size for name, size in (dims or {}).items()})
    _forget(clone, wanted)
    _forget_loops(clone)
    _settle(clone)
    return clone


def bound_to_defaults(
    model: ir.Model, opened: ir.Model, shapes: Mapping[str, Sequence[int]] | None, dims: Dims
) -> ir.Model:
    """The model at these sizes; `opened` is the same model bound as far as the user did.

    It is `opened` itself, bound on, unless a branch or a loop might go another way at known sizes;
    `expressions` still tells what was inferred for the open one.
    """
    if opened.functions or bodies(opened):
        return bound(model, shapes, dims)
    opened.meta[OPEN_SHAPES_KEY] = {value: value.shape for value in _values(opened)}
    for value in opened.meta[OPEN_SHAPES_KEY]:
        value.metadata_props.pop(LEARNT_KEY, None)
    left = set(symbols(opened))
    _forget(opened, bind(opened, {}, {name: size for name, size in dims.items() if name in left}))
    _settle(opened)
    return opened


def _values(model: ir.Model) -> Iterator[ir.Value]:
    """The inputs, and all that is computed."""
    yield from data_inputs(model)
    for node in nodes(model):
        yield from node.outputs


def sizes(value: ir.Value | None, dims: Dims | None = None) -> tuple[int, ...] | None:
    """Shape of a value in numbers, its symbols replaced by `dims`; None where a size stays open."""
    if value is None or value.shape is None:
        return None
    shape = value.shape.dims
    for dim in shape:
        if type(dim) is not int or dim < 0:
            break
    else:
        return shape  # type: ignore[return-value]
    found = tuple(_size(dim, dims or {}) for dim in shape)
    return None if None in found else found  # type: ignore[return-value]


def expressions(model: ir.Model, given: Collection[str]) -> Callable[[ir.Value], tuple[Number, ...] | None]:
    """What tells the shape of a value in numbers and sympy expressions of these symbols.

    It tells None where more is open. Most values look like others of a net: each shape is worked out once.
    """
    symbols, open_shape = frozenset(given), open_shapes(model)

    @cache
    def written(dims: tuple[int | ir.SymbolicDim, ...]) -> tuple[Number, ...] | None:
        if not all(isinstance(dim, int) or dim.free_symbols() <= symbols for dim in dims):
            return None
        # onnx_ir keeps the expression that it computes with to itself.
        return tuple(dim if isinstance(dim, int) else dim._expr for dim in dims)

    @cache
    def shape_of(value: ir.Value) -> tuple[Number, ...] | None:
        shape = open_shape(value)
        return None if shape is None else written(shape.dims)

    return shape_of


def _size(dim: int | ir.SymbolicDim, dims: Dims) -> int | None:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    if dim.value is None:
        return None
    size = dims.get(dim.value, dim.evaluate(dims))
    return size if isinstance(size, int) and size >= 0 else None


def inlined(model: ir.Model) -> ir.Model:
    """A clone in which every call of a function is the function's nodes; tensors are shared."""
    clone = _clone(model)
    if not clone.functions:
        return clone
    from onnx_ir.passes.common import InlinePass

    for function in clone.functions.values():
        _adopt_opsets(function, clone.opset_imports)
        for number, node in enumerate(function.all_nodes()):
            node.meta[ORIGIN_KEY] = (function.identifier(), number)
    try:
        InlinePass()(clone)
    except ValueError:  # a function of another opset: its calls stay, and are reported as they are
        return _clone(model)
    return clone


def _adopt_opsets(function: ir.Function, wanted: dict[str, int]) -> None:
    """Let a function import what the model imports, where all its operators are the same in both versions."""
    domains = [
        domain for domain, version in function.opset_imports.items() if version != wanted.get(domain, version)
    ]
    for domain in domains:
        used = {node.op_type for node in function.all_nodes() if node.domain == domain}
        versions = function.opset_imports[domain], wanted[domain]
        if all(len({_since(op, version, domain) for version in versions}) == 1 for op in used):
            function.opset_imports[domain] = wanted[domain]


def _since(op: str, version: int, domain: str) -> int | None:
    """The version in which an operator became what it is in this version; None where it isn't known."""
    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None


def _clone(model: ir.Model) -> ir.Model:
    try:
        return model.clone()
    except RuntimeError as error:  # a value is used before it is made, or never made
        raise BadModel("nodes use values that no node before them makes: sort the graph") from error


def _know_constants(model: ir.Model) -> None:
    """An initializer or Constant is what its tensor is, whatever else the file says of it, or doesn't.

    onnx_ir would find the tensor of a Constant by itself, but give it another name, and it is the caller's.
    """
    for graph in (model.graph, *bodies(model)):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and (value.dtype != tensor.dtype or value.shape != tensor.shape):
                value.type = ir.TensorType(tensor.dtype)
                value.shape = ir.Shape(tensor.shape.numpy())
    for node in nodes(model):
        if node.op_type == "Constant" and not node.domain and node.outputs:
            node.outputs[0].const_value = node.attributes.get_tensor("value", None)


def _believe(model: ir.Model, renamed: Mapping[str, str]) -> None:
    """Note what the file says of the results of operators that nobody knows: there is nothing else."""
    given = set(symbols(model))
    believed = model.meta[BELIEVED_KEY] = {}
    for node in nodes(model):
        if node.domain and registry.get(node.domain, node.op_type, version=1) is None:
            for value in node.outputs:
                dims = [
                    renamed.get(str(dim), dim) if isinstance(dim, ir.SymbolicDim) else dim
                    for dim in value.shape or ()
                ]
                if value.shape is not None and all(_is_told(dim, given) for dim in dims):
                    believed[value] = ir.Shape(dims)


def _is_told(dim: int | str | ir.SymbolicDim, given: set[str]) -> bool:
    return dim >= 0 if isinstance(dim, int) else str(dim) in given


def _forget(model: ir.Model, dims: Dims) -> None:
    """Drop the shapes that the file claims for computed values; inference would keep them otherwise."""
    believed: Mapping[ir.Value, ir.Shape] = model.meta[BELIEVED_KEY]
    for node in nodes(model):
        for value in node.outputs:
            value.shape = believed[value].evaluate(dims) if value in believed else None
            if node.op_type != "Constant":
                value.const_value = None


def _forget_loops(model: ir.Model) -> None:
    """Drop what the file claims of the inputs of Loop bodies: they take the sizes of what enters the Loop."""
    for _, body in _loops(model):
        for number, value in enumerate(body.inputs):
            value.shape = ir.Shape(()) if number < 2 else None


def _loops(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Graph]]:
    for node in nodes(model):
        body = node.attributes.get_graph("body", None) if node.op_type == "Loop" else None
        if body is not None and not node.domain and node not in unknown(model):
            yield node, body


def _open_what_grows(model: ir.Model, grown: set[str]) -> bool:
    """Give a symbol to every size that changes from one iteration of a Loop to the next; whether any did."""
    before = len(grown)
    for node, body in _loops(model):
        for start, end in zip(body.inputs[2:], body.outputs[1:], strict=False):
            if start.shape is None or isinstance(start.type, ir.SequenceType | ir.OptionalType):
                continue
            if end.shape is None or end.shape.rank() != start.shape.rank():
                why = f"the shape of {start.name!r} changes from one iteration to the next"
                unknown(model)[node] = why
                start.shape = None
                grown.add(why)
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
    for _ in range(MAX_ROUNDS):
        infer(model)
        if _open_what_grows(model, grown):
            _forget(model, {})
        elif fold_constants(model, _unknown(model)):
            for value in _unknown(model):
                value.shape = None  # inference would keep a symbol that it made up
        else:
            break


def _unknown(model: ir.Model) -> Iterator[ir.Value]:
    """Computed values whose shape doesn't follow from the inputs' sizes (yet)."""
    given = set(symbols(model))

    @cache
    def follows(dims: tuple[int | ir.SymbolicDim, ...]) -> bool:
        return all(isinstance(dim, int) or dim.free_symbols() <= given for dim in dims)

    for node in nodes(model):
        for output in node.outputs:
            if output.shape is None or not follows(output.shape.dims):
                yield output
