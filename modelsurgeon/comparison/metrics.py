"""Error metrics between two arrays, accumulated in float64 a batch at a time.

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

MIN_SQUARES = 1e-280  # smaller sums of squares have lost digits to underflow


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """Error metrics of one output of a model B against that of A, over all elements of all samples.

    name: the output's name in A. max_abs: largest |B - A|, in the output's unit. max_abs_over_peak: the same
    / largest |A|. rel_l2: ||B - A|| / ||A||, the L2 (Frobenius) norms. sqnr_db: signal to quantization noise
    ratio 20 log10(||A|| / ||B - A||), in decibels. cosine: of the angle between A and B as vectors, -1 to 1.
    top1_agreement: share of rows whose largest entry is in the same place, along the last axis of two classes
    or more, of the rows that are finite in both. equal: share of elements that are bit for bit the same; the
    only metric for integers, truth values and texts. nan_or_inf: number of elements that are not finite in A
    or B. compared: number of elements that an error was computed from: those finite in both, and all
    integers, truth values and texts. identical: whether every bit and the type are the same. note: why
    numbers couldn't be compared, or "". layer: the layer of A that makes it, "" for an output of the model.

    A metric that is undefined is None. The metrics of floats are of the elements finite in both. The same NaN
    or infinity in both is no error; an element that is not finite in one of them only makes the error
    infinite.
    """

    name: str
    max_abs: float | None = None
    max_abs_over_peak: float | None = None
    rel_l2: float | None = None
    sqnr_db: float | None = None
    cosine: float | None = None
    top1_agreement: float | None = None
    nan_or_inf: int = 0
    compared: int = 0
    equal: float = 1.0
    identical: bool = True
    note: str = ""
    layer: str = ""

    @property
    def says_nothing(self) -> bool:
        """Whether no element was compared and none was found to differ: the error of 0 stands for nothing."""
        return not self.compared and self.error == 0

    @property
    def error(self) -> float:
        """Relative L2, or the share of differing elements where there is none; infinite where `note` is set.

        Verdicts are decided by it; 0 where nothing was compared, see `says_nothing`.
        """
        if self.note:
            return inf
        if self.rel_l2 is not None:
            return self.rel_l2
        return 1 - self.equal if self.compared else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in which infinite and undefined numbers are null."""
        plain = asdict(self)
        return {
            key: None if isinstance(value, float) and not isfinite(value) else value
            for key, value in plain.items()
        }


