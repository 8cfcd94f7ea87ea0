"""One run of shape inference over a bound model, in place.

The rules are those of onnx_shape_inference and of `rules`. Many nodes of a net are alike: in a graph
without branches, loops and functions each kind of node is inferred once. In other graphs, and in graphs in
which an error occurs, every node is inferred.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import onnx_ir as ir
from onnx_shape_inference import (
    OpUsageError,
    ShapeInferenceContext,
    ShapeInferenceError,
    _engine,
    _functions,
    registry,
)

from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes.body_inputs import bind_bodies
from modelsurgeon.onnx.shapes.rules import register
from modelsurgeon.onnx.shapes.rules.registration import Rule

UNKNOWN_KEY = "modelsurgeon.unknown"  # model.meta: the nodes at which inference failed, each with the reason

# Operators whose output shapes and types depend only on attributes and on the input shapes and types.
DETERMINED_BY_SHAPES = frozenset(
    (
        *("Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "ConvTranspose", "Div", "Elu"),
        *("Erf", "Exp", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish"),
        *("InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "MatMul"),
        *("MaxPool", "Mish", "Mul", "PRelu", "Pow", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub"),
        *("Tanh", "Transpose"),
    )
)
# Integers are left out: they may be sizes, whose values inference tracks, too.
FLOAT_TYPES = frozenset(dtype for dtype in ir.DataType if dtype.is_floating_point())

Results = list[tuple[ir.Shape | None, ir.DataType | None]]


def unknown(model: ir.Model) -> dict[ir.Node, str]:
    """The nodes at which inference failed, each with the reason."""
    found: dict[ir.Node, str] = model.meta.setdefault(UNKNOWN_KEY, {})
    return found


def infer(model: ir.Model) -> None:
    """Infer all shapes, in place. A node that fails is added to `unknown`, and inference goes on."""
    register()
    if not _infer_each_kind(model):
        _infer_all(model)


class _Context(ShapeInferenceContext):  # type: ignore[misc] # its package has no type hints
    """Records what shapes don't show: the number of new symbols, and values whose contents are known."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        super().__init__(opsets)
        self.new_symbols = 0
        self.known_contents: set[ir.Value] = set()

    def new_symbolic_dim(self) -> ir.SymbolicDim:
        self.new_symbols += 1
        dim: ir.SymbolicDim = super().new_symbolic_dim()
        return dim

    def set_symbolic_value(self, value: ir.Value, data: list[int | ir.SymbolicDim]) -> None:
        self.known_contents.add(value)
        super().set_symbolic_value(value, data)

    def _maybe_record_anchor_equality(self, existing_dim: object, inferred_dim: object) -> None:
        """Nothing: sizes keep their own names, and the library can't parse every expression."""


def _infer_each_kind(model: ir.Model) -> bool:
    """Infer a graph without branches, loops and functions; return whether that was possible."""
    all_nodes, ctx = nodes(model), _Context(model.opset_imports)
    ops = {node.op_identifier() for node in all_nodes}
    rules = {op: registry.get(op[0], op[1], version=ctx.get_opset_version(op[0])) for op in ops}
    if unknown(model) or model.functions or bodies(model) or None in rules.values():
        return False
    if any(node.version is not None for node in all_nodes):
        return False
    ctx.reserve_symbol_names(open_symbols(model))
    for value in model.graph.inputs:
        ctx.name_anonymous_dims(value)
    seen: dict[Hashable, Results] = {}
    try:
        for node in all_nodes:
            _infer_node(ctx, node, rules[node.op_identifier()], seen)
    except Exception:  # noqa: BLE001 - `_infer_all` meets the same error and reports the node
        return False
    return True


def _infer_node(ctx: _Context, node: ir.Node, rule: Rule, seen: dict[Hashable, Results]) -> None:
    """Give the outputs of a node their shapes and types, from a node of the same kind if there was one."""
    kind = _node_kind(ctx, node)
    if kind is None:
        rule(ctx, node)
    elif (results := seen.get(kind)) is not None:
        for value, (shape, dtype) in zip(node.outputs, results, strict=True):
            value.shape = shape
            if dtype is not None:
                value.dtype = dtype
    else:
        before = ctx.new_symbols
        rule(ctx, node)
        if ctx.new_symbols == before:
            seen[kind] = [(value.shape, value.dtype) for value in node.outputs]


