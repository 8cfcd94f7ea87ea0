"""One run of shape inference over a bound model, in place.

The rules are those of onnx_shape_inference and of `rules`. Many nodes of a net are alike: in a graph
without branches, loops and functions each kind of node is inferred once. Other graphs, and graphs in which
an error occurs, go through onnx_shape_inference's own traversal, which reports the node of an error.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

import onnx_ir as ir
from onnx_shape_inference import (
    OpUsageError,
    ShapeInferenceContext,
    ShapeInferenceError,
    infer_symbolic_shapes,
    registry,
)

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes.rules import register
from modelsurgeon.onnx.shapes.rules.registration import Rule

UNKNOWN_KEY = "modelsurgeon.unknown"  # model.meta: the nodes at which inference failed, each with the reason
ASIDE_DOMAIN = "modelsurgeon.aside"  # a domain without rules

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


def _infer_each_kind(model: ir.Model) -> bool:
    """Infer a graph without branches, loops and functions; return whether that was possible."""
    all_nodes, ctx = nodes(model), _Context(model.opset_imports)
    ops = {node.op_identifier() for node in all_nodes}
    rules = {op: registry.get(op[0], op[1], version=ctx.get_opset_version(op[0])) for op in ops}
    if unknown(model) or model.functions or bodies(model) or None in rules.values():
        return False
    if any(node.version is not None for node in all_nodes):
        return False
    ctx.reserve_symbol_names(_symbols(model))
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


def _symbols(model: ir.Model) -> set[str]:
    """Symbols in the shapes of all values."""
    values: Iterable[ir.Value] = (
        *model.graph.inputs,
        *model.graph.outputs,
        *(value for node in nodes(model) for value in node.outputs),
    )
    open_shapes = (value.shape for value in values if value.shape is not None)
    return {name for shape in open_shapes if shape.is_dynamic() for name in shape.free_symbols()}


def _infer_all(model: ir.Model) -> None:
    """Infer any graph with onnx_shape_inference's own traversal, again after each failing node."""
    labelled = {f"{ASIDE_DOMAIN}:{number}": node for number, node in enumerate(nodes(model))}
    originals = [(node, node.name, node.domain) for node in labelled.values()]
    for label, node in labelled.items():
        if node in unknown(model):
            node.domain = ASIDE_DOMAIN
        node.name = label  # an error reports only the name of its node
    try:
        while (failed := _infer_until_failure(model, labelled)) is not None:
            node, reason = failed
            unknown(model)[node] = reason
            node.domain = ASIDE_DOMAIN
            for value in node.outputs:
                value.shape = None
    finally:
        for node, name, domain in originals:
            node.name, node.domain = name, domain


def _infer_until_failure(model: ir.Model, nodes: Mapping[str, ir.Node]) -> tuple[ir.Node, str] | None:
    """One run of inference: the node that ended it and the reason, or None if it completed."""
    try:
        infer_symbolic_shapes(model, warn_on_missing=False, adopt_declared_symbols=False)
    except OpUsageError as error:
        return nodes.get(error.node.name or "") or _first_without_rule(model, nodes), error.message
    except ShapeInferenceError as error:
        return nodes.get(error.node_name or "") or _first_without_rule(model, nodes), error.message
    return None


def _first_without_rule(model: ir.Model, nodes: Mapping[str, ir.Node]) -> ir.Node:
    """The node in whose built-in function inference failed: the first with no rule and no output shape."""
    for node in nodes.values():
        version = model.opset_imports.get(node.domain, 1)
        open_ = node.domain != ASIDE_DOMAIN and bool(node.outputs) and node.outputs[0].shape is None
        if open_ and registry.get(node.domain, node.op_type, version=version) is None:
            return node
    raise BadModel("shape inference fails in this graph, at no node that it names; check the model")
