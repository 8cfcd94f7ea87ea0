"""Rules about nodes that change nothing: onnxruntime gives their input as their output."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.onnx.check import check
from tests import zoo
from tests.onnx.diff.rewiring import answers, random_feed
from tests.onnx.lint.nets import found

CONSTANTS = {
    "same": np.int64([2, 3, 4]),
    "other": np.int64([3, 2, 4]),
    "nothing": np.zeros(6, np.int64),
    "some": np.int64([0, 0, 0, 0, 0, 1]),
    "zero": np.float32(0),
    "one": np.float32(1),
    "ones": zoo.ones(3, 4),
    "wide": zoo.ones(5, 2, 3, 4),
    "mixed": np.float32([1, 1, 2, 1]),
}
NO_OPS = [
    "p = Identity (a)",
    "p = Cast <to = 1> (a)",
    "p = Reshape (a, same)",
    "p = Expand (a, same)",
    "s = Shape (a) p = Reshape (a, s)",
    "p = Transpose <perm = [0, 1, 2]> (a)",
    "p = Pad (a, nothing)",
    "p = Add (zero, a)",
    "p = Sub (a, zero)",
    "p = Mul (a, ones)",
    "p = Div (a, one)",
    "p = Pow (a, one)",
    "p = Concat <axis = 1> (a)",
    "p = Max (a)",
]
CANCELLING = [
    "t = Transpose <perm = [2, 0, 1]> (a) p = Transpose <perm = [1, 2, 0]> (t)",
    "t = Transpose (a) p = Transpose (t)",
    "t = Cast <to = 11> (a) p = Cast <to = 1> (t)",
]
CHANGING = [
    "t = Cast <to = 10> (a) p = Cast <to = 1> (t)",  # rounds
    "t = Cast <to = 7> (a) p = Cast <to = 1> (t)",
    "p = Cast <to = 11> (a)",
    "t = Transpose <perm = [2, 0, 1]> (a) p = Transpose <perm = [2, 0, 1]> (t)",
    "p = Transpose (a)",
    "p = Reshape (a, other)",
    "p = Pad (a, some)",
    "p = Sub (zero, a)",
    "p = Div (one, a)",
    "p = Mul (a, wide)",  # the shape changes
    "p = Mul (a, mixed)",
    "p = Add (a, one)",
    "p = Concat <axis = 1> (a, a)",
    "p = Sum (a, a)",
    "t = Transpose (a) p = Transpose (t)".replace("(a)", "<perm = [1, 0, 2]> (a)"),
]


def net(body: str, shape: str = "2, 3, 4") -> ir.Model:
    """`a` is computed from x, `p` from `a` by the body, and y from `p`."""
    text = f"g (float[{shape}] x) => (float y) {{ a = Tanh (x) {body} y = Exp (p) }}"
    return zoo.model(text, opset=19, **CONSTANTS)


def keeps(body: str) -> bool:
    """Whether `p` is `a` in onnxruntime."""
    model = net(body)
    model.graph.remove(model.graph[-1])
    model.graph.outputs[:] = [value for node in model.graph for value in node.outputs if value.name in "ap"]
    answered = answers(model, random_feed(model, np.random.default_rng(0)))
    assert answered is not None
    before, after = answered
    return before.dtype == after.dtype and np.array_equal(before, after)


def layers(model: ir.Model) -> set[str]:
    return {entry.layer for rule in ("no-op", "cancels") for entry in found(model, rule)}


@pytest.mark.parametrize("body", [*NO_OPS, *CANCELLING, *CHANGING])
def test_what_is_found_is_what_onnxruntime_does(body: str) -> None:
    assert keeps(body) is (body not in CHANGING)
    assert layers(net(body)) == ({"p"} if keeps(body) else set())
    rule = "cancels" if body in CANCELLING else "no-op"
    assert {entry.layer for entry in found(net(body), rule)} == layers(net(body))


def test_a_shape_that_fits_the_default_size_only_is_no_no_op() -> None:
    fixed, symbolic = ("p = Reshape (a, one_row)", "s = Shape (a) p = Reshape (a, s)")
    for body, count in ((fixed, 0), (symbolic, 1)):
        text = f"g (float[N, 3] x) => (float y) {{ a = Tanh (x) {body} y = Exp (p) }}"
        assert len(layers(zoo.model(text, one_row=np.int64([1, -1])))) == count


def test_an_identity_that_names_an_output_is_usual() -> None:
    assert not layers(zoo.model("g (float[2, 3] x) => (float y) { a = Tanh (x) y = Identity (a) }"))
    assert not layers(zoo.loop(body="z = MatMul (s, w)"))


def test_small_tensors_do_not_count() -> None:
    text = "g (float[64, 64] x, float[1] z) => (float y, float v) { y = Tanh (x) q = Tanh (z) " \
        "i = Identity (q) v = Exp (i) }"  # fmt: skip
    assert not layers(zoo.model(text))


@pytest.mark.parametrize("rule", ["no-op", "cancels"])
def test_they_are_notes(rule: str) -> None:
    models = [net(NO_OPS[0]), net(CANCELLING[0])]
    assert {f.severity for model in models for f in check(model, select=[rule]).findings} == {"note"}
