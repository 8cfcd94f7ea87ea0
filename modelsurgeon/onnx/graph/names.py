"""Names of layers: the same in reports and plans, and for a torch module and its export."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS, NAME_SCOPES_KEY
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.graph.traversal import bodies, nodes


def nodes_with_functions(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the graph, of its subgraphs and of the model's functions, in file order."""
    yield from nodes(model)
    for function in model.functions.values():
        yield from function.all_nodes()


def module_path(node: ir.Node) -> str | None:
    """The torch module that a node was exported from, such as `layers.0.conv`; None if it isn't known."""
    if (text := node.metadata_props.get(NAME_SCOPES_KEY)) is None:
        return None
    try:
        scopes = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(scopes, list):
        return None
    # The last scope is the operator's own name, the one before it the innermost module.
    path = scopes[-2] if len(scopes) > 1 else None
    return path if isinstance(path, str) and path else None


def scope(node: ir.Node) -> str | None:
    """A node's module as a dotted path: that of torch, or else from a node name such as /stem/conv/Conv."""
    if (path := module_path(node)) is not None:
        return path
    *parts, _ = (node.name or _first_output(node) or "").split("/")
    return ".".join(filter(None, parts)) or None


def layer_names(model: ir.Model) -> dict[ir.Node, str]:
    """A name for every node, unique over graph, subgraphs and functions.

    A linear layer has the name of its torch module if that module holds no other linear layer. Other nodes
    have their own name if it is unique, or else the name of their first output.
    """
    nodes = list(nodes_with_functions(model))
    named = Counter(node.name for node in nodes)
    names = _module_names(nodes)
    taken = set(names.values())
    for node in nodes:
        if node not in names:
            own = node.name if node.name and named[node.name] == 1 else None
            names[node] = free_name(own or _first_output(node) or node.op_type, taken, mark="#")
    return names


def _module_names(nodes: list[ir.Node]) -> dict[ir.Node, str]:
    """Module paths of the linear nodes that are alone in their module."""
    paths = {
        node: module_path(node) for node in nodes if node.op_type in LINEAR_OPERATORS and not node.domain
    }
    shared = Counter(paths.values())
    return {node: path for node, path in paths.items() if path and shared[path] == 1}


def _first_output(node: ir.Node) -> str | None:
    return node.outputs[0].name if node.outputs else None


def main_values(model: ir.Model) -> dict[str, ir.Value]:
    """Inputs and node outputs of the main graph by name."""
    outputs = (value for node in model.graph for value in node.outputs)
    return {str(value.name): value for value in (*model.graph.inputs, *outputs)}


def body_values(model: ir.Model) -> dict[str, ir.Value]:
    """Node outputs of the graphs inside the main graph by name, where only one graph inside uses the name.

    Graphs side by side may use the same names, and a branch may use the names of its own If.
    """
    inside = [value for node in nodes(model) if node.graph is not model.graph for value in node.outputs]
    often = Counter(value.name for value in inside)
    return {str(value.name): value for value in inside if often[value.name] == 1}


def is_inside_body(value: ir.Value, main: ir.Graph) -> bool:
    """Whether a value belongs to a graph inside the main graph."""
    producer = value.producer()
    owner = value.graph if producer is None else producer.graph
    return owner is not None and owner is not main


def rename_apart(model: ir.Model, taken: set[str]) -> None:
    """Give values inside bodies new names, so that no two values of the graph and its bodies share one.

    taken: names in use; the new ones are added.
    """
    seen = {str(value.name) for value in (*model.graph.inputs, *model.graph.initializers.values())}
    seen.update(str(value.name) for node in model.graph for value in node.outputs)
    for body in bodies(model):
        outputs = (value for node in body for value in node.outputs)
        for value in dict.fromkeys((*body.inputs, *body.initializers.values(), *outputs)):
            if value.name in seen:
                _rename(value, free_name(str(value.name), taken))
            seen.update([value.name] if value.name else [])


def _rename(value: ir.Value, name: str) -> None:
    """Rename a value, but not its tensor: copies of a model share tensors."""
    if (tensor := value.const_value) is not None:
        value.const_value = ir.LazyTensor(
            lambda: tensor, dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
        )
    value.name = name


def separate_hidden_names(model: ir.Model) -> None:
    """Rename every output of a node inside a body that has the name of a value visible around the body.

    Edits may bring that about: an output of an If becomes an input, or nodes are sorted.
    """
    if next(model.graph.subgraphs(), None) is None:
        return
    visible: set[str] = set()
    taken = {str(value.name) for node in nodes(model) for value in node.outputs}
    _separate_in(model.graph, visible, taken | {str(value.name) for value in model.graph.inputs})


def _separate_in(graph: ir.Graph, visible: set[str], taken: set[str]) -> None:
    """Rename what hides a visible name; `visible` is left as it was."""
    own: list[str] = []

    def see(name: str | None) -> None:
        if name and name not in visible:
            visible.add(name)
            own.append(name)

    for value in (*graph.inputs, *graph.initializers.values()):
        see(value.name)
    for node in graph:
        for body in subgraphs(node):
            _separate_in(body, visible, taken)
        for value in node.outputs:
            if value.name in visible:
                _rename(value, free_name(value.name, taken))
            see(value.name)
    visible.difference_update(own)


def free_name(wanted: str, taken: set[str], *, mark: str = "_") -> str:
    """The name, with a mark and a number appended if it is taken; it is added to `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}{mark}{count}"
    taken.add(name)
    return name
