"""Bound models: shapes of all values, with symbols for open sizes and numbers for fixed or bound ones.

Inference itself is that of onnx_shape_inference. This module prepares models for it: open dimensions get
names, shapes that the file declares for computed values are cleared, and where inference fails at a node, the
shapes of its outputs stay unknown, with the reason, and inference goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cache

import onnx_ir as ir

from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.cost import Number
from modelsurgeon.onnx.graph.constant_folding import fold_constants
from modelsurgeon.onnx.graph.dataflow import subgraphs
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
from modelsurgeon.onnx.shapes.default_sizes import default_dims
from modelsurgeon.onnx.shapes.dimensions import CONTENTS_KEY
from modelsurgeon.onnx.shapes.impossible import (
    IMPOSSIBLE_KEY,
    MISFITS_KEY,
    impossible,
    impossible_positions,
    record_impossible,
)
from modelsurgeon.onnx.shapes.inference import UNKNOWN_KEY, infer, open_symbols, unknown
from modelsurgeon.onnx.shapes.inline_functions import inlined_to_measure
from modelsurgeon.onnx.shapes.loops import (
    changing_ranks,
    follow_growth,
    iterations,
    name_iterations,
)
from modelsurgeon.onnx.shapes.pinned import PINNED_KEY, deduced_sizes, pinned
from modelsurgeon.onnx.shapes.rules.data_dependent import START_SHAPE_KEY
from modelsurgeon.onnx.shapes.rules.open_sizes.contents import is_followed
from modelsurgeon.onnx.shapes.run_time.declared_shapes import (
    LAID_DOWN_KEY,
    believe_declared_shapes,
    declared_names,
    laid_down,
    record_declared_shapes,
)
from modelsurgeon.onnx.shapes.run_time.names import name_run_time_sizes
from modelsurgeon.onnx.shapes.run_time.sizes import close_run_time_sizes, run_time_sizes

RENAMED_KEY = "modelsurgeon.renamed"  # model.meta: symbols by the invalid names that they replace
INFERRED_CONTENT_KEY = "pkg.onnx_shape_inference.sym_data"  # value.metadata_props: computed contents
OPEN_UNKNOWN_KEY = "modelsurgeon.open_unknown"  # model.meta: UNKNOWN_KEY before the symbols were bound
OPEN_FOLLOWED_KEY = "modelsurgeon.followed"  # model.meta: values whose contents were known before that
BOUND_SIZES_KEY = "modelsurgeon.sizes"  # model.meta: the sizes of all symbols that were bound
MAX_INFERENCE_ROUNDS = 64


def bound(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    *,
    spend: bool = False,
) -> ir.Model:
    """A clone with bound inputs and inferred shapes. Tensors are shared, `model` isn't changed.

    Open sizes that the model leaves no choice for are bound, too: `pinned` lists them. Functions are inlined,
    so that every call has shapes of its own; a node of another opset than the model's has its version in
    `Node.version`. The clone is for measuring only: inference stores the contents of small integer tensors in
    the metadata of its values.

    shapes: input name -> sizes. dims: symbol -> size; a symbol that had to be renamed (`meta[RENAMED_KEY]`)
    may be given by either name. spend: bind `model` itself, without a clone, if it has no functions, branches
    and loops. Raises UnknownShape for an input or a symbol that the model doesn't have, a wrong number of
    axes, sizes that contradict each other, and sizes at which a node can't run that could without them.
    """
    declared = {str(value.name): value.shape for value in model.graph.inputs} if shapes or dims else {}
    found = bound_as_given(model, shapes, dims, spend=spend)
    if impossible(found) and (shapes or dims):
        from modelsurgeon.onnx.shapes.refused_sizes import GivenSizes, refusal

        given = GivenSizes(shapes=shapes or {}, dims=dims or {}, declared=declared)
        if (reason := refusal(found, given, bound_as_given)) is not None:
            raise UnknownShape(reason)
    return found


def bound_as_given(
    model: ir.Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    *,
    like: ir.Model | None = None,
    spend: bool = False,
) -> ir.Model:
    """The same as `bound`, whether the nodes can run at the given sizes or not.

    like: another bound copy of the model, from which the sizes known at run time have their names; symbols in
    `dims` may be missing then.
    """
    named = like
    if like is None and _names_beyond_inputs(model, dims or {}):
        named = bound_as_given(
            model
        )  # all sizes are open: what a size is called doesn't depend on the others
    in_place = spend and not model.functions and next(model.graph.subgraphs(), None) is None
    clone = model if in_place else inlined_to_measure(model)
    inside = () if in_place else tuple(clone.graph.subgraphs())
    clone.meta.update(
        {
            CACHED_NODES: tuple(clone.graph.all_nodes()),
            CACHED_BODIES: inside,
            UNKNOWN_KEY: {},
            IMPOSSIBLE_KEY: {},
            MISFITS_KEY: set(),
            PINNED_KEY: [],
            OPEN_SHAPES_KEY: {},
        }
    )
    _set_constant_types(clone)
    renamed = clone.meta[RENAMED_KEY] = name_open_dims(data_inputs(clone))
    record_declared_shapes(clone, renamed)
    names = input_symbols(clone)
    if named is not None:
        _take_names(clone, named)
    known = [*names, *run_time_sizes(clone)]
    given = symbols_by_either_name(dims or {}, declared_names(clone), known)
    if like is None:
        check_names(given, known)
    clone.meta[BOUND_SIZES_KEY] = bind(clone, shapes or {}, given)
    _infer_from_start(clone)
    computed: Mapping[ir.Value, ir.Shape] | None = None
    for _ in range(MAX_INFERENCE_ROUNDS):
        if found := deduced_sizes(clone):
            pinned(clone).extend(found)
            deduced = {size.symbol: size.size for size in found}
            if inside:  # branches and loops may run differently now
                again = bound_as_given(model, shapes, {**(dims or {}), **deduced}, like=like)
                pinned(again)[:0] = found
                return again
            _bind_further(clone, deduced)
            continue
        if next(_values_without_shape(clone), None) is None:
            break
        computed = _shapes_at_default_sizes(clone) if computed is None else computed
        in_use = {*names, *run_time_sizes(clone), *iterations(clone)}
        believed = believe_declared_shapes(clone, in_use, computed)
        if not (name_run_time_sizes(clone, in_use, computed) or believed):
            break
        _infer_from_start(clone)
    close_run_time_sizes(clone, clone.meta[BOUND_SIZES_KEY])
    return clone


def dims_by_model(
    models: Sequence[ir.Model], shapes: Mapping[str, Sequence[int]] | None, dims: Dims
) -> list[dict[str, int]]:
    """Of the given sizes, those of each model; one that no model has is left in all, to be refused."""
    opened = [bound(model, shapes) for model in models]
    known = [
        {*symbols(one), *run_time_sizes(one), *one.meta[RENAMED_KEY], *declared_names(one)} for one in opened
    ]
    everywhere = dims.keys() - set().union(*known)
    return [
        {name: size for name, size in dims.items() if name in names or name in everywhere} for names in known
    ]


def _names_beyond_inputs(model: ir.Model, dims: Dims) -> bool:
    """Whether some of these names belong to no size of an input."""
    inputs = data_inputs(model)
    before = [value.shape for value in inputs]
    names = {*name_open_dims(inputs), *input_symbols(model)}
    for value, shape in zip(inputs, before, strict=True):
        value.shape = shape
    return not names.issuperset(dims)


def _take_names(model: ir.Model, named: ir.Model) -> None:
    """Name the sizes known at run time, and lay down shapes, as in another bound copy of the same model."""
    start = laid_down(named)
    pairs = zip(_outputs(named.graph), _outputs(model.graph), strict=True)
    laid_down(model).update({twin: start[value] for value, twin in pairs if value in start})
    run_time_sizes(model).update(run_time_sizes(named))
    declared_names(model).update(declared_names(named))


def _shapes_at_default_sizes(model: ir.Model) -> dict[ir.Value, ir.Shape]:
    """Shapes by value that inference finds once all inputs have default sizes; empty if they have sizes."""
    defaults = default_dims(model)
    if not defaults:
        return {value: ir.Shape(()) for value in _behind_failures(model) if value.shape is None}
    trial = model.clone()
    pairs = list(zip(_outputs(model.graph), _outputs(trial.graph), strict=True))
    start = laid_down(model)
    trial.meta.clear()
    trial.meta[BOUND_SIZES_KEY] = {**model.meta[BOUND_SIZES_KEY], **defaults}
    trial.meta[LAID_DOWN_KEY] = {twin: start[value] for value, twin in pairs if value in start}
    for value in data_inputs(trial):
        value.shape = None if value.shape is None else value.shape.evaluate(defaults)
    _infer_from_start(trial)
    failing = _behind_failures(trial)
    return {
        value: ir.Shape(()) if twin.shape is None else twin.shape
        for value, twin in pairs
        if twin.shape is not None or twin in failing
    }


def _behind_failures(model: ir.Model) -> set[ir.Value]:
    """The outputs of the nodes at which inference fails, and of those behind them: they don't exist."""
    found: set[ir.Value] = set()
    before = -1
    while len(found) > before:  # the results of a branch come after the node that holds it
        before = len(found)
        for node in nodes(model):
            read = [*node.inputs, *(value for graph in subgraphs(node) for value in graph.outputs)]
            if node in unknown(model) or any(value in found for value in read if value is not None):
                found.update(node.outputs)
    return found


