"""Errors at the outputs of a model, and the scores behind probabilities, on which a cut shows earlier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import inf

import numpy as np

from modelsurgeon.layers import Array

ScoreFunction = Callable[[Array], Array]

SOFTMAX_SUM_TOLERANCE = 1e-2  # distance from 1 of the sum of a softmax, in half precision


def score_function(outputs: Sequence[Array]) -> ScoreFunction:
    """A function from an output to the scores behind it, chosen by the values of the output over all feeds.

    The output of a softmax is recognized by its sums, which are 1 along one of the axes; its scores are about
    their mean. That of a sigmoid lies above 0 and not above 1. Any other output is its own score. The result
    has the same shape, and is finite where the output is.
    """
    if not all(output.dtype.kind == "f" and output.size and output.min() >= 0 for output in outputs):
        return np.asarray
    for axis in reversed(range(outputs[0].ndim)):
        if all(_sums_to_1(output, axis) for output in outputs):
            return partial(_softmax_scores, axis=axis)
    if all(output.min() > 0 and output.max() <= 1 for output in outputs):
        return _sigmoid_scores
    return np.asarray


def _sums_to_1(output: Array, axis: int) -> bool:
    sums = output.sum(axis, dtype=np.float64)
    return output.shape[axis] > 1 and np.allclose(sums, 1, rtol=0, atol=SOFTMAX_SUM_TOLERANCE)


def _softmax_scores(output: Array, axis: int) -> Array:
    return centred(np.log(np.maximum(output, np.finfo(output.dtype).tiny), dtype=np.float64), (axis,))


def _sigmoid_scores(output: Array) -> Array:
    limits = np.finfo(output.dtype)
    shares = np.clip(output, limits.tiny, 1 - limits.epsneg).astype(np.float64)
    scores: Array = np.log(shares) - np.log1p(-shares)
    return scores


def centred(scores: Array, axes: tuple[int, ...]) -> Array:
    """The scores about their mean along the axes: a softmax along them doesn't change with the mean."""
    result: Array = scores - scores.mean(axes, keepdims=True, dtype=np.float64)
    return result


def squared_errors(
    original: Sequence[Mapping[str, Array]], changed: Sequence[Mapping[str, Array]]
) -> dict[str, float]:
    """Squared relative L2 error of every output over all feeds, where the original is finite.

    A value that is finite in the original alone makes the error infinite. Integers and truth values count
    only where there is no other output: by the share of them that differ, squared.
    """
    names = [name for name, value in original[0].items() if np.asarray(value).dtype.kind == "f"]
    found = {
        name: _squared_error(*([np.asarray(each[name]) for each in feeds] for feeds in (original, changed)))
        for name in names or original[0]
    }
    return {name: error for name, error in found.items() if error is not None}


def squared_error(original: Sequence[Mapping[str, Array]], changed: Sequence[Mapping[str, Array]]) -> float:
    """The largest of the outputs' squared relative errors; 0 where no output can be compared."""
    return max(squared_errors(original, changed).values(), default=0.0)


def _squared_error(original: Sequence[Array], changed: Sequence[Array]) -> float | None:
    """Squared relative error of one output; None where no element of the original is finite."""
    if original[0].dtype.kind in "OSU":
        return None
    if original[0].dtype.kind != "f":
        differing = sum(int((a != b).sum()) for a, b in zip(original, changed, strict=True))
        return (differing / max(1, sum(a.size for a in original))) ** 2
    energy = lost = 0.0
    compared = 0
    for a, b in zip(original, changed, strict=True):
        finite = np.isfinite(a)
        before, after = a[finite].astype(np.float64), b[finite].astype(np.float64)
        compared += before.size
        energy += float(np.square(before).sum())
        lost += float(np.square(before - after).sum()) if np.isfinite(after).all() else inf
    if not compared:
        return None
    return lost / energy if energy else (inf if lost else 0.0)
