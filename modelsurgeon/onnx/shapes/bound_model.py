"""Bound models: shapes of all values, with symbols for open sizes and numbers for fixed or bound ones.

Inference itself is that of onnx_shape_inference. This module prepares models for it: open dimensions get
names, shapes that the file declares for computed values are cleared, and where inference fails at a node, the
shapes of its outputs stay unknown, with the reason, and inference goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

import onnx
import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.graph.constant_folding import fold_constants
from modelsurgeon.onnx.graph.traversal import CACHED_BODIES, CACHED_NODES, bodies, nodes
from modelsurgeon.onnx.shapes.binding import (
    OPEN_SHAPES_KEY,
    Dims,
    bind,
    check_names,
    data_inputs,
    input_symbols,
    name_open_dims,
    open_shapes,
    symbols,
    symbols_by_either_name,
)
from modelsurgeon.onnx.shapes.declared_shapes import (
    LAID_DOWN_KEY,
    believe_declared_shapes,
    declared_names,
    laid_down,
    record_declared_shapes,
)
from modelsurgeon.onnx.shapes.default_sizes import default_dims
from modelsurgeon.onnx.shapes.inference import UNKNOWN_KEY, infer, unknown
from modelsurgeon.onnx.shapes.run_time_sizes import close_run_time_sizes, run_time_sizes
from modelsurgeon.onnx.shapes.size_names import name_run_time_sizes

RENAMED_KEY = "modelsurgeon.renamed"  # model.meta: symbols by the invalid names that they replace
ORIGIN_KEY = "modelsurgeon.origin"  # node.meta: equal in all inlined copies of a function's node
INFERRED_CONTENT_KEY = "pkg.onnx_shape_inference.sym_data"  # value.metadata_props: computed contents
MAX_INFERENCE_ROUNDS = 32


def bound(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    *,
    assumed: Dims | None = None,
    like: ir.Model | None = None,
    spend: bool = False,
) -> ir.Model:
    """A clone with bound inputs and inferred shapes. Tensors are shared, `model` isn't changed.

    Functions are inlined, so that every call has shapes of its own. The clone is for measuring only:
    inference stores the contents of small integer tensors in the metadata of its values.

    shapes: input name -> sizes. dims: symbol -> size; a symbol that had to be renamed (`meta[RENAMED_KEY]`)
    may be given by either name. assumed: sizes of symbols that may be missing. like: the model bound before,
    whose names of sizes known at run time are taken. spend: bind `model` itself, without a clone, if it has
    no functions, branches and loops. Raises UnknownShape for an input or a symbol that the model doesn't
    have, a wrong number of axes, and sizes that contradict each other.
    """
    in_place = spend and not model.functions and next(model.graph.subgraphs(), None) is None
    clone = model if in_place else inlined(model)
    inside = () if in_place else tuple(clone.graph.subgraphs())
    clone.meta.update(
        {
            CACHED_NODES: tuple(clone.graph.all_nodes()),
            CACHED_BODIES: inside,
            UNKNOWN_KEY: {},
            OPEN_SHAPES_KEY: {},
        }
    )
    _set_constant_types(clone)
    renamed = clone.meta[RENAMED_KEY] = name_open_dims(data_inputs(clone))
    record_declared_shapes(clone, renamed)
    names = input_symbols(clone)
    given = symbols_by_either_name({**(assumed or {}), **(dims or {})}, renamed, names)
    in_use = set(names)
    if like is not None:
        _take_names(clone, like)
        in_use.update(run_time_sizes(clone))
    elif given.keys() - in_use:  # sizes known at run time only: named as they are where all sizes are open
        _infer_and_name(clone, {}, in_use)
        given = symbols_by_either_name(given, declared_names(clone), [*names, *run_time_sizes(clone)])
    bound_sizes = bind(clone, shapes or {}, given)
    _infer_and_name(clone, bound_sizes, in_use)
    check_names(given.keys() - (assumed or {}).keys(), [*names, *run_time_sizes(clone)])
    close_run_time_sizes(clone, bound_sizes)
    return clone


def _take_names(model: ir.Model, like: ir.Model) -> None:
    """Name the sizes known at run time, and lay down shapes, as in another bound copy of the same model."""
    start = laid_down(like)
    pairs = zip(_outputs(like.graph), _outputs(model.graph), strict=True)
    laid_down(model).update({twin: start[value] for value, twin in pairs if value in start})
    run_time_sizes(model).update(run_time_sizes(like))


def _infer_and_name(model: ir.Model, dims: Dims, in_use: set[str]) -> None:
    """Infer all shapes; believe the file and name what is known at run time only where inference ends."""
    _infer_from_start(model, dims)
    if not any(True for _ in _values_without_shape(model)):
        return
    computed = _shapes_at_default_sizes(model, dims)
    for _ in range(MAX_INFERENCE_ROUNDS):
        believed = believe_declared_shapes(model, in_use, computed)
        if not (name_run_time_sizes(model, in_use, computed) or believed):
            break
        _infer_from_start(model, dims)


def _shapes_at_default_sizes(model: ir.Model, dims: Dims) -> dict[ir.Value, ir.Shape]:
    """Shapes by value that inference finds once all inputs have default sizes; empty if they have sizes."""
    defaults = default_dims(model)
    if not defaults:
        return {}
    trial = model.clone()
    pairs = list(zip(_outputs(model.graph), _outputs(trial.graph), strict=True))
    start = laid_down(model)
    trial.meta.update(
        {UNKNOWN_KEY: {}, LAID_DOWN_KEY: {twin: start[value] for value, twin in pairs if value in start}}
    )
    for value in data_inputs(trial):
        value.shape = None if value.shape is None else value.shape.evaluate(defaults)
    _infer_from_start(trial, {**dims, **defaults})
    return {value: twin.shape for value, twin in pairs if twin.shape is not None}


def _outputs(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph.all_nodes():
        yield from node.outputs


def _infer_from_start(model: ir.Model, dims: Dims) -> None:
    """Infer all shapes at these sizes, from those of the inputs and those that are laid down."""
    unknown(model).clear()
    _clear_shapes(model, dims)
    _clear_loop_inputs(model)
    _infer_and_fold(model, dims)


def bound_to_defaults(
    model: ir.Model, opened: ir.Model, shapes: Mapping[str, Sequence[int]] | None, dims: Dims
) -> ir.Model:
    """The model at these sizes. opened: the same model with only the sizes bound that the user gave.

    `opened` is bound in place, unless it has functions, branches or loops, which may run differently at known
    sizes. `expressions` still returns the shapes that were inferred with open sizes.
    """
    if opened.functions or bodies(opened):
        return bound(model, shapes, assumed=dims, like=opened)
    opened.meta[OPEN_SHAPES_KEY] = {value: value.shape for value in _inputs_and_outputs_of_nodes(opened)}
    for value in opened.meta[OPEN_SHAPES_KEY]:
        value.metadata_props.pop(INFERRED_CONTENT_KEY, None)
    still_open = set(symbols(opened))
    still = {name: size for name, size in dims.items() if name in still_open}
    _infer_from_start(opened, bind(opened, {}, still))
    return opened


def _inputs_and_outputs_of_nodes(model: ir.Model) -> Iterator[ir.Value]:
    """The data inputs, and the outputs of all nodes."""
    yield from data_inputs(model)
    for node in nodes(model):
        yield from node.outputs


def sizes(value: ir.Value | None, dims: Dims | None = None) -> tuple[int, ...] | None:
    """Shape of a value in numbers, its symbols replaced by `dims`; None where a size is still open."""
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
    """A function that returns the shape of a value in numbers and sympy expressions of the `given` symbols.

    It returns None where other symbols are open. Many values have equal shapes: each is converted once.
    """
    symbols, open_shape = frozenset(given), open_shapes(model)

    @cache
    def in_sympy(dims: tuple[int | ir.SymbolicDim, ...]) -> tuple[Number, ...] | None:
        if not all(isinstance(dim, int) or dim.free_symbols() <= symbols for dim in dims):
            return None
        # onnx_ir has no public name for the expression of a dimension.
        return tuple(dim if isinstance(dim, int) else dim._expr for dim in dims)

    @cache
    def shape_of(value: ir.Value) -> tuple[Number, ...] | None:
        shape = open_shape(value)
        return None if shape is None else in_sympy(shape.dims)

    return shape_of


def _size(dim: int | ir.SymbolicDim, dims: Dims) -> int | None:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    if dim.value is None:
        return None
    size = dims.get(dim.value, dim.evaluate(dims))
    return size if isinstance(size, int) and size >= 0 else None


def inlined(model: ir.Model) -> ir.Model:
    """A clone in which every call of a function is replaced by its nodes; tensors are shared."""
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
    except ValueError:  # a function of another opset: its calls stay, and are reported as calls
        return _clone(model)
    return clone


def _adopt_opsets(function: ir.Function, model_opsets: dict[str, int]) -> None:
    """Set a function's opset versions to the model's where all its operators are the same in both."""
    domains = [
        domain
        for domain, version in function.opset_imports.items()
        if version != model_opsets.get(domain, version)
    ]
    for domain in domains:
        used = {node.op_type for node in function.all_nodes() if node.domain == domain}
        versions = function.opset_imports[domain], model_opsets[domain]
        if all(len({_since_version(op, version, domain) for version in versions}) == 1 for op in used):
            function.opset_imports[domain] = model_opsets[domain]


def _since_version(op: str, version: int, domain: str) -> int | None:
    """The opset version that introduced an operator's definition at `version`; None if it isn't known."""
    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None


def _clone(model: ir.Model) -> ir.Model:
    try:
        return model.clone()
    except RuntimeError as error:  # a value is used before a node makes it, or no node makes it
        raise BadModel("nodes use values that no node before them makes: sort the graph") from error


def _set_constant_types(model: ir.Model) -> None:
    """Give initializers and Constants the type and shape of their tensors, whatever the file declares.

    onnx_ir would find the tensor of a Constant by itself, but would rename it, and it is shared with the
    caller.
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


