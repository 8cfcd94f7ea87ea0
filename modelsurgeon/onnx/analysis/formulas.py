"""Costs as formulas in the dimensions that a model leaves open, and how they grow with each of them.

Most layers of a net cost what another one costs, and sympy is slow: whatever is worked out is remembered.
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
from modelsurgeon.onnx.analysis.memory import CONTAINERS, activations
from modelsurgeon.onnx.analysis.node_runs import NodeRun, RunCounter
from modelsurgeon.onnx.analysis.params import nbytes
from modelsurgeon.onnx.costs import Shape, ShapedNode, Uncounted, cost_of
from modelsurgeon.onnx.graph.dataflow import constant_values
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import expressions
from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, symbols
from modelsurgeon.onnx.shapes.inference import unknown

FORMULA_KEYS = ("macs", "flops", "bias_adds")
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True, kw_only=True)
class Formulas:
    """Formulas by key, of the totals and of each layer; those that couldn't be derived are left out.

    layers: in the order of the visits. growth: of the totals, by key.
    """

    totals: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[Mapping[str, str]] = ()
    growth: Mapping[str, str] = field(default_factory=dict)


def formulas(measured: MeasuredModel, totals: Totals) -> Formulas:
    """Formulas of `totals` and of the visits; one that doesn't give the value at the defaults is left out."""
    opened, visits = measured.opened, measured.visits
    fixed = measured.held.fixed if opened is measured.whole else constant_values(opened)
    given = symbols(opened)
    shape_of = expressions(opened, given)
    writer = _Writer(dims=measured.defaults)
    found = _symbolic_runs(opened, measured.whole, measured.walk, shape_of)
    sums = {**_sums(found, visits), "activation_bytes": _activations(opened, fixed, shape_of)}
    known = {
        key: writer.tidy(formula)
        for key, formula in sums.items()
        if formula is not None and writer.value(formula) == getattr(totals, key)
    }
    layers = map(writer.layer, found.visits, visits) if found.alike else ({} for _ in visits)
    return Formulas(
        totals={key: str(formula) for key, formula in known.items()},
        layers=list(layers),
        growth={key: growth(formula, given) for key, formula in known.items()},
    )


@dataclass(frozen=True, kw_only=True)
class _SymbolicRuns:
    """Visits in symbols. alike: branches and loops go the same way as at the sizes of the defaults."""

    visits: list[NodeRun]
    alike: bool


def _symbolic_runs(opened: ir.Model, whole: ir.Model, walk: RunCounter, shape_of: ShapeOf) -> _SymbolicRuns:
    twins = zip(nodes(opened), nodes(whole), strict=True)
    names = walk.names if opened is whole else {node: walk.names[twin] for node, twin in twins}
    open_walk = replace(
        walk, names=names, shape_of=shape_of, unknown=unknown(opened), cost_of=_remembered(), notes=[]
    )
    visits = open_walk.visits(opened.graph)
    return _SymbolicRuns(visits=visits, alike=open_walk.notes == walk.notes)


def _remembered() -> Callable[[ShapedNode], Cost | Uncounted]:
    """`cost_of` that works out each signature once."""
    seen: dict[object, Cost | Uncounted] = {}

    def cost(op: ShapedNode) -> Cost | Uncounted:
        if (key := op.signature) not in seen:
            found = cost_of(op)
            if op.peeked:  # a constant was looked at, which is no part of the signature
                return found
            seen[key] = found
        return seen[key]

    return cost


def _sums(found: _SymbolicRuns, visits: Sequence[NodeRun]) -> dict[str, Number]:
    """Sums over the nodes; nothing where a branch, a loop or a shape is only known at some sizes."""
    pairs = zip(found.visits, visits, strict=True)
    lost = any(isinstance(a.cost, Uncounted) and isinstance(b.cost, Cost) for a, b in pairs)
    if lost or not found.alike:
        return {}
    costs = {id(visit.cost): visit.cost for visit in found.visits if isinstance(visit.cost, Cost)}
    times: dict[int, Number] = {}
    for (cost, runs), number in Counter((id(visit.cost), visit.runs) for visit in found.visits).items():
        times[cost] = times.get(cost, 0) + runs * number
    parts = [cost * times[key] for key, cost in costs.items()]
    return {key: _sum(getattr(part, key) for part in parts) for key in FORMULA_KEYS}


def _sum(terms: Iterable[Number]) -> Number:
    """One sum of many terms; sympy would sort anew after each one."""
    terms = list(terms)
    return sympy.Add(*terms) if any(isinstance(term, sympy.Basic) for term in terms) else sum(terms)


def _activations(opened: ir.Model, fixed: set[ir.Value], shape_of: ShapeOf) -> Number | None:
    """Bytes of all activations of the main graph; None where one is only known at some sizes."""
    values = [*data_inputs(opened), *activations(opened.graph, fixed)]
    if any(type(value.type) in CONTAINERS for value in values):
        return None
    kinds = Counter((shape_of(value), value.dtype) for value in values)
    sizes = [None if shape is None else nbytes(prod(shape), dtype) for shape, dtype in kinds]
    pairs = [(size, number) for size, number in zip(sizes, kinds.values(), strict=True) if size is not None]
    return _sum(size * number for size, number in pairs) if len(pairs) == len(kinds) else None


@dataclass(frozen=True, kw_only=True)
class _Writer:
    """Values and texts of formulas at `dims`."""

    dims: Dims
    values: dict[Number, Number] = field(default_factory=dict)
    texts: dict[Number, str] = field(default_factory=dict)
    layers: dict[object, dict[str, str]] = field(default_factory=dict)

    def layer(self, visit: NodeRun, truth: NodeRun) -> dict[str, str]:
        """Formulas of all runs of a node, where they give the true cost."""
        key = (id(visit.cost), visit.runs, truth.cost)
        if key not in self.layers:
            self.layers[key] = self._layer(visit.total, truth.total)
        return self.layers[key]

    def _layer(self, formula: Cost, truth: Cost) -> dict[str, str]:
        pairs = ((key, getattr(formula, key), getattr(truth, key)) for key in FORMULA_KEYS)
        return {key: self._text(one) for key, one, total in pairs if total and self.value(one) == total}

    def value(self, formula: Number) -> Number:
        """The formula's value; what doesn't depend on any symbol is its own value."""
        if not isinstance(formula, sympy.Basic):
            return formula
        if formula not in self.values:
            sizes = {symbol: self.dims[str(symbol)] for symbol in formula.free_symbols}
            self.values[formula] = formula.subs(sizes)
        return self.values[formula]

    def tidy(self, formula: Number) -> Number:
        """Fractions of sizes that cancel out, such as floor((512*n + 512) / (n + 1)), are cancelled."""
        return formula.replace(sympy.floor, _cancelled) if isinstance(formula, sympy.Basic) else formula

    def _text(self, formula: Number) -> str:
        if formula not in self.texts:
            self.texts[formula] = str(self.tidy(formula))
        return self.texts[formula]


def _cancelled(inner: Number) -> Number:
    _, below = inner.as_numer_denom()
    return sympy.floor(sympy.cancel(inner)) if below.free_symbols else sympy.floor(inner)
