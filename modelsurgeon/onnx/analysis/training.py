"""Memory to train a model, estimated from its graph: tensors saved for backward, savings by recomputation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from modelsurgeon.inspection.checkpointing import CutPoint, segments
from modelsurgeon.inspection.training_memory import Recomputation, SavedBytes, TrainedWeights, TrainingMemory
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.memory import bytes_of
from modelsurgeon.onnx.analysis.params import Param
from modelsurgeon.onnx.analysis.saved_tensors import VIEW_OPERATORS, ExtraTensor, is_known, saved_for_backward
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures, subgraphs
from modelsurgeon.onnx.shapes import data_inputs, sizes

HALF_TYPES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


@dataclass(kw_only=True)
class Backward:
    """Collects the tensors that the nodes of a bound model save for backward.

    saved: names of the layers that save a value. extras: masks, indices and statistics, with their node.
    aliases: the input by view of it. graph_runs: how often a graph runs. position: index of a node in the
    main graph, or of the main graph's node that it is inside of. without_rule: operators without a rule.
    """

    measured: MeasuredModel
    differentiable: set[ir.Value] = field(default_factory=set)
    saved: dict[ir.Value, list[str]] = field(default_factory=dict)
    extras: list[tuple[ir.Node, ExtraTensor]] = field(default_factory=list)
    aliases: dict[ir.Value, ir.Value] = field(default_factory=dict)
    graph_runs: dict[ir.Graph, int] = field(default_factory=dict)
    position: dict[ir.Node, int] = field(default_factory=dict)
    without_rule: dict[str, None] = field(default_factory=dict)
    node_count: int = 0

    @classmethod
    def of(cls, measured: MeasuredModel) -> Backward:
        """Saved tensors of every node that runs, in file order; a subgraph after its node."""
        back = cls(measured=measured)
        back.differentiable.update(param.value for param in trained(measured.contents.params))
        for run in measured.node_runs:
            node = run.node
            if run.times and node.graph is not None:
                back.graph_runs.setdefault(node.graph, run.times)
                back._add_node(node)
        return back

    def _add_node(self, node: ir.Node) -> None:
        main = node.graph is self.measured.fully_bound.graph
        self.node_count += main
        self.position[node] = self.node_count - 1
        bodies = list(subgraphs(node))
        for body in bodies:
            self.differentiable.update(value for value in body.inputs if _is_floating(value))
        if not (bodies or any(value in self.differentiable for value in node.inputs if value is not None)):
            return
        self.differentiable.update(value for value in node.outputs if _is_floating(value))
        if node.op_type in VIEW_OPERATORS and node.inputs[0] is not None:
            self.aliases.update(dict.fromkeys(node.outputs, node.inputs[0]))
        if any(value in self.differentiable for value in node.outputs):
            self._add_saved_tensors(node)

    def _add_saved_tensors(self, node: ir.Node) -> None:
        if not is_known(node):
            self.without_rule[node.op_type] = None
        for tensor in saved_for_backward(node, self.has_gradient):
            if isinstance(tensor, ExtraTensor):
                self.extras.append((node, tensor))
            elif (base := self.base_tensor(tensor)) not in self.measured.contents.constants:
                users = self.saved.setdefault(base, [])
                if (name := self.measured.counter.names[node]) not in users:
                    users.append(name)

    def has_gradient(self, value: ir.Value | None) -> bool:
        """Whether a value gets a gradient: it depends on a trained weight."""
        return value is not None and value in self.differentiable

    def base_tensor(self, value: ir.Value) -> ir.Value:
        """The tensor that a value is a view of, or the value itself."""
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def bytes(self, value: ir.Value) -> int:
        """Bytes of a value over all runs of its node; 0 where the size is unknown."""
        return (bytes_of(value) or 0) * self._times(value.producer())

    def _times(self, node: ir.Node | None) -> int:
        return 1 if node is None or node.graph is None else self.graph_runs.get(node.graph, 1)

    def extra_bytes(self, node: ir.Node, extra: ExtraTensor) -> int:
        """Bytes of an extra tensor over all runs of its node."""
        return prod(extra.shape) * extra.element_bytes * self._times(node)


def trained(params: list[Param]) -> Iterator[Param]:
    """Params that get a gradient: floating-point ones other than batch-norm statistics."""
    return (param for param in params if _is_floating(param.value) and not param.statistic)


def training(measured: MeasuredModel) -> TrainingMemory:
    """Memory to train the model at the sizes that it is bound to, in bytes."""
    back = Backward.of(measured)
    return TrainingMemory(
        weights=_weights(measured.contents.params),
        kept=[*_saved_values(back), *_saved_extras(back)],
        recomputation=_recomputation(back),
        notes=[
            *_size_notes(measured),
            *_untrained_notes(measured.contents.params),
            *_unknown_operator_notes(back),
            *_half_precision_notes(measured.contents.params),
        ],
    )


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _weights(params: list[Param]) -> TrainedWeights:
    trainable = list(trained(params))
    half = [param for param in trainable if param.value.dtype in HALF_TYPES]
    return TrainedWeights(
        stored=sum(param.bytes for param in params),
        trained=sum(param.elements for param in trainable),
        gradients=sum(param.bytes for param in trainable),
        master=4 * sum(param.elements for param in half),
        state=sum(max(param.bytes, 4 * param.elements) for param in trainable),
    )


def _saved_values(back: Backward) -> Iterator[SavedBytes]:
    names = back.measured.counter.names
    for value, users in back.saved.items():
        producer = value.producer()
        yield SavedBytes(
            name=str(value.name),
            layer=None if producer is None else names[producer],
            what="tensor",
            shape=sizes(value) or (),
            bytes=back.bytes(value),
            by=tuple(users),
        )


def _saved_extras(back: Backward) -> Iterator[SavedBytes]:
    for node, extra in back.extras:
        name = back.measured.counter.names[node]
        size = back.extra_bytes(node, extra)
        yield SavedBytes(
            name=str(node.outputs[0].name),
            layer=name,
            what=extra.what,
            shape=extra.shape,
            bytes=size,
            by=(name,),
        )


def _recomputation(back: Backward) -> Recomputation | None:
    """Activation checkpointing: the best boundaries among tensors that alone connect two parts of the net.

    None where no choice of boundaries saves memory.
    """
    produced = _saved_bytes_by_position(back)
    crossings = _single_crossings(back)
    before = 0
    cuts: dict[ir.Value, tuple[int, CutPoint]] = {}
    for position, size in enumerate(produced):
        before += size
        if (value := crossings.get(position)) is not None and value not in cuts:
            own = back.bytes(value) if value in back.saved else 0
            cuts[value] = position, CutPoint(size=back.bytes(value), before=before, own=own)
    chosen = segments([cut for _, cut in cuts.values()], before)
    if not chosen.chosen:
        return None
    values = [list(cuts)[index] for index in chosen.chosen]
    boundaries = [list(cuts.values())[index][0] for index in chosen.chosen]
    return Recomputation(
        boundaries=tuple(_layer(back, value) for value in values),
        kept=chosen.kept + sum(back.bytes(value) for value in _always_saved(back, boundaries)),
        largest=chosen.largest,
        macs=sum(
            run.total.macs
            for run in back.measured.node_runs
            if back.position.get(run.node, 0) <= boundaries[-1]
        ),
    )


def _layer(back: Backward, value: ir.Value) -> str:
    producer = value.producer()
    return str(value.name) if producer is None else back.measured.counter.names[producer]


def _saved_bytes_by_position(back: Backward) -> list[int]:
    """Saved bytes that each node of the main graph produces, of tensors with a gradient."""
    produced = [0] * back.node_count
    for value in back.saved:
        producer = value.producer()
        if producer is not None and back.has_gradient(value):
            produced[back.position[producer]] += back.bytes(value)
    for node, extra in back.extras:
        produced[back.position[node]] += back.extra_bytes(node, extra)
    return produced


def _single_crossings(back: Backward) -> dict[int, ir.Value]:
    """Positions after which a single activation with a gradient is still needed, with that activation."""
    produced_at: dict[ir.Value, int] = {}
    last_use: dict[ir.Value, int] = {}
    for position, node in enumerate(
        node for node in back.measured.fully_bound.graph if node in back.position
    ):
        for value in inputs_and_captures(node):
            if back.has_gradient(value) and value not in back.measured.contents.constants:
                last_use[back.base_tensor(value)] = position
        for value in node.outputs:
            if back.has_gradient(value) and value not in back.measured.contents.constants:
                produced_at.setdefault(back.base_tensor(value), position)
    starts: dict[int, list[ir.Value]] = {}
    for value, position in produced_at.items():
        if last_use.get(value, -1) > position:
            starts.setdefault(position, []).append(value)
    alive: set[ir.Value] = set()
    found: dict[int, ir.Value] = {}
    for position in range(back.node_count):
        alive.update(starts.get(position, ()))
        alive = {value for value in alive if last_use[value] > position}
        if len(alive) == 1:
            found[position] = next(iter(alive))
    return found


def _always_saved(back: Backward, boundaries: list[int]) -> set[ir.Value]:
    """Tensors kept in any case: inputs, and values without a gradient that are needed after a boundary."""
    always_saved = {value for value in back.saved if not back.has_gradient(value)}
    always_saved.update(value for value in data_inputs(back.measured.fully_bound) if value in back.saved)
    constants = back.measured.contents.constants
    for node, position in back.position.items():
        for value in inputs_and_captures(node):
            producer = value.producer()
            if (
                not back.has_gradient(value)
                and value not in constants
                and (producer is None or producer in back.position)
            ):
                start = -1 if producer is None else back.position[producer]
                if any(start <= end < position for end in boundaries):
                    always_saved.add(back.base_tensor(value))
    return always_saved


def _size_notes(measured: MeasuredModel) -> list[str]:
    sizes_text = ", ".join(f"{name} = {size}" for name, size in measured.defaults.items())
    return [f"activations are those of {sizes_text}"] if sizes_text else []


def _untrained_notes(params: list[Param]) -> list[str]:
    untrained = [param for param in params if not _is_floating(param.value)]
    return [f"{len(untrained)} quantized weights aren't trained"] if untrained else []


def _unknown_operator_notes(back: Backward) -> list[str]:
    if not back.without_rule:
        return []
    return [
        f"{', '.join(back.without_rule)} assumed to save all inputs and outputs, as there is no rule for them"
    ]


def _half_precision_notes(params: list[Param]) -> list[str]:
    if not any(param.value.dtype in HALF_TYPES for param in trained(params)):
        return []
    return ["half-precision weights are trained through float32 copies, optimizer state is float32"]
