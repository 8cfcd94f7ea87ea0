"""Share of MACs up to which chains are faster than layers: `pytest -s tests/benchmarks/test_break_even.py`.

One thread; a few ranks of every method, each timed in turn with its layer.
"""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from modelsurgeon.factorize import METHODS, suited
from modelsurgeon.factorize.rank import candidate_ranks
from modelsurgeon.layers import Layer
from modelsurgeon.onnx.run.layer_latency import LayerTimer
from modelsurgeon.report.columns import Column, Row
from modelsurgeon.report.table import Table
from modelsurgeon.surgery.apply import macs
from modelsurgeon.surgery.site import Call

pytestmark = pytest.mark.slow

RANKS = 7
Case = tuple[Layer, Call]


def case(out: int, into: int, *kernel: int, at: int, stride: int = 1, positions: int = 1) -> Case:
    n = len(kernel)
    pads = tuple((k // 2, k // 2) for k in kernel)
    weight = np.zeros((out, into, *kernel), np.float32)
    layer = Layer(weight=weight, bias=np.zeros(out, "f4"), stride=(stride,) * n, padding=pads)
    return layer, ((at,) * n, positions)


CASES = {
    "512 x 512 x 3 x 3, 14": case(512, 512, 3, 3, at=14),
    "256 x 256 x 3 x 3, 28": case(256, 256, 3, 3, at=28),
    "128 x 128 x 3 x 3, 56": case(128, 128, 3, 3, at=56),
    "64 x 64 x 3 x 3, 112": case(64, 64, 3, 3, at=112),
    "64 x 64 x 3 x 3, 112, stride 2": case(64, 64, 3, 3, at=112, stride=2),
    "64 x 3 x 7 x 7, 224, stride 2": case(64, 3, 7, 7, at=224, stride=2),
    "256 x 64 x 1 x 1, 56": case(256, 64, 1, 1, at=56),
    "256 x 256 x 3, 400": case(256, 256, 3, at=400),
    "64 x 64 x 9, 4000": case(64, 64, 9, at=4000),
    "64 x 64 x 3 x 3 x 3, 16": case(64, 64, 3, 3, 3, at=16),
    "768 x 768, 128 rows": case(768, 768, at=0, positions=128),
}


def share(layer: Layer, call: Call, method: str, clock: LayerTimer) -> float | None:
    """The share of MACs at which the chain takes the time of the layer; at most 1."""
    whole = macs([layer], [call])
    ranks = candidate_ranks(METHODS[method], layer, lambda chain: macs(chain, [call]))
    ranks = [ranks[round(i)] for i in np.linspace(0, len(ranks) - 1, min(RANKS, len(ranks)))] if ranks else []
    chains = [METHODS[method].sketch(layer, rank) for rank in ranks]
    times = clock(layer, chains, [call])
    if times is None or not chains:
        return None
    shares = [macs(chain, [call]) / whole for chain in chains]
    taken = np.maximum.accumulate([t / times[0] for t in times[1:]])
    return float(min(1.0, np.interp(1.0, taken, shares))) if taken[0] < 1 else 0.0


def test_the_table() -> None:
    clock = LayerTimer("cpu")
    found: list[Row] = []
    for name, (layer, call) in CASES.items():
        methods = [method for method in suited(layer, METHODS) if METHODS[method].alone]
        found.append({"layer": name} | {method: share(layer, call, method, clock) for method in methods})
    names = [name for name, method in METHODS.items() if method.alone]
    columns = [Column(key="layer", title="layer, size of its map", kind="text")]
    columns += [Column(key=name, title=name, kind="percent") for name in names]
    Console(width=140).print(Table(title="Quicker up to this share of MACs", columns=columns, rows=found))
    assert all(0 <= value <= 1 for row in found for value in row.values() if isinstance(value, float))
