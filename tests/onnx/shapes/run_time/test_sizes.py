"""Sizes that depend on data: named, bounded, bindable. At the counts that occur, all shapes are as they ran.

The oracle is onnxruntime: every value is an output, and the MACs are those of the operands that ran.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import sympy

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, symbols
from modelsurgeon.onnx.shapes.run_time.sizes import run_time_sizes
from tests import zoo

Feed = dict[str, np.ndarray]
Drawn = Callable[[np.random.Generator], Feed]
WIDTH = 6  # of the tensors that the weight takes
OPSET = 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A piece of graph that makes `t`, (size known at run time only) x WIDTH, from inputs of its own."""

    inputs: str
    body: str
    draw: Drawn
    weights: dict[str, np.ndarray]
    opset: int = OPSET


def integers(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def rows(rng: np.random.Generator, count: int = 7) -> np.ndarray:
    return rng.standard_normal((count, WIDTH)).astype(np.float32)


def source(inputs: str, body: str, draw: Drawn, opset: int = OPSET, **weights: np.ndarray) -> Source:
    return Source(inputs=inputs, body=body, draw=draw, weights=weights, opset=opset)


def boxes(rng: np.random.Generator, batch: int, classes: int) -> Feed:
    corners = rng.random((batch, 20, 2)).astype(np.float32)
    return {
        "boxes": np.concatenate([corners, corners + rng.random((batch, 20, 2)).astype(np.float32)], axis=2),
        "scores": rng.random((batch, classes, 20)).astype(np.float32),
    }


SOURCES = {
    "NonZero": source(
        "bool[7] m, float[7, 6] x",
        "z = NonZero (m) i = Transpose (z) t = GatherND (x, i)",
        lambda rng: {"m": rng.random(7) < 0.5, "x": rows(rng)},
    ),
    "NonZero of a computed mask": source(
        "float[B, 6] x",
        "s = ReduceSum <keepdims = 0> (x, one) m = Greater (s, zero) z = NonZero (m) i = Squeeze (z, first)"
        " t = Gather <axis = 0> (x, i)",
        lambda rng: {"x": rows(rng, 9)},
        one=integers(1),
        first=integers(0),
        zero=np.array(0, np.float32),
    ),
    "NonZero of a matrix": source(
        "float[B, 6] x",
        "m = Greater (x, zero) z = NonZero (m) f = Cast <to = 1> (z) i = Transpose (f) t = MatMul (i, up)",
        lambda rng: {"x": rows(rng, 5)},
        zero=np.array(0, np.float32),
        up=zoo.ones(2, 6),
    ),
    "Compress": source(
        "float[7, 6] x, bool[7] m",
        "t = Compress <axis = 0> (x, m)",
        lambda rng: {"m": rng.random(7) < 0.5, "x": rows(rng)},
    ),
    "Compress by a shorter condition": source(
        "float[7, 6] x, bool[4] m",
        "t = Compress <axis = -2> (x, m)",
        lambda rng: {"m": rng.random(4) < 0.7, "x": rows(rng)},
    ),
    "Compress without axis": source(
        "float[7, 6] x, bool[20] m",
        "c = Compress (x, m) u = Unsqueeze (c, one) t = MatMul (u, up)",
        lambda rng: {"m": rng.random(20) < 0.5, "x": rows(rng)},
        one=integers(1),
        up=zoo.ones(1, 6),
    ),
    "Unique along an axis": source(
        "float[7, 6] x",
        "t, i, j, n = Unique <axis = 0> (x)",
        lambda rng: {"x": np.round(rows(rng)[rng.integers(0, 3, 7)])},
    ),
    "Unique": source(
        "float[B, 3] x",
        "v, i, j, n = Unique (x) u = Unsqueeze (v, one) t = MatMul (u, up)",
        lambda rng: {"x": np.round(rng.standard_normal((4, 3))).astype(np.float32)},
        one=integers(1),
        up=zoo.ones(1, 6),
    ),
    "NonMaxSuppression": source(
        "float[B, 20, 4] boxes, float[B, 2, 20] scores, float[20, 6] x",
        "sel = NonMaxSuppression (boxes, scores, most, overlap, score) c = Slice (sel, two, three, one)"
        " i = Squeeze (c, one) t = Gather <axis = 0> (x, i)",
        lambda rng: {**boxes(rng, 2, 2), "x": rows(rng, 20)},
        most=integers(4),
        overlap=np.array([0.3], np.float32),
        score=np.array([0.2], np.float32),
        two=integers(2),
        three=integers(3),
        one=integers(1),
    ),
    "RoiAlign behind NonMaxSuppression": source(
        "float[1, 20, 4] boxes, float[1, 1, 20] scores, float[1, C, 8, 8] maps",
        "sel = NonMaxSuppression (boxes, scores, most) c = Gather <axis = 1> (sel, two)"
        " b = Gather <axis = 1> (sel, null) flat = Squeeze (boxes, first) r = Gather <axis = 0> (flat, c)"
        " a = RoiAlign <output_height = 2, output_width = 3> (maps, r, b)"
        " p = ReduceMean <keepdims = 0> (a, one) t = Reshape (p, target)",
        lambda rng: {**boxes(rng, 1, 1), "maps": rng.standard_normal((1, 3, 8, 8)).astype(np.float32)},
        most=integers(5),
        two=np.array(2),
        null=np.array(0),
        first=integers(0),
        one=integers(1),
        target=integers(-1, 6),
    ),
    "Reshape": source(
        "float[7, 6] x, int64[2] n",
        "r = Reshape (x, n) f = Reshape (r, target) t = Relu (f)",
        lambda rng: {"x": rows(rng), "n": integers(14, 3)},
        target=integers(-1, 6),
    ),
    "Reshape of an open batch to three axes": source(
        "float[B, 6] x, int64[3] n",
        "r = Reshape (x, n) f = Reshape (r, target) t = Relu (f)",
        lambda rng: {"x": rows(rng, 8), "n": integers(2, 8, 3)},
        target=integers(-1, 6),
    ),
    "Reshape to a size that is known in part": source(
        "float[B, 6] x, int64[1] n",
        "s = Concat <axis = 0> (n, three) r = Reshape (x, s) f = Reshape (r, target) t = Relu (f)",
        lambda rng: {"x": rows(rng, 8), "n": integers(16)},
        three=integers(3),
        target=integers(-1, 6),
    ),
    "Expand": source(
        "float[1, 6] x, int64[2] n",
        "t = Expand (x, n)",
        lambda rng: {"x": rows(rng, 1), "n": integers(int(rng.integers(1, 9)), 1)},
    ),
    "Expand to more axes": source(
        "float[B, 6] x, int64[3] n",
        "e = Expand (x, n) t = Reshape (e, target)",
        lambda rng: {"x": rows(rng, 3), "n": integers(int(rng.integers(1, 9)), 1, 1)},
        target=integers(-1, 6),
    ),
    "Tile": source(
        "float[B, 6] x, int64[2] n",
        "e = Tile (x, n) t = Reshape (e, target)",
        lambda rng: {"x": rows(rng, 3), "n": integers(int(rng.integers(1, 5)), 2)},
        target=integers(-1, 6),
    ),
    "ConstantOfShape": source(
        "int64[1] n",
        "e = ConstantOfShape (n) u = Unsqueeze (e, axis) t = MatMul (u, up)",
        lambda rng: {"n": integers(int(rng.integers(1, 5)))},
        axis=integers(1),
        up=zoo.ones(1, 6),
    ),
    "Range": source(
        "int64 n",
        "r = Range (null, n, one) f = Cast <to = 1> (r) u = Unsqueeze (f, axis) t = MatMul (u, up)",
        lambda rng: {"n": np.array(int(rng.integers(1, 9)))},
        null=np.array(0),
        one=np.array(1),
        axis=integers(1),
        up=zoo.ones(1, 6),
    ),
    "Slice": source(
        "float[7, 6] x, int64[1] n",
        "t = Slice (x, null, n, null)",
        lambda rng: {"x": rows(rng), "n": integers(int(rng.integers(1, 8)))},
        null=integers(0),
    ),
    "Slice of an open batch without axes": source(
        "float[B, 6] x, int64[1] n",
        "t = Slice (x, null, n)",
        lambda rng: {"x": rows(rng, 5), "n": integers(int(rng.integers(1, 6)))},
        null=integers(0),
    ),
    "Pad": source(
        "float[B, 6] x, int64[2] n",
        "t = Pad (x, n, , null)",
        lambda rng: {"x": rows(rng, 5), "n": rng.integers(0, 6, 2)},
        null=integers(0),
    ),
    "TopK": source(
        "float[B, 6] x, int64[1] n",
        "t, i = TopK <axis = 0> (x, n)",
        lambda rng: {"x": rows(rng, 5), "n": integers(int(rng.integers(1, 6)))},
    ),
    "Resize": source(
        "float[1, 2, 4, 6] x, int64[4] n",
        'r = Resize <mode = "nearest"> (x, , , n) t = Reshape (r, target)',
        lambda rng: {
            "x": rng.random((1, 2, 4, 6), np.float32),
            "n": integers(1, 2, int(rng.integers(1, 9)), 6),
        },
        target=integers(-1, 6),
    ),
    "Resize by computed scales, some axes": source(
        "float[B, 2, 4, 6] x, float[2] n",
        'r = Resize <mode = "nearest", axes = [2, 3]> (x, , n) t = Reshape (r, target)',
        lambda rng: {"x": rng.random((3, 2, 4, 6), np.float32), "n": np.array([2.5, 1], np.float32)},
        target=integers(-1, 6),
    ),
    "OneHot": source(
        "int64[B] x, int64 n",
        "o = OneHot <axis = 0> (x, n, values) u = Unsqueeze (o, last) s = ReduceSum (u, one)"
        " q = Squeeze (s, one) t = MatMul (q, up)",
        lambda rng: {"x": rng.integers(0, 3, 4), "n": np.array(int(rng.integers(3, 9)))},
        values=np.array([0, 1], np.float32),
        last=integers(2),
        one=integers(1),
        up=zoo.ones(1, 6),
    ),
    "Loop": source(
        "int64 n, bool go, float[6] x",
        "t = Loop (n, go) <body = b (int64 k, bool c) => (bool d, float[6] r)"
        " { d = Identity (c) r = Relu (x) }>",
        lambda rng: {"n": np.array(int(rng.integers(1, 9))), "go": np.array(True), "x": rows(rng, 1)[0]},
    ),
    "If": source(
        "bool go, float[7, 6] x",
        "t = If (go) <then_branch = a () => (float[3, 6] p) { p = Slice (x, null, three, null) },"
        " else_branch = b () => (float[7, 6] q) { q = Relu (x) }>",
        lambda rng: {"go": np.array(bool(rng.integers(2))), "x": rows(rng)},
        null=integers(0),
        three=integers(3),
    ),
    "two of a kind": source(
        "float[7, 6] x, bool[7] m, bool[7] n",
        "a = Compress <axis = 0> (x, m) b = Compress <axis = 0> (x, n) t = Concat <axis = 0> (a, b)",
        lambda rng: {"m": rng.random(7) < 0.5, "n": rng.random(7) < 0.5, "x": rows(rng)},
    ),
    "one behind another": source(
        "float[B, 6] x, bool[9] m, int64[1] n",
        "a = Compress <axis = 0> (x, m) t, i = TopK <axis = 0> (a, n)",
        lambda rng: {"m": np.arange(9) < 5, "n": integers(int(rng.integers(1, 5))), "x": rows(rng, 9)},
    ),
}


def net(piece: Source, name: str = "g") -> ir.Model:
    """The source, a dense layer on it, and one on its transposed product."""
    body = f"{piece.body} h = MatMul (t, w) k = Transpose (h) g = MatMul (h, k) y = Relu (g)"
    text = f"{name} ({piece.inputs}) => (float[?, ?] y) {{ {body} }}"
    built = zoo.model(text, opset=piece.opset, w=zoo.ones(WIDTH, 4), **piece.weights)
    built.graph.outputs[0].shape = None
    return built


def ran_shapes(model: ir.Model, feed: Feed) -> dict[str, tuple[int, ...]]:
    """Shape of every value of the main graph, as it ran in onnxruntime."""
    proto = ir.to_proto(model)
    known = {value.name for value in proto.graph.output}
    made = [name for node in proto.graph.node for name in node.output if name and name not in known]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs = [value.name for value in session.get_outputs()]
    return {name: np.shape(array) for name, array in zip(outputs, session.run(outputs, feed), strict=True)}


def ran_macs(model: ir.Model, shapes: dict[str, tuple[int, ...]]) -> int:
    """MACs of all matrix products at the shapes that ran."""
    return sum(
        prod(shapes[str(node.inputs[0].name)]) * shapes[str(node.outputs[0].name)][-1]
        for node in model.graph
        if node.op_type == "MatMul"
    )


def sizes_that_ran(opened: ir.Model, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """The size of every symbol: of the first value that has it as a size."""
    found: dict[str, int] = {}
    values = [*opened.graph.inputs, *(value for node in opened.graph for value in node.outputs)]
    for value in values:
        for dim, size in zip(value.shape or (), shapes.get(str(value.name), ()), strict=False):
            if not isinstance(dim, int) and str(dim) in symbols(opened):
                found.setdefault(str(dim), size)
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_shapes_and_macs_at_the_counts_that_occur_are_those_that_ran(name: str) -> None:
    built = net(SOURCES[name])
    for seed in range(3):
        feed = SOURCES[name].draw(np.random.default_rng(seed))
        ran = ran_shapes(built, feed) | {key: array.shape for key, array in feed.items()}
        opened = bound(built)
        dims = sizes_that_ran(opened, ran)
        assert dims.keys() == set(symbols(opened))
        for model, sizes in ((opened, dims), (bound(built, dims=dims), {})):
            found = {
                str(value.name): tuple(value.shape.evaluate(sizes)) if value.shape is not None else None
                for node in model.graph
                for value in node.outputs
            }
            assert found == {key: ran[key] for key in found}
        totals = analyze(built, dims=dims).totals
        assert totals.macs == ran_macs(built, ran)
        formula = analyze(built).formulas["macs"]
        names = {key: sympy.Symbol(key) for key in dims}
        assert sympy.sympify(formula, locals=names).subs(dims) == totals.macs


def made_of(text: str, opset: int = OPSET, **weights: np.ndarray) -> ir.Model:
    return zoo.model(text, opset=opset, **weights)


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "g (float[3, 5] x) => (int64[?, ?] y) { y = NonZero (x) }",
            "y_count: as many as NonZero 'y' finds, at most 15; counted at 15; set with --dim y_count=N",
        ),
        (
            "g (float[N, 5] x) => (int64[?, ?] y) { y = NonZero (x) }",
            "y_count: as many as NonZero 'y' finds, at most 5*N; counted at 5; set with --dim y_count=N",
        ),
        (
            "g (float[4, 3] x, bool[9] m) => (float[?, ?] y) { y = Compress <axis = 1> (x, m) }",
            "y_count: as many as Compress 'y' keeps, at most 3; counted at 3; set with --dim y_count=N",
        ),
        (
            "g (float[4, 3] x, bool[2] m) => (float[?, ?] y) { y = Compress <axis = -1> (x, m) }",
            "y_count: as many as Compress 'y' keeps, at most 2; counted at 2; set with --dim y_count=N",
        ),
        (
            "g (float[4, 3] x) => (float[?] y) { y = Unique (x) }",
            "y_count: as many different ones as Unique 'y' finds, at most 12; counted at 12;"
            " set with --dim y_count=N",
        ),
        (
            "g (float[2, 9, 4] b, float[2, 3, 9] s) => (int64[?, 3] y) { y = NonMaxSuppression (b, s, k) }",
            "y_count: as many as NonMaxSuppression 'y' keeps, at most 30; counted at 30;"
            " set with --dim y_count=N",
        ),
        (
            "g (float[2, 4, 4] b, float[2, 3, 4] s, int64 k) => (int64[?, 3] y)"
            " { y = NonMaxSuppression (b, s, k) }",
            "y_count: as many as NonMaxSuppression 'y' keeps, at most 24; counted at 24;"
            " set with --dim y_count=N",
        ),
        (
            "g (float[4, 9] x, int64[1] n) => (float[?, ?] y) { y, i = TopK (x, n) }",
            "y_size_1: a size that TopK 'y' gets at run time, at most 9; counted at 9;"
            " set with --dim y_size_1=N",
        ),
        (
            "g (int64 n) => (int64[?] y) { y = Range (null, n, one) }",
            "y_size: a size that Range 'y' gets at run time; counted at 1; set with --dim y_size=N",
        ),
    ],
)
def test_a_size_known_at_run_time_is_named_in_a_note(text: str, note: str) -> None:
    weights = {"k": integers(5), "null": np.array(0), "one": np.array(1)}
    model = made_of(
        text, **{name: array for name, array in weights.items() if f"{name})" in text or name in text}
    )
    for value in model.graph.outputs:
        value.shape = None
    assert note in analyze(model).notes


