"""Inlining of the branches that data take: onnxruntime gives no access to tensors inside an If."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.data import Feed
from modelsurgeon.errors import BadData
from modelsurgeon.onnx import run
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures, subgraphs
from modelsurgeon.onnx.graph.edit import taken_names
from modelsurgeon.onnx.graph.names import free_name, layer_names, rename_apart
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import inlined


@dataclass(frozen=True, kw_only=True)
class BranchPath:
    """The branches that one feed takes through a model.

    model: a copy with these branches and all functions inlined into the main graph; its nodes have the names
    of their layers. taken: branch by name of the If. conditions: value by name of the computed condition.
    """

    model: ir.Model
    taken: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, bool] = field(default_factory=dict)

    def check(self, values: Mapping[str, object]) -> None:
        """Raise BadData where another feed, with these values, takes other branches."""
        for name, condition in self.conditions.items():
            if bool(values[name]) is not condition:
                raise BadData(
                    f"the samples take different branches, by {name}: give those of one kind at a time"
                )


def branch_path(model: ir.Model, feed: Feed, *, provider: str = "cpu") -> BranchPath:
    """The branches that a feed takes; `model` isn't changed. Raises BadData where the feed doesn't run, and
    where two names of branches can't be told apart."""
    clone = inlined(model)
    for node, name in layer_names(clone).items():
        node.name = name
    _check_weights_of_branches(clone)
    names = taken_names(clone)
    rename_apart(clone, names)
    taken_path = BranchPath(model=clone)
    while ifs := [node for node in clone.graph if node.op_type == "If" and not node.domain]:
        for node, condition in _conditions(taken_path, ifs, feed, provider):
            taken_path.taken[str(node.name)] = "then_branch" if condition else "else_branch"
            _inline(clone.graph, node, node.attributes.get_graph(taken_path.taken[str(node.name)]), names)
    return taken_path


def _check_weights_of_branches(model: ir.Model) -> None:
    """Raise BadData where a weight of one branch has the name of a value that another reads from outside.

    ONNX gives the first branch its weight; onnxruntime gives it the value outside.
    """
    for node in nodes(model):
        branches = list(subgraphs(node))
        weights = {name for graph in branches for name in graph.initializers}
        if weights and (clash := weights & {str(value.name) for value in inputs_and_captures(node)}):
            raise BadData(
                f"{node.name!r} has the weight {min(clash)!r} in one branch, and another reads a value of "
                "this name: runtimes differ on which is meant, rename the weight to measure activations"
            )


def _conditions(
    taken_path: BranchPath, ifs: list[ir.Node], feed: Feed, provider: str
) -> Iterator[tuple[ir.Node, bool]]:
    """Conditions of Ifs of the main graph: constant, taken from the feed, or computed by a run."""
    values = [value for node in ifs if (value := node.inputs[0]) is not None]
    computed_names = {
        str(value.name) for value in values if value.producer() is not None and scalar_constant(value) is None
    }
    computed = (
        run.runner(taken_path.model, outputs=sorted(computed_names), provider=provider)(feed)
        if computed_names
        else {}
    )
    for node, value in zip(ifs, values, strict=True):
        name, constant = str(value.name), scalar_constant(value)
        condition = bool(constant) if constant is not None else bool(computed.get(name, feed.get(name)))
        if name in computed_names:
            taken_path.conditions[name] = condition
        yield node, condition


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph, names: set[str]) -> None:
    """Replace an If by the nodes of a branch; the outputs keep their names."""
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        graph.register_initializer(value)
    results = list(branch.outputs)
    moved = list(branch)
    branch.outputs.clear()
    branch.remove(moved)
    identities = [ir.node("Identity", [result]) for result in results]
    graph.insert_before(node, [*moved, *identities])
    for old, new in zip(node.outputs, identities, strict=True):
        new.name = free_name(f"{old.name}.taken", names)
        result = new.outputs[0]
        result.shape, result.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
        result.name, old.name = old.name, None
    graph.remove(node, safe=True)
