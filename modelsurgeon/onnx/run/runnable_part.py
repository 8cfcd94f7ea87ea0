"""Parts of a model: what given tensors need, and what runs here in front of operators that don't."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadModel, Unavailable
from modelsurgeon.onnx.graph.dataflow import constant_values, inputs_and_captures, subgraphs
from modelsurgeon.onnx.graph.names import layer_names, main_values
from modelsurgeon.onnx.io.serialize import copy
from modelsurgeon.onnx.run.sessions import session

# How onnxruntime names an operator that it lacks, or lacks for these types.
LACKING_OPERATOR = re.compile(
    r"[\w.]*:(\w+)\(-?\d+\) is not a registered"
    r"|implementation for (\w+)\(\d+\)"
    r'|In Node, \("[^"]*", (\w+), '
)


@dataclass(frozen=True, kw_only=True)
class RunnablePart:
    """The part of a model that runs here.

    outputs: the last tensors in front of `operators`, which don't run, and outputs that don't depend on them.
    layers_behind: names of the layers that are such operators or behind them.
    """

    outputs: Sequence[str]
    operators: Sequence[str]
    layers_behind: AbstractSet[str]

    @property
    def note(self) -> str:
        """What was compared, and why no more."""
        return (
            f"compared at {', '.join(self.outputs)}: {', '.join(self.operators)} can't run here, and nothing "
            "behind it is compared"
        )


def part(model: ir.Model, outputs: Sequence[str], inputs: Sequence[ir.Value] = ()) -> ir.Model:
    """A copy with these tensors as its outputs, without the nodes and inputs that they don't need.

    inputs: values with the names and types of computed tensors that are fed instead. The model itself where
    nothing changes. A tensor whose type isn't declared stays without one: onnxruntime infers it. Raises
    BadModel for a tensor that the main graph doesn't have.
    """
    if not inputs and list(outputs) == [value.name for value in model.graph.outputs]:
        return model
    cut = copy(model)
    values = main_values(cut)
    for given in inputs:
        computed = values[str(given.name)]
        entry = values[str(given.name)] = ir.Value(name=given.name, type=given.type, shape=given.shape)
        computed.name = f"{given.name}.computed"
        ir.convenience.replace_all_uses_with(computed, entry, replace_graph_outputs=True)
        cut.graph.inputs.append(entry)
    for name in outputs:
        if name not in values:
            raise BadModel(f"there is no tensor {name!r} among those that the model's main graph makes")
    cut.graph.outputs[:] = [values[name] for name in outputs]
    RemoveUnusedNodesPass()(cut)
    used = {value for node in cut.graph for value in inputs_and_captures(node)} | set(cut.graph.outputs)
    for value in [value for value in cut.graph.inputs if value not in used]:
        cut.graph.inputs.remove(value)
        cut.graph.initializers.pop(str(value.name), None)  # its default
    return cut


def runnable_part(model: ir.Model, outputs: Sequence[str], *, provider: str = "cpu") -> RunnablePart:
    """The part of the model towards these outputs that runs here. Raises Unavailable where none does."""
    operators: list[str] = []
    found = list(outputs)
    while True:
        try:
            session(part(model, found), provider=provider, optimize=False)
        except Unavailable as error:
            operator = _lacking_operator(error)
            if operator is None or operator in operators:
                raise
            operators.append(operator)
            if not (found := _last_tensors(model, outputs, operators)):
                raise
        else:
            names, behind = layer_names(model), _behind(model, operators)
            layers = {name for node, name in names.items() if node in behind}
            return RunnablePart(outputs=found, operators=operators, layers_behind=layers)


def _lacking_operator(error: Unavailable) -> str | None:
    found = LACKING_OPERATOR.search(str(error.__cause__))
    return None if found is None else next(filter(None, found.groups()))


def _behind(model: ir.Model, operators: Sequence[str]) -> set[ir.Node]:
    """The nodes of the main graph that are, hold or call such operators, and all nodes behind these."""
    lacking: set[str] = set(operators)
    for _ in model.functions:  # a function may call another one
        lacking |= {key[1] for key, body in model.functions.items() if _holds(body.all_nodes(), lacking)}
    behind: set[ir.Node] = set()
    values: set[ir.Value] = set()
    for node in model.graph:
        inside = (inner for graph in subgraphs(node) for inner in graph.all_nodes())
        if _holds((node, *inside), lacking) or not values.isdisjoint(inputs_and_captures(node)):
            behind.add(node)
            values.update(node.outputs)
    return behind


def _holds(nodes: Iterable[ir.Node], operators: Collection[str]) -> bool:
    return any(node.op_type in operators for node in nodes)


def _last_tensors(model: ir.Model, outputs: Sequence[str], operators: Sequence[str]) -> list[str]:
    """The computed tensors that the nodes behind `operators` read, and the outputs that aren't behind."""
    behind, constants = _behind(model, operators), constant_values(model)
    hidden = {value for node in behind for value in node.outputs}
    values = main_values(model)
    needed = _needed_nodes(values, outputs)
    read = [value for node in model.graph if node in behind & needed for value in inputs_and_captures(node)]
    ends = [values[name] for name in outputs if name in values]
    return list(
        dict.fromkeys(
            str(value.name)
            for value in (*read, *ends)
            if value not in hidden and value not in constants and value.producer() is not None
        )
    )


def _needed_nodes(values: dict[str, ir.Value], outputs: Sequence[str]) -> set[ir.Node]:
    """The nodes that these tensors need."""
    needed: set[ir.Node] = set()
    waiting = [values[name].producer() for name in outputs if name in values]
    while waiting:
        if (node := waiting.pop()) is not None and node not in needed:
            needed.add(node)
            waiting += [value.producer() for value in inputs_and_captures(node)]
    return needed
