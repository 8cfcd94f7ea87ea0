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
from modelsurgeon.onnx.analysis.growth import growth
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.memory import CONTAINER_TYPES, activations
from modelsurgeon.onnx.analysis.node_runs import NodeRun, RunCounter
from modelsurgeon.onnx.analysis.params import nbytes
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import expressions
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, symbols
from modelsurgeon.onnx.shapes.inference import unknown
from modelsurgeon.onnx.shapes.loops import iterations

FORMULA_KEYS = ("macs", "flops", "bias_adds")
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """Formulas by key, of the totals and of each layer; those that couldn't be derived are left out.

    layers: in the order of the node runs. growth: order of growth of the totals, by key.
    """

    totals: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[Mapping[str, str]] = ()
    growth: Mapping[str, str] = field(default_factory=dict)


def formulas(measured: MeasuredModel, totals: Totals) -> Formulas:
    """Formulas of `totals` and of every node; without those that don't give the value at the defaults."""
    symbolic, node_runs = measured.symbolic, measured.node_runs
    constants = measured.contents.constants if symbolic is measured.fully_bound else constant_values(symbolic)
    names = symbols(symbolic)
    counted_symbols = frozenset([*names, *iterations(symbolic)])
    shape_of = expressions(symbolic, counted_symbols)
    writer = _Writer(dims=measured.defaults)
    found = _symbolic_runs(
        symbolic, measured.fully_bound, replace(measured.counter, symbols=counted_symbols), shape_of
    )
    sums = {**_sums(found, node_runs), "activation_bytes": _activations(symbolic, constants, shape_of)}
    confirmed = {
        key: writer.tidy(formula)
        for key, formula in sums.items()
        if formula is not None and writer.value(formula) == getattr(totals, key)
    }
    layers = map(writer.layer, found.node_runs, node_runs) if found.same_path else ({} for _ in node_runs)
    return Formulas(
        totals={key: str(formula) for key, formula in confirmed.items()},
        layers=list(layers),
        growth={key: growth(formula, names) for key, formula in confirmed.items()},
    )


@dataclass(frozen=True, kw_only=True)
class _SymbolicRuns:
    """Node runs with symbolic costs. same_path: branches and loops are taken as at the default sizes."""

    node_runs: list[NodeRun]
    same_path: bool


def _symbolic_runs(
    symbolic: ir.Model, fully_bound: ir.Model, counter: RunCounter, shape_of: ShapeOf
) -> _SymbolicRuns:
    pairs = zip(nodes(symbolic), nodes(fully_bound), strict=True)
    names = (
        counter.names
        if symbolic is fully_bound
        else {node: counter.names[bound_node] for node, bound_node in pairs}
    )
    symbolic_counter = replace(
        counter,
        names=names,
        shape_of=shape_of,
        unknown=unknown(symbolic),
        cost_of=_cached_cost_of(),
        notes=[],
    )
    node_runs = symbolic_counter.count(symbolic.graph)
    return _SymbolicRuns(node_runs=node_runs, same_path=symbolic_counter.notes == counter.notes)


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


def _sums(found: _SymbolicRuns, node_runs: Sequence[NodeRun]) -> dict[str, Number]:
    """Sums over the nodes; empty where a branch, a loop or a shape is known at some sizes only."""
    pairs = zip(found.node_runs, node_runs, strict=True)
    underivable = any(isinstance(a.cost, Uncounted) and isinstance(b.cost, Cost) for a, b in pairs)
    if underivable or not found.same_path:
        return {}
    costs = {id(run.cost): run.cost for run in found.node_runs if isinstance(run.cost, Cost)}
    times: dict[int, Number] = {}
    alike = Counter((id(run.cost), run.times) for run in found.node_runs if run.varying is None)
    for (cost, runs), number in alike.items():
        times[cost] = times.get(cost, 0) + runs * number
    parts = [cost * times[key] for key, cost in costs.items() if key in times]
    parts += [run.varying for run in found.node_runs if run.varying is not None]
    return {key: _sum(getattr(part, key) for part in parts) for key in FORMULA_KEYS}


def _sum(terms: Iterable[Number]) -> Number:
    """Sum of many terms at once; added one by one, sympy would sort them each time."""
    terms = list(terms)
    return sympy.Add(*terms) if any(isinstance(term, sympy.Basic) for term in terms) else sum(terms)


def _activations(symbolic: ir.Model, constants: set[ir.Value], shape_of: ShapeOf) -> Number | None:
    """Bytes of all activations of the main graph; None where one is known at some sizes only."""
    values = [*data_inputs(symbolic), *activations(symbolic.graph, constants)]
    if any(type(value.type) in CONTAINER_TYPES for value in values):
        return None
    kinds = Counter((shape_of(value), value.dtype) for value in values)
    sizes = [None if shape is None else nbytes(prod(shape), dtype) for shape, dtype in kinds]
    pairs = [(size, number) for size, number in zip(sizes, kinds.values(), strict=True) if size is not None]
    return _sum(size * number for size, number in pairs) if len(pairs) == len(kinds) else None


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
        return formula.replace(sympy.floor, _cancelled) if isinstance(formula, sympy.Basic) else formula

    def _text(self, formula: Number) -> str:
        if formula not in self.texts:
            self.texts[formula] = str(self.tidy(formula))
        return self.texts[formula]


def _cancelled(inner: Number) -> Number:
    _, below = inner.as_numer_denom()
    return sympy.floor(sympy.cancel(inner)) if below.free_symbols else sympy.floor(inner)
