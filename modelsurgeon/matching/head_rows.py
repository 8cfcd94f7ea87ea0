"""Rows of a classifier head for new classes: copied, averaged, random or fitted to class means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.layers import Array

Init = Literal["zero", "mean", "random", "map", "fit"]
INITS: tuple[Init, ...] = ("zero", "mean", "random", "map", "fit")
Rows = Sequence[Sequence[int]]  # for every class of the new head its old classes; empty for a new class
Means = Callable[[Any, str, int], Array]  # (model, tensor name, classes) -> its mean for each class


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of heads. sizes: layer name -> classes. means: for init "fit". labels: see `class_origins`."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    init: Init = "zero"
    labels: object = None
    seed: int = 0
    means: Means | None = None


def copy_overlap(donor: Array, recipient: Array) -> Array:
    """A copy of the recipient's array, with the donor's values in the block of indices that both have.

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
    """An array `(len(rows), ...)` with a row per class of the new head, from the old head's `(classes, ...)`.

    A class of one old class has its row, a class of several the mean of their rows. A new class has zeros,
    for init "mean" the mean of all rows, for "random" normal numbers with mean and standard deviation of all.
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
    """The old classes of each of `size` classes of the new head; empty for a new class.

    old: number of old classes. labels: None where the first classes are the old ones; {"donor": [...],
    "recipient": [...]} with names of classes; or new index -> old index or list of them.
    Raises BadPlan for labels of another form or indices out of range.
    """
    if labels is None:
        if init == "map":
            raise BadPlan(
                "init map needs the old class of each new one, and none is given: give labels (--labels)"
            )
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
        if not str(new).isdigit() or int(new) >= size or not all(type(index) is int for index in several):
            raise BadPlan(f"the labels say {new!r}: {old!r}; a class below {size} and old classes are needed")
        found[int(new)] = several
    return found


def fit_rows(weight: Array, bias: Array | None, rows: Rows, means: Array) -> tuple[Array, Array | None]:
    """Weight and bias of a head whose rows for new classes are fitted by least squares on class means.

    weight: `(classes, features)` with the old rows in place; bias: `(classes,)`. means: mean features of each
    class, `(classes, features)`, NaN where unknown. The target logit of a new class is, for its own mean, the
    average logit of old classes for their own means, and for other means that of old classes for other means.
    """
    known = [int(c) for c in np.flatnonzero(np.isfinite(means).all(axis=1))]
    features = np.concatenate([means[known], np.ones((len(known), 1))], axis=1)
    offsets = np.zeros(len(rows)) if bias is None else bias.astype(np.float64)
    logits = means[known] @ weight.astype(np.float64).T + offsets
    old = [place for place, class_ in enumerate(known) if rows[class_]]
    own = np.array([logits[place, known[place]] for place in old])
    others = [logits[place, c] for place in old for c in known if rows[c] and c != known[place]]
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
