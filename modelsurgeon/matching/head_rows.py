"""Rows of a head for new classes: kept, averaged, drawn or fitted to class means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.layers import Array

Init = Literal["zero", "mean", "random", "map", "fit"]
INITS: tuple[Init, ...] = ("zero", "mean", "random", "map", "fit")
Rows = Sequence[Sequence[int]]  # for every new class the old ones it is made from; none: it is new
Means = Callable[[Any, str, int], Array]  # of a model, a tensor in it, so many classes: its mean for each


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How heads grow. sizes: layer name -> classes. means: for init "fit". labels: see `class_origins`."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    init: Init = "zero"
    labels: object = None
    seed: int = 0
    means: Means | None = None


def copy_overlap(donor: Array, recipient: Array) -> Array:
    """The recipient's array with the block that both have taken from the donor.

    Raises UnsupportedLayer where one has more axes than the other.
    """
    if donor.ndim != recipient.ndim:
        raise UnsupportedLayer(
            f"the donor's {donor.shape} has {donor.ndim} axes, {recipient.shape} other ones"
        )
    block = tuple(slice(min(a, b)) for a, b in zip(donor.shape, recipient.shape, strict=True))
    made = np.array(recipient)
    made[block] = donor[block]
    return made


def grow_rows(old: Array, rows: Rows, init: Init, seed: int = 0) -> Array:
    """An array with one row per new class, from one with a row per old class, along the first axis.

    A class that stems from one old class gets exactly its row, one of several their mean. A new one gets
    zeros, the mean of all rows, or normal numbers with mean and deviation of all.
    """
    draw = np.random.default_rng(seed)
    made = np.zeros((len(rows), *old.shape[1:]), old.dtype)
    whole = old.astype(np.float64)
    for place, sources in enumerate(rows):
        if len(sources) == 1:
            made[place] = old[sources[0]]
        elif sources:
            made[place] = whole[list(sources)].mean(axis=0)
        elif init == "mean":
            made[place] = whole.mean(axis=0)
        elif init == "random":
            made[place] = draw.normal(whole.mean(), whole.std(), old.shape[1:])
    return made


def class_origins(size: int, old: int, labels: object, init: Init) -> Rows:
    """From which old classes every one of `size` new classes comes.

    labels: None, and the first ones are the old ones; {"donor": [...], "recipient": [...]} with names of
    classes; or new index -> old index, or several. Raises BadPlan where it doesn't fit.
    """
    if labels is None:
        if init == "map":
            raise BadPlan("which old class a new one comes from isn't told: give labels (--labels)")
        return [[place] if place < old else [] for place in range(size)]
    if not isinstance(labels, Mapping):
        raise BadPlan('labels are {"donor": [...], "recipient": [...]}, or new index -> old index')
    found = (
        _origins_by_name(labels, size)
        if set(labels) == {"donor", "recipient"}
        else _origins_by_index(labels, size)
    )
    for row in found:
        if any(not 0 <= source < old for source in row):
            raise BadPlan(f"the labels name the old class {max(row)}, and the donor has {old} classes")
    return found


def _origins_by_name(labels: Mapping[str, Sequence[str]], size: int) -> Rows:
    if len(labels["recipient"]) != size:
        raise BadPlan(f"the labels name {len(labels['recipient'])} new classes, {size} are asked for")
    place = {name: number for number, name in enumerate(labels["donor"])}
    return [[place[name]] if name in place else [] for name in labels["recipient"]]


def _origins_by_index(labels: Mapping[str, object], size: int) -> Rows:
    found: list[list[int]] = [[] for _ in range(size)]
    for new, old in labels.items():
        several: list[Any] = old if isinstance(old, list) else [old]
        if not str(new).isdigit() or int(new) >= size or not all(type(each) is int for each in several):
            raise BadPlan(f"the labels say {new!r}: {old!r}; a class below {size} and old classes are needed")
        found[int(new)] = several
    return found


def fit_rows(weight: Array, bias: Array | None, rows: Rows, means: Array) -> tuple[Array, Array | None]:
    """Rows for the new classes by least squares on the classes' mean features.

    weight: (classes, features) with the old rows in place; bias: (classes,). means: (classes, features), NaN
    where nothing is known of a class. A new class is asked to answer its own mean as old classes answer
    theirs, and the others' as they do.
    """
    known = [int(c) for c in np.flatnonzero(np.isfinite(means).all(axis=1))]
    features = np.concatenate([means[known], np.ones((len(known), 1))], axis=1)
    offsets = np.zeros(len(rows)) if bias is None else bias.astype(np.float64)
    answers = means[known] @ weight.astype(np.float64).T + offsets
    old = [place for place, class_ in enumerate(known) if rows[class_]]
    own = np.array([answers[place, known[place]] for place in old])
    others = [answers[place, c] for place in old for c in known if rows[c] and c != known[place]]
    high, low = (own.mean() if len(own) else 1.0), (float(np.mean(others)) if others else 0.0)
    made, shift = np.array(weight), None if bias is None else np.array(bias)
    used = features if bias is not None else features[:, :-1]
    for class_ in known:
        if not rows[class_]:
            target = np.where(np.array(known) == class_, high, low)
            solved = np.linalg.lstsq(used, target, rcond=1e-6)[0]
            made[class_] = solved[: weight.shape[1]]
            if shift is not None:
                shift[class_] = solved[-1]
    return made, shift
