"""Open sizes that weights, constants and fixed sizes of a model leave no choice for.

A requirement with one open symbol is an equation: its only solution is the size of the symbol. A size that
may broadcast is taken as that of the constant that it meets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes.binding import symbols
from modelsurgeon.onnx.shapes.impossible import open_requirements
from modelsurgeon.onnx.shapes.requirements import Relation, Requirement
from modelsurgeon.onnx.shapes.requirements.equations import only_solution

PINNED_KEY = "modelsurgeon.pinned"  # model.meta: the sizes that were deduced, in order


@dataclass(frozen=True, kw_only=True)
class PinnedSize:
    """A symbol with the only size that a node allows. position: of the node among all of the model."""

    symbol: str
    size: int
    position: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FittedSizes:
    """Symbols whose default sizes are chosen to fit a node. position: of it among all of the model."""

    symbols: tuple[str, ...]
    position: int
    reason: str


def pinned(model: ir.Model) -> list[PinnedSize]:
    """The sizes that were deduced for symbols of a bound model."""
    found: list[PinnedSize] = model.meta.setdefault(PINNED_KEY, [])
    return found


def deduced_sizes(model: ir.Model) -> list[PinnedSize]:
    """Sizes that follow from the shapes of a bound model, one for each symbol; empty where none does.

    Sizes that may also be 1, as they broadcast, are deduced only where nothing else follows.
    """
    certain: dict[str, PinnedSize] = {}
    likely: dict[str, PinnedSize] = {}
    positions: dict[ir.Node, int] = {}
    for node, requirement in known_requirements(model):
        solution = _solution(requirement)
        if solution is not None:
            symbol, size = solution
            positions = positions or {other: number for number, other in enumerate(nodes(model))}
            kept = certain if _is_equation(requirement) else likely
            kept.setdefault(
                symbol,
                PinnedSize(symbol=symbol, size=size, position=positions[node], reason=requirement.reason),
            )
    return list((certain or likely).values())


def known_requirements(model: ir.Model) -> Iterator[tuple[ir.Node, Requirement]]:
    """Requirements of open sizes that depend on nothing but the symbols of a bound model's inputs."""
    known = frozenset(symbols(model))
    for requirement, node in open_requirements(model).items():
        if requirement.symbols <= known:
            yield node, requirement


def _is_equation(requirement: Requirement) -> bool:
    """Whether both sizes must be equal, and neither may be 1 instead."""
    left, relation = requirement.left, requirement.relation
    return relation is Relation.EQUAL or (relation is Relation.SPREADS and isinstance(left, int) and left > 1)


def _solution(requirement: Requirement) -> tuple[str, int] | None:
    """The symbol and its only positive size; None where there are several, or none."""
    relation, left, right = requirement.relation, requirement.left, requirement.right
    if relation in (Relation.AT_LEAST, Relation.DIVIDED_BY):
        return None
    if not _is_equation(requirement):
        number = left if isinstance(left, int) else right
        if not isinstance(number, int) or number < 2 or (relation is Relation.SPREADS and number is left):
            return None
    return only_solution(left, right)


def fitted_sizes(model: ir.Model) -> list[FittedSizes]:
    """Requirements of fixed sizes that several default sizes of a bound model may fulfil."""
    found = [
        (node, requirement)
        for node, requirement in known_requirements(model)
        if requirement.relation is Relation.EQUAL
        and (isinstance(requirement.left, int) or isinstance(requirement.right, int))
    ]
    positions = {node: number for number, node in enumerate(nodes(model))} if found else {}
    return [
        FittedSizes(symbols=tuple(sorted(fitted.symbols)), position=positions[node], reason=fitted.reason)
        for node, fitted in found
    ]
