"""Two models of one graph, run side by side and a stage at a time.

A stage reaches from one site to the next. What is alive between them is kept for every feed, so that a whole
pass through the net costs as much as one run of either model, although the second is operated on underway:
each layer is fitted to what the layers before it, operated on already, really hand on.
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
from modelsurgeon.onnx.run.spool import Spool, Tensors, entries
from modelsurgeon.surgery.site import InputPair, InputPairs


class StageStart(NamedTuple):
    """A tensor that a stage is to show, the first that it makes, and what the sum behind that adds to it."""

    shown: str
    made: str
    beside: str | None = None


def paired_inputs(
    original: ir.Model,
    changed: ir.Model,
    starts: Sequence[StageStart],
    feeds: Batches,
    provider: str = "cpu",
) -> Iterator[InputPairs]:
    """For every stage, what both models have where it starts, as pairs of arrays over all feeds.

    starts: of each stage in file order; both models have all of their tensors. Between two steps the caller
    may replace nodes of `changed` that lie ahead.
    """
    cuts = _cuts(original, starts)
    with Spool() as ours, Spool() as theirs:
        for number, feed in enumerate(feeds):
            ours.put(number, feed)
            theirs.put(number, feed)
        here = [str(value.name) for value in original.graph.inputs]
        count = len(feeds)
        for start, ahead in zip(starts, cuts, strict=True):
            _advance(original, here, ahead, ours, count, provider)
            _advance(changed, here, ahead, theirs, count, provider)
            here = ahead

            def pairs(start: StageStart = start) -> Iterator[InputPair]:
                both = zip(entries(ours, count), entries(theirs, count), strict=True)
                return (_fed(start, one, other) for one, other in both)

            yield pairs


def addend(value: ir.Value) -> str | None:
    """What a sum adds to a value that goes nowhere else; a constant may be added first, as a bias is."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return None
    node, place = uses[0]
    if node.domain or node.op_type != "Add":
        return None
    other = node.inputs[1 - place]
    return addend(node.outputs[0]) if other is None or constant_array(other) is not None else other.name


def _fed(start: StageStart, ours: Tensors, theirs: Tensors) -> InputPair:
    name = start.beside
    beside = (ours[name], theirs[name]) if name is not None and name in ours else None
    return InputPair(ours[start.shown], theirs[start.shown], beside)


def _cuts(model: ir.Model, starts: Sequence[StageStart]) -> list[list[str]]:
    """What is alive just before each site: made so far, or fed, and needed from there to the last site.

    What stands beside a site is needed there.
    """
    fixed = constant_values(model)
    nodes = list(model.graph)
    place = {str(value.name): i for i, node in enumerate(nodes) for value in node.outputs}
    first = [place[start.made] for start in starts]
    last_use: dict[str, int] = {}
    for i, node in enumerate(nodes[: max(first, default=-1) + 1]):
        last_use |= {
            str(value.name): i for value in inputs_and_captures(node) if value not in fixed and value.name
        }
    for start, cut in zip(starts, first, strict=True):
        if start.beside is not None:
            last_use[start.beside] = max(cut, last_use.get(start.beside, -1))
    return [[name for name, use in last_use.items() if place.get(name, -1) < cut <= use] for cut in first]


def _advance(
    model: ir.Model, here: Sequence[str], ahead: Sequence[str], spool: Spool, count: int, provider: str
) -> None:
    """Run a stage on every feed; the tensors of the next cut take the place of those of this one."""
    made = [name for name in ahead if name not in here]
    run: Run | None = None
    for number in range(count):
        given = spool.get(number)
        if made and run is None:
            run = runner(_stage(model, given, made), provider=provider)
        new = run(given) if run is not None else {}
        spool.put(number, {name: new[name] if name in new else given[name] for name in ahead})


def _stage(model: ir.Model, given: Tensors, made: Sequence[str]) -> ir.Model:
    """The part of the graph from some tensors to others, its inputs typed as the tensors are."""
    known = {str(v.name) for v in model.graph.inputs} | {str(v.name) for n in model.graph for v in n.outputs}
    graph = ir.convenience.extract(model.graph, [name for name in given if name in known], list(made))
    for value in graph.inputs:
        _declare(value, given)
    return ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))


def _declare(value: ir.Value, given: Mapping[str, Array]) -> None:
    array = np.asarray(given[str(value.name)])
    value.type = ir.TensorType(ir.DataType.from_numpy(array.dtype))
    value.shape = ir.Shape([None] * array.ndim)
