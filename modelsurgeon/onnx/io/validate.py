"""Validation of a model before anything is run. Linear in the size of the graph.

onnx.checker isn't enough: it accepts short data, negative sizes and unknown element types, and reads every
weight. This checks names, order, nesting, calls of functions and the bounds of data, and reads no weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto

from modelsurgeon.errors import BadModel
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.map_types import has_map
from modelsurgeon.onnx.io.protobuf import MAX_GRAPH_DEPTH
from modelsurgeon.onnx.io.validate_calls import Op, Ops, check_calls
from modelsurgeon.onnx.io.validate_text import (
    check_entries,
    check_texts,
    check_type,
    check_values,
    first_duplicate,
    quoted,
)

MAX_NODES = 1_000_000

Check = Callable[[TensorProto], None]
# Names that a graph defines -> index of the node that makes the value, or -1 for inputs and weights.
Names = Mapping[str, int]
# Of every graph around a node, from the outside in: its names, and the index of the node in it or around it.
Scope = tuple[tuple[Names, int], ...]
A = AttributeProto
REQUIRED_BODIES = {"If": ("then_branch", "else_branch"), "Loop": ("body",), "Scan": ("body",)}


@dataclass(frozen=True, kw_only=True)
class ValidationRules:
    """How tensors and attributes of a graph or function are checked.

    check_tensor: raises BadModel where shape, type and data of a tensor don't agree.
    parameters: names of attributes that a function takes; outside of functions there are none.
    """

    check_tensor: Check
    parameters: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Body:
    """Summary of the nodes of a graph or function, the graphs inside it included.

    ops: how often each operator is used. captured: names used from graphs around it.
    ordered: whether every node comes after the nodes that it needs.
    """

    ops: Ops = field(default_factory=Counter)
    captured: set[str] = field(default_factory=set)
    ordered: bool = True


def check(model: ModelProto, check_tensor: Check) -> bool:
    """Raise BadModel where the model isn't valid; else return whether its nodes are in topological order.

    check_tensor: raises BadModel where shape, type and data of a tensor don't agree.
    """
    _check_header(model)
    functions = {_operator(function): function for function in model.functions}
    if duplicate := first_duplicate(_operator(function) for function in model.functions):
        raise BadModel(f"defines the function {quoted(duplicate[1])} twice")
    main = _check_graph(model.graph, (), ValidationRules(check_tensor=check_tensor))
    bodies = {op: _check_function(function, check_tensor) for op, function in functions.items()}
    if (nodes := sum(body.ops.total() for body in (main, *bodies.values()))) > MAX_NODES:
        raise BadModel(f"has {nodes} nodes: {MAX_NODES} at most are read")
    check_calls(main.ops, {op: body.ops for op, body in bodies.items()})
    return main.ordered and all(body.ordered for body in bodies.values())


def _check_header(model: ModelProto) -> None:
    if not model.HasField("graph"):
        raise BadModel("holds no graph: an ONNX model is needed")
    if model.ir_version < 1:
        raise BadModel("states no IR version: save it again with a current exporter")
    if len(model.training_info):
        raise BadModel("holds training_info, which isn't supported: export the model for inference")
    if not len(model.opset_import) and model.ir_version >= 3:
        raise BadModel("imports no operator set: save it again with a current exporter")
    _check_opsets(model)
    check_texts(model.producer_name, model.producer_version, model.domain, model.doc_string)
    check_entries(model.metadata_props)


def _check_opsets(owner: ModelProto | FunctionProto) -> None:
    versions = {(opset.domain, opset.version) for opset in owner.opset_import}
    check_texts(*(domain for domain, _ in versions))
    for domain, version in versions:
        if version < 1:
            raise BadModel(f"imports version {version} of the operator set {quoted(domain)}: 1 is the first")
    if (duplicate := first_duplicate(domain for domain, _ in versions)) is not None:
        raise BadModel(f"imports two versions of the operator set {quoted(duplicate)}")


def _check_graph(graph: GraphProto, outer: Scope, rules: ValidationRules) -> Body:
    if len(outer) >= MAX_GRAPH_DEPTH:
        raise BadModel(f"has graphs nested deeper than {MAX_GRAPH_DEPTH}")
    if len(graph.sparse_initializer):
        raise BadModel("holds sparse weights, which aren't supported: save them as dense ones")
    check_texts(graph.name, graph.doc_string)
    check_entries(graph.metadata_props)
    check_values((*graph.input, *graph.output, *graph.value_info))
    for tensor in graph.initializer:
        _check_weight(tensor, rules)
    inputs = _unique_names([value.name for value in graph.input], "input")
    weights = _unique_names([tensor.name for tensor in graph.initializer], "weight")
    names = _defined_names((*inputs, *weights), graph.node, outer)
    body = _check_nodes(graph.node, names, outer, rules)
    _check_outputs((value.name for value in graph.output), names)
    return body


def _check_function(function: FunctionProto, check_tensor: Check) -> Body:
    check_texts(*_operator(function), function.doc_string, *function.attribute)
    check_entries(function.metadata_props)
    check_values(function.value_info)
    _check_opsets(function)
    parameters = (*function.attribute, *(attribute.name for attribute in function.attribute_proto))
    rules = ValidationRules(check_tensor=check_tensor, parameters=frozenset(parameters))
    names = _defined_names(_unique_names(list(function.input), "function input"), function.node, ())
    for attribute in function.attribute_proto:
        _check_attribute(attribute, rules)
    body = _check_nodes(function.node, names, (), rules)
    _check_outputs(function.output, names)
    return body


def _unique_names(names: list[str], what: str) -> list[str]:
    check_texts(*names)
    if "" in names:
        raise BadModel(f"has no name for {what} {names.index('')}: every one needs its own")
    if duplicate := first_duplicate(names):
        raise BadModel(f"has two of the name {quoted(duplicate)} ({what}): every one needs its own")
    return names


def _defined_names(inputs_and_weights: Iterable[str], nodes: Sequence[NodeProto], outer: Scope) -> Names:
    """All names of a graph. Each is defined once, and no node makes a name that is visible around the graph.

    Visible are the names of every outer graph that exist before the node that holds this one: its own outputs
    are not, and a graph inside may use their names. Inputs and weights of a graph may hide any name.
    """
    names = dict.fromkeys(inputs_and_weights, -1)
    made: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in filter(None, node.output):
            if name in names or name in made:
                raise BadModel(f"makes {quoted(name)} twice, again in {_describe_node(node, index)}")
            made[name] = index
    for outer_names, position in outer:
        if hidden := [name for name in made.keys() & outer_names.keys() if outer_names[name] < position]:
            raise BadModel(f"has a graph in which {quoted(min(hidden))} hides the same name outside")
    return names | made


def _check_nodes(nodes: Sequence[NodeProto], own_names: Names, outer: Scope, rules: ValidationRules) -> Body:
    """Check nodes and summarize them. own_names: of their graph; outer: of the graphs around it."""
    body = Body()
    needed: list[set[str]] = []
    ordered = True
    for index, node in enumerate(nodes):
        op = _operator(node)
        _check_node_texts(node, op, index)
        bodies = list(_checked_bodies(node, (*outer, (own_names, index)), rules))
        used = {*filter(None, node.input)}.union(*(body_inside.captured for body_inside in bodies))
        outside = used.difference(own_names)
        if unknown := [name for name in outside if not any(name in names for names, _ in outer)]:
            raise BadModel(
                f"has {_describe_node(node, index)}, which needs {quoted(min(unknown))}: nothing makes that"
            )
        body.captured.update(outside)
        body.ops[op] += 1
        for body_inside in bodies:
            body.ops.update(body_inside.ops)
        needed.append(used)
        ordered = ordered and all(own_names.get(name, -1) < index for name in used)
    if not ordered:
        _check_cycles(needed, own_names, nodes)
    return Body(ops=body.ops, captured=body.captured, ordered=ordered)


def _check_cycles(needed: Sequence[set[str]], own_names: Names, nodes: Sequence[NodeProto]) -> None:
    predecessors = ({own_names[name] for name in names if own_names.get(name, -1) >= 0} for names in needed)
    try:
        TopologicalSorter(dict(enumerate(predecessors))).prepare()
    except CycleError as error:
        index = error.args[1][0]
        raise BadModel(f"has a cycle through {_describe_node(nodes[index], index)}") from error


def _checked_bodies(node: NodeProto, scope: Scope, rules: ValidationRules) -> Iterator[Body]:
    """Check a node's attributes; summaries of the graphs in them."""
    if not node.attribute and node.op_type not in REQUIRED_BODIES:
        return
    if duplicate := first_duplicate(attribute.name for attribute in node.attribute):
        raise BadModel(
            f"has a node {quoted(node.name)} ({node.op_type}) with two attributes {quoted(duplicate)}"
        )
    graphs = {attribute.name for attribute in node.attribute if attribute.type == A.GRAPH}
    needed = () if node.domain not in STANDARD_DOMAINS else REQUIRED_BODIES.get(node.op_type, ())
    if missing := [name for name in needed if name not in graphs]:
        raise BadModel(f"has a node {quoted(node.name)} ({node.op_type}) without its {missing[0]}")
    for attribute in node.attribute:
        _check_attribute(attribute, rules)
        if attribute.type == A.GRAPH:
            yield _check_graph(attribute.g, scope, rules)
        elif attribute.type == A.GRAPHS:
            yield from (_check_graph(graph, scope, rules) for graph in attribute.graphs)


