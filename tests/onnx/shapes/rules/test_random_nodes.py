"""Random nodes that onnxruntime runs: their shapes are found, and are those that run, at any size.

All inputs but the first are constants. The axes of the first are fixed, or the first or all of them are open;
these are bound before inference, or put into its formulas.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto

from tests.onnx.shapes.rules.ran import Sweep, run
from tests.onnx.shapes.rules.random_nodes import DRAWS, RandomNode, random_node
from tests.onnx.shapes.rules.test_node_cases import opened

# Of these, a number of entries is known at run time only; of a Squeeze without axes, the rank.
SIZED_BY_DATA = {"NonZero", "Unique"}
LOST_WHERE_OPEN = {"Compress", "Resize", "Squeeze", "Upsample"}

# Its indices have the batches of its data, but onnxruntime runs more of these, too.
UNCHECKED = {"GatherND"}


def sweep(found: Sweep, node: RandomNode, growths: tuple[int, ...]) -> bool:
    """Compare a node at its own sizes and others; False if onnxruntime doesn't run it."""
    first = node.model.graph.input[0].name
    ran = run(node.model, {first: node.first})
    if ran is None:
        return False
    name = f"{node.op}-{node.opset} {[*node.inputs.items()]} {[*node.model.graph.node[0].attribute]}"
    found.compare(name, node.model, ran)
    for axes in (1, node.first.ndim):
        model = opened(node.model, axes)
        for growth in (0, *(growths if node.op not in UNCHECKED else ())):
            shape = [max(1, size + growth * (axis < axes)) for axis, size in enumerate(node.first.shape)]
            ran = run(model, {first: np.resize(node.first, shape)})
            if ran is not None:
                _compare_both(found, f"{name} at {shape}", model, ran, shape[:axes])
    return True


def _compare_both(
    found: Sweep, name: str, model: ModelProto, ran: dict[str, object], shape: list[int]
) -> None:
    """Compare with open sizes bound before inference, and put into its formulas."""
    sizes = {f"N{axis}": size for axis, size in enumerate(shape)}
    found.compare(name, model, ran, dims=sizes)
    found.compare(name, model, ran, at=sizes)


def check(nodes: int, growths: tuple[int, ...], first_seed: int) -> None:
    """Sweep so many nodes of each operator that run."""
    found, ran = Sweep(), Counter[str]()
    for op in DRAWS:
        for seed in range(first_seed, first_seed + 5 * nodes):
            ran[op] += ran[op] < nodes and sweep(found, random_node(op, seed), growths)
    assert not found.wrong
    assert not found.counts["refused"]
    assert set(found.unknown) <= SIZED_BY_DATA | LOST_WHERE_OPEN, found.unknown
    assert set(DRAWS) == {op for op, count in ran.items() if count}


def test_shapes_of_random_nodes() -> None:
    check(2, (-1, 3), 0)


@pytest.mark.slow
def test_shapes_of_many_random_nodes() -> None:
    check(25, (-1, 1, 2, 5), 1000)