def _clear_shapes(model: ir.Model, dims: Dims) -> None:
    """Remove the shapes of computed values but those laid down; inference keeps the shapes that it finds."""
    start = laid_down(model)
    for node in nodes(model):
        for value in node.outputs:
            value.shape = start[value].evaluate(dims) if value in start else None
            if node.op_type != "Constant":
                value.const_value = None


def _clear_loop_inputs(model: ir.Model) -> None:
    """Remove the declared shapes of the inputs of Loop bodies: they get those of the Loop's inputs."""
    for _, body in _loops(model):
        for number, value in enumerate(body.inputs):
            value.shape = ir.Shape(()) if number < 2 else None


def _loops(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Graph]]:
    for node in nodes(model):
        body = node.attributes.get_graph("body", None) if node.op_type == "Loop" else None
        if body is not None and not node.domain and node not in unknown(model):
            yield node, body


def _open_growing_sizes(model: ir.Model, grown: set[str]) -> bool:
    """Give a symbol to every size that changes between iterations of a Loop; return whether any was new."""
    before = len(grown)
    for node, body in _loops(model):
        for start, end in zip(body.inputs[2:], body.outputs[1:], strict=False):
            if start.shape is None or isinstance(start.type, ir.SequenceType | ir.OptionalType):
                continue
            if end.shape is None or end.shape.rank() != start.shape.rank():
                reason = f"the shape of {start.name!r} changes from one iteration to the next"
                unknown(model)[node] = reason
                start.shape = None
                grown.add(reason)
                continue
            dims = list(start.shape)  # the shape itself may be shared with the Loop's input
            for axis, size in enumerate(end.shape):
                if size != dims[axis] and str(dims[axis]) not in grown:
                    dims[axis] = ir.SymbolicDim(f"grows_{len(grown)}")
                    grown.add(str(dims[axis]))
            start.shape = ir.Shape(dims)
    return len(grown) > before


def _infer_and_fold(model: ir.Model, dims: Dims) -> None:
    """Alternate shape inference and constant folding until neither has new results."""
    grown: set[str] = set()
    for _ in range(MAX_INFERENCE_ROUNDS):
        infer(model)
        if _open_growing_sizes(model, grown):
            _clear_shapes(model, dims)
        elif fold_constants(model, _values_without_shape(model)):
            for value in _values_without_shape(model):
                value.shape = None  # inference would keep a symbol of its own
        else:
            break


def _values_without_shape(model: ir.Model) -> Iterator[ir.Value]:
    """Computed values whose shape doesn't follow from the sizes of the inputs."""
    known = set(symbols(model))

    @cache
    def follows(dims: tuple[int | ir.SymbolicDim, ...]) -> bool:
        return all(isinstance(dim, int) or dim.free_symbols() <= known for dim in dims)

    for node in nodes(model):
        for output in node.outputs:
            if output.shape is None or not follows(output.shape.dims):
                yield output
