"""Activations: their bytes together, and the most that live at once."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelsurgeon.onnx.flow import constant_values, needs
from modelsurgeon.onnx.memory import Memory, bytes_of, memory
from modelsurgeon.onnx.shapes import bound
from tests import zoo


def measure(text: str, **weights: object) -> Memory:
    whole = bound(zoo.model(text, **weights))
    return memory(whole, constant_values(whole), bytes_of)


@pytest.mark.parametrize(
    ("text", "total", "peak"),
    [
        # a chain: two neighbours live together
        ("g (float[5] x) => (float y) { a = Relu (x) b = Relu (a) y = Relu (b) }", 80, 40),
        # x is needed again at the end
        ("g (float[5] x) => (float y) { a = Relu (x) b = Relu (a) y = Add (b, x) }", 80, 60),
        # an output stays, though nothing uses it any more
        ("g (float[5] x) => (float a, float y) { a = Relu (x) b = Relu (a) y = Relu (b) }", 80, 60),
        # what nothing uses dies at once, an input before it begins
        ("g (float[5] x, float[9] z) => (float y) { a = Relu (x) y = Relu (x) }", 96, 40),
        # an optional output without a name is none
        ("g (float[5] x) => (float y) { y, = Dropout (x) }", 40, 40),
        # text, and the types below a byte, are as large as they are
        ("g (float[3] x) => (int8 y) { y = Cast <to = 3> (x) }", 15, 15),
    ],
)
def test_activations_of_small_graphs(text: str, total: int, peak: int) -> None:
    assert measure(text) == Memory(total=total, peak=peak, unknown=[])


def test_constants_are_no_activations() -> None:
    text = "g (float[2, 3] x) => (float y) { t = Transpose (w) y = MatMul (x, t) }"
    assert measure(text, w=zoo.ones(4, 3)).total == 24 + 32


def test_what_a_branch_captures_lives_until_then() -> None:
    whole = bound(
        zoo.model(
            """
            g (float[5] x, bool c) => (float y) {
                a = Relu (x)
                b = Neg (x)
                n = Relu (b)
                m = Relu (n)
                y = If (c) <
                    then_branch = t () => (float[5] u) { u = Relu (a) },
                    else_branch = e () => (float[5] v) { v = Relu (m) }
                >
            }
            """
        )
    )
    *_, node = whole.graph
    assert {value.name for value in needs(node)} == {"c", "a", "m"}
    # c, a, n, m; then c, a, m, y
    assert memory(whole, constant_values(whole), bytes_of).peak == 1 + 3 * 20


def test_unknown_sizes_are_told() -> None:
    found = measure("g (float[5] x) => (int64 y) { y = NonZero (x) }")
    assert (found.total, found.unknown) == (20, ["y"])


def test_random_numbers_are_not_constant() -> None:
    whole = bound(
        zoo.model("g (float[2] x) => (float y) { r = RandomNormal <shape = [2]> () y = Add (x, r) }")
    )
    assert not constant_values(whole)


def test_an_overridable_initializer_is_constant() -> None:
    text = "g (float[2] x, float[2] w) => (float y) { v = Neg (w) y = Add (x, v) }"
    whole = bound(zoo.model(text, w=zoo.ones(2)))
    assert {value.name for value in constant_values(whole)} == {"w", "v"}


def test_sequences_have_no_known_size() -> None:
    whole = bound(zoo.model("g (float[2] x) => (seq(float) y) { y = SequenceConstruct (x, x) }"))
    assert isinstance(whole.graph.outputs[0].type, ir.SequenceType)
    assert bytes_of(whole.graph.outputs[0]) is None
