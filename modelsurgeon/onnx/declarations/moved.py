"""Which values have another shape than before an edit: by inference, and behind what inference can't follow.

An operator that shape inference doesn't know gives the shape that the file declares for it, as long as its
inputs have the shapes that they had. Where they changed, the rank is all that is left of the declaration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import onnx_ir as ir

from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.declarations.twins import Twins, all_nodes, node_twin, twins
from modelsurgeon.onnx.graph.dataflow import subgraphs
from modelsurgeon.onnx.shapes.binding import input_symbols
from modelsurgeon.onnx.shapes.impossible import impossible
from modelsurgeon.onnx.shapes.run_time.declared_shapes import BELIEVED_KEY

Dim = int | ir.SymbolicDim
TRIED_SIZES = (1024, 1733, 4099)  # of symbols, to tell expressions apart


@dataclass(frozen=True, kw_only=True, eq=False)
class InferredShapes:
    """Values of a model with their twins in a bound copy of it.

    believed: names of values whose shape is only declared. symbols: those of the copy's inputs. impossible:
    nodes that can't run, by the name of their first output, each with the reason.
    """

    values: Twins
    believed: frozenset[str]
    symbols: frozenset[str]
    impossible: Mapping[str, str]

    @classmethod
    def of(cls, model: ir.Model, measured: ir.Model | None = None) -> InferredShapes:
        """Infer the shapes of a model. measured: its bound copy, where there is one."""
        known = shapes.bound(model) if measured is None else measured
        believed: Mapping[str, ir.Shape] = known.meta.get(BELIEVED_KEY, {})
        return cls(
            values=twins(model.graph, known.graph),
            believed=frozenset(believed),
            symbols=frozenset(input_symbols(known)),
            impossible={str(node.outputs[0].name): why for node, why in impossible(known).items()},
        )

    def shape(self, value: ir.Value | None) -> ir.Shape | None:
        """The inferred shape of a value; None where it isn't known."""
        twin = None if value is None else self.values.get(value)
        return None if twin is None else twin.shape

    def is_believed(self, value: ir.Value) -> bool:
        """Whether the shape is only what the file declares."""
        return value.name in self.believed


@dataclass(frozen=True, kw_only=True, eq=False)
class Movement:
    """What an edit did to shapes. known: the values of the edited model that the original has, too.

    moved: computed values of another shape than before, or of one that can't be confirmed. unconfirmed:
    those among them that nothing but the old declaration speaks of.
    """

    known: Twins
    before: InferredShapes
    after: InferredShapes
    moved: frozenset[ir.Value]
    unconfirmed: frozenset[ir.Value]

    def has_other_type(self, value: ir.Value) -> bool:
        """Whether another type than before is inferred for a value."""
        old = self.known.get(value)
        twins_of_both = (None if old is None else self.before.values.get(old)), self.after.values.get(value)
        was, now = (None if twin is None else twin.type for twin in twins_of_both)
        return was is not None and now is not None and was != now

    def keeps(self, value: ir.Value, axis: int) -> bool:
        """Whether a value of a known shape has the same size along an axis as before."""
        old, new = self.before.shape(self.known.get(value)), self.after.shape(value)
        return (
            old is not None
            and new is not None
            and len(old) == len(new)
            and _same_dim(old[axis], new[axis], self.before.symbols | self.after.symbols)
        )