def test_names_are_those_of_nodes_and_equal_from_run_to_run() -> None:
    text = "g (bool[4] m, bool[4] n) => (int64[1, c] y, int64[1, d] z) { y = NonZero (m) z = NonZero (n) }"
    model = made_of(text)
    for node, name in zip(model.graph, ("/head/Where", "/tail/Where"), strict=True):
        node.name, node.outputs[0].shape = name, None
    assert symbols(bound(model)) == ["head_Where_count", "tail_Where_count"]
    assert symbols(bound(model, dims={"head_Where_count": 1})) == ["tail_Where_count"]
    next(iter(model.graph)).name = "/head/Find"
    assert symbols(bound(model)) == ["Find_count", "Where_count"]


def test_nodes_that_do_the_same_to_the_same_operands_have_one_size() -> None:
    text = "g (bool[4] m) => (int64[?, ?] y) { a = NonZero (m) b = NonZero (m) y = Add (a, b) }"
    assert symbols(bound(made_of(text))) == ["a_count"]


def test_a_size_above_its_bound_is_refused() -> None:
    model = made_of("g (float[N, 5] x) => (int64[?, ?] y) { y = NonZero (x) }")
    model.graph.outputs[0].shape = None
    assert bound(model, dims={"N": 2, "y_count": 10}).graph.outputs[0].shape == ir.Shape([2, 10])
    with pytest.raises(UnknownShape, match=r"y_count is bound to 11, but is as many as .*: at most 10"):
        bound(model, dims={"N": 2, "y_count": 11})


