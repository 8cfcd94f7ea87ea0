"""How far one array is from another: error metrics in float64, added up a batch at a time.

Elementwise relative error is not among them: an exact change of a graph can make it large near zero.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf, isfinite, log10, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelsurgeon.data.feeds import is_float

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """One output of a model B held against that of A, over all samples; None is undefined.

    max_abs: largest |B - A|. max_abs_over_peak: the same, over the largest |A|.
    rel_l2: ||B - A|| / ||A||. sqnr_db: 20 log10(||A|| / ||B - A||). cosine: between A and B as vectors.
    top1_agreement: share of rows whose largest entry is in the same place (last axis, two classes or more).
    equal: share of elements that are bit for bit the same; all there is for integers, truth values and texts.
    nan_or_inf: elements that are not finite in A or B. identical: every bit is the same.
    note: what made a comparison of numbers impossible, in words.

    Elements that are the same NaN or infinity in both count as equal. One that is not finite in one of them
    only makes the error infinite.
    """

    name: str
    max_abs: float | None = None
    max_abs_over_peak: float | None = None
    rel_l2: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    nan_or_inf: int = 0
    equal: float = 1.0
    identical: bool = True
    note: str = ""

    @property
    def error(self) -> float:
        """What a verdict goes by: relative L2, or the share of differing elements where there is none."""
        if self.note:
            return inf
        return 1 - self.equal if self.rel_l2 is None else self.rel_l2

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in which what is infinite or undefined is null."""
        plain = asdict(self)
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in plain.items()
        }


class MetricSums:
    """The sums that metrics are made of. Values are added and forgotten, so any number of samples will do."""

    def __init__(self, name: str) -> None:
        """Nothing seen yet."""
        self._name = name
        self._note = ""
        self._numeric = True
        self._elements = self._same = self._not_finite = self._rows = self._agreeing = 0
        self._one_type = True
        self._mismatch = False  # something is finite in one of them only
        self._max = self._peak = 0.0
        self._aa = self._bb = self._ab = self._dd = 0.0

    def add(self, a: Any, b: Any) -> None:  # noqa: ANN401 - whatever a runtime gives: arrays, lists of them, None
        """One batch: an output of A and the same output of B."""
        pairs = list(zip(flat(a), flat(b), strict=False))
        if len(flat(a)) != len(flat(b)):
            self._note = f"{len(flat(a))} tensors in A, {len(flat(b))} in B"
        for left, right in pairs:
            if left.shape != right.shape:
                self._note = f"shape {list(left.shape)} in A, {list(right.shape)} in B"
            elif _kind(left) != _kind(right):
                self._note = f"{left.dtype} in A, {right.dtype} in B"
            else:
                self._add(left, right)

    def metrics(self) -> Metrics:
        """What the sums come to."""
        numbers = self._numbers() if self._numeric and not self._note and self._elements else {}
        return Metrics(
            name=self._name,
            nan_or_inf=self._not_finite,
            equal=self._same / self._elements if self._elements else 1.0,
            identical=self._same == self._elements and self._one_type and not self._note,
            note=self._note,
            **numbers,
        )

    def _numbers(self) -> dict[str, float | None]:
        broken = self._mismatch
        norm, error = sqrt(self._aa), inf if broken else sqrt(self._dd)
        largest = inf if broken else self._max
        return {
            "max_abs": largest,
            "max_abs_over_peak": _ratio(largest, self._peak),
            "rel_l2": _ratio(error, norm),
            "sqnr_db": _decibels(norm, error),
            "cosine": self._cosine(),
            "top1_agreement": self._agreeing / self._rows if self._rows else None,
        }

    def _cosine(self) -> float | None:
        length = sqrt(self._aa) * sqrt(self._bb)
        return max(-1.0, min(1.0, self._ab / length)) if 0 < length < inf else None

    def _add(self, a: Array, b: Array) -> None:
        same = _same(a, b)
        self._one_type &= a.dtype == b.dtype
        self._elements += same.size
        self._same += int(np.count_nonzero(same))
        if _kind(a) != "number":
            self._numeric = False
            return
        wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
        self._add_top1(a, b)
        with np.errstate(over="ignore"):  # what overflows is infinitely far apart
            self._add_sums(a.astype(wide), b.astype(wide))

    def _add_sums(self, a: Array, b: Array) -> None:
        fine_a, fine_b = np.isfinite(a), np.isfinite(b)
        fine = fine_a & fine_b
        if not fine.all():
            self._not_finite += int(np.count_nonzero(~fine))
            alike = fine | (a == b) | (np.isnan(a) & np.isnan(b))
            self._mismatch |= not bool(alike.all())
            a, b = a[fine], b[fine]
        if not a.size:
            return
        d = b - a
        self._max = max(self._max, float(np.abs(d).max()))
        self._peak = max(self._peak, float(np.abs(a).max()))
        self._aa += _dot(a, a)
        self._bb += _dot(b, b)
        self._ab += _dot(a, b)
        self._dd += _dot(d, d)

    def _add_top1(self, a: Array, b: Array) -> None:
        rows_a, rows_b = _rows(a), _rows(b)
        if rows_a is None or rows_b is None:
            return
        self._rows += len(rows_a)
        self._agreeing += int(np.count_nonzero(rows_a.argmax(axis=1) == rows_b.argmax(axis=1)))


def flat(value: Any) -> list[Array]:  # noqa: ANN401
    """The arrays in an output: one, those of a sequence or a mapping, or none."""
    if value is None:
        return []
    if isinstance(value, dict):
        return [array for key in sorted(value, key=str) for array in flat(value[key])]
    if isinstance(value, list | tuple):
        return [array for item in value for array in flat(item)]
    return [np.asarray(value)]


def _kind(array: Array) -> str:
    """What two outputs must share to be compared as numbers: floats of any width do, floats and ids don't."""
    return "number" if array.dtype.kind == "c" or is_float(array.dtype) else array.dtype.kind


def _same(a: Array, b: Array) -> NDArray[np.bool_]:
    """Where two arrays are the same to the last bit."""
    if a.dtype != b.dtype or a.dtype.kind in "OUS":
        return np.asarray(a == b, bool)
    if not a.size:
        return np.zeros(0, bool)
    bits = (np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(a.size, -1) for x in (a, b))
    return np.asarray(np.equal(*bits).all(axis=1))


def _rows(array: Array) -> Array | None:
    """Rows of scores along the last axis that is no single one; None where there are no two classes."""
    sizes = list(array.shape)
    while sizes and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) < 2 or not array.size or array.dtype.kind == "c":
        return None
    return array.reshape(-1, sizes[-1])


def _dot(a: Array, b: Array) -> float:
    return float(np.vdot(a, b).real)


def _ratio(part: float, whole: float) -> float:
    if part in (0, inf):
        return part
    return part / whole if whole else inf


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return inf
    return 20 * (log10(signal) - log10(noise)) if signal and noise < inf else -inf
