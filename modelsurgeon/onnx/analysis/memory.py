"""Bytes of activations: in total, and alive at once, node by node."""

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
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.params import nbytes
from modelsurgeon.onnx.shapes import data_inputs, sizes

BytesOf = Callable[[ir.Value], int | None]
CONTAINER_TYPES = (ir.SequenceType, ir.OptionalType)  # types of values that aren't tensors


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of activations. total: of the graph's inputs and all node outputs. peak: most alive at once.

    unknown: names of values of unknown size, left out of both. unknown_values: these values.
    """

    total: Number
    peak: int
    unknown: list[str]
    unknown_values: tuple[ir.Value, ...] = ()


def bytes_of(value: ir.Value) -> int | None:
    """Bytes of a value whose shape is bound; None where they aren't known."""
    shape = None if type(value.type) in CONTAINER_TYPES else sizes(value)
    return None if shape is None else nbytes(prod(shape), value.dtype)


def activations(graph: ir.Graph, constants: set[ir.Value]) -> list[ir.Value]:
    """Outputs of one graph's nodes at run time; constants, which are folded before, are left out."""
    return [value for node in graph for value in node.outputs if value.name and value not in constants]


def memory(model: ir.Model, constants: set[ir.Value], bytes_of: BytesOf) -> Memory:
    """Bytes of the main graph's activations, run in file order; no two values share memory.

    An input lives until its last use, an output to the end; a node's inputs and outputs are alive together.
    """
    inputs = data_inputs(model)
    values = [*inputs, *activations(model.graph, constants)]
    known = {value: size for value in values if (size := bytes_of(value)) is not None}
    unsized = tuple(value for value in values if value not in known)
    liveness = Liveness(size_of=known.get)
    passed_through = sum(liveness.size_of(value) or 0 for value in model.graph.outputs if value in inputs)
    return Memory(
        total=sum(known.values()),
        peak=max((instant.bytes for instant in liveness.steps(model.graph, inputs)), default=passed_through),
        unknown=[str(value.name) for value in unsized],
        unknown_values=unsized,
    )


def footprint(
    model: ir.Model,
    constants: set[ir.Value],
    bytes_of: BytesOf,
    names: Mapping[ir.Node, str],
    node_runs: Sequence[NodeRun],
    main: int,
) -> Footprint:
    """Live bytes at every node that runs, and the tensors alive at the peak.

    Constant nodes, which are folded before, and branches that aren't counted are left out.
    main: peak bytes of the main graph alone.
    """
    ran = {run.node.graph for run in node_runs if run.times}

    def size_of(value: ir.Value) -> int | None:
        return None if value in constants else bytes_of(value)

    def instants() -> Iterator[tuple[Instant, Liveness]]:
        liveness = Liveness(size_of=size_of, enters=lambda graph: graph in ran)
        for instant in liveness.steps(model.graph, data_inputs(model)):
            if not constants.issuperset(instant.node.outputs):
                yield instant, liveness

    steps = [
        MemoryStep(node=names[instant.node], bytes=instant.bytes, depth=instant.depth)
        for instant, _ in instants()
    ]
    found = Footprint(
        timeline=steps, tensors=(), main=main, notes=_unknown_sizes(node_runs, constants, bytes_of)
    )
    if found.peak is None:
        return found
    _, liveness = next(islice(instants(), found.peak, None))
    tensors = [_tensor(value, size, names) for value, size in liveness.live.items()]
    return replace(found, tensors=sorted(tensors, key=lambda tensor: -tensor.bytes))


def _tensor(value: ir.Value, size: int, names: Mapping[ir.Node, str]) -> LiveTensor:
    producer = value.producer()
    return LiveTensor(
        name=str(value.name),
        node=None if producer is None else names[producer],
        shape=sizes(value) or (),
        dtype=dtype_name(value),
        bytes=size,
    )


def _unknown_sizes(node_runs: Sequence[NodeRun], constants: set[ir.Value], bytes_of: BytesOf) -> list[str]:
    """A note on values of unknown size, branches and loop bodies included."""
    produced = [value for run in node_runs if run.times for value in run.node.outputs if value.name]
    unsized = [str(value.name) for value in produced if value not in constants and bytes_of(value) is None]
    return (
        [f"{len(unsized)} values of unknown size are left out ({', '.join(unsized[:3])})"] if unsized else []
    )
