"""Memory to train a model, told from its graph: what the backward pass needs, what recomputing saves."""

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
    """Goes through a bound model once and notes who keeps what.

    needed: by value, the layers that keep it. extras: masks, indices and statistics, with their node.
    place: by node, the number of the main graph's node that it is, or is inside of.
    """

    found: MeasuredModel
    differentiable: set[ir.Value] = field(default_factory=set)
    needed: dict[ir.Value, list[str]] = field(default_factory=dict)
    extras: list[tuple[ir.Node, ExtraTensor]] = field(default_factory=list)
    aliases: dict[ir.Value, ir.Value] = field(default_factory=dict)
    runs: dict[ir.Graph, int] = field(default_factory=dict)
    place: dict[ir.Node, int] = field(default_factory=dict)
    strange: dict[str, None] = field(default_factory=dict)
    steps: int = 0

    @classmethod
    def of(cls, found: MeasuredModel) -> Backward:
        """Every node that runs, in file order; a body after the node that it belongs to."""
        back = cls(found=found)
        back.differentiable.update(param.value for param in trained(found.held.params))
        for visit in found.visits:
            node = visit.node
            if visit.runs and node.graph is not None:
                back.runs.setdefault(node.graph, visit.runs)
                back._visit(node)
        return back

    def _visit(self, node: ir.Node) -> None:
        main = node.graph is self.found.whole.graph
        self.steps += main
        self.place[node] = self.steps - 1
        bodies = list(subgraphs(node))
        for body in bodies:
            self.differentiable.update(value for value in body.inputs if _is_floating(value))
        if not (bodies or any(value in self.differentiable for value in node.inputs if value is not None)):
            return
        self.differentiable.update(value for value in node.outputs if _is_floating(value))
        if node.op_type in VIEW_OPERATORS and node.inputs[0] is not None:
            self.aliases.update(dict.fromkeys(node.outputs, node.inputs[0]))
        if any(value in self.differentiable for value in node.outputs):
            self._note(node)

    def _note(self, node: ir.Node) -> None:
        if not is_known(node):
            self.strange[node.op_type] = None
        for wish in saved_for_backward(node, self.has_gradient):
            if isinstance(wish, ExtraTensor):
                self.extras.append((node, wish))
            elif (whole := self.storage(wish)) not in self.found.held.fixed:
                by = self.needed.setdefault(whole, [])
                if (name := self.found.walk.names[node]) not in by:
                    by.append(name)

    def has_gradient(self, value: ir.Value | None) -> bool:
        """Whether the loss depends on it through something that is trained."""
        return value is not None and value in self.differentiable

    def storage(self, value: ir.Value) -> ir.Value:
        """The tensor that a value is, or is a view of."""
        while value in self.aliases:
            value = self.aliases[value]
        return value

    def bytes(self, value: ir.Value) -> int:
        """Bytes of all runs; 0 where the size is unknown."""
        return (bytes_of(value) or 0) * self._runs(value.producer())

    def _runs(self, node: ir.Node | None) -> int:
        return 1 if node is None or node.graph is None else self.runs.get(node.graph, 1)

    def extra_bytes(self, node: ir.Node, extra: ExtraTensor) -> int:
        """Bytes of all runs."""
        return prod(extra.shape) * extra.width * self._runs(node)


def trained(params: list[Param]) -> Iterator[Param]:
    """Params that get a gradient: floating ones, but not statistics of batch norm."""
    return (param for param in params if _is_floating(param.value) and not param.statistic)


def training(found: MeasuredModel) -> TrainingMemory:
    """What it takes to train the model at the sizes that it is bound to."""
    back = Backward.of(found)
    return TrainingMemory(
        weights=_weights(found.held.params),
        kept=[*_tensors(back), *_extras(back)],
        recomputation=_recomputation(back),
        notes=[*_sizes(found), *_untrained(found.held.params), *_strange(back), *_half(found.held.params)],
    )


