"""Costs as formulas in the dimensions that a model leaves open, and their order of growth.

Most layers of a net have the same cost as another one, and sympy is slow: all formulas are cached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import onnx_ir as ir
import sympy

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.inspection.rows import Totals
from modelsurgeon.onnx.analysis.formulas.growth import growth
from modelsurgeon.onnx.analysis.formulas.obstacles import Obstacles, counted_activations
from modelsurgeon.onnx.analysis.formulas.undecided import changing_choices
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.params import nbytes
from modelsurgeon.onnx.analysis.run_counter import RunCounter
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import expressions
from modelsurgeon.onnx.shapes.binding import Dims, symbols
from modelsurgeon.onnx.shapes.bound_model import open_unknown
from modelsurgeon.onnx.shapes.loops import iterations
from modelsurgeon.onnx.shapes.rules.open_sizes.arithmetic import cancelled as short_quotient

FORMULA_KEYS = ("macs", "flops", "bias_adds")
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """Formulas by key, of the totals and of each layer; those that couldn't be derived are left out.

    layers: in the order of the node runs. growth: order of growth of the totals, by key. notes: for every
    total without a formula, the first node that stopped it and why; and what the formulas leave out.
    """

    totals: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[Mapping[str, str]] = ()
    growth: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def formulas(measured: MeasuredModel, totals: Totals) -> Formulas:
    """Formulas of `totals` and of every node; without those that don't hold, which `notes` explains."""
    symbolic, node_runs = measured.symbolic, measured.node_runs
    names = symbols(symbolic)
    counted_symbols = frozenset([*names, *iterations(symbolic)])
    shape_of = expressions(symbolic, counted_symbols)
    writer = _Writer(dims=measured.defaults)
    found = _symbolic_runs(
        symbolic,
        measured.fully_bound,
        replace(measured.counter, symbols=counted_symbols),
        shape_of,
        measured.defaults,
    )
    pairs = list(zip(found.node_runs, node_runs, strict=True))
    obstacles = Obstacles(measured=measured, shape_of=shape_of)
    missing: dict[str, str] = {}
    sums: dict[str, Number] = {}
    if (reason := obstacles.to_sums(pairs, found.notes)) is None:
        sums = _sums(found.node_runs)
    else:
        missing = dict.fromkeys(FORMULA_KEYS, reason)
    if (reason := obstacles.to_activations()) is None:
        sums["activation_bytes"] = _activations(measured, shape_of)
    else:
        missing["activation_bytes"] = reason
    left_out = obstacles.left_out(pairs)
    confirmed: dict[str, Number] = {}
    for key, formula in sums.items():
        if writer.value(formula) != getattr(totals, key):
            missing[key] = obstacles.to_value(pairs, key, writer.value)
        elif left_out and formula == 0 and key in FORMULA_KEYS:
            missing[key] = left_out
        else:
            confirmed[key] = writer.tidy(formula)
    layers = map(writer.layer, found.node_runs, node_runs) if found.same_path else ({} for _ in node_runs)
    return Formulas(
        totals={key: str(formula) for key, formula in confirmed.items()},
        layers=list(layers),
        growth={key: growth(formula, names) for key, formula in confirmed.items()},
        notes=_notes(missing, left_out if any(key in confirmed for key in FORMULA_KEYS) else None),
    )


def _notes(missing: Mapping[str, str], left_out: str | None) -> list[str]:
    """One note for each reason, with the totals that have no formula for it.

    left_out: why the formulas of other totals leave something out.
    """
    bounds = "the formulas are lower bounds"
    notes = []
    for reason in dict.fromkeys(missing.values()):
        keys = ", ".join(key for key, stopped in missing.items() if stopped == reason)
        others = f" (and {bounds})" if reason == left_out else ""
        notes.append(f"no formula for {keys}{others}: {reason}")
    if left_out and left_out not in missing.values():
        notes.append(f"{bounds}: {left_out}")
    return notes


@dataclass(frozen=True, kw_only=True)
class _SymbolicRuns:
    """Node runs with symbolic costs.

    notes: those that differ from the ones at the default sizes, as a branch or a loop isn't taken alike.
    """

    node_runs: list[NodeRun]
    notes: list[str]

    @property
    def same_path(self) -> bool:
        """Whether branches and loops are taken as at the default sizes."""
        return not self.notes


