"""Pairing of the layers with weights of two models, a donor and a recipient.

Layers are paired by a given map, then by name, then by structure: the other layers are aligned in order, by
kind and preferably by equal shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from modelsurgeon.errors import BadPlan
from modelsurgeon.matching.alignment import Item, align

MatchedBy = Literal["map", "name", "structure"]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class WeightedPart:
    """A layer with weights. kind: only parts of the same kind are paired. aliases: names of its tensors.

    shapes: role of each tensor, such as "weight", -> its shape.
    """

    name: str
    kind: str
    shapes: Shapes
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """Donors by recipient. donors: recipient name -> donor name. how: recipient name -> what paired them."""

    donors: Mapping[str, str] = field(default_factory=dict)
    how: Mapping[str, MatchedBy] = field(default_factory=dict)


def pair(
    donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart], given: Mapping[str, str] | None = None
) -> Pairing:
    """The donor of every recipient for which one is found.

    given: recipient name -> donor name. Raises BadPlan for names of no layer with weights.
    """
    _check_map(given or {}, donors, recipients)
    found: dict[str, str] = dict(given or {})
    how: dict[str, MatchedBy] = dict.fromkeys(found, "map")
    for recipient, donor in _by_name(_remaining(donors, found.values()), _remaining(recipients, found)):
        found[recipient], how[recipient] = donor, "name"
    for recipient, donor in _by_structure(_remaining(donors, found.values()), _remaining(recipients, found)):
        found[recipient], how[recipient] = donor, "structure"
    return Pairing(donors=found, how=how)


def _check_map(
    given: Mapping[str, str], donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]
) -> None:
    sides = ((given, recipients, "recipient"), (given.values(), donors, "donor"))
    for names, parts, side in sides:
        known = {part.name for part in parts}
        if odd := [name for name in names if name not in known]:
            raise BadPlan(f"the map names {odd[0]!r}, and the {side} has no such layer with weights")


def _remaining(parts: Sequence[WeightedPart], taken: Iterable[str]) -> list[WeightedPart]:
    """The parts whose names aren't in `taken`."""
    taken_names = set(taken)
    return [part for part in parts if part.name not in taken_names]


def _by_name(donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]) -> list[tuple[str, str]]:
    """Pairs (recipient, donor) of one kind and an equal name, of the layer or else of its first tensor."""
    names = {part.name: part for part in reversed(donors)}
    tensors = {part.aliases[0]: part for part in reversed(donors) if part.aliases}
    pairs, used = [], set()
    for part in recipients:
        donor = names.get(part.name) or (tensors.get(part.aliases[0]) if part.aliases else None)
        if donor is not None and donor.kind == part.kind and donor.name not in used:
            pairs.append((part.name, donor.name))
            used.add(donor.name)
    return pairs


def _by_structure(
    donors: Sequence[WeightedPart], recipients: Sequence[WeightedPart]
) -> list[tuple[str, str]]:
    """Pairs (recipient, donor) of one kind by sequence alignment; equal shapes are preferred."""
    ours, theirs = ([_item(part) for part in parts] for parts in (recipients, donors))
    pairs = [(a[0], b[0]) for a, b in align(ours, theirs) if len(a) == len(b) == 1]
    return [(ours[i].name, theirs[j].name) for i, j in pairs if ours[i].op == theirs[j].op]


def _item(part: WeightedPart) -> Item:
    """The item to align. All have two traits: all shapes, and that of the weight, as one may lack a bias."""
    traits = (tuple(sorted(part.shapes.items())), part.shapes.get("weight"))
    return Item(name=part.name, op=part.kind, traits=traits)
