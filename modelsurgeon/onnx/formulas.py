"""Totals as formulas in the dimensions that a model leaves open."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import onnx_ir as ir
import sympy

from modelsurgeon.cost import Cost, Number
from modelsurgeon.onnx.costs import Uncounted
from modelsurgeon.onnx.flow import constant_values
from modelsurgeon.onnx.memory import memory
from modelsurgeon.onnx.params import nbytes
from modelsurgeon.onnx.shapes import Dims, expressions, symbols
from modelsurgeon.onnx.visits import Walk
from modelsurgeon.rows import Totals


def formulas(opened: ir.Model, whole: ir.Model, walk: Walk, totals: Totals, dims: Dims) -> dict[str, str]:
    """Formulas of `totals` by key; those that can't be told, or don't give the total at `dims`, are left out.

    opened, whole: the model bound as far as the user did, and bound to `dims` too, which `walk` has visited.
    """
    found = {**_costs(opened, whole, walk), "activation_bytes": _activations(opened)}
    return {
        key: str(formula)
        for key, formula in ((key, _tidy(formula)) for key, formula in found.items() if formula is not None)
        if _value(formula, dims) == getattr(totals, key)
    }


def _costs(opened: ir.Model, whole: ir.Model, walk: Walk) -> dict[str, Number]:
    """Sums over the nodes; nothing where a branch, a loop or a shape is only known at some sizes."""
    given = set(symbols(opened))
    twins = dict(zip(opened.graph.all_nodes(), whole.graph.all_nodes(), strict=True))
    names = {node: walk.names[twin] for node, twin in twins.items()}
    open_walk = replace(walk, names=names, shape_of=lambda value: expressions(value, given), notes=[])
    visits = open_walk.visits(opened.graph)
    lost = (visit.node for visit in visits if isinstance(visit.cost, Uncounted))
    if open_walk.notes != walk.notes or any(isinstance(walk.cost(twins[node]), Cost) for node in lost):
        return {}
    cost = sum((visit.total for visit in visits), Cost())
    return {"macs": cost.macs, "flops": cost.flops, "bias_adds": cost.bias_adds}


def _activations(opened: ir.Model) -> Number | None:
    given = set(symbols(opened))

    def size(value: ir.Value) -> Number | None:
        shape = expressions(value, given)
        return None if shape is None else nbytes(prod(shape), value.dtype)

    found = memory(opened, constant_values(opened), size)
    return None if found.unknown else found.total


def _tidy(formula: Number) -> Number:
    """Fractions of sizes that cancel out, such as floor((512 * n + 512) / (n + 1)), are cancelled."""
    return formula if isinstance(formula, int) else formula.replace(sympy.floor, _cancelled)


def _cancelled(inner: Number) -> Number:
    _, below = inner.as_numer_denom()
    return sympy.floor(sympy.cancel(inner)) if below.free_symbols else sympy.floor(inner)


def _value(formula: Number, dims: Dims) -> Number:
    """The formula's value at some sizes; what doesn't depend on any is its own value."""
    if isinstance(formula, int):
        return formula
    return formula.subs({symbol: dims[str(symbol)] for symbol in formula.free_symbols})
