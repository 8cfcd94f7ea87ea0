"""One run of shape inference over a bound model, in place.

The rules are onnx_shape_inference's and those of `rules`. Most nodes of a net look like others of it: in a
graph without branches, loops and functions each kind of node is inferred once. All else is left to
onnx_shape_inference's own walk, and so is a graph in which something goes wrong: it tells where.
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
from modelsurgeon.onnx.graph.attributes import values_of
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes import op_rules
from modelsurgeon.onnx.shapes.op_rules import Rule

UNKNOWN_KEY = (
    "modelsurgeon.unknown"  # model.meta: the nodes that inference could not do, each with the reason
)
ASIDE_DOMAIN = "modelsurgeon.aside"  # a domain of which inference knows nothing

# Operators whose outputs follow from the attributes, and the types and shapes of the inputs.
BY_SHAPE = frozenset(
    (
        *("Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "ConvTranspose", "Div", "Elu"),
        *("Erf", "Exp", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish"),
        *("InstanceNormalization", "LRN", "LayerNormalization", "LeakyRelu", "Log", "LogSoftmax", "MatMul"),
        *("MaxPool", "Mish", "Mul", "PRelu", "Pow", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "Sub"),
        *("Tanh", "Transpose"),
    )
)
# Integers may be sizes, whose values inference follows, too.
DATA_TYPES = frozenset(dtype for dtype in ir.DataType if dtype.is_floating_point())

Results = list[tuple[ir.Shape | None, ir.DataType | None]]


def unknown(model: ir.Model) -> dict[ir.Node, str]:
    """The nodes that inference could not do, each with the reason."""
    found: dict[ir.Node, str] = model.meta.setdefault(UNKNOWN_KEY, {})
    return found


def infer(model: ir.Model) -> None:
    """Infer in place. A node that fails is set aside as `unknown`, and the rest goes on."""
    op_rules.register()
    if not _infer_each_kind(model):
        _infer_all(model)


class _Context(ShapeInferenceContext):  # type: ignore[misc] # its package has no type hints
    """Notes what shapes don't tell of a node: symbols that were made up for it, contents that are known."""

    def __init__(self, opsets: Mapping[str, int]) -> None:
        super().__init__(opsets)
        self.made_up = 0
        self.told: set[ir.Value] = set()

    def new_symbolic_dim(self) -> ir.SymbolicDim:
        self.made_up += 1
        made: ir.SymbolicDim = super().new_symbolic_dim()
        return made

    def set_symbolic_value(self, value: ir.Value, data: list[int | ir.SymbolicDim]) -> None:
        self.told.add(value)
        super().set_symbolic_value(value, data)


def _infer_each_kind(model: ir.Model) -> bool:
    """Infer a graph without branches, loops and functions; whether it is one, and all went well."""
    found, ctx = nodes(model), _Context(model.opset_imports)
    ops = {node.op_identifier() for node in found}
    ruled = {op: registry.get(op[0], op[1], version=ctx.get_opset_version(op[0])) for op in ops}
    if unknown(model) or model.functions or bodies(model) or None in ruled.values():
        return False
    ctx.reserve_symbol_names(_symbols(model))
    for value in model.graph.inputs:
        ctx.name_anonymous_dims(value)
    seen: dict[Hashable, Results] = {}
    try:
        for node in found:
            _infer_node(ctx, node, ruled[node.op_identifier()], seen)
    except Exception:  # noqa: BLE001 - whatever a rule raises, the walk that follows meets it, and tells where
        return False
    return True


def _infer_node(ctx: _Context, node: ir.Node, rule: Rule, seen: dict[Hashable, Results]) -> None:
    """Give the outputs of a node their shapes and types."""
    kind = _kind(ctx, node)
    if kind is None:
        rule(ctx, node)
    elif (results := seen.get(kind)) is not None:
        for value, (shape, dtype) in zip(node.outputs, results, strict=True):
            value.shape = shape
            if dtype is not None:
                value.dtype = dtype
    else:
        before = ctx.made_up
        rule(ctx, node)
        if ctx.made_up == before:
            seen[kind] = [(value.shape, value.dtype) for value in node.outputs]


def _kind(ctx: _Context, node: ir.Node) -> Hashable | None:
    """The same for nodes whose outputs look the same; None where types and shapes don't tell that."""
    given: list[Hashable] = []
    repeats = node.op_type in BY_SHAPE and not node.domain
    for value in node.inputs:
        if value is None:
            given.append(None)
            continue
        dims, dtype = _named(ctx, value), value.dtype
        given.append((dims, dtype))
        if dtype not in DATA_TYPES or value in ctx.told:
            repeats = False
    if not repeats or any(value.shape is not None for value in node.outputs):
        return None
    return node.op_type, tuple(given), tuple([value.dtype for value in node.outputs]), values_of(node)


def _named(ctx: _Context, value: ir.Value) -> tuple[int | ir.SymbolicDim, ...] | None:
    """The sizes of a value; open ones have names from now on."""
    if value.shape is None:
        return None
    dims = value.shape.dims
    for dim in dims:
        if type(dim) is not int and ctx.name_anonymous_dims(value):
            return value.shape.dims
    return dims


def _symbols(model: ir.Model) -> set[str]:
    """Symbols in the shapes of all values, whoever made them up."""
    values: Iterable[ir.Value] = (
        *model.graph.inputs,
        *model.graph.outputs,
        *(value for node in nodes(model) for value in node.outputs),
    )
    open_shapes = (value.shape for value in values if value.shape is not None)
    return {name for shape in open_shapes if shape.is_dynamic() for name in shape.free_symbols()}


def _infer_all(model: ir.Model) -> None:
    """Infer any graph."""
    labelled = {f"{ASIDE_DOMAIN}:{number}": node for number, node in enumerate(nodes(model))}
    own = [(node, node.name, node.domain) for node in labelled.values()]
    for label, node in labelled.items():
        if node in unknown(model):
            node.domain = ASIDE_DOMAIN
        node.name = label  # an error tells a name, and no more, of where it arose
    try:
        while (failed := _attempt(model, labelled)) is not None:
            node, reason = failed
            unknown(model)[node] = reason
            node.domain = ASIDE_DOMAIN
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
        open_ = node.domain != ASIDE_DOMAIN and bool(node.outputs) and node.outputs[0].shape is None
        if open_ and registry.get(node.domain, node.op_type, version=version) is None:
            return node
    raise BadModel("shape inference fails in this graph, at no node that it names; check the model")