def _check_attribute(attribute: AttributeProto, rules: ValidationRules) -> None:
    check_texts(attribute.name, attribute.doc_string, attribute.ref_attr_name)
    if attribute.ref_attr_name and attribute.ref_attr_name not in rules.parameters:
        raise BadModel(f"has an attribute that refers to {quoted(attribute.ref_attr_name)}: there is none")
    if attribute.type == A.UNDEFINED and not attribute.ref_attr_name:
        raise BadModel(f"has an attribute {quoted(attribute.name)} without a type: save the model again")
    if attribute.type in (A.SPARSE_TENSOR, A.SPARSE_TENSORS):
        raise BadModel(
            f"has a sparse tensor in {quoted(attribute.name)}, which isn't supported: make it dense"
        )
    for kind in (attribute.tp, *attribute.type_protos):
        check_type(kind, attribute.name)
        if has_map(kind):
            raise BadModel(f"has a map in {quoted(attribute.name)}, which isn't supported: cut it off")
    if attribute.type == A.TENSOR:
        _check_weight(attribute.t, rules)
    for tensor in attribute.tensors:
        _check_weight(tensor, rules)


def _check_weight(tensor: TensorProto, rules: ValidationRules) -> None:
    check_texts(tensor.name, tensor.doc_string)
    check_entries((*tensor.metadata_props, *tensor.external_data))
    try:
        rules.check_tensor(tensor)
    except BadModel as error:
        raise BadModel(f"holds the tensor {quoted(tensor.name)}, which {error}") from error


def _check_outputs(outputs: Iterable[str], names: Names) -> None:
    for name in outputs:
        check_texts(name)
        if name not in names:
            raise BadModel(f"has the output {quoted(name)}, which nothing in its graph makes")


def _check_node_texts(node: NodeProto, op: Op, index: int) -> None:
    check_texts(*op, node.name, node.doc_string, *node.input, *node.output)
    check_entries(node.metadata_props)
    if not op[1]:
        raise BadModel(f"has no operator in node {index}")


def _operator(owner: NodeProto | FunctionProto) -> Op:
    name = owner.op_type if isinstance(owner, NodeProto) else owner.name
    return owner.domain, name, owner.overload


def _describe_node(node: NodeProto, index: int) -> str:
    return f"node {index} ({quoted(node.op_type)} {quoted(node.name)})"
