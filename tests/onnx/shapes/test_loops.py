"""Loops: how often they run, and sizes that change from one iteration to the next, as in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.dimensions import Dim
from modelsurgeon.onnx.shapes.loops import trip_count
from tests import zoo

COUNTS = """
    shape = Shape (x)
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    two = Constant <value = int64 {2}> ()
    yes = Constant <value = bool {1}> ()
    zeros = Constant <value = int64[1] {0}> ()
    n = Gather <axis = 0> (shape, zero)
"""
COUNTING = (
    "body = b (int64 k, bool i, float[2, 4] s) => (bool o, float[2, 4] z) { o = Identity (i) z = Relu (s) }"
)


def shapes_that_ran(model: ir.Model, size: int) -> list[tuple[int, ...]]:
    """Shapes of the outputs in onnxruntime, with a first axis of this size."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return [array.shape for array in session.run(None, {"x": np.ones((size, 4), np.float32)})]


def growing(update: str, trips: str = "n", start: str = "x", cond: str = "yes") -> ir.Model:
    """A Loop whose state is updated to `e`, and whose second result is stacked."""
    return zoo.model(
        f"""
        g (float[N, 4] x) => (float[?, ?] y, float[?, ?, ?] all) {{
            {COUNTS}
            half = Div (n, two)
            y, all = Loop ({trips}, {cond}, {start}) <
                body = b (int64 k, bool i, float[?, ?] s) => (bool o, float[?, ?] e, float[?, ?] r) {{
                    o = Identity (i) r = MatMul (w, w) {update}
                }}
            >
        }}
        """,
        w=zoo.ones(4, 4),
    )


@pytest.mark.parametrize(
    "update",
    [
        "e = Relu (s)",
        "e = Concat <axis = 0> (s, x)",
        "e = Concat <axis = 0> (w, s, w)",
        "one_row = Unsqueeze (k, zeros) t = Slice (w, zeros, one_row, zeros) e = Concat <axis = 0> (s, t)",
        "rows = Shape (s) e = Reshape (s, rows)",
        "t = Transpose <perm = [1, 0]> (s) u = Transpose <perm = [1, 0]> (t) e = Concat <axis = 0> (u, x)",
    ],
)
@pytest.mark.parametrize("trips", ["n", "two", "half", "zero"])
def test_sizes_after_a_loop_are_those_that_ran(update: str, trips: str) -> None:
    model = growing(update, trips)
    for size in (1, 3, 6):
        found = list(map(sizes, bound(model, dims={"N": size}).graph.outputs))
        ran = shapes_that_ran(model, size)
        assert found[0] == ran[0]
        assert found[1] == ran[1] or ran[1][0] == 0  # without iterations, onnxruntime knows no other axes


def test_open_sizes_after_a_loop_are_expressions() -> None:
    first, stacked = bound(growing("e = Concat <axis = 0> (s, w)")).graph.outputs
    assert first.shape is not None and [str(size) for size in first.shape] == ["5*N", "4"]
    assert stacked.shape is not None and [str(size) for size in stacked.shape] == ["N", "4", "4"]


@pytest.mark.parametrize("update", ["e = Concat <axis = 0> (s, s)", "e = NonZero (s)"])
def test_sizes_that_grow_in_other_ways_stay_unknown(update: str) -> None:
    update = update if "Non" not in update else "p = NonZero (s) q = Cast <to = 1> (p) e = Identity (q)"
    assert sizes(bound(growing(update, "two"), dims={"N": 3}).graph.outputs[0]) is None


def test_a_loop_that_may_end_early_has_results_of_unknown_number() -> None:
    body = "t = ReduceSum <keepdims = 0> (s) stop = Cast <to = 9> (t) z = MatMul (s, w)"
    early = zoo.loop(goes_on="stop", body=body)
    [loop] = [node for node in nodes(bound(early)) if node.op_type == "Loop"]
    assert trip_count(loop) is None
    assert sizes(loop.outputs[0]) == (2, 4)


