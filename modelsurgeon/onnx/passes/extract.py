"""Extract the subgraph that computes the given outputs from the inputs or from tensors inside the graph.

Auxiliary branches and losses are removed with the outputs that they end in. Dropout does nothing at
inference: its output is replaced by its input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.errors import BadPlan
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.graph.map_types import copy_map_type, map_type
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.graph.randomness import dropout_mode
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.surgery.edits import Edit


def extract(context: PassContext, outputs: Sequence[str], inputs: Sequence[str] = ()) -> list[Edit]:
    """Cut the main graph at these tensors; where no inputs are named, those that are still needed stay.

    Raises BadPlan for a name that no tensor has, for no outputs, for an output that depends on an input which
    is not among `inputs`, and for one of `inputs` that no output depends on.
    """
    graph = context.graph
    values = {str(v.name): v for v in (*graph.inputs, *(v for node in graph for v in node.outputs))}
    wanted = [_find_tensor(name, values) for name in outputs]
    if not wanted:
        raise BadPlan("no output is named: name at least one")
    entries = [_find_tensor(name, values) for name in inputs]
    edits = [Edit(layer=str(v.name), action="drop output") for v in graph.outputs if v not in wanted]
    edits += [Edit(layer=str(v.name), action="make output") for v in wanted if v not in list(graph.outputs)]
    for value in wanted:
        _declare_output(context, value)
    graph.outputs[:] = list(dict.fromkeys(wanted))
    edits += [edit for node in list(graph) if (edit := _drop_dropout(context, node)) is not None]
    edits += [_make_input(context, value) for value in dict.fromkeys(entries) if not value.is_graph_input()]
    RemoveUnusedNodesPass()(context.model)
    return edits + list(_drop_unused_inputs(graph, inputs))


def _find_tensor(name: str, values: dict[str, ir.Value]) -> ir.Value:
    if name in values:
        return values[name]
    near = ", ".join(repr(other) for other in get_close_matches(name, values, cutoff=0.4))
    raise BadPlan(
        f"no tensor is called {name!r}; near it are {near or 'none'}; `info` prints the names of layers"
    )


def _declare_output(context: PassContext, value: ir.Value) -> None:
    """Set the type of an output, and its shape in numbers and symbols of the inputs; other axes are open."""
    known = context.inferred(value)
    if value.type is None and map_type(value) is None:
        value.type = known.type
        copy_map_type(known, value)
    symbols = {str(dim) for entry in data_inputs(context.model) for dim in entry.shape or ()}
    if value.shape is None and known.shape is not None:
        value.shape = ir.Shape([d if isinstance(d, int) or str(d) in symbols else None for d in known.shape])


def _make_input(context: PassContext, value: ir.Value) -> Edit:
    """Replace a computed tensor by a new input of the same name; BadPlan where its type isn't known."""
    known = context.inferred(value)
    if known.type is None and map_type(known) is None:
        raise BadPlan(
            f"the type of {value.name!r} isn't known, and an input needs one: cut at another tensor"
        )
    entry = ir.Value(name=value.name, shape=known.shape, type=known.type)
    copy_map_type(known, entry)
    value.name = free_name(f"{value.name}.computed", context.taken)
    ir.convenience.replace_all_uses_with(value, entry, replace_graph_outputs=True)
    context.graph.inputs.append(entry)
    return Edit(layer=str(entry.name), action="make input")


def _drop_dropout(context: PassContext, node: ir.Node) -> Edit | None:
    if node.op_type != "Dropout" or node.domain:
        return None
    layer, action = context.names[node], "drop dropout"
    opset = context.model.opset_imports.get("", 1)
    if reason := context.skip_reason(layer) or _why_dropout_stays(node, opset):
        return Edit(layer=layer, action=action, skipped=reason)
    if node.inputs[0] is not None:
        ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[0])
    return Edit(layer=layer, action=action)


def _why_dropout_stays(node: ir.Node, opset: int) -> str | None:
    """The reason why a Dropout can't be removed; None where it can."""
    mode = dropout_mode(node, opset)
    training = constant_array(node.inputs[2]) if mode == "unknown" else None
    if mode == "training" or (mode == "unknown" and (training is None or training.any())):
        return "it is, or may be, in training mode: without it the outputs would differ"
    if node.outputs[0].is_graph_output():
        return "its output is a graph output"
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        return "its mask is used"
    return None


def _drop_unused_inputs(graph: ir.Graph, asked: Sequence[str]) -> Iterator[Edit]:
    """Drop the inputs that nothing uses any more; BadPlan where the used ones aren't those asked for."""
    used = {value for node in graph for value in inputs_and_captures(node)} | set(graph.outputs)
    if asked:
        _check_inputs(
            asked, [str(v.name) for v in graph.inputs if v in used and v.name not in graph.initializers]
        )
    for value in [value for value in graph.inputs if value not in used]:
        graph.inputs.remove(value)
        yield Edit(layer=str(value.name), action="drop input")


def _check_inputs(asked: Iterable[str], needed: Iterable[str]) -> None:
    if missing := sorted(set(needed) - set(asked)):
        raise BadPlan(
            f"the outputs also depend on {missing[0]!r}: name it among the inputs, or cut elsewhere"
        )
    if unused := sorted(set(asked) - set(needed)):
        raise BadPlan(f"no kept output depends on {unused[0]!r}: leave it out of the inputs")