def movement(edited: ir.Model, known: Twins, before: InferredShapes) -> Movement:
    """The movement from the original to the edited model, whose computed values have the old declarations.

    Declarations of the edited model that nothing confirms any more are opened.
    """
    opened: set[ir.Value] = set()
    while True:
        after = InferredShapes.of(edited)
        comparison = ShapeComparison(known=known, before=before, after=after)
        unconfirmed = comparison.walk(edited.graph)
        stale = [value for value in unconfirmed - opened if value.shape]
        for value in stale:
            value.shape = comparison.opened(value, value.shape or ())
        opened.update(stale)
        if not any(map(after.is_believed, stale)):
            break
    return Movement(
        known=known,
        before=before,
        after=after,
        moved=frozenset(comparison.moved),
        unconfirmed=frozenset(unconfirmed),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShapeComparison:
    """The comparison of shapes before and after an edit, node by node."""

    known: Twins
    before: InferredShapes
    after: InferredShapes
    moved: set[ir.Value] = field(default_factory=set)

    @cached_property
    def symbols(self) -> frozenset[str]:
        """Symbols of the inputs, before or after."""
        return self.before.symbols | self.after.symbols

    def walk(self, graph: ir.Graph) -> set[ir.Value]:
        """Find the values that moved; return those among them whose shape nothing confirms."""
        unconfirmed: set[ir.Value] = set()
        for node in all_nodes(graph):
            guessed = [value for value in node.outputs if self._is_guess(value)]
            if guessed and self._reads_moved(node):
                unconfirmed.update(guessed)
                self.moved.update(guessed)
            self.moved.update(v for v in node.outputs if v not in guessed and self._differs(v))
        return unconfirmed

    def opened(self, value: ir.Value, declared: Iterable[Dim]) -> ir.Shape:
        """The declared rank with open sizes; a first one that is the kept batch of the node's data stays."""
        first, *others = declared
        node = value.producer()
        data = None if node is None else next(iter(node.inputs), None)
        old, new = self.before.shape(self.known.get(data) if data else None), self.after.shape(data)
        kept = old and new and _same_dim(old[0], new[0], self.symbols) and first == new[0]
        return ir.Shape([first if kept else None, *(None for _ in others)])

    def _is_guess(self, value: ir.Value) -> bool:
        return self.after.shape(value) is None or self.after.is_believed(value)

    def _differs(self, value: ir.Value) -> bool:
        old, new = self.before.shape(self.known.get(value)), self.after.shape(value)
        return old is not None and new is not None and not self._same(old, new)

    def _reads_moved(self, node: ir.Node) -> bool:
        """Whether a node reads a value that certainly has another shape than what it read before.

        A rewritten node is no such sign, nor is a shape that can't be inferred: an edit changes the sizes of
        what it knows, and keeps those of all others.
        """
        twin = node_twin(node, self.known)
        now = _what_shapes_follow(node)
        if any(value in self.moved for value in now if value is not None):
            return True
        if twin is None or twin.op_identifier() != node.op_identifier():
            return False
        then = _what_shapes_follow(twin)
        return len(now) == len(then) and any(map(self._has_moved, now, then))

    def _has_moved(self, value: ir.Value | None, old: ir.Value | None) -> bool:
        if value is None or old is None:
            return False
        if value.const_value is not None and old.const_value is not None:
            return list(value.const_value.shape) != list(old.const_value.shape)
        before, after = self.before.shape(old), self.after.shape(value)
        return before is not None and after is not None and not self._same(before, after)

    def _same(self, one: ir.Shape, other: ir.Shape) -> bool:
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(_same_dim(a, b, self.symbols) for a, b in pairs)


def _what_shapes_follow(node: ir.Node) -> list[ir.Value | None]:
    """The inputs of a node, and what the graphs inside it return: how they compute that may change."""
    return [*node.inputs, *(value for inner in subgraphs(node) for value in inner.outputs)]


def _same_dim(one: Dim, other: Dim, symbols: frozenset[str]) -> bool:
    """Whether two sizes are the same, or both known at run time only: these have new names in every copy.

    One size may be written as several expressions: what counts is what these give at TRIED_SIZES.
    """
    if isinstance(one, int) or isinstance(other, int) or one == other:
        return bool(one == other)
    if not (one.free_symbols() <= symbols and other.free_symbols() <= symbols):
        return not (one.free_symbols() <= symbols or other.free_symbols() <= symbols)
    names = sorted(one.free_symbols() | other.free_symbols())
    tried = [{name: size + 131 * place for place, name in enumerate(names)} for size in TRIED_SIZES]
    return all(one.evaluate(sizes) == other.evaluate(sizes) for sizes in tried)
