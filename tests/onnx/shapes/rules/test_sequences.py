"""Sequences keep the shapes of their elements, as onnxruntime has them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper

from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.sequence_elements import Elements, elements
from tests import zoo

NUMBERS = "\n".join(
    [f"{name} = Constant <value = int64 {{{n}}}> ()" for name, n in (("zero", 0), ("two", 2), ("last", -1))]
    + ["parts = Constant <value = int64[2] {1, 5}> ()", "k = Constant <value = int64[1] {3}> ()"]
)
# What is done to x, of 6 x 4, y, of 2 x 4, and z, of 6 x 3, -> the tensor r.
READS = {
    "at": "s = SequenceConstruct (x, y) r = SequenceAt (s, zero)",
    "at the end": "s = SequenceConstruct (x, y) r = SequenceAt (s, last)",
    "joined": "s = SequenceConstruct (x, y, x) r = ConcatFromSequence <axis = 0> (s)",
    "joined at the end": "s = SequenceConstruct (x, z) r = ConcatFromSequence <axis = -1> (s)",
    "stacked": "s = SequenceConstruct (x, x) r = ConcatFromSequence <axis = 0, new_axis = 1> (s)",
    "stacked at the end": """s = SequenceConstruct (x, x, x)
        r = ConcatFromSequence <axis = -1, new_axis = 1> (s)""",
    "empty": "e = SequenceEmpty () s = SequenceInsert (e, x) r = SequenceAt (s, zero)",
    "inserted": "e = SequenceConstruct (x) s = SequenceInsert (e, y) r = SequenceAt (s, last)",
    "inserted first": "e = SequenceConstruct (x) s = SequenceInsert (e, y, zero) r = SequenceAt (s, zero)",
    "inserted before the last": """e = SequenceConstruct (x, x)
        s = SequenceInsert (e, y, last) r = SequenceAt (s, last)""",
    "erased": "e = SequenceConstruct (x, y) s = SequenceErase (e) r = SequenceAt (s, zero)",
    "erased first": """e = SequenceConstruct (x, y)
        s = SequenceErase (e, zero) r = ConcatFromSequence <axis = 0> (s)""",
    "split": "s = SplitToSequence (x) r = SequenceAt (s, two)",
    "split without the axis": "s = SplitToSequence <axis = 1, keepdims = 0> (x) r = SequenceAt (s, two)",
    "split evenly": "s = SplitToSequence <axis = 0> (x, two) r = SequenceAt (s, two)",
    "split with a rest": "s = SplitToSequence <axis = -1> (z, two) r = SequenceAt (s, last)",
    "split as told": "s = SplitToSequence <axis = 0> (x, parts) r = SequenceAt (s, last)",
    "split and joined": "s = SplitToSequence <axis = 1> (x, two) r = ConcatFromSequence <axis = 1> (s)",
    "counted": "s = SplitToSequence (x) n = SequenceLength (s) m = Reshape (n, one) r = ConstantOfShape (m)",
    "mapped": """s = SequenceConstruct (x, x)
        t = SequenceMap <
            body = b (float[?, ?] e) => (float[?, ?] f) { f = Transpose <perm = [1, 0]> (e) }
        > (s)
        r = ConcatFromSequence <axis = 0> (t)""",
    "the same": "s = SequenceConstruct (x, y) t = Identity (s) r = SequenceAt (t, last)",
    "in an optional": """s = SequenceConstruct (x, y)
        o = Optional (s) t = OptionalGetElement (o) r = SequenceAt (t, last)""",
    "of a branch": """yes = Constant <value = bool {1}> ()
        t = If (yes) <then_branch = p () => (seq(float[?, 4]) u) { u = SequenceConstruct (x, y) },
                      else_branch = q () => (seq(float[?, 4]) v) { v = SequenceConstruct (y) }>
        r = ConcatFromSequence <axis = 0> (t)""",
}


def reader(lines: str, declared: str = "6") -> ir.Model:
    return zoo.model(
        f"g (float[{declared}, 4] x, float[2, 4] y, float[{declared}, 3] z) => (float r) "
        f"{{ {NUMBERS} one = Constant <value = int64[1] {{1}}> () {lines} }}"
    )


def shape_that_ran(model: ir.Model) -> tuple[int, ...]:
    proto = ir.to_proto(model)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    feed = {name: np.ones(shape, np.float32) for name, shape in (("x", (6, 4)), ("y", (2, 4)), ("z", (6, 3)))}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    used = {value.name for value in session.get_inputs()}
    return session.run(None, {name: array for name, array in feed.items() if name in used})[0].shape


@pytest.mark.parametrize("lines", READS.values(), ids=READS)
def test_elements_have_the_shapes_that_ran(lines: str) -> None:
    assert sizes(bound(reader(lines)).graph.outputs[0]) == shape_that_ran(reader(lines))
    assert sizes(bound(reader(lines, "N"), dims={"N": 6}).graph.outputs[0]) == shape_that_ran(reader(lines))


@pytest.mark.parametrize(
    ("lines", "shape"),
    [
        ("s = SplitToSequence (x) r = ConcatFromSequence <axis = 0> (s)", ["N", "4"]),
        ("s = SplitToSequence <axis = 0> (x, two) r = ConcatFromSequence <axis = 0> (s)", ["N", "4"]),
        ("s = SequenceConstruct (x, y) r = ConcatFromSequence <axis = 0> (s)", ["N + 2", "4"]),
        ("s = SequenceConstruct (x, x) r = ConcatFromSequence <axis = 0, new_axis = 1> (s)", ["2", "N", "4"]),
    ],
)
def test_open_sizes_pass_through_sequences(lines: str, shape: list[str]) -> None:
    found = bound(reader(lines, "N")).graph.outputs[0].shape
    assert found is not None and list(map(str, found)) == shape


def test_elements_of_different_shapes_keep_the_axes_that_agree() -> None:
    model = zoo.model(
        f"g (float[2, 4] x, float[3, 4] y, int64 i) => (float[?, ?] r) "
        f"{{ {NUMBERS} s = SequenceConstruct (x, y) r = SequenceAt (s, i) }}"
    )
    shape = bound(model).graph.outputs[0].shape
    assert shape is not None and not isinstance(shape[0], int) and shape[1] == 4


def test_mapped_elements_of_different_shapes_stay_different() -> None:
    model = reader(
        """s = SequenceConstruct (x, y)
        t = SequenceMap <
            body = b (float[?, ?] e) => (float[?, ?] f) { f = Transpose <perm = [1, 0]> (e) }
        > (s)
        r = ConcatFromSequence <axis = 1> (t)"""
    )
    mapped = next(node for node in bound(model).graph if node.op_type == "SequenceMap").outputs[0]
    assert elements(mapped) == Elements(length=2, shape=(4, None))


def test_a_sequence_is_an_input() -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["N", 4])
    model = zoo.model(
        "g (float[2] s) => (float r) { i = Constant <value = int64 {0}> () r = SequenceAt (s, i) }"
    )
    proto = ir.to_proto(model)
    proto.graph.input[0].CopyFrom(sequence)
    found = analyze(ir.from_proto(proto), dims={"N": 5})
    assert found.model["inputs"][0] == {"name": "s", "dtype": "seq(float32)", "shape": [5, 4]}
    assert found.model["outputs"][0]["shape"] == [5, 4]


def test_whether_an_optional_has_an_element_follows_from_the_graph() -> None:
    model = zoo.model(
        """
        g (float[2, 4] x) => (float[?, ?] y) {
            o = Optional (x)
            has = OptionalHasElement (o)
            y = If (has) <then_branch = p () => (float[?, ?] a) { a = MatMul (x, w) },
                          else_branch = q () => (float[?, ?] b) { c = MatMul (x, v) b = MatMul (c, v) }>
        }
        """,
        opset=18,
        w=zoo.ones(4, 3),
        v=zoo.ones(4, 4),
    )
    found = analyze(model)
    assert found.totals.macs == 2 * 4 * 3 and not found.uncounted


def test_a_sequence_that_is_filled_in_a_loop_has_as_many_elements_as_iterations() -> None:
    model = zoo.model(
        """
        g (float[N, 4] x) => (float[?, ?] y) {
            e = SequenceEmpty ()
            shape = Shape (x) zero = Constant <value = int64 {0}> ()
            n = Gather <axis = 0> (shape, zero)
            s = Loop (n, , e) <
                body = b (int64 k, bool i, seq(float[?, ?]) a) => (bool o, seq(float[?, ?]) c) {
                    o = Identity (i) m = MatMul (w, w) c = SequenceInsert (a, m)
                }
            >
            j = ConcatFromSequence <axis = 0> (s)
            y = MatMul (j, w)
        }
        """,
        w=zoo.ones(4, 4),
    )
    found = analyze(model)
    assert found.formulas["macs"] == "128*N"
    sequence = next(node for node in bound(model).graph if node.op_type == "Loop").outputs[0]
    assert [str(size) for size in elements(sequence).totals or ()] == ["4*N", "4*N"]
    assert analyze(model, dims={"N": 7}).model["outputs"][0]["shape"] == [28, 4]


def test_unknown_positions_are_no_guesses() -> None:
    two = Elements.listed([(2, 4), (3, 4)])
    assert two.at(None) == (None, 4)
    assert two.inserted((5, 4), None) == Elements(length=3, shape=(None, 4), totals=(10, 12))
    assert two.erased(None) == Elements(length=1, shape=(None, 4), totals=(None, 4))
    assert two.joined(Elements.listed([])).shape == (None, 4)
