"""Bytes of activations: all of them together, and those that live at once, node after node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.cost import Number
from modelsurgeon.inspection.memory import Footprint, LiveTensor, MemoryStep
from modelsurgeon.onnx.analysis.header import dtype_name
from modelsurgeon.onnx.analysis.liveness import Instant, Liveness
from modelsurgeon.onnx.analysis.node_runs import NodeRun
from modelsurgeon.onnx.analysis.params import nbytes
from modelsurgeon.onnx.shapes import data_inputs, sizes

BytesOf = Callable[[ir.Value], int | None]
CONTAINERS = (ir.SequenceType, ir.OptionalType)  # types of values that are no tensor


@dataclass(frozen=True, kw_only=True)
class Memory:
    """total: bytes of the graph's inputs and of all that its nodes produce. peak: the most that live at once.

    unknown: values whose size isn't known; both sums leave them out.
    """

    total: Number
    peak: int
    unknown: list[str]


def bytes_of(value: ir.Value) -> int | None:
    """Bytes of a value whose shape is bound; None where they aren't known."""
    shape = None if type(value.type) in CONTAINERS else sizes(value)
    return None if shape is None else nbytes(prod(shape), value.dtype)


def activations(graph: ir.Graph, fixed: set[ir.Value]) -> list[ir.Value]:
    """What the nodes of one graph produce at run time; constants, folded before it, are left out."""
    return [value for node in graph for value in node.outputs if value.name and value not in fixed]


def memory(model: ir.Model, fixed: set[ir.Value], bytes_of: BytesOf) -> Memory:
    """Bytes of the main graph's activations, run in file order, with no two values in the same place.

    An input lives until its last use, an output to the end; a node's inputs and outputs live together.
    """
    inputs = data_inputs(model)
    values = [*inputs, *activations(model.graph, fixed)]
    known = {value: size for value in values if (size := bytes_of(value)) is not None}
    life = Liveness(size_of=known.get)
    kept = sum(life.size_of(value) or 0 for value in model.graph.outputs if value in inputs)
    return Memory(
        total=sum(known.values()),
        peak=max((moment.bytes for moment in life.course(model.graph, inputs)), default=kept),
        unknown=[str(value.name) for value in values if value not in known],
    )


def footprint(
    model: ir.Model,
    fixed: set[ir.Value],
    bytes_of: BytesOf,
    names: Mapping[ir.Node, str],
    visits: Sequence[NodeRun],
    main: int,
) -> Footprint:
    """Live bytes over all nodes that run, and the tensors of the peak. main: the main graph's own peak.

    Nodes that are folded before, and branches that aren't counted, are no steps.
    """
    ran = {visit.node.graph for visit in visits if visit.runs}

    def size_of(value: ir.Value) -> int | None:
        return None if value in fixed else bytes_of(value)

    def course() -> Iterator[tuple[Instant, Liveness]]:
        life = Liveness(size_of=size_of, enters=lambda graph: graph in ran)
        for moment in life.course(model.graph, data_inputs(model)):
            if not fixed.issuperset(moment.node.outputs):
                yield moment, life

    steps = [MemoryStep(node=names[one.node], bytes=one.bytes, depth=one.depth) for one, _ in course()]
    found = Footprint(timeline=steps, tensors=(), main=main, notes=_unknown(visits, fixed, bytes_of))
    if found.peak is None:
        return found
    _, life = next(islice(course(), found.peak, None))
    tensors = [_tensor(value, size, names) for value, size in life.live.items()]
    return replace(found, tensors=sorted(tensors, key=lambda tensor: -tensor.bytes))


def _tensor(value: ir.Value, size: int, names: Mapping[ir.Node, str]) -> LiveTensor:
    maker = value.producer()
    return LiveTensor(
        name=str(value.name),
        node=None if maker is None else names[maker],
        shape=sizes(value) or (),
        dtype=dtype_name(value),
        bytes=size,
    )


def _unknown(visits: Sequence[NodeRun], fixed: set[ir.Value], bytes_of: BytesOf) -> list[str]:
    """The values of unknown size that nodes make as they run, branches and bodies included."""
    made = [value for visit in visits if visit.runs for value in visit.node.outputs if value.name]
    lost = [str(value.name) for value in made if value not in fixed and bytes_of(value) is None]
    return [f"{len(lost)} values of unknown size are left out ({', '.join(lost[:3])})"] if lost else []
