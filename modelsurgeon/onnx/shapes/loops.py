"""Loops: how often they run, and sizes that change from one iteration to the next.

The body of a Loop is inferred once, for all iterations: its number, counted from 1, is a symbol. A size that
grows by the same amount in each iteration, or by one that follows from the number of the iteration, becomes
an expression in that symbol. So do the length of a sequence, the sum of its elements' sizes, and counters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import onnx_ir as ir
import sympy
from onnx_shape_inference import SYM_DATA_KEY, ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import scalar_constant
from modelsurgeon.onnx.graph.names import free_name
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes.conditions import condition_of
from modelsurgeon.onnx.shapes.dimensions import (
    CONTENTS_KEY,
    Condition,
    Dim,
    Expression,
    as_dim,
    expression_of,
    integer_of,
    integers_of,
    set_integers,
)
from modelsurgeon.onnx.shapes.sequence_elements import (
    ELEMENTS_KEY,
    Elements,
    Sizes,
    elements,
    named,
    set_elements,
    sizes_in,
)

LOOP_KEY = "modelsurgeon.loop"  # graph.meta: the LoopBody of a Loop's body
MAX_TRIED_ITERATIONS = 4096
MAX_COUNTERS = 8  # integers of a state that are followed from one iteration to the next
MAX_MISTAKES = 2

# What is followed of a state: sizes of axes, the length of a sequence, sums of its elements' sizes, integers.
Key = tuple[str, int]
Quantities = dict[Key, Dim | None]
LENGTH: Key = ("length", 0)


@dataclass(kw_only=True)
class SizeGrowth:
    """A quantity of a state that changes. symbol: stands for it until it is solved.

    step: what an iteration adds, in the symbol of the iteration; None until it is solved. added: what those
    before an iteration have added. mistakes: how often that turned out to be wrong.
    """

    symbol: str
    step: Expression | None = None
    added: Expression | None = None
    mistakes: int = 0


@dataclass(kw_only=True)
class LoopBody:
    """What is known of the iterations of a Loop.

    iteration: symbol of the number of the iteration, from 1 on. growths: by state and quantity. adopted: by
    state, the shape of the elements in a sequence that starts empty. reordered: sequences that keep their
    length but not their elements. readopted: by state, how often that shape turned out to be another one.
    """

    iteration: str
    growths: dict[tuple[int, Key], SizeGrowth] = field(default_factory=dict)
    adopted: dict[int, Sizes] = field(default_factory=dict)
    reordered: set[int] = field(default_factory=set)
    readopted: Counter[int] = field(default_factory=Counter)

    @property
    def symbol(self) -> Expression:
        """The number of the iteration as a sympy symbol."""
        return expression_of(ir.SymbolicDim(self.iteration))


def name_iterations(model: ir.Model, taken: set[str]) -> None:
    """Give every Loop a symbol for the number of its iteration. taken: names of other symbols."""
    for _, body in _loops(model):
        body.meta[LOOP_KEY] = LoopBody(iteration=free_name("iteration", taken))


def iterations(model: ir.Model) -> list[str]:
    """The symbols of iterations in a bound model."""
    return [body.meta[LOOP_KEY].iteration for _, body in _loops(model) if LOOP_KEY in body.meta]


def _loops(model: ir.Model) -> Iterator[tuple[ir.Node, ir.Graph]]:
    """The Loops of a model with their bodies."""
    for node in nodes(model) if bodies(model) else ():
        if (body := loop_body(node)) is not None:
            yield node, body


def loop_body(node: ir.Node) -> ir.Graph | None:
    """The body of a Loop; None for other nodes."""
    is_loop = node.op_type == "Loop" and not node.domain
    return node.attributes.get_graph("body", None) if is_loop else None


def trip_count(node: ir.Node) -> Dim | None:
    """How often a Loop runs that can't end early; None where that doesn't follow from sizes and constants."""
    body = loop_body(node)
    limit, start = (*node.inputs, None, None)[:2]
    first_condition = True if start is None else scalar_constant(start)
    if first_condition is False:
        return 0
    trips = integer_of(limit)
    if trips is None or first_condition is None or body is None:
        return None
    if len(body.inputs) < 2 or not body.outputs:
        return None
    if not _goes_on(body) and not _holds_until(body, trips):
        return None
    if isinstance(trips, int):
        return max(trips, 0)
    expression = expression_of(trips)
    return None if expression is None else as_dim(sympy.Max(0, expression))


def _goes_on(body: ir.Graph) -> bool:
    """Whether the condition at the end of an iteration is the one before it, or true."""
    condition: ir.Value | None = body.outputs[0]
    while condition is not None and condition is not body.inputs[1]:
        if scalar_constant(condition) is True:
            return True
        producer = condition.producer()
        if producer is None or producer.op_type != "Identity" or producer.domain:
            return False
        condition = producer.inputs[0]
    return condition is not None


def _holds_until(body: ir.Graph, trips: Dim) -> bool:
    """Whether the condition follows from the number of the iteration, and holds in all but the last one."""
    state: LoopBody | None = body.meta.get(LOOP_KEY)
    condition = None if state is None else condition_of(body.outputs[0])
    last = expression_of(trips)
    if state is None or condition is None or last is None:
        return False
    if isinstance(trips, int) and trips <= MAX_TRIED_ITERATIONS and condition.free_symbols <= {state.symbol}:
        return _is_met(condition, state.symbol, trips - 1)
    return all(_rises_to(part, state.symbol, last - 1) for part in sympy.And.make_args(condition))


def _rises_to(condition: Condition, symbol: Expression, last: Expression) -> bool:
    """Whether a comparison is met up to the last number because it is met there and its lower side rises."""
    if not isinstance(condition, sympy.StrictLessThan | sympy.StrictGreaterThan):
        return False
    excess = sympy.expand(condition.lts - condition.gts)
    rises = excess.is_polynomial(symbol) and sympy.degree(excess, symbol) == 1
    return bool(rises and excess.coeff(symbol).is_positive and excess.subs(symbol, last).is_negative)


@cache
def _is_met(condition: Condition, symbol: Expression, last: int) -> bool:
    """Whether a condition is met for all numbers from 1 to the last."""
    return all(bool(condition.subs(symbol, number)) for number in range(1, last + 1))


def bind_loop(ctx: ShapeInferenceContext, node: ir.Node, body: ir.Graph) -> None:
    """Give the inputs of a Loop's body types and sizes, in the symbol of its iteration where these change."""
    state: LoopBody | None = body.meta.get(LOOP_KEY)
    for value, dtype in zip(body.inputs[:2], (ir.DataType.INT64, ir.DataType.BOOL), strict=False):
        value.shape = ir.Shape([1] if value.shape is not None and value.shape.rank() == 1 else [])
        value.dtype = value.dtype or dtype
    if state is None:
        return
    if body.inputs:
        set_integers(ctx, body.inputs[0], [ir.SymbolicDim(state.iteration) - 1])
    for index, (start, initial) in enumerate(zip(body.inputs[2:], node.inputs[2:], strict=False)):
        start.const_value = None
        start.shape = None
        if initial is not None:
            start.type = start.type or initial.type
            _set_quantities(ctx, start, _at_start(state, index, initial), _listed(state, index, initial))
            if index not in state.adopted and elements(initial).is_empty:
                start.meta[ELEMENTS_KEY] = replace(elements(start), unset=True)


