"""An original and an edited model of one graph, run in parallel one stage at a time.

A stage reaches from one site to the next. The tensors alive between two stages are kept for every feed, so
that all stages together cost one run of each model, although the second is edited between the stages: each
layer is fitted to the outputs of the layers before it that were replaced already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from modelsurgeon.data import Batches
from modelsurgeon.layers import Array
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.dataflow import constant_values, inputs_and_captures
from modelsurgeon.onnx.run.execute import Run, runner
from modelsurgeon.onnx.run.spool import Spool, Tensors, tensors_of_feeds
from modelsurgeon.surgery.site import InputPair, InputPairs


class StageStart(NamedTuple):
    """The tensors where a stage starts: its site's input and output, and what an Add adds to the output."""

    site_input: str
    site_output: str
    residual: str | None = None


def paired_inputs(
    original: ir.Model,
    changed: ir.Model,
    starts: Sequence[StageStart],
    feeds: Batches,
    provider: str = "cpu",
) -> Iterator[InputPairs]:
    """For every stage, the pairs of both models' tensors at its start, over all feeds.

    starts: of each stage in file order; both models have all of these tensors. Between two steps the caller
    may replace nodes of `changed` that haven't run yet.
    """
    live_tensors = _live_tensors(original, starts)
    with Spool() as ours, Spool() as theirs:
        for number, feed in enumerate(feeds):
            ours.put(number, feed)
            theirs.put(number, feed)
        live = [str(value.name) for value in original.graph.inputs]
        count = len(feeds)
        for start, next_live in zip(starts, live_tensors, strict=True):
            _run_stage(original, live, next_live, ours, count, provider)
            _run_stage(changed, live, next_live, theirs, count, provider)
            live = next_live

            def pairs(start: StageStart = start) -> Iterator[InputPair]:
                both = zip(tensors_of_feeds(ours, count), tensors_of_feeds(theirs, count), strict=True)
                return (_input_pair(start, one, other) for one, other in both)

            yield pairs


def addend(value: ir.Value) -> str | None:
    """Name of the tensor that an Add adds to `value`, its only use; None where there is none.

    A constant, such as a bias, may be added first.
    """
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node, index = uses[0]
    if node.domain or node.op_type != "Add":
        return None
    other = node.inputs[1 - index]
    return addend(node.outputs[0]) if other is None or constant_array(other) is not None else other.name


def _input_pair(start: StageStart, ours: Tensors, theirs: Tensors) -> InputPair:
    name = start.residual
    residual = (ours[name], theirs[name]) if name is not None and name in ours else None
    return InputPair(ours[start.site_input], theirs[start.site_input], residual)


def _live_tensors(model: ir.Model, starts: Sequence[StageStart]) -> list[list[str]]:
    """Names of the tensors alive just before each site: made so far, or fed, and needed up to the last site.

    The residual of a site counts as needed at the site.
    """
    constants = constant_values(model)
    nodes = list(model.graph)
    position = {str(value.name): i for i, node in enumerate(nodes) for value in node.outputs}
    cuts = [position[start.site_output] for start in starts]
    last_use: dict[str, int] = {}
    for i, node in enumerate(nodes[: max(cuts, default=-1) + 1]):
        last_use |= {
            str(value.name): i for value in inputs_and_captures(node) if value not in constants and value.name
        }
    for start, cut in zip(starts, cuts, strict=True):
        if start.residual is not None:
            last_use[start.residual] = max(cut, last_use.get(start.residual, -1))
    return [[name for name, use in last_use.items() if position.get(name, -1) < cut <= use] for cut in cuts]


def _run_stage(
    model: ir.Model, live: Sequence[str], next_live: Sequence[str], spool: Spool, count: int, provider: str
) -> None:
    """Run a stage on every feed; in the spool, the tensors alive after it replace those alive before it."""
    outputs = [name for name in next_live if name not in live]
    run: Run | None = None
    for number in range(count):
        inputs = spool.get(number)
        if outputs and run is None:
            run = runner(_stage_model(model, inputs, outputs), provider=provider)
        new = run(inputs) if run is not None else {}
        spool.put(number, {name: new[name] if name in new else inputs[name] for name in next_live})


def _stage_model(model: ir.Model, inputs: Tensors, outputs: Sequence[str]) -> ir.Model:
    """The part of the graph from input tensors to outputs, its inputs typed as the tensors are."""
    known = {str(v.name) for v in model.graph.inputs} | {str(v.name) for n in model.graph for v in n.outputs}
    graph = ir.convenience.extract(model.graph, [name for name in inputs if name in known], list(outputs))
    for value in graph.inputs:
        _set_type(value, inputs)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


def _set_type(value: ir.Value, tensors: Mapping[str, Array]) -> None:
    array = np.asarray(tensors[str(value.name)])
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape([None] * array.ndim)
