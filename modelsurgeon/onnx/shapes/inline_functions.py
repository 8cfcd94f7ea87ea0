"""Functions of a model in place of their calls.

A function may import another version of an opset than the model. Where all its operators are the same in both
versions, its nodes mean the same in the model. Other nodes keep their version, in `Node.version`: shape rules
and constant folding follow it, but no file can hold it, so such a model is only measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import onnx
import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.shapes.rules import follow_versions

ORIGIN_KEY = "modelsurgeon.origin"  # node.meta: equal in all inlined copies of a function's node
GRAPH_ATTRIBUTES = frozenset((ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS))


def inlined(model: ir.Model) -> ir.Model:
    """A clone in which calls of functions are replaced by their nodes; tensors are shared.

    It can be saved and run. The calls of a function stay where its nodes wouldn't mean the same in the model.
    """
    clone = cloned(model)
    if not clone.functions:
        return clone
    _record_origins(clone)
    other_opset = {key for key, function in clone.functions.items() if not _adopt_opsets(function, clone)}
    return _inline(clone, _with_called(clone, other_opset) | _called_otherwise(clone))


def inlined_to_measure(model: ir.Model) -> ir.Model:
    """A clone in which calls of functions are replaced by their nodes, each with its own opset version.

    Only the calls of a function that is given a graph as an attribute stay.
    """
    clone = cloned(model)
    if not clone.functions:
        return clone
    _record_origins(clone)
    for function in clone.functions.values():
        for domain, version in function.opset_imports.items():
            newest = max(clone.opset_imports.get(domain, 0), version)
            clone.opset_imports.setdefault(domain, newest)
        _keep_versions(function, clone.opset_imports)
    return _inline(clone, _called_otherwise(clone))


def cloned(model: ir.Model) -> ir.Model:
    """A clone; tensors are shared. Raises BadModel where the nodes aren't sorted."""
    try:
        return model.clone()
    except RuntimeError as error:  # a value is used before a node makes it, or no node makes it
        raise BadModel("nodes use values that no node before them makes: sort the graph") from error


def _inline(clone: ir.Model, kept: set[ir.OperatorIdentifier]) -> ir.Model:
    """Inline all functions but these, in place."""
    from onnx_ir.passes.common import InlinePass

    InlinePass(criteria=lambda function: function.identifier() not in kept)(clone)
    return clone


def _record_origins(clone: ir.Model) -> None:
    """Give each node of a function a mark that its inlined copies keep."""
    for key, function in clone.functions.items():
        for number, node in enumerate(function.all_nodes()):
            node.meta[ORIGIN_KEY] = (key, number)


def _adopt_opsets(function: ir.Function, clone: ir.Model) -> bool:
    """Set a function's opset versions to the model's if all its operators are the same; return whether so."""
    if any(_differs(node, function, clone.opset_imports) for node in function.all_nodes()):
        return False
    for domain in function.opset_imports:
        function.opset_imports[domain] = clone.opset_imports.setdefault(
            domain, function.opset_imports[domain]
        )
    return True


def _keep_versions(function: ir.Function, opsets: dict[str, int]) -> None:
    """Set a function's opset versions to the model's; nodes that mean something else keep their own."""
    for node in function.all_nodes():
        if _differs(node, function, opsets):
            node.version = function.opset_imports[node.domain]
            follow_versions(node.domain, node.op_type)
    for domain in function.opset_imports:
        function.opset_imports[domain] = opsets[domain]


def _differs(node: ir.Node, function: ir.Function, opsets: dict[str, int]) -> bool:
    """Whether an operator has another definition in the model's opset than in the function's."""
    version = function.opset_imports.get(node.domain)
    wanted = opsets.get(node.domain)
    if version is None or wanted is None or version == wanted:
        return False
    since = [_since_version(node.op_type, opset, node.domain) for opset in (version, wanted)]
    return since[0] != since[1]


@cache
def _since_version(op: str, version: int, domain: str) -> int | None:
    """The opset version that introduced an operator's definition at `version`; None if it isn't known."""
    try:
        return int(onnx.defs.get_schema(op, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None


def _with_called(clone: ir.Model, keys: set[ir.OperatorIdentifier]) -> set[ir.OperatorIdentifier]:
    """These functions and all that they call: a function must not be inlined into one of another opset."""
    found: set[ir.OperatorIdentifier] = set()
    pending = list(keys)
    while pending:
        key = pending.pop()
        if key in clone.functions and key not in found:
            found.add(key)
            pending.extend(node.op_identifier() for node in clone.functions[key].all_nodes())
    return found


def _called_otherwise(clone: ir.Model) -> set[ir.OperatorIdentifier]:
    """Functions that some call gives a graph as an attribute, or more inputs than they have."""
    return {
        node.op_identifier()
        for node in _all_nodes(clone)
        if (function := clone.functions.get(node.op_identifier())) is not None
        and (
            len(node.inputs) > len(function.inputs)
            or any(attribute.type in GRAPH_ATTRIBUTES for attribute in node.attributes.values())
        )
    }


def _all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Nodes of the main graph, its subgraphs and the functions."""
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()