def _symbolic_runs(
    symbolic: ir.Model, fully_bound: ir.Model, counter: RunCounter, shape_of: ShapeOf, defaults: Dims
) -> _SymbolicRuns:
    pairs = zip(nodes(symbolic), nodes(fully_bound), strict=True)
    names = (
        counter.names
        if symbolic is fully_bound
        else {node: counter.names[bound_node] for node, bound_node in pairs}
    )
    symbolic_counter = replace(
        counter.fresh(),
        names=names,
        shape_of=shape_of,
        unknown=open_unknown(symbolic),
        cost_of=_cached_cost_of(),
    )
    node_runs = symbolic_counter.count(symbolic.graph)
    differing = [note for note in symbolic_counter.notes if note not in counter.notes]
    differing += [note for note in counter.notes if note not in symbolic_counter.notes]
    differing += changing_choices(symbolic_counter, defaults)
    return _SymbolicRuns(node_runs=node_runs, notes=differing)


def _cached_cost_of() -> Callable[[ShapedNode], Cost | Uncounted]:
    """`cost_of` with a cache: each signature is computed once."""
    seen: dict[object, Cost | Uncounted] = {}

    def cost(op: ShapedNode) -> Cost | Uncounted:
        if (key := op.signature) not in seen:
            found = cost_of(op)
            if op.peeked:  # the value of a constant was read, which is no part of the signature
                return found
            seen[key] = found
        return seen[key]

    return cost


def _sums(node_runs: Sequence[NodeRun]) -> dict[str, Number]:
    """Sums over the nodes."""
    costs = {id(run.cost): run.cost for run in node_runs if isinstance(run.cost, Cost)}
    times: dict[int, Number] = {}
    alike = Counter((id(run.cost), run.times) for run in node_runs if run.varying is None)
    for (cost, runs), number in alike.items():
        times[cost] = times.get(cost, 0) + runs * number
    parts = [cost * times[key] for key, cost in costs.items() if key in times]
    parts += [run.varying for run in node_runs if run.varying is not None]
    return {key: _sum(getattr(part, key) for part in parts) for key in FORMULA_KEYS}


def _sum(terms: Iterable[Number]) -> Number:
    """Sum of many terms at once; added one by one, sympy would sort them each time."""
    terms = list(terms)
    return sympy.Add(*terms) if any(isinstance(term, sympy.Basic) for term in terms) else sum(terms)


def _activations(measured: MeasuredModel, shape_of: ShapeOf) -> Number:
    """Bytes of all activations of the main graph; those of unknown size are left out."""
    kinds: Counter[tuple[Shape, ir.DataType | None]] = Counter()
    for value, at_defaults in counted_activations(measured):
        shape = shape_of(value)
        if shape is not None and measured.contents.bytes_of(at_defaults) is not None:
            kinds[shape, value.dtype] += 1
    sizes = ((nbytes(prod(shape), dtype), number) for (shape, dtype), number in kinds.items())
    return _sum(size * number for size, number in sizes if size is not None)


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """Writes formulas as text, and evaluates them at `dims`; caches both."""

    dims: Dims
    values: dict[Number, Number] = field(default_factory=dict)
    texts: dict[Number, str] = field(default_factory=dict)
    layers: dict[object, dict[str, str]] = field(default_factory=dict)

    def layer(self, run: NodeRun, at_defaults: NodeRun) -> dict[str, str]:
        """Formulas of all runs of a node, where they give its cost at the default sizes."""
        key = (id(run.cost), run.times, at_defaults.cost, run.varying, at_defaults.varying)
        if key not in self.layers:
            self.layers[key] = self._layer(run.total, at_defaults.total)
        return self.layers[key]

    def _layer(self, formula: Cost, at_defaults: Cost) -> dict[str, str]:
        pairs = ((key, getattr(formula, key), getattr(at_defaults, key)) for key in FORMULA_KEYS)
        return {key: self._text(part) for key, part, total in pairs if total and self.value(part) == total}

    def value(self, formula: Number) -> Number:
        """The formula's value at `dims`; a plain number is its own value."""
        if not isinstance(formula, sympy.Basic):
            return formula
        if formula not in self.values:
            sizes = {symbol: self.dims[str(symbol)] for symbol in formula.free_symbols}
            self.values[formula] = formula.subs(sizes)
        return self.values[formula]

    def tidy(self, formula: Number) -> Number:
        """The formula with common factors cancelled, as in floor((512*n + 512) / (n + 1))."""
        if not isinstance(formula, sympy.Basic):
            return formula
        cancelled = {part: sympy.floor(short_quotient(part.args[0])) for part in formula.atoms(sympy.floor)}
        changed = {part: other for part, other in cancelled.items() if part != other}
        return formula.xreplace(changed) if changed else formula

    def _text(self, formula: Number) -> str:
        if formula not in self.texts:
            self.texts[formula] = str(self.tidy(formula))
        return self.texts[formula]