def _listed(state: LoopBody, index: int, initial: ir.Value) -> Elements | None:
    """The elements of a sequence that no iteration changes."""
    changes = index in state.reordered or any(key == index for key, _ in state.growths)
    return None if changes or index in state.adopted else elements(initial)


def _at_start(state: LoopBody, index: int, initial: ir.Value) -> Quantities | None:
    """The quantities of a state at the start of an iteration."""
    before = quantities(initial)
    if (shape := state.adopted.get(index)) is not None:
        before = {LENGTH: 0}
        before |= {("axis", axis): size for axis, size in enumerate(shape)}
        before |= {("total", axis): 0 for axis in range(len(shape))}
    if before is None:
        return None
    return {key: _grown(state.growths.get((index, key)), size) for key, size in before.items()}


def _grown(growth: SizeGrowth | None, initial: Dim | None) -> Dim | None:
    if growth is None:
        return initial
    expression = None if initial is None else expression_of(initial)
    if growth.added is None or expression is None:
        return ir.SymbolicDim(growth.symbol)
    return as_dim(sympy.expand(expression + growth.added))


def quantities(value: ir.Value) -> Quantities | None:
    """What is followed of a state; None where its shape is unknown."""
    if isinstance(value.type, ir.SequenceType):
        found = elements(value)
        by_key: Quantities = {LENGTH: found.length}
        by_key |= {("axis", axis): size for axis, size in enumerate(found.shape or ())}
        rank = len(found.shape or ())
        return by_key | {("total", axis): size for axis, size in enumerate(found.totals or (None,) * rank)}
    sizes = sizes_in(value.shape) if not isinstance(value.type, ir.OptionalType) else None
    if sizes is None:
        return None
    by_key = {("axis", axis): size for axis, size in enumerate(sizes)}
    counters = integers_of(value) if len(sizes) <= 1 else None
    if counters is not None and len(counters) <= MAX_COUNTERS:
        by_key |= {("counter", index): number for index, number in enumerate(counters)}
    return by_key


