"""The feeds of one model in the types and names of another's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from modelsurgeon.data import Array, Input
from modelsurgeon.data.feeds import cast, is_float, shape_text
from modelsurgeon.errors import BadData


@dataclass(frozen=True, kw_only=True)
class FeedConversion:
    """A function from the feeds of A to those of B. sources: each input of B, and A's name of what it gets.

    notes: what was paired by position, and what is rounded.
    """

    sources: Sequence[tuple[Input, str]]
    notes: Sequence[str] = field(default=())

    def __call__(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """A feed of A as one of B. Raises BadData for a shape that B doesn't take, and lossy values."""
        made = {}
        for spec, name in self.sources:
            if spec.has_default and name not in feed:
                continue
            array = feed[name]
            if not spec.accepts(array.shape):
                raise BadData(
                    f"{spec.name} takes {spec.form} and A is fed {shape_text(array.shape)}: give sizes that "
                    "both take (--shape, --batch)"
                )
            made[spec.name] = array if spec.dtype == object else cast(array, spec)
        return made


def in_own_types(a: Sequence[Input], b: Sequence[Input], *, by_position: bool) -> FeedConversion:
    """The conversion of feeds for a model with inputs `a` into feeds for one with inputs `b`.

    Inputs are paired by name; by_position: the remaining ones in order. An input of B that has a default
    keeps it where A has no partner. Raises BadData for another input of B without a partner, for a default of
    A that is replaced and that B doesn't have, and for partners of which one holds floats and the other
    integers, truth values or texts, or that have different ranks.
    """
    b = [spec for spec in b if not spec.has_default or spec.name in {each.name for each in a}]
    replaced = [spec.name for spec in a if spec.has_default and spec.name not in {each.name for each in b}]
    if replaced:
        raise BadData(
            f"the data replace the default of {', '.join(replaced)} in A, and it has no such input: leave "
            "it out of the data"
        )
    ours = {spec.name: spec for spec in a}
    names = {spec.name for spec in b}
    free = [spec.name for spec in a if spec.name not in names]
    lonely = [spec for spec in b if spec.name not in ours]
    if lonely and (not by_position or len(free) < len(lonely)):
        raise BadData(
            f"it takes the input {', '.join(spec.name for spec in lonely)}, and A takes "
            f"{', '.join(ours) or 'none'}: give both the same names, or pair them by position (--by-position)"
        )
    partner = dict(zip((spec.name for spec in lonely), free, strict=False))
    sources = [(spec, partner.get(spec.name, spec.name)) for spec in b]
    for spec, name in sources:
        _check(ours[name], spec)
    renamed = [f"input {spec.name} of B is fed {name} of A" for spec, name in sources if spec.name != name]
    rounded = [
        f"input {spec.name} of B is {spec.dtype}: the {ours[name].dtype} samples are rounded for it"
        for spec, name in sources
        if is_float(spec.dtype) and _loses(ours[name].dtype, spec.dtype)
    ]
    return FeedConversion(sources=sources, notes=[*renamed, *rounded])


def _check(ours: Input, theirs: Input) -> None:
    """Raise BadData where what one input takes is nothing for the other."""
    kinds = _kind(ours.dtype), _kind(theirs.dtype)
    if kinds[0] != kinds[1]:
        raise BadData(
            f"input {theirs.name} is {theirs.dtype} and {ours.name} of A is {ours.dtype}: "
            "they can't be fed alike"
        )
    ranks = [None if spec.shape is None else len(spec.shape) for spec in (ours, theirs)]
    if None not in ranks and ranks[0] != ranks[1]:
        raise BadData(
            f"input {theirs.name} has shape {theirs.form} and {ours.name} of A {ours.form}: "
            "they can't be fed alike"
        )


def _kind(dtype: np.dtype[np.generic]) -> str:
    if is_float(dtype):
        return "float"
    return "text" if dtype.kind in "OUS" else "bool" if dtype.kind == "b" else "integer"


def _loses(of: np.dtype[np.generic], to: np.dtype[np.generic]) -> bool:
    return not np.can_cast(of, to, "safe") if of.kind == to.kind == "f" else of != to
