"""Equalization: outputs are unchanged, weight ranges equal, and skipped layers have a reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo
from tests.onnx.passes.moves import MOVES

RNG = np.random.default_rng(11)


def uneven(*shape: int) -> np.ndarray:
    """Gaussian weights, each output and input channel scaled by a factor from .01 to 100."""
    scale = 10 ** RNG.uniform(-2, 2, (shape[0], 1)) * 10 ** RNG.uniform(-2, 2, (1, shape[1]))
    return (RNG.normal(size=shape) * scale.reshape(shape[0], -1, *(1,) * (len(shape) - 2))).astype(np.float32)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def net(nodes: str, **weights: np.ndarray) -> ir.Model:
    return zoo.model(f"g (float[N, 3, 8, 8] x) => (float y) {{ {nodes} }}", **weights)


def error(model: ir.Model, done: ms.Operation) -> float:
    x = normal(2, 3, 8, 8)
    a, b = (run.runner(m, optimize=False)({"x": x})["y"] for m in (model, done.model))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def weight(done: ms.Operation, name: str) -> np.ndarray:
    return done.model.graph.initializers[f"{name}.weight"].const_value.numpy()  # type: ignore[union-attr]


def reasons(done: ms.Operation) -> dict[str, str]:
    return {edit.layer: edit.skipped for edit in done.edits if edit.skipped is not None}


CONVS = {"w": uneven(6, 3, 3, 3), "b": normal(6), "v": uneven(5, 6, 3, 3)}
THROUGH = {
    "relu": ("r = Relu (a) y = Conv (r, v)", {}),
    "leaky": ("r = LeakyRelu <alpha = 0.2> (a) y = Conv (r, v)", {}),
    "slopes per channel": ("r = PRelu (a, s) y = Conv (r, v)", {"s": normal(6, 1, 1)}),
    "pooling": (
        "r = MaxPool <kernel_shape = [2, 2]> (a) p = AveragePool <kernel_shape = [2, 2]> (r) y = Conv (p, v)",
        {},
    ),
    **MOVES,
    "a shift": ("s = Add (a, t) r = Relu (s) y = Conv (r, v)", {"t": normal(6, 1, 1)}),
    "one shift for all": ("s = Sub (t, a) r = Relu (s) y = Conv (r, v)", {"t": np.float32(0.5)}),
    "a factor": ("m = Mul (a, t) d = Div (m, t) y = Conv (d, v)", {"t": np.float32(0.5)}),
    "depthwise": (
        "r = Relu (a) d = Conv <group = 6> (r, g, b) q = Relu (d) y = Conv (q, v)",
        {"g": uneven(6, 1, 3, 3)},
    ),
    "groups": (
        "r = Relu (a) d = Conv <group = 2> (r, g, b) q = Relu (d) y = Conv (q, v)",
        {"g": uneven(6, 3, 1, 1)},
    ),
    "transposed": (
        "r = Relu (a) d = ConvTranspose (r, g) q = Relu (d) y = Conv (q, v)",
        {"g": uneven(6, 6, 2, 2)},
    ),
    "flatten": ("r = Relu (a) f = Flatten (r) y = Gemm (f, z)", {"z": uneven(216, 4)}),
    "reshape": (
        "r = Relu (a) f = Reshape (r, t) y = MatMul (f, z)",
        {"z": uneven(216, 4), "t": np.array([0, -1])},
    ),
    "maxout": (
        "k = Reshape (a, t) m = ReduceMax <axes = [2], keepdims = 0> (k) y = Conv (m, z)",
        {"t": np.array([0, 3, 2, 6, 6]), "z": uneven(4, 3, 3, 3)},
    ),
    "maxout of two layers": ("c = Conv (x, u) m = Max (a, c) y = Conv (m, v)", {"u": uneven(6, 3, 3, 3)}),
    "a residual sum": (
        "r = Relu (a) c = Conv (r, u) s = Add (r, c) q = Relu (s) y = Conv (q, v)",
        {"u": uneven(6, 6, 1, 1)},
    ),
    "two takers": (
        "r = Relu (a) c = Conv (r, v) d = Conv (r, u) y = Sigmoid (c) z = Relu (d)",
        {"u": uneven(2, 6, 1, 1)},
    ),
    "concatenation": (
        "c = Conv (x, u) k = Concat <axis = 1> (a, c) y = Conv (k, z)",
        {"u": uneven(2, 3, 3, 3), "z": uneven(4, 8, 1, 1)},
    ),
}


@pytest.mark.parametrize("name", THROUGH)
def test_outputs_unchanged(name: str) -> None:
    nodes, more = THROUGH[name]
    model = net(f"a = Conv (x, w, b) {nodes}", **(CONVS | more))
    done = ms.equalize(model)
    assert "a" not in reasons(done)
    assert error(model, done) < 1e-5
    assert len([edit for edit in done.edits if edit.skipped is None]) > 1


def test_both_sides_of_a_channel_get_the_same_range() -> None:
    model = net("a = Conv (x, w, b) r = Relu (a) y = Conv (r, v)", **CONVS)
    done = ms.equalize(model)
    made = np.abs(weight(done, "a")).max(axis=(1, 2, 3))
    taken = np.abs(weight(done, "y")).max(axis=(0, 2, 3))
    before = np.sqrt(np.abs(CONVS["w"]).max(axis=(1, 2, 3)) * np.abs(CONVS["v"]).max(axis=(0, 2, 3)))
    assert np.allclose(made, taken, rtol=1e-5)
    assert np.allclose(made, before, rtol=1e-5)
    details = done.edits[0].details
    assert details["int8_db_after"] > details["int8_db_before"]
    assert details["spread_after"] == pytest.approx(made.max() / made.min(), rel=1e-4)


def test_shared_weight_stays_shared() -> None:
    model = net("a = Conv (x, w) r = Relu (a) c = Conv (r, u) q = Relu (c) d = Conv (q, u) y = Conv (d, v)",
                w=CONVS["w"], v=CONVS["v"], u=uneven(6, 6, 1, 1))  # fmt: skip
    done = ms.equalize(model)
    assert error(model, done) < 1e-5
    assert [node.op_type for node in done.model.graph].count("Conv") == 4
    assert len(done.model.graph.initializers) == 3


BEHIND = {
    "after it: BatchNormalization is in between: fold it first (bn fold)": (
        "r = BatchNormalization (a, s, s, s, s) y = Conv (r, v)"
    ),
    "after it: Sigmoid isn't known to scale with its input": "r = Sigmoid (a) y = Conv (r, v)",
    "after it: Clip isn't known to scale with its input": "r = Clip (a, lo, hi) y = Conv (r, v)",
    "after it: it is an output of the model": "y = Relu (a)",
    "after it: Exp isn't known to scale with its input": (
        "r = Relu (a) e = Exp (a) c = Conv (r, v) y = Add (c, h) h2 = Relu (e)"
    ),
}


@pytest.mark.parametrize("reason", BEHIND)
def test_skipped_layer_has_a_reason(reason: str) -> None:
    nodes = BEHIND[reason]
    outputs = "float y, float h2" if "h2" in nodes else "float y"
    model = zoo.model(
        f"g (float[N, 3, 8, 8] x) => ({outputs}) {{ a = Conv (x, w, b) {nodes} }}",
        **(CONVS | {"s": np.abs(normal(6)), "lo": np.float32(0), "hi": np.float32(6), "h": np.float32(1)}),
    )
    assert reasons(ms.equalize(model))["a"] == reason


def test_channels_on_the_last_axis() -> None:
    nodes = "a = MatMul (x, w) s = Add (a, b) r = Relu (s) y = MatMul (r, v)"
    weights = {"w": normal(3, 6) * [1, 9, 1, 9, 1, 9], "b": normal(6), "v": normal(6, 2)}
    model = zoo.model(
        f"g (float[2, 5, 3] x) => (float y) {{ {nodes} }}",
        **{name: array.astype(np.float32) for name, array in weights.items()},
    )
    done = ms.equalize(model)
    assert reasons(done) == {}
    x = normal(2, 5, 3)
    before, after = (run.runner(each, optimize=False)({"x": x})["y"] for each in (model, done.model))
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)


def test_layer_before_a_transpose_is_skipped() -> None:
    nodes = "a = MatMul (x, w) t = Transpose <perm = [0, 2, 1]> (a) y = MatMul (t, v)"
    model = zoo.model(f"g (float[2, 5, 3] x) => (float y) {{ {nodes} }}", w=normal(3, 5), v=normal(5, 2))
    assert reasons(ms.equalize(model))["a"] == "after it: a layer takes it along another axis"


def test_skip_option() -> None:
    model = net("a = Conv (x, w, b) r = Relu (a) y = Conv (r, v)", **CONVS)
    done = ms.equalize(model, skip=["y"])
    assert reasons(done)["y"] == "left out as asked (--skip)"
    assert reasons(done)["a"] == "after it: Conv isn't known to scale with its input"


def test_dead_channel_stays_finite() -> None:
    dead = CONVS["w"].copy()
    dead[2] = 0
    model = net("a = Conv (x, w, b) r = Relu (a) y = Conv (r, v)", **(CONVS | {"w": dead}))
    done = ms.equalize(model)
    assert np.isfinite(weight(done, "y")).all()
    assert error(model, done) < 1e-5


UNREADABLE = {
    "made by nodes": ("t = Mul (m, m) s = Add (a, t)", {"m": normal(6, 1, 1)}, "which Mul computes"),
    "made by a Concat": (
        "t = Concat <axis = 0> (m, m) s = Sub (t, a)",
        {"m": normal(3, 1, 1)},
        "which Concat computes",
    ),
    "an input with a default": ("s = Add (a, given)", {"given": normal(6, 1, 1)}, "a caller may override"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_shift_that_cannot_be_read_stops_the_component(name: str) -> None:
    nodes, more, reason = UNREADABLE[name]
    given = ", float[6, 1, 1] given" if "given" in more else ""
    body = f"a = Conv (x, w, b) {nodes} r = Relu (s) y = Conv (r, v)"
    model = zoo.model(f"g (float[N, 3, 8, 8] x{given}) => (float y) {{ {body} }}", **(CONVS | more))
    done = ms.equalize(model, compare=False)
    assert reason in reasons(done)["a"]
    assert error(model, done) == 0


@pytest.mark.parametrize("made", ["t = Identity (m)", "t = Reshape (m, to)", "t = Cast <to = 1> (h)"])
def test_a_shift_that_steps_make_is_read_through_them(made: str) -> None:
    values = {
        "m": normal(6, 1, 1),
        "h": normal(6, 1, 1).astype(np.float16),
        "to": np.array([1, 6, 1, 1]),
    }
    used = {name: array for name, array in values.items() if f"({name}" in made or f" {name})" in made}
    model = net(f"a = Conv (x, w, b) {made} s = Add (a, t) r = Relu (s) y = Conv (r, v)", **(CONVS | used))
    done = ms.equalize(model, compare=False)
    assert "a" not in reasons(done)
    assert error(model, done) < 1e-5
