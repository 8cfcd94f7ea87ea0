"""A trained net with calibration samples, test samples and scores."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.data import Batches, batches
from modelsurgeon.onnx.run import inputs

Array = NDArray[Any]
Arrays = Mapping[str, Array]  # by input name, samples along the first axis
Read = Callable[[Array], Any]
Scores = Mapping[str, float]
ROOT = Path(__file__).parents[2]
CACHE = ROOT / "build" / "benchmarks"  # results that take long, such as trained weights


class Absent(Exception):
    """A file that a net needs isn't on this machine; the message names it and how to provide it."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model to compress, with its data.

    calibration: unlabeled samples. test: other samples. batch: samples in a feed. read: decodes the first
    output of a feed. score: figures from all decoded outputs and those of the original.
    """

    model: ir.Model
    calibration: Arrays
    test: Arrays
    read: Read
    score: Callable[[Sequence[Any], Sequence[Any]], Scores]
    batch: int = 1

    def feeds(self, samples: Arrays, *, batch: int | None = None) -> Batches:
        """The samples in feeds of `batch`."""
        return batches(dict(samples), inputs(self.model), batch=batch or self.batch)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the inputs in a feed."""
        return {name: array.shape for name, array in next(iter(self.feeds(self.test))).items()}


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What the calibrated arm must reach at `kept` of the MACs: the original's figure less `loss`."""

    kept: float
    figure: str
    loss: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Net:
    """How to get a subject. kept: fractions of the MACs. samples, tests: most calibration and test samples.

    open: makes the subject for a number of calibration and of test samples; raises Absent.
    """

    name: str
    open: Callable[[int, int], Subject]
    kept: Sequence[float]
    bars: Sequence[Bar] = ()
    samples: int = 256
    tests: int = 200


def public(pattern: str) -> Path:
    """A file below the folder that MODELSURGEON_MODELS names. Raises Absent."""
    folder = os.environ.get("MODELSURGEON_MODELS")
    if folder is None:
        raise Absent("set MODELSURGEON_MODELS to a folder with the unpacked packages")
    found = next(iter(sorted(Path(folder).rglob(pattern))), None)
    if found is None:
        raise Absent(f"no {pattern} below {folder} (MODELSURGEON_MODELS)")
    return found


def label(answer: Array) -> list[int]:
    """The class of each sample in a feed."""
    return [int(each) for each in answer.reshape(len(answer), -1).argmax(axis=1)]


def agreement(ours: Sequence[Any], theirs: Sequence[Any]) -> float:
    """The share of predictions that are equal."""
    return float(np.mean([one == two for one, two in zip(ours, theirs, strict=True)]))


def flat(parts: Sequence[Sequence[Any]]) -> list[Any]:
    """Decoded outputs of all feeds as one list of samples."""
    return [each for part in parts for each in part]


def classified(labels: Sequence[int]) -> Callable[[Sequence[Any], Sequence[Any]], Scores]:
    """Scores: accuracy by the true labels, and agreement with the original's predictions."""

    def score(ours: Sequence[Any], theirs: Sequence[Any]) -> Scores:
        given = flat(ours)
        return {"accuracy": agreement(given, labels), "same answer": agreement(given, flat(theirs))}

    return score