def _set_quantities(
    ctx: ShapeInferenceContext, value: ir.Value, found: Quantities | None, listed: Elements | None = None
) -> None:
    """Give a value the shape, the elements or the integers of these quantities."""

    def part(name: str) -> Sizes:
        return tuple(size for (kind, _), size in (found or {}).items() if kind == name)

    for key in (ELEMENTS_KEY, CONTENTS_KEY):
        value.meta.pop(key, None)
    value.metadata_props.pop(SYM_DATA_KEY, None)
    if found is None:
        return
    if LENGTH in found:
        shape = part("axis") or None
        unlisted = Elements(length=found[LENGTH], shape=shape, totals=part("total") or None)
        set_elements(ctx, value, listed or unlisted)
        return
    value.shape = named(ctx, part("axis"))
    counters = [number for number in part("counter") if number is not None]
    if counters and len(counters) == len(part("counter")):
        set_integers(ctx, value, counters)


def final_state(ctx: ShapeInferenceContext, node: ir.Node, body: ir.Graph, index: int) -> None:
    """Give the output of a Loop that is a state after the last iteration its shape and type."""
    output, start, end = node.outputs[index], body.inputs[index + 2], body.outputs[index + 1]
    state: LoopBody | None = body.meta.get(LOOP_KEY)
    output.type = output.type or end.type or start.type
    before, after = quantities(start), quantities(end)
    trips = trip_count(node)
    if before is None or after is None:
        _set_quantities(ctx, output, _after_first(state, after, trips))
        return
    if _rank(before) != _rank(after):
        if not elements(start).unset:
            return
        shape = {key: size for key, size in after.items() if key[0] == "axis"}
        before, after = before | shape, after | shape
    if state is None or trips is None:
        same = {key: size if after.get(key) == size else None for key, size in before.items()}
        found = same if state is None else {key: _without(state, size) for key, size in same.items()}
    else:
        found = {key: _after_last(state, size, trips) for key, size in before.items()}
    _set_quantities(ctx, output, found, elements(start) if _each_is_kept(start, end) else None)


def _rank(found: Quantities) -> int:
    return sum(kind == "axis" for kind, _ in found)


def _after_first(state: LoopBody | None, after: Quantities | None, trips: Dim | None) -> Quantities | None:
    """Quantities of a state of which only those after an iteration are known, if there surely is one."""
    if after is None or not isinstance(trips, int) or trips < 1:
        return None
    return after if state is None else {key: _without(state, size) for key, size in after.items()}


def _each_is_kept(start: ir.Value, end: ir.Value) -> bool:
    return elements(start).each is not None and elements(start) == elements(end)


def _without(state: LoopBody, size: Dim | None) -> Dim | None:
    """A size that doesn't change from iteration to iteration; None for others."""
    changing = {state.iteration, *(growth.symbol for growth in state.growths.values())}
    return None if isinstance(size, ir.SymbolicDim) and size.free_symbols() & changing else size


def _after_last(state: LoopBody, size: Dim | None, trips: Dim) -> Dim | None:
    """A size at the start of the iteration after the last one."""
    if size is None or isinstance(size, int):
        return size
    if size.free_symbols() & {growth.symbol for growth in state.growths.values()}:
        return None
    last = expression_of(trips)
    if last is None:
        return None
    final = expression_of(size).subs(state.symbol, last + 1).doit()
    return None if final.has(sympy.Sum) else as_dim(final)


def stacked_shape(
    ctx: ShapeInferenceContext, node: ir.Node, body: ir.Graph, result: ir.Value
) -> ir.Shape | None:
    """Shape of an output that stacks a result of every iteration; equal shapes are what a runtime demands."""
    sizes = sizes_in(result.shape)
    if sizes is None:
        return None
    state: LoopBody | None = body.meta.get(LOOP_KEY)
    kept = sizes if state is None else tuple(_without(state, size) for size in sizes)
    return named(ctx, (trip_count(node), *kept))


def follow_growth(model: ir.Model, failed: Mapping[ir.Node, str], known: set[str], in_use: set[str]) -> bool:
    """Compare the states of all Loops before and after an iteration; return whether anything new was found.

    failed: nodes without results. known: symbols of inputs and iterations. in_use: names of all symbols, to
    which new ones are added.
    """
    changed = False
    for node, body in _loops(model):
        if node not in failed and LOOP_KEY in body.meta:
            follower = _Follower(state=body.meta[LOOP_KEY], known=known, in_use=in_use)
            states = zip(node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False)
            for index, (initial, start, end) in enumerate(states):
                if initial is not None:
                    changed |= follower.follow(index, initial, start, end)
    return changed


