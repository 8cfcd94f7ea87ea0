"""What one net can take from another: which layers belong together, and arrays of other sizes made to fit.

Layers are matched by a given map, then by name, then by structure: those that are left on both sides are
aligned in order, so that what has the same kind and, before all, the same shapes stands side by side.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modelsurgeon.errors import BadPlan
from modelsurgeon.matching.alignment import Item, align

How = Literal["map", "name", "structure"]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class WeightedPart:
    """A layer with weights. kind: only parts of one kind belong together. aliases: names of its tensors.

    shapes: of every tensor in it, by what it is for, such as "weight".
    """

    name: str
    kind: str
    shapes: Shapes
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Which part of the donor goes to which of the recipient, and by what; both by their names."""

    donors: Mapping[str, str] = field(default_factory=dict)
    how: Mapping[str, How] = field(default_factory=dict)


def pair(
    donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart], given: Mapping[str, str] | None = None
) -> Pairing:
    """A donor for as many recipients as can be told.

    given: recipient name -> donor name. Raises BadPlan for names that nobody has.
    """
    _check(given or {}, donors, recipients)
    found: dict[str, str] = dict(given or {})
    how: dict[str, How] = dict.fromkeys(found, "map")
    for recipient, donor in _by_name(_left(donors, found.values()), _left(recipients, found)):
        found[recipient], how[recipient] = donor, "name"
    for recipient, donor in _aligned(_left(donors, found.values()), _left(recipients, found)):
        found[recipient], how[recipient] = donor, "structure"
    return Pairing(donors=found, how=how)


def _check(
    given: Mapping[str, str], donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]
) -> None:
    sides = ((given, recipients, "recipient"), (given.values(), donors, "donor"))
    for names, parts, side in sides:
        known = {part.name for part in parts}
        if odd := [name for name in names if name not in known]:
            raise BadPlan(f"the map names {odd[0]!r}, and the {side} has no such layer with weights")


def _left(parts: Sequence[WeightedPart], taken: Iterable[str]) -> list[WeightedPart]:
    gone = set(taken)
    return [part for part in parts if part.name not in gone]


def _by_name(donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]) -> list[tuple[str, str]]:
    """By the layer's name, else by that of its first tensor; the kind must be the same."""
    names = {part.name: part for part in reversed(donors)}
    tensors = {part.aliases[0]: part for part in reversed(donors) if part.aliases}
    pairs, used = [], set()
    for part in recipients:
        donor = names.get(part.name) or (tensors.get(part.aliases[0]) if part.aliases else None)
        if donor is not None and donor.kind == part.kind and donor.name not in used:
            pairs.append((part.name, donor.name))
            used.add(donor.name)
    return pairs


def _aligned(donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]) -> list[tuple[str, str]]:
    """Parts of one kind in the same order, those with the same shapes first of all."""
    ours, theirs = ([_item(part) for part in parts] for parts in (recipients, donors))
    pairs = [(a[0], b[0]) for a, b in align(ours, theirs) if len(a) == len(b) == 1]
    return [(ours[i].name, theirs[j].name) for i, j in pairs if ours[i].op == theirs[j].op]


def _item(part: WeightedPart) -> Item:
    """With as many traits as any other: one that lacks a bias may still have the right weight."""
    traits = (tuple(sorted(part.shapes.items())), part.shapes.get("weight"))
    return Item(name=part.name, op=part.kind, traits=traits)
