"""Rules about unused and duplicate nodes and weights: a finding where there are any, else none."""

from __future__ import annotations

import numpy as np
import pytest

from tests import zoo
from tests.onnx.lint.nets import found, one

DRAW = np.random.default_rng(0)
RULE = "duplicate-node"
TRAINING = "r = Constant <value = float {0.5}> () t = Constant <value = bool {1}> ()"


def test_dead_branch() -> None:
    body = "a = MatMul (x, w) b = Relu (a) c = Abs (b) y = Neg (x)"
    [entry] = found(one(body, "2, 4", w=zoo.ones(4, 4)), "dead-node")
    assert entry.layer == "c"
    assert entry.message.startswith("nothing uses its result, nor that of 2 nodes before it: 80 FLOPs")
    assert entry.evidence == {"nodes": 3, "flops": 2 * 32 + 16}


def test_used_nodes_are_not_dead() -> None:
    assert not found(one("a = Relu (x) y = Neg (a)", "2, 4"), "dead-node")
    assert not found(zoo.branches(), "dead-node")
    assert not found(zoo.loop(), "dead-node")


def test_a_dead_node_in_a_loop() -> None:
    [entry] = found(zoo.loop(body="z = MatMul (s, w) q = Neg (z)"), "dead-node")
    assert entry.layer == "q"


def test_duplicate_node() -> None:
    body = "a = MatMul (x, w) b = MatMul (x, w) y = Add (a, b)"
    [entry] = found(one(body, "2, 4", w=zoo.ones(4, 4)), "duplicate-node")
    assert (entry.layer, entry.evidence["first"]) == ("b", "a")
    assert entry.message == "computes what 'a' has computed: 64 FLOPs and 32 B twice"


def test_a_default_that_is_written_out_makes_no_difference() -> None:
    body = "a = Conv (x, w) b = Conv <group = 1, strides = [1, 1]> (x, w) y = Add (a, b)"
    assert [entry.layer for entry in found(one(body, "1, 4, 5, 5", w=zoo.ones(4, 4, 1, 1)), RULE)] == ["b"]
    body = (
        "a = LeakyRelu (x) b = LeakyRelu <alpha = 0.01> (x) c = LeakyRelu <alpha = 0.1> (x) y = Sum (a, b, c)"
    )
    assert [entry.layer for entry in found(one(body, "2, 4"), RULE)] == ["b"]


def test_duplicate_node_after_a_duplicate() -> None:
    body = "a = Relu (x) b = Relu (x) c = Neg (a) d = Neg (b) y = Add (c, d)"
    assert {entry.layer for entry in found(one(body, "2, 4"), "duplicate-node")} == {"b", "d"}


@pytest.mark.parametrize(
    "body",
    [
        "a = MatMul (x, w) b = MatMul (x, v) y = Add (a, b)",  # another weight
        "a = Softmax <axis = 0> (x) b = Softmax <axis = 1> (x) y = Add (a, b)",
        "a = RandomNormalLike (x) b = RandomNormalLike (x) y = Add (a, b)",
        "a = RandomNormalLike <seed = 1.0> (x) b = RandomNormalLike <seed = 1.0> (x) y = Add (a, b)",
        "a = Bernoulli (x) b = Bernoulli (x) y = Add (a, b)",
        f"{TRAINING} a = Dropout (x, r, t) b = Dropout (x, r, t) y = Add (a, b)",
        "a = other.Plus (x) b = other.Plus (x) y = Add (a, b)",
        "a = Relu (x) b = Neg (x) y = Add (a, b)",
    ],
)
def test_no_duplicate_nodes(body: str) -> None:
    assert not found(one(body, "4, 4", w=zoo.ones(4, 4), v=2 * zoo.ones(4, 4)), "duplicate-node")


def test_repeated_shape_is_not_reported() -> None:
    body = "s = Shape (x) t = Shape (x) a = Reshape (x, s) b = Reshape (a, t) y = Relu (b)"
    assert not found(one(body, "64, 64, 64"), "duplicate-node")


def test_unused_weights() -> None:
    weights = {"w": zoo.ones(4, 4), "v": zoo.ones(64, 64), "u": zoo.ones(3)}
    [entry] = found(one("y = MatMul (x, w)", "2, 4", **weights), "dead-weight")
    assert entry.message == "'v' and 1 others are used by no node: 16.4 kB for nothing"
    assert not found(one("y = MatMul (x, w)", "2, 4", w=zoo.ones(4, 4)), "dead-weight")


def test_duplicate_weight() -> None:
    weight = DRAW.normal(size=(32, 32)).astype(np.float32)
    body = "a = MatMul (x, w) y = MatMul (a, v)"
    [entry] = found(one(body, "2, 32", w=weight, v=weight.copy()), "duplicate-weight")
    assert (entry.layer, entry.evidence) == ("v", {"first": "w", "bytes": 4096})
    assert not found(one(body, "2, 32", w=weight, v=-weight), "duplicate-weight")
    assert not found(one(body, "2, 32", w=zoo.ones(32, 32), v=zoo.ones(32, 32)), "duplicate-weight")