def changing_ranks(model: ir.Model, failed: Mapping[ir.Node, str]) -> Iterator[tuple[ir.Node, ir.Value]]:
    """Loops with a state whose number of axes changes from one iteration to the next."""
    for node, body in _loops(model):
        if node in failed:
            continue
        for start, end in zip(body.inputs[2 : len(node.inputs)], body.outputs[1:], strict=False):
            if isinstance(start.type, ir.SequenceType | ir.OptionalType):
                continue
            if start.shape is not None and end.shape is not None and end.shape.rank() != start.shape.rank():
                yield node, start
                break


@dataclass(frozen=True, kw_only=True)
class _Follower:
    """Compares the states of one Loop before and after an iteration."""

    state: LoopBody
    known: set[str]
    in_use: set[str]

    def follow(self, index: int, initial: ir.Value, start: ir.Value, end: ir.Value) -> bool:
        """Compare a state; return whether anything new was found."""
        before, after = quantities(start), quantities(end)
        if before is None or after is None:
            return False
        if LENGTH in before and self._adopt(index, initial, end):
            return True
        if index in self.state.adopted and self._give_back(index, before, after):
            return True
        changed = LENGTH in before and self._reorder(index, start, end)
        at_first = _at_start(LoopBody(iteration="", adopted=self.state.adopted), index, initial) or {}
        for key, size in before.items():
            if size is not None:
                shared = LENGTH in before and key[0] == "axis"
                sizes = at_first.get(key), size, after.get(key)
                changed |= self._follow_size((index, key), *sizes, solvable=not shared)
        return changed

    def _adopt(self, index: int, initial: ir.Value, end: ir.Value) -> bool:
        """Give a sequence that starts empty the shape of what is inserted, once that is known."""
        shape = elements(end).shape
        if index in self.state.adopted or not elements(initial).is_empty or shape is None:
            return False
        if not all(self._is_known(size) for size in shape):
            return False
        self.state.adopted[index] = tuple(_without(self.state, size) for size in shape)
        return True

    def _give_back(self, index: int, before: Quantities, after: Quantities) -> bool:
        """Forget an adopted shape where other elements are inserted than it seemed at first."""
        axes = [key for key in before if key[0] == "axis" and before[key] is not None]
        if self.state.readopted[index] >= MAX_MISTAKES or all(before[key] == after.get(key) for key in axes):
            return False
        self.state.readopted[index] += 1
        del self.state.adopted[index]
        for place in [place for place in self.state.growths if place[0] == index]:
            del self.state.growths[place]
        return True

    def _reorder(self, index: int, start: ir.Value, end: ir.Value) -> bool:
        """Note where the elements of a sequence change, even if their number and sums don't."""
        each = elements(start).each
        if each is None or elements(end).each == each or index in self.state.reordered:
            return False
        self.state.reordered.add(index)
        return True

    def _follow_size(
        self, place: tuple[int, Key], initial: Dim | None, before: Dim, after: Dim | None, *, solvable: bool
    ) -> bool:
        """Compare one quantity; return whether anything new was found."""
        growth = self.state.growths.get(place)
        if growth is None:
            if after == before:
                return False
            self.state.growths[place] = SizeGrowth(symbol=free_name("grows_1", self.in_use))
            return True
        if growth.step is not None:
            if _follows(growth, before, after):
                return False
            growth.step = growth.added = None
            growth.mistakes += 1
            return True
        if not solvable or after is None or growth.mistakes > MAX_MISTAKES:
            return False
        growth.step = sympy.Integer(0) if after == initial else self._step(growth, after)
        growth.added = None if growth.step is None else _sum_before(growth.step, self.state.symbol)
        return growth.step is not None

    def _step(self, growth: SizeGrowth, after: Dim) -> Expression | None:
        """What an iteration adds; None where that doesn't follow from sizes and the iteration's number."""
        step = sympy.expand(expression_of(after) - expression_of(ir.SymbolicDim(growth.symbol)))
        return step if {str(symbol) for symbol in step.free_symbols} <= self.known else None

    def _is_known(self, size: Dim | None) -> bool:
        return isinstance(size, int) or (size is not None and size.free_symbols() <= self.known)


def _follows(growth: SizeGrowth, before: Dim, after: Dim | None) -> bool:
    """Whether an iteration adds to a size what it was solved with."""
    if after is None:
        return False
    difference = sympy.expand(expression_of(after) - expression_of(before) - growth.step)
    return bool(difference == 0 or sympy.simplify(difference) == 0)


def _sum_before(step: Expression, iteration: Expression) -> Expression:
    """What all iterations before one have added; a sum without a formula stays one until it has numbers."""
    if iteration not in step.free_symbols:
        return step * (iteration - 1)
    earlier = sympy.Symbol("earlier_iteration", integer=True, positive=True)
    total = sympy.Sum(step.subs(iteration, earlier), (earlier, 1, iteration - 1))
    return sympy.expand(total.doit()) if step.is_polynomial(iteration) else total
