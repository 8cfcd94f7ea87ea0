"""Nodes that can't run at the sizes of a bound model, by the table of requirements.

The requirements of each kind of node are computed once. A node in a branch of an If whose condition isn't
known may never run: it is only recorded as unknown, which leaves the choice of the branch to other nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence

import onnx_ir as ir

from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.constant_folding import scalar_constant, small_constant, taken_branch
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes.inference import unknown
from modelsurgeon.onnx.shapes.requirements import Requirement, requirements
from modelsurgeon.onnx.shapes.requirements.registry import RequirementFunction, SizedNode, functions_of

IMPOSSIBLE_KEY = "modelsurgeon.impossible"  # model.meta: the nodes that can't run, each with the reason
MISFITS_KEY = "modelsurgeon.misfits"  # model.meta: those of them that can't run at the default sizes only


def impossible(model: ir.Model) -> dict[ir.Node, str]:
    """The nodes that can't run at the sizes of a bound model, each with the reason."""
    found: dict[ir.Node, str] = model.meta.setdefault(IMPOSSIBLE_KEY, {})
    return found


def misfits(model: ir.Model) -> set[ir.Node]:
    """The nodes that can't run at the default sizes of a bound model, but may at others."""
    found: set[ir.Node] = model.meta.setdefault(MISFITS_KEY, set())
    return found


def impossible_positions(model: ir.Model) -> set[int]:
    """Positions of the nodes that can't run, among all of a bound model."""
    found = impossible(model)
    return {number for number, node in enumerate(nodes(model)) if node in found} if found else set()


def record_impossible(model: ir.Model) -> bool:
    """Record the nodes whose requirements fail, as impossible and unknown, but none behind such a node.

    Returns whether the shapes behind one have to be inferred again, now as unknown.
    """
    found, failed, new = impossible(model), unknown(model), False
    tainted: set[ir.Value | None] = set()
    for node, certain, required in required_sizes(model):
        if tainted and not tainted.isdisjoint(node.inputs):
            tainted.update(node.outputs)
            continue
        reason = next((requirement.reason for requirement in required if requirement.fails), None)
        if reason is None or node in found:
            continue
        new = new or node not in failed
        failed[node] = reason
        if certain:
            found[node] = reason
        tainted.update(node.outputs)
        if bodies(model):  # what is behind a node in a subgraph isn't only what reads its outputs
            break
    return new


def required_sizes(model: ir.Model) -> Iterator[tuple[ir.Node, bool, Sequence[Requirement]]]:
    """The nodes that may run, whether they certainly do, and their requirements that fail or are open."""
    cache: _Cache = {}
    functions: dict[tuple[str, str], Sequence[RequirementFunction]] = {}
    opsets, doubtful = model.opset_imports, set[ir.Value | None]()
    for node, certain in _running_nodes(model):
        doubtful.update(_doubtful_results(node))
        if doubtful and not doubtful.isdisjoint(node.inputs):
            doubtful.update(node.outputs)
            yield node, certain, ()
            continue
        operator = (node.domain, node.op_type)
        if operator not in functions:
            functions[operator] = functions_of(node)
        required: Sequence[Requirement] = ()
        if functions[operator]:
            required = _requirements(node, opsets.get(node.domain, 1), cache)
        yield node, certain, required


def _doubtful_results(node: ir.Node) -> Iterator[ir.Value]:
    """Outputs of an If whose shape isn't that of every branch that may be taken."""
    if node.op_type != "If" or node.domain:
        return
    taken = taken_branch(node)
    branches = list(subgraphs(node)) if taken is None else [taken]
    for number, output in enumerate(node.outputs):
        results = [branch.outputs[number] for branch in branches if number < len(branch.outputs)]
        if any(result.shape is None or result.shape != output.shape for result in results):
            yield output


_Cache = dict[Hashable, tuple[tuple[int, ...], dict[Hashable, Sequence[Requirement]]]]


def _requirements(node: ir.Node, opset: int, cache: _Cache) -> Sequence[Requirement]:
    """Requirements of a node, from one of the same kind and with the same constants if there was one."""
    kind = (
        node.domain,
        node.op_type,
        tuple([None if value is None or value.shape is None else value.shape.dims for value in node.inputs]),
        tuple([None if value.shape is None else value.shape.dims for value in node.outputs]),
        attribute_values(node),
    )
    peeked, by_content = cache.get(kind, ((), {}))
    if by_content:
        content = _contents(node, peeked)
        if content in by_content:
            return by_content[content]
    sized = SizedNode(node=node, opset=opset)
    found = tuple(requirements(sized))
    peeked = tuple(sorted({*peeked, *sized.peeked}))
    if kind not in cache or cache[kind][0] != peeked:
        by_content = {}
    by_content[_contents(node, peeked)] = found
    cache[kind] = peeked, by_content
    return found


def _contents(node: ir.Node, indices: tuple[int, ...]) -> Hashable:
    arrays = [small_constant(node.inputs[index]) if index < len(node.inputs) else None for index in indices]
    return tuple([None if array is None else (array.shape, array.tobytes()) for array in arrays])


def _running_nodes(model: ir.Model) -> Iterator[tuple[ir.Node, bool]]:
    """Nodes that may run, and whether they certainly do."""
    if not bodies(model):
        for node in nodes(model):
            yield node, True
    else:
        yield from _nodes_of(model.graph, certain=True)


def _nodes_of(graph: ir.Graph, *, certain: bool) -> Iterator[tuple[ir.Node, bool]]:
    for node in graph:
        yield node, certain
        standard = not node.domain
        if node.op_type == "If" and standard and (branch := taken_branch(node)) is not None:
            yield from _nodes_of(branch, certain=certain)
        elif node.op_type == "Loop" and standard and scalar_constant(next(iter(node.inputs), None)) == 0:
            continue
        else:
            inside = certain and node.op_type != "If"
            for body in subgraphs(node):
                yield from _nodes_of(body, certain=inside)