def _is_floating(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _weights(params: list[Param]) -> TrainedWeights:
    learn = list(trained(params))
    half = [param for param in learn if param.value.dtype in HALF_TYPES]
    return TrainedWeights(
        stored=sum(param.bytes for param in params),
        trained=sum(param.elements for param in learn),
        gradients=sum(param.bytes for param in learn),
        master=4 * sum(param.elements for param in half),
        state=sum(max(param.bytes, 4 * param.elements) for param in learn),
    )


def _tensors(back: Backward) -> Iterator[SavedBytes]:
    names = back.found.walk.names
    for value, by in back.needed.items():
        maker = value.producer()
        yield SavedBytes(
            name=str(value.name),
            layer=None if maker is None else names[maker],
            what="tensor",
            shape=sizes(value) or (),
            bytes=back.bytes(value),
            by=tuple(by),
        )


def _extras(back: Backward) -> Iterator[SavedBytes]:
    for node, extra in back.extras:
        name = back.found.walk.names[node]
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
    """The best choice of outputs to keep, of those that alone lead from one part of the net to the next."""
    made = _made(back)
    crossing = _crossings(back)
    before = 0
    cuts: dict[ir.Value, tuple[int, CutPoint]] = {}
    for place, size in enumerate(made):
        before += size
        if (value := crossing.get(place)) is not None and value not in cuts:
            own = back.bytes(value) if value in back.needed else 0
            cuts[value] = place, CutPoint(size=back.bytes(value), before=before, own=own)
    chosen = segments([cut for _, cut in cuts.values()], before)
    if not chosen.chosen:
        return None
    values = [list(cuts)[index] for index in chosen.chosen]
    ends = [list(cuts.values())[index][0] for index in chosen.chosen]
    return Recomputation(
        boundaries=tuple(_layer(back, value) for value in values),
        kept=chosen.kept + sum(back.bytes(value) for value in _given(back, ends)),
        largest=chosen.largest,
        macs=sum(
            visit.total.macs for visit in back.found.visits if back.place.get(visit.node, 0) <= ends[-1]
        ),
    )


def _layer(back: Backward, value: ir.Value) -> str:
    maker = value.producer()
    return str(value.name) if maker is None else back.found.walk.names[maker]


def _made(back: Backward) -> list[int]:
    """By place in the main graph, bytes made there that are kept and depend on what is trained."""
    made = [0] * back.steps
    for value in back.needed:
        maker = value.producer()
        if maker is not None and back.has_gradient(value):
            made[back.place[maker]] += back.bytes(value)
    for node, extra in back.extras:
        made[back.place[node]] += back.extra_bytes(node, extra)
    return made


def _crossings(back: Backward) -> dict[int, ir.Value]:
    """Places behind which a single trained-on activation is still needed, with that activation."""
    born: dict[ir.Value, int] = {}
    last: dict[ir.Value, int] = {}
    for place, node in enumerate(node for node in back.found.whole.graph if node in back.place):
        for value in inputs_and_captures(node):
            if back.has_gradient(value) and value not in back.found.held.fixed:
                last[back.storage(value)] = place
        for value in node.outputs:
            if back.has_gradient(value) and value not in back.found.held.fixed:
                born.setdefault(back.storage(value), place)
    starts: dict[int, list[ir.Value]] = {}
    for value, place in born.items():
        if last.get(value, -1) > place:
            starts.setdefault(place, []).append(value)
    alive: set[ir.Value] = set()
    found: dict[int, ir.Value] = {}
    for place in range(back.steps):
        alive.update(starts.get(place, ()))
        alive = {value for value in alive if last[value] > place}
        if len(alive) == 1:
            found[place] = next(iter(alive))
    return found


def _given(back: Backward, ends: list[int]) -> set[ir.Value]:
    """What is kept in any case: inputs, and what follows from them alone and is needed behind a boundary."""
    given = {value for value in back.needed if not back.has_gradient(value)}
    given.update(value for value in data_inputs(back.found.whole) if value in back.needed)
    fixed = back.found.held.fixed
    for node, place in back.place.items():
        for value in inputs_and_captures(node):
            maker = value.producer()
            if not back.has_gradient(value) and value not in fixed and (maker is None or maker in back.place):
                start = -1 if maker is None else back.place[maker]
                if any(start <= end < place for end in ends):
                    given.add(back.storage(value))
    return given


def _sizes(found: MeasuredModel) -> list[str]:
    told = ", ".join(f"{name} = {size}" for name, size in found.defaults.items())
    return [f"activations are those of {told}"] if told else []


def _untrained(params: list[Param]) -> list[str]:
    fixed = [param for param in params if not _is_floating(param.value)]
    return [f"{len(fixed)} quantised weights aren't trained"] if fixed else []


def _strange(back: Backward) -> list[str]:
    if not back.strange:
        return []
    return [f"{', '.join(back.strange)} taken to keep all inputs and outputs, as no rule says what they keep"]


def _half(params: list[Param]) -> list[str]:
    if not any(param.value.dtype in HALF_TYPES for param in trained(params)):
        return []
    return ["half-precision weights are trained through float32 copies, optimizer state is float32"]