@pytest.mark.parametrize(
    ("trips", "count", "at_three"),
    [
        ("t = Identity (two)", 2, 2),
        ("t = Add (two, one)", 3, 3),
        ("t = Identity (n)", "N", 3),
        ("t = Sub (n, two)", "Max(0, N - 2)", 1),
        ("r = Range (zero, n, one) q = Shape (r) t = Squeeze (q)", "N", 3),
        ("f = Flatten (x) q = Size (f) t = Identity (q)", "4*N", 12),
        ("s = SplitToSequence <axis = 0, keepdims = 0> (x) t = SequenceLength (s)", "N", 3),
        ("s = SequenceConstruct (x, x) t = SequenceLength (s)", 2, 2),
        ("c = Cast <to = 7> (x) t = ReduceMax <keepdims = 0> (c)", None, None),
    ],
)
def test_trip_counts_follow_from_sizes(trips: str, count: Dim | str | None, at_three: int | None) -> None:
    model = zoo.model(
        f"""
        g (float[N, 4] x) => (float[2, 4] y) {{
            {COUNTS} {trips}
            twos = Constant <value = int64[2] {{2, 4}}> ()
            a = ConstantOfShape (twos)
            y = Loop (t, , a) <{COUNTING}>
        }}
        """,
    )
    counts = []
    for dims in ({}, {"N": 3}):
        [loop] = [node for node in nodes(bound(model, dims=dims)) if node.op_type == "Loop"]
        counts.append(trip_count(loop))
    assert [None if one is None else str(one) for one in counts] == [
        None if one is None else str(one) for one in (count, at_three)
    ]


def test_a_triangle_of_two_loops() -> None:
    """The inner Loop runs as often as the number of the outer one says: 0 + 1 + ... + (N - 1) times."""
    model = zoo.model(
        f"""
        g (float[N, 4] x) => (float[?, ?] y) {{
            {COUNTS}
            y = Loop (n, , x) <
                body = b (int64 k, bool i, float[?, ?] s) => (bool o, float[?, ?] z) {{
                    o = Identity (i)
                    z = Loop (k, , s) <
                        body = c (int64 l, bool j, float[?, ?] t) => (bool p, float[?, ?] u) {{
                            p = Identity (j) u = MatMul (t, w)
                        }}
                    >
                }}
            >
        }}
        """,
        w=zoo.ones(4, 4),
    )
    found = analyze(model)
    assert found.formulas["macs"] == "8*N**3 - 8*N**2"
    at_five = analyze(model, dims={"N": 5})
    assert at_five.totals.macs == 10 * 5 * 4 * 4
    [product] = [layer for layer in at_five.layers if layer.op == "MatMul"]
    assert product.runs == 10


def test_a_layer_on_a_growing_state_costs_more_in_every_iteration() -> None:
    update = "e = Concat <axis = 0> (s, w) v = MatMul (e, w)"
    model = growing(update)
    found = analyze(model, dims={"N": 3})
    assert not found.uncounted
    assert found.totals.macs == sum(16 * (3 + 4 * (number + 1)) for number in range(3)) + 3 * 64
    assert [layer.runs for layer in found.layers if layer.name == "v"] == [3]
    [layer] = [layer for layer in found.layers if layer.name == "v"]
    assert layer.output_shapes == (None,)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_a_scan_runs_along_any_axis(axis: int) -> None:
    rows = {0: "float[4] r", 1: "float[7] r", -1: "float[7] r"}[axis]
    w = zoo.ones(4 if axis == 0 else 7, 3)
    model = zoo.model(
        f"""
        g (float[7, 4] x) => (float[?, 3] y) {{
            y = Scan <num_scan_inputs = 1, scan_input_axes = [{axis}],
                body = b ({rows}) => (float[3] s) {{ s = MatMul (r, w) }}> (x)
        }}
        """,
        w=w,
    )
    found = analyze(model)
    assert found.totals.macs == 7 * 4 * 3
    assert sizes(bound(model).graph.outputs[0]) == ((7, 3) if axis == 0 else (4, 3))


def test_a_scan_of_opset_8_has_a_batch() -> None:
    model = zoo.model(
        """
        g (float[2, 3] s, float[2, 7, 4] x) => (float[2, 3] t, float[2, 7, 3] y) {
            t, y = Scan <num_scan_inputs = 1, body = b (float[3] a, float[4] r) => (float[3] c, float[3] d) {
                d = MatMul (r, w) c = Add (a, d)
            }> (, s, x)
        }
        """,
        opset=8,
        version=3,
        w=zoo.ones(4, 3),
    )
    found = analyze(model)
    assert found.totals.macs == 2 * 7 * 4 * 3
    assert [sizes(value) for value in bound(model).graph.outputs] == [(2, 3), (2, 7, 3)]