def _infer_from_start(model: ir.Model) -> None:
    """Infer all shapes from those of the inputs and those that are laid down, as if for the first time."""
    model.meta.update({UNKNOWN_KEY: {}, IMPOSSIBLE_KEY: {}, MISFITS_KEY: set()})
    _clear_shapes(model)
    name_iterations(model, {*symbols(model), *open_symbols(model)})
    _infer_and_fold(model)


def _outputs(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph.all_nodes():
        yield from node.outputs


def bound_to_defaults(
    model: ir.Model, opened: ir.Model, shapes: Mapping[str, Sequence[int]] | None, dims: Dims
) -> ir.Model:
    """The model at these sizes. opened: the same model with only the sizes bound that the user gave.

    `opened` is bound in place, unless it has functions, branches or loops, which may run differently at known
    sizes. `expressions` still returns the shapes that were inferred with open sizes.
    """
    always = impossible_positions(opened)
    found = _bound_to_defaults(model, opened, shapes, dims)
    all_nodes = nodes(found)
    found.meta[MISFITS_KEY] = {all_nodes[number] for number in impossible_positions(found) - always}
    return found


def _bound_to_defaults(
    model: ir.Model, opened: ir.Model, shapes: Mapping[str, Sequence[int]] | None, dims: Dims
) -> ir.Model:
    if opened.functions or bodies(opened):
        deduced = {size.symbol: size.size for size in pinned(opened)}
        return bound_as_given(model, shapes, {**deduced, **dims}, like=opened)
    opened.meta[OPEN_SHAPES_KEY] = {value: value.shape for value in _inputs_and_outputs_of_nodes(opened)}
    opened.meta[OPEN_UNKNOWN_KEY] = dict(unknown(opened))
    opened.meta[OPEN_FOLLOWED_KEY] = followed_values(opened)
    still_open = set(symbols(opened))
    _bind_further(opened, {name: size for name, size in dims.items() if name in still_open})
    return opened


def _bind_further(model: ir.Model, dims: Dims) -> None:
    """Bind more symbols of a bound model, in place, and infer its shapes again."""
    model.meta[BOUND_SIZES_KEY] = {**model.meta[BOUND_SIZES_KEY], **bind(model, {}, dims)}
    _clear_shapes(model)
    _infer_and_fold(model)


def open_unknown(model: ir.Model) -> Mapping[ir.Node, str]:
    """The nodes at which inference failed with open sizes, even if these have been bound since."""
    found: Mapping[ir.Node, str] = model.meta.get(OPEN_UNKNOWN_KEY, unknown(model))
    return found


def followed_values(model: ir.Model) -> Collection[ir.Value]:
    """Values whose whole contents were known with open sizes, even if these have been bound since."""
    found: Collection[ir.Value] | None = model.meta.get(OPEN_FOLLOWED_KEY)
    return (
        found
        if found is not None
        else {value for value in _inputs_and_outputs_of_nodes(model) if is_followed(value)}
    )


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


def _clear_shapes(model: ir.Model) -> None:
    """Remove the shapes and contents of computed values but those laid down; inference would keep them."""
    start, dims = laid_down(model), model.meta[BOUND_SIZES_KEY]
    for node in nodes(model):
        for value in node.outputs:
            value.shape = None
            if value._metadata:  # asking for `meta` or `metadata_props` makes a dictionary for every value
                value.meta.pop(START_SHAPE_KEY, None)
                value.meta.pop(CONTENTS_KEY, None)
            if value._metadata_props:
                value.metadata_props.pop(INFERRED_CONTENT_KEY, None)
            if value in start:
                value.shape = value.meta[START_SHAPE_KEY] = start[value].evaluate(dims)
            if node.op_type != "Constant":
                value.const_value = None


def _infer_and_fold(model: ir.Model) -> None:
    """Alternate shape inference and constant folding until neither has new results."""
    known, in_use = {*symbols(model), *iterations(model)}, open_symbols(model)
    for _ in range(MAX_INFERENCE_ROUNDS):
        infer(model)
        if _report_changing_ranks(model) or follow_growth(model, unknown(model), known, in_use):
            _clear_shapes(model)
        elif fold_constants(model, _values_without_shape(model)):
            for value in (*_values_without_shape(model), *_behind_branches(model)):
                value.shape = None  # inference would keep a symbol of its own, or the shape of another branch
        elif record_impossible(model):
            _clear_shapes(model)
        else:
            return
    infer(model)  # after the last round, too, shapes are those of inference


def _behind_branches(model: ir.Model) -> Iterator[ir.Value]:
    """Values that aren't constant, of a model with branches: their shapes may be those of another branch."""
    start = laid_down(model)
    branching = bodies(model) and any(node.op_type == "If" for node in nodes(model))
    for node in nodes(model) if branching else ():
        if node.op_type not in ("If", "Loop", "Scan"):
            yield from (value for value in node.outputs if value.const_value is None and value not in start)


def _report_changing_ranks(model: ir.Model) -> bool:
    """Add Loops with a state that changes its rank to the unknown nodes; return whether there were any."""
    found = list(changing_ranks(model, unknown(model)))
    for node, start in found:
        unknown(model)[node] = f"the shape of {start.name!r} changes from one iteration to the next"
        start.shape = None
    return bool(found)


def _values_without_shape(model: ir.Model) -> Iterator[ir.Value]:
    """Computed values whose shape doesn't follow from the sizes of the inputs."""
    known = {*symbols(model), *iterations(model)}

    @cache
    def follows(dims: tuple[int | ir.SymbolicDim, ...]) -> bool:
        return all(isinstance(dim, int) or dim.free_symbols() <= known for dim in dims)

    for node in nodes(model):
        for output in node.outputs:
            if output.shape is None or not follows(output.shape.dims):
                yield output
