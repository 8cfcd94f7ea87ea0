"""Activation memory: total bytes and peak of live bytes."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from modelsurgeon.inspection.memory import Footprint
from modelsurgeon.onnx.analysis.memory import Memory, bytes_of, memory
from modelsurgeon.onnx.graph.dataflow import constant_values, inputs_and_captures
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound
from tests import zoo


def measure(text: str, **weights: object) -> Memory:
    whole = bound(zoo.model(text, **weights))
    return memory(whole, constant_values(whole), bytes_of)


@pytest.mark.parametrize(
    ("text", "total", "peak"),
    [
        # a chain: two adjacent tensors are live at once
        ("g (float[5] x) => (float y) { a = Relu (x) b = Relu (a) y = Relu (b) }", 80, 40),
        # x is needed again at the end
        ("g (float[5] x) => (float y) { a = Relu (x) b = Relu (a) y = Add (b, x) }", 80, 60),
        # an output stays live until the end
        ("g (float[5] x) => (float a, float y) { a = Relu (x) b = Relu (a) y = Relu (b) }", 80, 60),
        # unused values are freed at once; an unused input is never live
        ("g (float[5] x, float[9] z) => (float y) { a = Relu (x) y = Relu (x) }", 96, 40),
        # an unnamed optional output has no size
        ("g (float[5] x) => (float y) { y, = Dropout (x) }", 40, 40),
        # int8 has one byte per element
        ("g (float[3] x) => (int8 y) { y = Cast <to = 3> (x) }", 15, 15),
    ],
)
def test_activations_of_small_graphs(text: str, total: int, peak: int) -> None:
    assert measure(text) == Memory(total=total, peak=peak, unknown=[])


def test_constants_are_not_activations() -> None:
    text = "g (float[2, 3] x) => (float y) { t = Transpose (w) y = MatMul (x, t) }"
    assert measure(text, w=zoo.ones(4, 3)).total == 24 + 32


def test_captured_values_live_until_the_branch() -> None:
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
    assert {value.name for value in inputs_and_captures(node)} == {"c", "a", "m"}
    # c, a, n, m; then c, a, m, y
    assert memory(whole, constant_values(whole), bytes_of).peak == 1 + 3 * 20


def test_unknown_sizes_are_listed() -> None:
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


def footprint(built: ir.Model) -> Footprint:
    found = analyze(built, memory=True)
    section = found.sections["memory"]
    assert isinstance(section, Footprint)
    main = [step.bytes for step in section.timeline if not step.depth]
    assert max(main) == section.main == found.totals.peak_activation_bytes
    assert section.peak is not None
    assert sum(tensor.bytes for tensor in section.tensors) == section.timeline[section.peak].bytes
    return section


def test_timeline_of_a_chain() -> None:
    found = footprint(
        zoo.model("g (float[5] x) => (float y) { a = Relu (x) b = Concat <axis=0> (a, a) y = Relu (b) }")
    )
    assert [(step.node, step.bytes) for step in found.timeline] == [("a", 40), ("b", 60), ("y", 80)]
    assert [(one.name, one.node, one.shape, one.bytes) for one in found.tensors] == [
        ("b", "b", (10,), 40),
        ("y", "y", (10,), 40),
    ]


def test_folded_nodes_are_not_steps() -> None:
    text = "g (float[2, 3] x) => (float y) { t = Transpose (w) y = MatMul (x, t) }"
    found = footprint(zoo.model(text, w=zoo.ones(4, 3)))
    assert [step.node for step in found.timeline] == ["y"]
    assert [(one.name, one.node) for one in found.tensors] == [("y", "y"), ("x", None)]


def test_memory_of_a_branch_includes_the_outer_graph() -> None:
    """x is 2 x 4, c one byte, h 2 x 5, b and y 2 x 3; x is live until h is computed."""
    found = footprint(zoo.branches())
    x, c, h, y = 32, 1, 40, 24
    assert [(step.node, step.bytes, step.depth) for step in found.timeline] == [
        ("h", x + c + h, 1),
        ("b", x + c + h + y, 1),
        ("y", x + c + y, 0),
    ]
    assert [one.name for one in found.tensors] == ["h", "x", "b", "c"]


def test_captured_values_are_counted_once() -> None:
    """The state s is a copy of x, so both are live; counter and condition have 8 and 1 bytes."""
    found = footprint(zoo.loop())
    inputs, state, counter, goes_on = 32, 32, 8, 1
    # five and yes are constants; n is an unused input
    assert (found.timeline[0].node, found.timeline[0].bytes) == ("z", inputs + state + goes_on + 32)
    assert counter not in {one.bytes for one in found.tensors}  # nothing uses it
    captured = footprint(zoo.loop(body="z = Add (s, x)"))
    assert captured.timeline[0] == found.timeline[0]


def test_scan_outputs_are_live_from_the_start() -> None:
    found = footprint(zoo.scan())
    rows, row, out, stack = 7 * 16, 16, 12, 7 * 12
    assert [(step.bytes, step.depth) for step in found.timeline] == [
        (rows + stack + row + out, 1),
        (rows + stack, 0),
    ]


@pytest.mark.parametrize(
    "build", [zoo.classifier, zoo.branches, zoo.loop, zoo.scan, zoo.functions, zoo.padded, zoo.quantized]
)
def test_timeline_agrees_with_the_totals(build: Callable[[], ir.Model]) -> None:
    assert footprint(build()).timeline


def test_unknown_sizes_are_noted() -> None:
    found = footprint(zoo.model("g (float[5] x) => (float y) { y = somewhere.Magic (x) }"))
    assert found.notes == ["1 values of unknown size are left out (y)"]