def test_a_size_that_follows_from_shapes_is_computed_and_not_named() -> None:
    body = "s = Shape (x) o = ConstantOfShape <value = bool[1] {0}> (s) n = Not (o) y = NonZero (n)"
    model = made_of(f"g (float[N, 6] x) => (int64[?, ?] y) {{ {body} }}")
    model.graph.outputs[0].shape = None
    assert symbols(bound(model)) == ["N"]
    assert bound(model, dims={"N": 2}).graph.outputs[0].shape == ir.Shape([2, 12])


def test_boxes_without_a_limit_are_none() -> None:
    inputs = "float[1, 9, 4] boxes, float[1, 3, 9] scores"
    model = made_of(f"g ({inputs}) => (int64[?, 3] y) {{ y = NonMaxSuppression (boxes, scores) }}")
    model.graph.outputs[0].shape = None
    feed = {"boxes": np.zeros((1, 9, 4), np.float32), "scores": np.ones((1, 3, 9), np.float32)}
    assert ran_shapes(model, feed)["y"] == (0, 3)
    assert bound(model).graph.outputs[0].shape == ir.Shape([0, 3])


def test_sizes_in_bodies_are_named() -> None:
    text = """
        g (float[7, 6] x, bool[7] m) => (float[4, 4] y) {
            y = Loop (four, yes, null) <body = b (int64 k, bool c, float[4, 4] s) => (bool d, float[4, 4] r) {
                d = Identity (c)
                chosen = Compress <axis = 0> (x, m)
                p = MatMul (chosen, w)
                q = Transpose (p)
                t = MatMul (q, p)
                r = Add (s, t)
            }>
        }
    """
    model = made_of(
        text, four=np.array(4), yes=np.array(True), null=np.zeros((4, 4), np.float32), w=zoo.ones(6, 4)
    )
    found = analyze(model)
    assert found.defaults == {"chosen_count": 7}
    assert found.totals.macs == 4 * 7 * 4 * (6 + 4)
    assert found.formulas["macs"] == "160*chosen_count"
    assert analyze(model, dims={"chosen_count": 2}).totals.macs == 4 * 2 * 4 * (6 + 4)


