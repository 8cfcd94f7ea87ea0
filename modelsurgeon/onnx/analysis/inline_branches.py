"""Branches that data take, brought into the main graph: a runtime shows no tensor inside an If."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.data import Feed
from modelsurgeon.errors import BadData
from modelsurgeon.onnx import run
from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.edit import free, taken_names
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.shapes import inlined


@dataclass(frozen=True, kw_only=True)
class BranchPath:
    """The way that one feed takes through a model.

    model: a copy in which these branches are part of the main graph and functions are inlined; its nodes are
    called as their layers. taken: by name of an If, its branch. conditions: by name of a tensor, what it was.
    """

    model: ir.Model
    taken: dict[str, str] = field(default_factory=dict)
    conditions: dict[str, bool] = field(default_factory=dict)

    def check(self, values: Mapping[str, object]) -> None:
        """Raise BadData where the conditions of another feed lead elsewhere."""
        for name, truth in self.conditions.items():
            if bool(values[name]) is not truth:
                raise BadData(
                    f"the samples take different branches, by {name}: give those of one kind at a time"
                )


def path(model: ir.Model, feed: Feed, *, provider: str = "cpu") -> BranchPath:
    """The way that a feed takes; `model` is left as it is. Raises BadData where it can't run on the feed."""
    clone = inlined(model)
    for node, name in layer_names(clone).items():
        node.name = name
    names = taken_names(clone)
    _rename_apart(clone, names)
    found = BranchPath(model=clone)
    while choices := [node for node in clone.graph if node.op_type == "If" and not node.domain]:
        for node, truth in _truths(found, choices, feed, provider):
            found.taken[str(node.name)] = "then_branch" if truth else "else_branch"
            _inline(clone.graph, node, node.attributes.get_graph(found.taken[str(node.name)]), names)
    return found


def _rename_apart(model: ir.Model, names: set[str]) -> None:
    """Values of different branches may be called the same: all but the first get another name."""
    seen: set[str] = set()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.name in seen:
                value.name = free(value.name, names)
            seen.update([value.name] if value.name else [])


def _truths(
    found: BranchPath, choices: list[ir.Node], feed: Feed, provider: str
) -> Iterator[tuple[ir.Node, bool]]:
    """The conditions of Ifs of the main graph: from the file, from the feed, or computed."""
    values = [value for node in choices if (value := node.inputs[0]) is not None]
    computed = {
        str(value.name) for value in values if value.producer() is not None and scalar_constant(value) is None
    }
    known = run.runner(found.model, outputs=sorted(computed), provider=provider)(feed) if computed else {}
    for node, value in zip(choices, values, strict=True):
        name, fixed = str(value.name), scalar_constant(value)
        truth = bool(fixed) if fixed is not None else bool(known.get(name, feed.get(name)))
        if name in computed:
            found.conditions[name] = truth
        yield node, truth


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph, names: set[str]) -> None:
    """Put the nodes of a branch before its If, and its results in the If's place, under their old names."""
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        if name in graph.initializers:
            value.name = free(name, names)
        graph.register_initializer(value)
    results = list(branch.outputs)
    inside = list(branch)
    branch.outputs.clear()
    branch.remove(inside)
    passing = [ir.node("Identity", [result]) for result in results]
    graph.insert_before(node, [*inside, *passing])
    for old, new in zip(node.outputs, passing, strict=True):
        new.name = free(f"{old.name}.taken", names)
        made = new.outputs[0]
        made.shape, made.type = old.shape, old.type
        ir.convenience.replace_all_uses_with(old, made, replace_graph_outputs=True)
        made.name, old.name = old.name, None
    graph.remove(node, safe=True)
