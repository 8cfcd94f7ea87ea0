"""OCR nets: ddddocr's common model, and detection and recognition of PP-OCRv4."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Sequence
from itertools import groupby
from random import Random
from typing import Any

import numpy as np
import onnx
from scipy import ndimage

import modelsurgeon as ms
from tests.benchmarks.nets import drawing
from tests.benchmarks.subjects import Array, Bar, Net, Scores, Subject, agreement, flat, public

LINE, CAPTCHA, PAGE = (48, 320), (64, 160), (640, 640)
BLANK = 0
SURE, OVERLAP = 0.3, 0.5  # probability of a text pixel; IoU of two boxes that match
LEAST = 10  # pixels of the smallest box
Drawn = Callable[[Random, int, int], tuple[Array, str]]


def ddddocr(samples: int, tests: int) -> Subject:
    """Captchas, compared without case."""
    signs = runpy.run_path(str(public("ddddocr/charsets.py")))["CHARSET_BETA"]
    test, texts = _drawn(drawing.captcha, CAPTCHA, tests, seed=2)
    return Subject(
        model=ms.load(public("ddddocr/common.onnx")),
        calibration={"input1": _drawn(drawing.captcha, CAPTCHA, samples, seed=1)[0] / 255},
        test={"input1": test / 255},
        read=lambda answer: [_spelt(answer[:, 0], signs).lower()],
        score=_texts([text.lower() for text in texts]),
    )


def recognition(samples: int, tests: int) -> Subject:
    """Lines of one or two words."""
    path = public("ch_PP-OCRv4_rec_infer.onnx")
    stored = {each.key: each.value for each in onnx.load(path).metadata_props}
    signs = ["", *stored["character"].splitlines(), " "]
    test, texts = _drawn(drawing.line, LINE, tests, seed=2)
    return Subject(
        model=ms.load(path),
        calibration={"x": _coloured(_drawn(drawing.line, LINE, samples, seed=1)[0])},
        test={"x": _coloured(test)},
        read=lambda answer: [" ".join(_spelt(each, signs).split()) for each in answer],
        score=_texts(texts),
    )


def detection(samples: int, tests: int) -> Subject:
    """Pages; the boxes of the original are the ground truth."""
    pages = [
        np.stack([drawing.page(r, *PAGE) for r in _randoms(n, s)]) for n, s in ((samples, 1), (tests, 2))
    ]
    return Subject(
        model=ms.load(public("ch_PP-OCRv4_det_infer.onnx")),
        calibration={"x": _coloured(pages[0][:, None])},
        test={"x": _coloured(pages[1][:, None])},
        read=lambda answer: [_boxes(each[0]) for each in answer],
        score=_found,
    )


def _randoms(count: int, seed: int) -> list[Random]:
    return [Random(f"{seed}-{number}") for number in range(count)]


def _drawn(draw: Drawn, size: tuple[int, int], count: int, seed: int) -> tuple[Array, list[str]]:
    """Images `(count, 1, height, width)` of 0 to 255, and their texts."""
    images, texts = zip(*(draw(random, *size) for random in _randoms(count, seed)), strict=True)
    return np.stack(images)[:, None], list(texts)


def _coloured(images: Array) -> Array:
    """Three equal channels of -1 to 1."""
    return np.repeat(images / 127.5 - 1, 3, axis=1).astype(np.float32)


def _spelt(steps: Array, signs: Sequence[str]) -> str:
    """Greedy CTC decoding: the likeliest sign of each step, without repetitions and blanks."""
    return "".join(signs[sign] for sign, _ in groupby(steps.argmax(axis=-1).tolist()) if sign != BLANK)


def _texts(truth: Sequence[str]) -> Callable[[Sequence[Any], Sequence[Any]], Scores]:
    def score(ours: Sequence[Any], theirs: Sequence[Any]) -> Scores:
        read = flat(ours)
        return {"exact": agreement(read, truth), "same answer": agreement(read, flat(theirs))}

    return score


def _boxes(probability: Array) -> Array:
    """Top, bottom, left and right of every patch of text: `(patches, 4)`."""
    patches, _ = ndimage.label(probability > SURE)
    found = [(y.start, y.stop, x.start, x.stop) for y, x in ndimage.find_objects(patches)]
    return np.array([b for b in found if (b[1] - b[0]) * (b[3] - b[2]) >= LEAST], float).reshape(-1, 4)


def _found(ours: Sequence[Any], theirs: Sequence[Any]) -> Scores:
    """hmean: harmonic mean of the precision and recall of the boxes."""
    pages = list(zip(flat(ours), flat(theirs), strict=True))
    pairs = sum(_partners(one, two) for one, two in pages)
    count = sum(len(one) + len(two) for one, two in pages)
    return {"hmean": 2 * pairs / count if count else 0.0}


def _partners(ours: Array, theirs: Array) -> int:
    """Number of pairs of boxes with an IoU above .5; no box is in two pairs."""
    starts = np.maximum(ours[:, None, ::2], theirs[None, :, ::2])
    stops = np.minimum(ours[:, None, 1::2], theirs[None, :, 1::2])
    both = np.clip(stops - starts, 0, None).prod(axis=2)
    areas = [(each[:, 1] - each[:, 0]) * (each[:, 3] - each[:, 2]) for each in (ours, theirs)]
    return int((both > OVERLAP * (areas[0][:, None] + areas[1] - both)).sum())


NETS = (
    Net(
        name="ddddocr common",
        open=ddddocr,
        kept=(0.6, 0.5, 0.4, 0.3),
        bars=(
            Bar(kept=0.5, figure="exact", loss=0.0, source="prototype: .997 of .997"),
            Bar(kept=0.4, figure="exact", loss=0.004, source="prototype: .993 of .997"),
            Bar(kept=0.4, figure="same answer", loss=0.0, source="the same answers"),
        ),
    ),
    Net(
        name="PP-OCRv4 rec",
        open=recognition,
        kept=(0.8, 0.7, 0.6, 0.5),
        bars=(
            Bar(kept=0.8, figure="exact", loss=0.005, source="prototype: .960 of .965"),
            Bar(kept=0.7, figure="exact", loss=0.015, source="prototype: .950 of .965"),
            Bar(kept=0.6, figure="exact", loss=0.02, source="within 2 points"),
            Bar(kept=0.5, figure="exact", loss=0.05, source="within 5 points"),
        ),
    ),
    Net(name="PP-OCRv4 det", open=detection, kept=(0.9, 0.8, 0.7, 0.6), samples=32, tests=24),
)