def test_run_time_sizes_have_words_and_bounds() -> None:
    opened = bound(net(SOURCES["Compress"]))
    [size] = run_time_sizes(opened).values()
    assert (size.name, size.most, size.usual) == ("t_count", 7, 7)
    assert all(value.shape is not None for node in nodes(opened) for value in node.outputs)


def test_a_size_that_changes_with_the_iteration_has_no_name() -> None:
    text = """
        g (int64 trips, float[7, 6] x) => (float[?, ?] y) {
            y = Loop (trips, yes, x) <body = b (int64 k, bool c, float[?, 6] s) => (bool d, float[?, 6] r) {
                d = Identity (c)
                end = Unsqueeze (k, null)
                part = Slice (x, null, end, null)
                r = Relu (part)
            }>
        }
    """
    assert "part_size_0" not in symbols(bound(made_of(text, yes=np.array(True), null=integers(0))))


def test_a_loop_runs_as_often_as_its_collected_output_is_long() -> None:
    built = zoo.model(
        """g (float[N, 8] x, int64 n) => (float last, float all) {
        last, all = Loop (n, t, x) <body = b (int64 i, bool go, float[N, 8] s)
            => (bool on, float[N, 8] next, float[N, 4] part) {
            on = Identity (go) next = MatMul (s, w) part = MatMul (next, v) }> }""",
        t=np.bool_(True),
        w=zoo.ones(8, 8),
        v=zoo.ones(8, 4),
    )
    (name,) = run_time_sizes(bound(built))
    found = analyze(built, dims={name: 6})
    assert found.formulas["macs"] == "576*N" and not found.gaps
    assert analyze(built).formulas["macs"] == f"96*N*{name}"


def test_the_default_of_a_declared_size_fits_the_nodes_behind_it() -> None:
    built = zoo.model(
        """g (float[1, 3, 9, 9] x) => (float y) <float[1, 3, A, A] a>
        { a = local.Magic (x) y = Conv (a, w) }""",
        w=zoo.ones(2, 3, 5, 5),
    )
    found = analyze(built)
    assert found.defaults["A"] >= 5 and found.totals.macs == 150 * (found.defaults["A"] - 4) ** 2