class MetricSums:
    """Sums from which the metrics of one output are computed, so that no array is kept."""

    def __init__(self, name: str, layer: str = "") -> None:
        """Sums over no element. name: of the output. layer: as in `Metrics`."""
        self._name = name
        self._layer = layer
        self._note = ""
        self._numeric = True
        self._elements = self._same = self._not_finite = self._compared = self._rows = self._agreeing = 0
        self._one_type = True
        self._mismatch = False  # an element is finite in one of them only
        self._max = self._peak = 0.0
        self._aa = self._bb = self._ab = self._dd = 0.0

    def add(self, a: Any, b: Any) -> None:  # noqa: ANN401 - arrays, lists of them, None
        """Add one batch: an output of A and the same output of B."""
        pairs = list(zip(flat(a), flat(b), strict=False))
        if len(flat(a)) != len(flat(b)):
            self._note = f"{len(flat(a))} tensors in A, {len(flat(b))} in B"
        elif (ours := layout(a)) != (theirs := layout(b)):
            self._note = f"{ours} in A, {theirs} in B"
        for left, right in pairs:
            if left.shape != right.shape:
                self._note = f"shape {list(left.shape)} in A, {list(right.shape)} in B"
            elif comparison_kind(left) != comparison_kind(right):
                self._note = f"{left.dtype} in A, {right.dtype} in B"
            else:
                self._add(left, right)

    def metrics(self) -> Metrics:
        """The metrics of all batches added so far."""
        defined = self._numeric and not self._note and (self._compared or self._mismatch)
        numbers = self._numbers() if defined else {}
        return Metrics(
            name=self._name,
            layer=self._layer,
            nan_or_inf=self._not_finite,
            compared=self._compared,
            equal=self._same / self._elements if self._elements else 1.0,
            identical=self._same == self._elements and self._one_type and not self._note,
            note=self._note,
            **numbers,
        )

    def _numbers(self) -> dict[str, float | None]:
        """The metrics that are defined for numbers alone."""
        mismatch = self._mismatch
        norm, error = sqrt(self._aa), inf if mismatch else sqrt(self._dd)
        largest = inf if mismatch else self._max
        if not mismatch and (max(self._aa, self._dd) < MIN_SQUARES or norm == inf):
            norm, error = self._bounds()
        return {
            "max_abs": largest,
            "max_abs_over_peak": _ratio(largest, self._peak),
            "rel_l2": _ratio(error, norm),
            "sqnr_db": _decibels(norm, error),
            "cosine": self._cosine(),
            "top1_agreement": self._agreeing / self._rows if self._rows else None,
        }

    def _bounds(self) -> tuple[float, float]:
        """A lower bound of the norm and an upper one of the error, where sums over- or underflow."""
        return self._peak, inf if self._dd == inf else sqrt(self._compared) * self._max

    def _cosine(self) -> float | None:
        length = sqrt(self._aa) * sqrt(self._bb)
        return max(-1.0, min(1.0, self._ab / length)) if 0 < length < inf else None

    def _add(self, a: Array, b: Array) -> None:
        same = _identical_elements(a, b)
        self._one_type &= a.dtype == b.dtype
        self._elements += same.size
        self._same += int(np.count_nonzero(same))
        if comparison_kind(a) != "number":
            self._numeric = False
            self._compared += same.size
            return
        wide = np.complex128 if "c" in (a.dtype.kind, b.dtype.kind) else np.float64
        self._add_top1(a, b)
        with np.errstate(over="ignore"):  # an overflow is an infinite error
            self._add_sums(a.astype(wide), b.astype(wide))

    def _add_sums(self, a: Array, b: Array) -> None:
        finite_a, finite_b = np.isfinite(a), np.isfinite(b)
        finite = finite_a & finite_b
        if not finite.all():
            self._not_finite += int(np.count_nonzero(~finite))
            alike = finite | (a == b) | (np.isnan(a) & np.isnan(b))
            self._mismatch |= not bool(alike.all())
            a, b = a[finite], b[finite]
        if not a.size:
            return
        self._compared += a.size
        d = b - a
        self._max = max(self._max, float(np.abs(d).max()))
        self._peak = max(self._peak, float(np.abs(a).max()))
        self._aa += _dot(a, a)
        self._bb += _dot(b, b)
        self._ab += _dot(a, b)
        self._dd += _dot(d, d)

    def _add_top1(self, a: Array, b: Array) -> None:
        rows_a, rows_b = _score_rows(a), _score_rows(b)
        if rows_a is None or rows_b is None:
            return
        finite = np.isfinite(rows_a).all(axis=1) & np.isfinite(rows_b).all(axis=1)
        if not finite.all():
            rows_a, rows_b = rows_a[finite], rows_b[finite]
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


def layout(value: Any) -> str:  # noqa: ANN401
    """How arrays are held in an output, in words: alone, in a sequence, in a mapping with which keys."""
    if isinstance(value, dict):
        held = [f"{key!r}: {layout(value[key])}" for key in sorted(value, key=str)]
        return f"a mapping {{{', '.join(held)}}}"
    if isinstance(value, list | tuple):
        return f"a sequence [{', '.join(map(layout, value))}]"
    return "nothing" if value is None else "a tensor"


def comparison_kind(array: Array) -> str:
    """The kind of an array's elements: "number" for floats of any width, else NumPy's kind.

    Only arrays of the same kind are compared.
    """
    return "number" if array.dtype.kind == "c" or is_float(array.dtype) else array.dtype.kind


def _identical_elements(a: Array, b: Array) -> NDArray[np.bool_]:
    """Mask of the elements that are equal, bit for bit where both arrays have the same type of numbers."""
    if a.dtype != b.dtype or a.dtype.kind in "OUS":
        return np.asarray(a == b, bool)
    if not a.size:
        return np.zeros(0, bool)
    bits = (np.ascontiguousarray(x).reshape(-1).view(np.uint8).reshape(a.size, -1) for x in (a, b))
    return np.asarray(np.equal(*bits).all(axis=1))


def _score_rows(array: Array) -> Array | None:
    """Scores `(rows, classes)` along the last axis longer than 1; None where there are no two classes."""
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
