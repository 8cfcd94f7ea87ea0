"""Fully connected layers as convolutions and back: same scores, maps at larger sizes, reasons."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def outputs_of(model: ir.Model, x: np.ndarray) -> np.ndarray:
    """The first output, with optimizations off."""
    return np.asarray(next(iter(run.runner(model, optimize=False)({"x": x}).values())))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def reasons(done: ms.Operation) -> dict[str, str]:
    return {edit.layer: edit.skipped for edit in done.edits if edit.skipped is not None}


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.linalg.norm(a.ravel() - b.ravel()) <= 1e-5 * np.linalg.norm(a))


def body(head: str, opset: int = 17, **weights: np.ndarray) -> ir.Model:
    """A convolution of 3 to 4 channels, stride 2, on 13 x 11; its map of 6 x 5 is `m`."""
    return zoo.model(
        f"""
        g (float[N, 3, 13, 11] x) => (float[N, 7] y) {{
            m = Conv <strides = [2, 2]> (x, w0)
            {head}
        }}
        """,
        opset=opset,
        w0=normal(4, 3, 3, 3),
        **weights,
    )


HEADS = {
    "flatten and gemm": ("f = Flatten (m) y = Gemm <transB = 1> (f, w, b)", {"w": (7, 120), "b": (7,)}),
    "reshape and matmul": (
        "t = Constant <value = int64[2] {-1, 120}> () f = Reshape (m, t) p = MatMul (f, w) y = Add (p, b)",
        {"w": (120, 7), "b": (7,)},
    ),
    "channels last": (
        "c = Transpose <perm = [0, 2, 3, 1]> (m) f = Flatten (c) y = Gemm (f, w, b)",
        {"w": (120, 7), "b": (7,)},
    ),
    "a chain": (
        """
        f = Flatten (m) d = Dropout (f) h = Gemm (d, w, b) r = Relu (h)
        n = BatchNormalization (r, s, b2, b2, s) i = Mul (n, s2) o = Gemm (i, w2, b) y = Softmax (o)
        """,
        {"w": (120, 7), "b": (7,), "w2": (7, 7), "s": (7,), "b2": (7,), "s2": (1, 7)},
    ),
    "two branches": (
        "f = Flatten (m) a = Gemm (f, w, b) c = MatMul (f, w) s = Sigmoid (c) y = Mul (a, s)",
        {"w": (120, 7), "b": (7,)},
    ),
}


def head(name: str, opset: int = 17) -> ir.Model:
    text, shapes = HEADS[name]
    return body(text, opset, **{k: np.abs(normal(*shape)) for k, shape in shapes.items()})


@pytest.mark.parametrize("name", HEADS)
def test_same_scores_and_a_map_for_larger_inputs(name: str) -> None:
    model, x = head(name), normal(2, 3, 13, 11)
    done = ms.fc2conv(model)
    assert not reasons(done)
    assert "Gemm" not in operators(done.model)
    assert "MatMul" not in operators(done.model)
    assert same(outputs_of(model, x), outputs_of(done.model, x))
    assert outputs_of(done.model, normal(1, 3, 21, 15)).shape == (1, 7, 5, 3)


@pytest.mark.parametrize("name", HEADS)
def test_map_position_equals_its_crop(name: str) -> None:
    """Without padding, the scores at a position of the map are those of the crop under it."""
    model = head(name)
    big, x = ms.fc2conv(model, compare=False).model, normal(1, 3, 17, 15)
    crop = np.ascontiguousarray(x[:, :, 2:15, 4:15])
    assert same(outputs_of(model, crop), outputs_of(big, x)[:, :, 1, 2])


@pytest.mark.parametrize("opset", [9, 13])
def test_softmax_runs_along_the_channels_of_a_map(opset: int) -> None:
    model = body("f = Flatten (m) o = Gemm (f, w, b) y = Softmax (o)", opset, w=normal(120, 7), b=normal(7))
    done = ms.fc2conv(model)
    assert np.allclose(outputs_of(done.model, normal(2, 3, 21, 15)).sum(axis=1), 1)


@pytest.mark.parametrize(
    "pool",
    [
        "p = GlobalAveragePool (m) f = Flatten (p)",
        "f = ReduceMean <axes = [2, 3], keepdims = 0> (m)",
        "p = ReduceMean <axes = [-1, 2]> (m) f = Flatten (p)",
    ],
)
def test_layer_moves_before_a_mean(pool: str) -> None:
    model = body(f"{pool} d = Dropout (f) y = Gemm (d, w, b)", w=normal(4, 7), b=normal(7))
    done = ms.fc2conv(model)
    assert operators(done.model) == ["Conv", "Conv", "GlobalAveragePool", "Flatten"]
    x = normal(2, 3, 13, 11)
    assert same(outputs_of(model, x), outputs_of(done.model, x))
    assert [edit.action for edit in done.edits] == ["to convolution before the mean", "open sizes"]
    larger = normal(2, 3, 17, 12)
    model.graph.inputs[0].shape = ir.Shape(["N", 3, "h", "w"])
    assert same(outputs_of(model, larger), outputs_of(done.model, larger))


def test_layer_stays_where_a_node_behind_it_needs_vectors() -> None:
    model = body("f = Flatten (m) h = Gemm (f, w, b) r = Relu (h) y = CumSum (r, one)", w=normal(120, 7),
                 b=normal(7), one=np.int64(1))  # fmt: skip
    done = ms.fc2conv(model)
    assert operators(done.model) == operators(model)
    reason = "Flatten 'r.flat', before CumSum 'y', merges positions with other axes, or takes them apart"
    assert reasons(done) == {"h": f"input 'x' keeps its size: {reason}", "x": reason}


def test_no_fully_connected_layer() -> None:
    model = body("f = Flatten (m) r = Relu (f) y = ReduceSum <keepdims = 0> (r)")
    done = ms.fc2conv(model)
    assert operators(done.model) == operators(model)
    assert not done.edits


SKIPPED = {
    "its input is no flattened map": (
        "f = ReduceMax <axes = [2, 3], keepdims = 0> (m) y = Gemm (f, w, b)",
        4,
    ),
    "its weight is computed at run time": ("f = Flatten (m) v = Relu (w) y = Gemm (f, v, b)", 120),
}


@pytest.mark.parametrize("reason", SKIPPED)
def test_skipped_layer_has_a_reason(reason: str) -> None:
    text, rows = SKIPPED[reason]
    model = body(text, w=normal(rows, 7), b=normal(7))
    assert list(reasons(ms.fc2conv(model)).values()) == [reason]


def test_open_size_needs_dims() -> None:
    model = zoo.model(
        "g (float[1, 3, H, W] x) => (float[1, 7] y) { f = Flatten (x) y = Gemm (f, w, b) }",
        w=normal(60, 7),
        b=normal(7),
    )
    done = ms.fc2conv(model, dims={"H": 4, "W": 5}, compare=False)
    assert [edit.details["kernel"] for edit in done.edits if "kernel" in edit.details] == [[4, 5]]
    assert reasons(ms.fc2conv(model, compare=False)) == {
        "y": "the map that is flattened for it has an open size: fix the inputs with --shape"
    }


def test_skip_option() -> None:
    model = head("a chain")
    done = ms.fc2conv(model, skip=["o"])
    assert reasons(done)["o"] == "left out as asked (--skip)"
    assert reasons(done)["h"].startswith("input 'x' keeps its size: Flatten")
    assert operators(done.model) == operators(model)


TURNED = "t = Constant <value = int64[4] {-1, 4, 5, 6}> () s = Reshape (m, t)"
BOUND = {
    "Reshape 's' has fixed sizes in its target": TURNED,
    "Add 's' has a constant of one size": "s = Add (m, k)",
}


@pytest.mark.parametrize("reason", BOUND)
def test_sizes_stay_fixed_if_nodes_depend_on_them(reason: str) -> None:
    model = body(f"{BOUND[reason]} f = Flatten (m) y0 = Gemm (f, w, b) z = ReduceMean <keepdims = 0> (s) "
                 "y = Add (y0, z)", w=normal(120, 7), b=normal(7), k=normal(1, 1, 6, 5))  # fmt: skip
    done = ms.fc2conv(model)
    assert reasons(done) == {"x": reason, "y0": f"input 'x' keeps its size: {reason}"}
    assert list(done.model.graph.inputs[0].shape or ())[2:] == [13, 11]


def test_old_shapes_are_removed() -> None:
    done = ms.fc2conv(head("a chain"))
    assert [str(dim) for dim in done.model.graph.outputs[0].shape or ()] == ["N", "7", "None", "None"]
    assert all(value.shape is None for node in list(done.model.graph)[:-1] for value in node.outputs)


def test_round_trip() -> None:
    model, x = head("a chain"), normal(2, 3, 13, 11)
    there = ms.fc2conv(model).model
    back = ms.fc2conv(there, reverse=True, shapes={"x": (2, 3, 13, 11)})
    assert operators(back.model).count("Gemm") == 2
    assert same(outputs_of(model, x), outputs_of(back.model, x))


def test_convs_of_one_position_become_matmuls() -> None:
    model = zoo.model(
        """
        g (float[N, 3, 4, 5] x) => (float[N, 7] y) {
            a = Conv (x, w1) r = Relu (a) c = Conv (r, w2, b2) y = Flatten (c)
        }
        """,
        w1=normal(6, 3, 4, 5),
        w2=normal(7, 6, 1, 1),
        b2=normal(7),
    )
    done = ms.fc2conv(model, reverse=True)
    assert operators(done.model)[:4] == ["Flatten", "MatMul", "Relu", "Gemm"]
    assert not reasons(done)


def test_undeclared_output_of_one_position() -> None:
    model = zoo.model(
        "g (float[N, 3, 8, 8] x) => (float y) { a = Conv (x, w) y = GlobalAveragePool (a) }",
        w=normal(4, 3, 1, 1),
    )
    model.graph.outputs[0].shape = None
    done = ms.fc2conv(model, reverse=True, im2col=True)
    assert done.comparison is not None
    assert done.comparison.worst < 1e-6


POINTS = {
    "the size of its map is open": ("float[N, 3, H, 5]", "y = Conv (x, w)", (2, 3, 1, 1)),
    "it has 3 groups": ("float[N, 3, 4, 5]", "y = Conv <group = 3> (x, w)", (3, 1, 4, 5)),
    "isn't its whole map of": ("float[N, 3, 4, 5]", "y = Conv (x, w)", (2, 3, 3, 3)),
    "it is transposed": ("float[N, 3, 1, 1]", "y = ConvTranspose (x, w)", (3, 2, 1, 1)),
}


@pytest.mark.parametrize("reason", POINTS)
def test_skipped_convolution_has_a_reason(reason: str) -> None:
    shape, node, weight = POINTS[reason]
    model = zoo.model(f"g ({shape} x) => (float y) {{ {node} }}", w=normal(*weight))
    done = ms.fc2conv(model, reverse=True)
    assert reason in reasons(done)["y"]


def with_random_weights(name: str) -> ir.Model:
    """A light model with random weights in place of constant ones, scaled by the fan-in."""
    model = ir.load(zoo.light(name))
    for node in list(model.graph):
        if node.op_type == "ConstantOfShape":
            old = node.outputs[0]
            shape = tuple(node.inputs[0].const_value.numpy())  # type: ignore[union-attr]
            drawn = RNG.standard_normal(shape, dtype=np.float32) / np.float32(
                max(1, np.prod(shape[1:])) ** 0.5
            )
            new = ir.Value(name=old.name, const_value=ir.tensor(drawn), shape=ir.Shape(shape), type=old.type)
            ir.convenience.replace_all_uses_with(old, new)
            model.graph.remove(node)
            model.graph.register_initializer(new)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bvlc_alexnet", "vgg19"])
def test_classic_nets_give_score_maps(name: str) -> None:
    model = with_random_weights(name)
    done = ms.fc2conv(model, compare=False)
    x = {"data_0": normal(1, 3, 224, 224)}
    before, after = (run.runner(m, optimize=False)(x)["prob_1"] for m in (model, done.model))
    assert after.shape == (1, 1000, 1, 1)
    assert same(before, after)
    large = run.runner(done.model)({"data_0": normal(1, 3, 288, 320)})["prob_1"]
    assert large.shape == (1, 1000, 3, 4)