def _node_kind(ctx: _Context, node: ir.Node) -> Hashable | None:
    """A key, equal for nodes whose outputs have equal shapes and types; None where these depend on more."""
    inputs: list[Hashable] = []
    comparable = node.op_type in DETERMINED_BY_SHAPES and not node.domain
    for value in node.inputs:
        if value is None:
            inputs.append(None)
            continue
        dims, dtype = _named_dims(ctx, value), value.dtype
        inputs.append((dims, dtype))
        if dtype not in FLOAT_TYPES or value in ctx.known_contents:
            comparable = False
    if not comparable or any(value.shape is not None for value in node.outputs):
        return None
    return node.op_type, tuple(inputs), tuple([value.dtype for value in node.outputs]), attribute_values(node)


def _named_dims(ctx: _Context, value: ir.Value) -> tuple[int | ir.SymbolicDim, ...] | None:
    """The sizes of a value, after giving names to open ones."""
    if value.shape is None:
        return None
    dims = value.shape.dims
    for dim in dims:
        if type(dim) is not int and ctx.name_anonymous_dims(value):
            return value.shape.dims
    return dims


def open_symbols(model: ir.Model) -> set[str]:
    """Symbols in the shapes of all values."""
    values: Iterable[ir.Value] = (
        *model.graph.inputs,
        *model.graph.outputs,
        *(value for body in bodies(model) for value in body.inputs),
        *(value for node in nodes(model) for value in node.outputs),
    )
    open_shapes = (value.shape for value in values if value.shape is not None)
    return {name for shape in open_shapes if shape.is_dynamic() for name in shape.free_symbols()}


def _infer_all(model: ir.Model) -> None:
    """Infer any graph, node by node; a node that fails is added to `unknown`."""
    ctx = _Context(model.opset_imports)
    ctx.reserve_symbol_names(open_symbols(model))
    for value in model.graph.inputs:
        ctx.name_anonymous_dims(value)
    _infer_graph(ctx, model.graph, model)


def _infer_graph(ctx: _Context, graph: ir.Graph, model: ir.Model) -> None:
    """Infer the nodes of a graph, and before each the graphs inside it."""
    for node in graph:
        try:
            bind_bodies(ctx, node)
            for body in subgraphs(node):
                _infer_graph(ctx, body, model)
            if node not in unknown(model):
                _infer_any(ctx, node, model)
                _take_branch_that_runs(node, unknown(model))
        except Exception as error:  # noqa: BLE001 - a rule may raise anything where shapes don't fit
            unknown(model)[node] = _reason(error, node)
            for output in node.outputs:
                output.shape = None


def _take_branch_that_runs(node: ir.Node, failed: Mapping[ir.Node, str]) -> None:
    """Give the outputs of an If the shapes of one branch where the other can't run, so is never taken."""
    if node.op_type != "If" or node.domain or not failed:
        return
    able = [branch for branch in subgraphs(node) if _can_run(branch, failed)]
    if len(able) == 1:
        for output, result in zip(node.outputs, able[0].outputs, strict=False):
            output.shape = result.shape


def _can_run(graph: ir.Graph, failed: Mapping[ir.Node, str]) -> bool:
    """Whether no node fails that runs whenever the graph does."""
    for node in graph:
        inside = [_can_run(body, failed) for body in subgraphs(node)]
        if node in failed or (inside and not (any(inside) if node.op_type == "If" else all(inside))):
            return False
    return True


def _infer_any(ctx: _Context, node: ir.Node, model: ir.Model) -> None:
    """Infer a node by its rule, by the function of the model that it calls, or by its definition in ONNX."""
    for value in node.inputs:
        if value is not None:
            ctx.name_anonymous_dims(value)
    version = ctx.get_opset_version(node.domain)
    rule = registry.get(node.domain, node.op_type, version=version)
    # The package has no public names for the inference of function bodies by a context of one's own.
    inside = {"process_graph_fn": _engine._process_graph, "warn_on_missing": False}
    if rule is not None:
        rule(ctx, node)
    elif node.op_identifier() in model.functions:
        _functions.infer_function_call_output_shapes(ctx, node, model.functions, **inside)
    else:
        _functions.infer_via_op_schema_function(ctx, node, opset_version=version, **inside)


def _reason(error: Exception, node: ir.Node) -> str:
    if isinstance(error, OpUsageError | ShapeInferenceError):
        return str(error.message)
    return f"Shape inference failed for {node.domain}::{node.op_type}"
