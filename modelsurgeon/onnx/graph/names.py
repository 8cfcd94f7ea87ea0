"""Names of layers: the same in reports and plans, and for a torch module and its export."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS, NAME_SCOPES_KEY
from modelsurgeon.onnx.graph.traversal import nodes


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


def free_name(wanted: str, taken: set[str], *, mark: str = "_") -> str:
    """The name, with a mark and a number appended if it is taken; it is added to `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}{mark}{count}"
    taken.add(name)
    return name
