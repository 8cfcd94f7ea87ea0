"""Nodes that can't run at the sizes of a bound model, by the table of requirements.

The requirements of each kind of node are computed once. A node in a branch of an If whose condition isn't
known may never run: it is only recorded as unknown, which leaves the choice of the branch to other nodes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.graph.constant_folding import (
    constant_tensor,
    scalar_constant,
    small_constant,
    taken_branch,
)
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes.binding import symbols
from modelsurgeon.onnx.shapes.inference import unknown
from modelsurgeon.onnx.shapes.requirements import Requirement, requirements
from modelsurgeon.onnx.shapes.requirements.equations import never_holds
from modelsurgeon.onnx.shapes.requirements.registry import (
    OUTPUT,
    RequirementFunction,
    SizedNode,
    functions_of,
)

IMPOSSIBLE_KEY = "modelsurgeon.impossible"  # model.meta: the nodes that can't run, each with the reason
OPEN_REQUIREMENTS_KEY = "modelsurgeon.open_requirements"  # model.meta: requirements of open sizes
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

    Returns whether the shapes behind one have to be inferred again, now as unknown. If not,
    `open_requirements` are recorded, too.
    """
    found, failed, new = impossible(model), unknown(model), False
    tainted: set[ir.Value | None] = set()
    still_open: dict[Requirement, ir.Node] = {}
    known = frozenset(symbols(model))
    for node, certain, required in _required_sizes(model):
        if tainted and not tainted.isdisjoint(node.inputs):
            tainted.update(node.outputs)
            continue
        if node in found:
            continue
        reason = next(filter(None, (_refusal(requirement, known) for requirement in required)), None)
        if reason is None:
            if certain:
                for requirement in required:
                    if requirement.is_open:
                        still_open.setdefault(requirement, node)
            continue
        new = new or node not in failed
        failed[node] = reason
        if certain:
            found[node] = reason
        tainted.update(node.outputs)
        if bodies(model):  # what is behind a node in a subgraph isn't only what reads its outputs
            break
    model.meta[OPEN_REQUIREMENTS_KEY] = still_open
    return new


def _refusal(requirement: Requirement, known: frozenset[str]) -> str | None:
    """Why a requirement isn't met at any size of the known symbols; None where it may be."""
    if requirement.fails:
        return requirement.reason
    if requirement.symbols <= known and never_holds(requirement):
        return f"{requirement.reason}, at no size of {' and '.join(sorted(requirement.symbols))}"
    return None


def open_requirements(model: ir.Model) -> dict[Requirement, ir.Node]:
    """What the nodes of a bound model that certainly run require of open sizes, with the first such node."""
    found: dict[Requirement, ir.Node] = model.meta.get(OPEN_REQUIREMENTS_KEY, {})
    return found


def _required_sizes(model: ir.Model) -> Iterator[tuple[ir.Node, bool, Sequence[Requirement]]]:
    """The nodes with requirements that fail or are open, and whether these nodes certainly run.

    Nodes behind an If whose result has another shape in each branch are left out.
    """
    table = _Table(opsets=model.opset_imports)
    doubtful: set[ir.Value | None] = set()
    branching = bool(bodies(model))
    for node, certain in _running_nodes(model):
        if branching:
            doubtful.update(_doubtful_results(node))
            if not doubtful.isdisjoint(node.inputs):
                doubtful.update(node.outputs)
                continue
        if required := table.required(node):
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


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Requirements by kind of node, and for each kind by what else its requirements depend on."""

    opsets: Mapping[str, int]
    functions: dict[tuple[str, str], Sequence[RequirementFunction]] = field(default_factory=dict)
    kinds: dict[Hashable, _Kind] = field(default_factory=dict)
    contents: dict[int, Hashable] = field(default_factory=dict)

    def required(self, node: ir.Node) -> Sequence[Requirement]:
        """Requirements of a node, from one of the same kind and with the same constants if there was one."""
        operator = (node.domain, node.op_type)
        if (functions := self.functions.get(operator)) is None:
            functions = self.functions[operator] = functions_of(node)
        if not functions or (node.outputs and node.outputs[0].const_value is not None):
            return ()
        key = (
            operator,
            tuple([None if value is None else _dims(value) for value in node.inputs]),
            attribute_values(node) if node.attributes else len(node.outputs),
        )
        kind = self.kinds.get(key)
        if kind is not None and (found := kind.by_content.get(self._content(node, kind.peeked))) is not None:
            return found
        sized = SizedNode(node=node, opset=self.opsets.get(node.domain, 1))
        required = tuple(requirements(sized))
        peeked = tuple(sorted(sized.peeked | set(kind.peeked if kind is not None else ())))
        if kind is None or kind.peeked != peeked:
            kind = self.kinds[key] = _Kind(peeked=peeked)
        kind.by_content[self._content(node, peeked)] = required
        return required

    def _content(self, node: ir.Node, peeked: tuple[int, ...]) -> Hashable:
        return tuple([self._part(node, index) for index in peeked]) if peeked else ()

    def _part(self, node: ir.Node, index: int) -> Hashable:
        if index == OUTPUT:
            return tuple([_dims(value) for value in node.outputs])
        value = node.inputs[index] if index < len(node.inputs) else None
        tensor = None if value is None else value.const_value or constant_tensor(value)
        if tensor is None:
            return None
        if id(tensor) not in self.contents:
            array = small_constant(value)
            self.contents[id(tensor)] = None if array is None else (array.shape, array.tobytes())
        return self.contents[id(tensor)]


def _dims(value: ir.Value) -> tuple[int | ir.SymbolicDim, ...] | None:
    shape = value.shape
    return None if shape is None else shape.dims


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """peeked: the inputs whose content matters. by_content: requirements by that content."""

    peeked: tuple[int, ...]
    by_content: dict[Hashable, Sequence[Requirement]] = field(default_factory=dict)


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
