"""Keep the outputs that are asked for, and what leads to them from the inputs or from tensors inside.

Auxiliary branches and losses end in outputs that nobody asked for, so they go with them. Dropout does nothing
at inference: what it was given takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadPlan
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.graph.edit import free
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit


def extract(subject: PassContext, outputs: Sequence[str], inputs: Sequence[str] = ()) -> list[Edit]:
    """Cut the graph at these tensors of its main graph; all its inputs stay where none are named.

    Raises BadPlan: a name that no tensor has, an output that needs an input which is not among `inputs`.
    """
    graph = subject.graph
    values = {str(v.name): v for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    wanted = [_found(name, values) for name in outputs]
    if not wanted:
        raise BadPlan("no output is named: name one at least")
    entries = [_found(name, values) for name in inputs]
    edits = [Edit(layer=str(v.name), action="drop output") for v in graph.outputs if v not in wanted]
    edits += [Edit(layer=str(v.name), action="make output") for v in wanted if v not in list(graph.outputs)]
    for value in wanted:
        _declare(subject, value)
    graph.outputs[:] = list(dict.fromkeys(wanted))
    edits += [edit for node in list(graph) if (edit := _without_dropout(subject, node)) is not None]
    edits += [_entered(subject, value) for value in dict.fromkeys(entries) if not value.is_graph_input()]
    RemoveUnusedNodesPass()(subject.model)
    return edits + list(_inputs_left(graph, inputs))


def _found(name: str, values: dict[str, ir.Value]) -> ir.Value:
    if name in values:
        return values[name]
    near = ", ".join(repr(each) for each in get_close_matches(name, values, cutoff=0.4))
    raise BadPlan(
        f"no tensor is called {name!r}; near it are {near or 'none'}; `info` prints the names of layers"
    )


def _declare(subject: PassContext, value: ir.Value) -> None:
    """An output needs a type in the file, and a shape as far as sizes and the inputs' symbols give it."""
    known = subject.inferred(value)
    value.type = value.type or known.type
    given = {str(dim) for each in data_inputs(subject.model) for dim in each.shape or ()}
    if value.shape is None and known.shape is not None:
        value.shape = ir.Shape([d if isinstance(d, int) or str(d) in given else None for d in known.shape])


def _entered(subject: PassContext, value: ir.Value) -> Edit:
    """A new input takes the place and the name of a tensor that was computed."""
    known = subject.inferred(value)
    entry = ir.Value(name=value.name, shape=known.shape, type=known.type)
    value.name = free(f"{value.name}.computed", subject.taken)
    ir.convenience.replace_all_uses_with(value, entry, replace_graph_outputs=True)
    subject.graph.inputs.append(entry)
    return Edit(layer=str(entry.name), action="make input")


def _without_dropout(subject: PassContext, node: ir.Node) -> Edit | None:
    if node.op_type != "Dropout" or node.domain:
        return None
    layer, action = subject.names[node], "drop dropout"
    if reason := subject.left_out(layer) or _why_not(node):
        return Edit(layer=layer, action=action, skipped=reason)
    if node.inputs[0] is not None:
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    return Edit(layer=layer, action=action)


def _why_not(node: ir.Node) -> str | None:
    """The reason why a Dropout can't simply go."""
    mode = node.inputs[2] if len(node.inputs) > 2 else None
    training = constant_array(mode)
    if mode is not None and (training is None or training.any()):
        return "it is, or may be, in training mode: without it the answers would differ"
    if node.outputs[0].is_graph_output():
        return "its output is a graph output"
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return "its mask is used"
    return None


def _inputs_left(graph: ir.Graph, asked: Sequence[str]) -> Iterator[Edit]:
    """Drop the inputs that nothing needs any more, and see that the needed ones are those asked for."""
    used = {value for node in graph for value in inputs_and_captures(node)} | set(graph.outputs)
    if asked:
        _check(asked, [str(v.name) for v in graph.inputs if v in used and v.name not in graph.initializers])
    for value in [value for value in graph.inputs if value not in used]:
        graph.inputs.remove(value)
        yield Edit(layer=str(value.name), action="drop input")


def _check(asked: Iterable[str], needed: Iterable[str]) -> None:
    if more := sorted(set(needed) - set(asked)):
        raise BadPlan(f"the outputs also depend on {more[0]!r}: name it among the inputs, or cut elsewhere")
    if idle := sorted(set(asked) - set(needed)):
        raise BadPlan(f"nothing that is kept depends on {idle[0]!r}: leave it out of the inputs")
