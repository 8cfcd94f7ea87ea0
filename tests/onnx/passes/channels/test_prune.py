"""Removal of dead, duplicate and unused channels: outputs are unchanged, skips have a reason."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo
from tests.onnx.passes.moves import MOVES

RNG = np.random.default_rng(17)
DEAD, DOUBLE, OF = 1, 4, 2  # of six channels, one is zero and one a duplicate of another


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def planted(*shape: int) -> np.ndarray:
    """Gaussian weights with a dead row and a duplicate one."""
    weight = normal(*shape)
    weight[DEAD], weight[DOUBLE] = 0, weight[OF]
    return weight


def net(nodes: str, *, batch: str = "N", **weights: np.ndarray) -> ir.Model:
    """A first layer `a` of six channels, one dead and one duplicate; `nodes` use its output."""
    made = {"w": planted(6, 3, 3, 3), "b": planted(6), "v": normal(5, 6, 3, 3)} | weights
    return zoo.model(f"g (float[{batch}, 3, 8, 8] x) => (float y) {{ a = Conv (x, w, b) {nodes} }}", **made)


def error(model: ir.Model, done: ms.Operation) -> float:
    x = normal(2, 3, 8, 8)
    a, b = (run.runner(m, optimize=False)({"x": x})["y"] for m in (model, done.model))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def channels_or_reason(done: ms.Operation) -> dict[str, object]:
    """Channels of each layer before and after, or the reason why it is skipped."""
    sides = ("channels_before", "channels_after")
    return {edit.layer: edit.skipped or [edit.details[side] for side in sides] for edit in done.edits}


SLOPES = normal(6, 1, 1)
SLOPES[DOUBLE] = SLOPES[OF]
THROUGH = {
    "relu": ("r = Relu (a) y = Conv (r, v)", {}),
    "any non-linearity of each": ("s = HardSwish (a) r = Tanh (s) y = Conv (r, v)", {}),
    "slopes": ("r = PRelu (a, s) y = Conv (r, v)", {"s": SLOPES}),
    "pooling": ("p = MaxPool <kernel_shape = [2, 2]> (a) y = Conv (p, v)", {}),
    "a shift and a factor": (
        "s = Add (a, t) m = Mul (u, s) y = Conv (m, v)",
        {"t": SLOPES * 2, "u": SLOPES[None]},
    ),
    "batch norm": (
        "n = BatchNormalization (a, s, s, s, t) r = Relu (n) y = Conv (r, v)",
        {"s": SLOPES.ravel(), "t": np.abs(SLOPES.ravel())},
    ),
    "clip": ("r = Clip (a, t, u) y = Conv (r, v)", {"t": np.float32(0), "u": np.float32(6)}),
    "depthwise": ("d = Conv <group = 6> (a, s) y = Conv (d, v)", {"s": planted(6, 1, 3, 3)}),
    "a gate": (
        "q = GlobalAveragePool (a) c = Conv (q, u) g = Sigmoid (c) m = Mul (a, g) y = Conv (m, v)",
        {"u": planted(6, 6, 1, 1)},
    ),
    "flatten": ("r = Relu (a) f = Flatten (r) y = Gemm (f, z)", {"z": normal(216, 4)}),
    "reshape": (
        "r = Relu (a) f = Reshape (r, t) y = MatMul (f, z)",
        {"z": normal(216, 4), "t": np.array([-1, 216])},
    ),
    "reshape to very sizes": (
        "f = Reshape <allowzero = 1> (a, t) y = MatMul (f, z)",
        {"z": normal(216, 4), "t": np.array([-1, 216])},
    ),
    "to a line of pixels": (
        "f = Reshape (a, t) y = Conv (f, z)",
        {"z": normal(4, 6, 3), "t": np.array([0, 6, 36])},
    ),
    "mean over positions": (
        "m = ReduceMean <axes = [2, 3], keepdims = 0> (a) y = Gemm (m, z)",
        {"z": normal(6, 4)},
    ),
    "a residual sum": (
        "c = Conv (x, u) s = Add (a, c) q = Relu (s) y = Conv (q, v)",
        {"u": planted(6, 3, 3, 3)},
    ),
    "concatenation": (
        "c = Conv (x, u) k = Concat <axis = 1> (c, a) y = Conv (k, z)",
        {"u": normal(2, 3, 3, 3), "z": normal(4, 8, 1, 1)},
    ),
    "a padded taker": ("r = Relu (a) y = Conv <pads = [1, 1, 1, 1]> (r, v)", {}),
    "a transposed taker": ("r = Relu (a) y = ConvTranspose (r, z)", {"z": normal(6, 4, 2, 2)}),
    **MOVES,
}


@pytest.mark.parametrize("name", THROUGH)
def test_dead_and_duplicate_channels(name: str) -> None:
    nodes, more = THROUGH[name]
    model = net(nodes, **more)
    done = ms.prune(model)
    assert channels_or_reason(done)["a"] == [6, 4]
    assert {key: done.edits[0].details[key] for key in ("dead", "double", "unused")} == {
        "dead": 1,
        "double": 1,
        "unused": 0,
    }
    assert error(model, done) < 1e-6


def test_constant_moves_into_the_next_bias_unless_padded() -> None:
    bias = planted(6)
    bias[DEAD] = 0.5
    through = "r = Relu (a) y = Conv {} (r, v)"
    done = ms.prune(model := net(through.format(""), b=bias))
    assert channels_or_reason(done)["a"] == [6, 4]
    assert error(model, done) < 1e-6
    done = ms.prune(model := net(through.format("<pads = [1, 1, 1, 1]>"), b=bias))
    assert channels_or_reason(done)["a"] == [6, 5]
    assert error(model, done) < 1e-6


def test_unused_channels_and_their_inputs() -> None:
    taken = normal(5, 6, 3, 3)
    taken[:, [0, 3]] = 0
    model = net(
        "r = Relu (a) d = Conv (r, u) q = Sigmoid (d) y = Conv (q, v)",
        w=normal(6, 3, 3, 3),
        b=normal(6),
        u=np.eye(6, dtype=np.float32)[:, :, None, None] + 0,
        v=taken,
    )
    done = ms.prune(model)
    assert channels_or_reason(done) == {"a": [6, 4], "d": [6, 4], "y": [5, 5]}
    assert [edit.details["unused"] for edit in done.edits] == [2, 2, 0]
    assert error(model, done) < 1e-6


def test_slopes_distinguish_channels() -> None:
    done = ms.prune(net("r = PRelu (a, s) y = Conv (r, v)", s=normal(6, 1, 1)))
    assert channels_or_reason(done)["a"] == [6, 5]


def test_one_channel_is_kept() -> None:
    model = net("r = Relu (a) y = Conv (r, v, t)", w=0 * normal(6, 3, 3, 3), b=0 * normal(6), t=normal(5))
    done = ms.prune(model)
    assert channels_or_reason(done) == {"a": [6, 1], "y": [5, 5]}
    assert error(model, done) < 1e-6


def test_a_layer_that_is_used_twice() -> None:
    model = net("r = Relu (a) c = Conv (r, u) q = Relu (c) d = Conv (q, u) y = Conv (d, v)",
                u=planted(6, 6, 1, 1))  # fmt: skip
    done = ms.prune(model)
    assert channels_or_reason(done)["c"] == [6, 4]
    assert error(model, done) < 1e-6


STAYS = {
    "2 of its channels are dead or double, but it is an output of the model": "y = Relu (a)",
    "2 of its channels are dead or double, but Softmax isn't known to work on each channel by itself": (
        "s = Softmax <axis = 1> (a) y = Conv (s, v)"
    ),
    "2 of its channels are dead or double, but d has 2 groups": "d = Conv <group = 2> (a, u) y = Conv (d, v)",
    "2 of its channels are dead or double, but the Squeeze after it depends on its exact shape": (
        "p = MaxPool <kernel_shape = [6, 6]> (a) q = Squeeze (p) y = Gemm (q, z)"
    ),
}


@pytest.mark.parametrize("reason", STAYS)
def test_skipped_layer_has_a_reason(reason: str) -> None:
    model = net(STAYS[reason], batch="2", u=normal(6, 3, 1, 1), z=normal(6, 4))
    done = ms.prune(model)
    assert channels_or_reason(done)["a"] == reason
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"


def test_nothing_to_prune() -> None:
    done = ms.prune(net("r = Relu (a) y = Conv (r, v)", w=normal(6, 3, 3, 3), b=normal(6)))
    assert set(channels_or_reason(done).values()) == {"each of its channels is needed"}


def test_skip_option() -> None:
    done = ms.prune(net("r = Relu (a) y = Conv (r, v)"), skip=["y"])
    assert channels_or_reason(done)["y"] == "left out as asked (--skip)"
    assert "Conv y isn't known" not in str(channels_or_reason(done)["a"])


def test_unnamed_sizes_stay_open() -> None:
    model = net("r = Relu (a) y = Conv (r, v)")
    model.graph.inputs[0].shape = ir.Shape(["?", 3, 8, 8])
    done = ms.prune(model)
    assert channels_or_reason(done)["a"] == [6, 4]
    assert error(model, done) < 1e-6
    assert str(done.model.graph.inputs[0].shape) == "[?,3,8,8]"


# Nodes that may follow a value X of C channels, and the channels of their output V. w[...] is a weight of
# that shape, Y an earlier value of D channels.
STEPS = {
    "V = Conv (X, w[4 C 1 1], w[4])": "4",
    "V = Conv (X, w[3 C 1 1])": "3",
    "V = Conv <pads = [1, 1, 1, 1]> (X, w[3 C 3 3], w[3])": "3",
    "V = Conv <group = C> (X, w[C 1 1 1], w[C])": "C",
    "V = Relu (X)": "C",
    "V = Clip (X, low, high)": "C",
    "V = Sigmoid (X)": "C",
    "V = PRelu (X, w[C 1 1])": "C",
    "V = Add (X, w[C 1 1])": "C",
    "V = Mul (w[C 1 1], X)": "C",
    "V = BatchNormalization (X, w[C], w[C], w[C], one)": "C",
    "V = AveragePool <kernel_shape = [2, 2], pads = [1, 0, 0, 1]> (X)": "C",
    "Vg = GlobalAveragePool (X) V = Mul (Vg, X)": "C",
    "V = Add (X, Y)": "D",
    "V = Concat <axis = 1> (Y, X)": "C+D",
}


@st.composite
def nets(draw: st.DrawFn) -> ir.Model:
    """Nets with weights of -1, 0 and 1, so that some channels are dead, duplicate or constant."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = {"low": np.float32(-0.5), "high": np.float32(6)}
    nodes, values = [], [("x", 2)]

    def stored(shape: re.Match[str]) -> str:
        name = f"w{len(weights)}"
        weights[name] = random.integers(-1, 2, [int(n) for n in shape[1].split()]).astype(np.float32)
        return name

    for step in draw(st.lists(st.sampled_from(list(STEPS)), min_size=4, max_size=12)):
        (x, c), (y, d) = values[-1], values[random.integers(len(values))]
        if STEPS[step] == "D" and c != d:
            continue
        text = re.sub(r"\bC\b", str(c), step).replace("X", x).replace("Y", y).replace("V", f"v{len(values)}")
        if "one" in text:
            weights[f"one{c}"] = np.ones(c, np.float32)
            text = text.replace("one", f"one{c}")
        nodes.append(re.sub(r"w\[(.*?)\]", stored, text))
        values.append(
            (f"v{len(values)}", {"C": c, "D": d, "C+D": c + d}.get(STEPS[step]) or int(STEPS[step]))
        )
    (x, c) = values[-1]
    ends = re.sub(r"w\[(.*?)\]", stored, f"f = Flatten ({x}) y = Gemm (f, w[{c * 16} 3], w[3])")
    return zoo.model(f"g (float[2, 2, 4, 4] x) => (float y) {{ {' '.join(nodes)} {ends} }}", **weights)


@settings(max_examples=20, deadline=None)
@given(model=nets())
def test_prune_is_exact_and_idempotent(model: ir.Model) -> None:
    done = ms.prune(model, compare=False)
    x = normal(2, 2, 4, 4)
    a, b = (run.runner(m, optimize=False)({"x": x})["y"] for m in (model, done.model))
    assert np.linalg.norm(a - b) <= 1e-5 * max(1, np.linalg.norm(a))
    again = ms.prune(done.model, compare=False)
    assert all(edit.skipped for edit in again.edits), "once is enough"


PINNED = {
    "an input with a default": (
        "m = Mul (a, given) y = Conv (m, v)",
        {"given": SLOPES},
        "caller may override",
    ),
    "made by nodes": ("s = Exp (u) m = Add (a, s) y = Conv (m, v)", {"u": SLOPES}, "which Exp computes"),
    "a computed variance": (
        "s = Abs (u) n = BatchNormalization (a, u, u, u, s) y = Conv (n, v)",
        {"u": SLOPES.ravel()},
        "which Abs computes",
    ),
}


@pytest.mark.parametrize("name", PINNED)
def test_a_constant_that_cannot_be_read_keeps_the_channels(name: str) -> None:
    nodes, more, reason = PINNED[name]
    given = ", float[6, 1, 1] given" if "given" in more else ""
    weights = {"w": planted(6, 3, 3, 3), "b": planted(6), "v": normal(5, 6, 3, 3)} | more
    model = zoo.model(
        f"g (float[N, 3, 8, 8] x{given}) => (float y) {{ a = Conv (x, w, b) {nodes} }}", **weights
    )
    done = ms.prune(model, compare=False)
    assert reason in str(channels_or_reason(done)["a"])
    assert error(model, done) == 0


@pytest.mark.parametrize("node", ["Mul <axis = 1, broadcast = 1> (a, t)", "PRelu (a, t)"])
def test_constants_of_old_opsets_keep_the_channels(node: str) -> None:
    """Before opset 7, one number per channel has one axis, which is not the last one of the data."""
    weights = {"w": planted(6, 3, 3, 3), "b": planted(6), "v": normal(5, 6, 3, 3), "t": SLOPES.ravel()}
    text = f"g (float[1, 3, 8, 8] x) => (float y) {{ a = Conv (x, w, b) m = {node} y = Conv (m, v) }}"
    done = ms.prune(zoo.model(text, opset=6, **weights), compare=False)
    assert "before opset 7" in str(channels_or_reason(done)["a"])


NORMED = {name: np.arange(1, 7, dtype=np.float32) for name in ("s", "h", "m", "v2")}
NORMED_A = "n = BatchNormalization (a, s, h, m, v2)"


def test_constants_in_front_of_a_padding_become_one() -> None:
    w = normal(6, 3, 3, 3)
    w[[1, 3, 5]] = 0
    model = net(f"{NORMED_A} y = Conv <pads = [1, 1, 1, 1]> (n, v)", w=w, b=np.ones(6, np.float32), **NORMED)
    done = ms.prune(model)
    assert channels_or_reason(done)["a"] == [6, 4]
    assert error(model, done) < 1e-6


STAYING = {
    "a constant in front of a padding": (
        f"{NORMED_A} y = Conv <pads = [1, 1, 1, 1]> (n, v)",
        {**NORMED, "s": np.full(6, 0.5, np.float32)},
        "1 of its channels are dead or double, but what takes them pads with zeros, and they aren't 0 there",
    ),
    "a layer on each channel": (
        f"{NORMED_A} d = Conv <group = 6, pads = [1, 1, 1, 1]> (n, g) y = Conv (d, v)",
        {**NORMED, "g": normal(6, 1, 3, 3)},
        "1 of its channels are dead or double, but 'd' shares them and needs them",
    ),
    "a sum with others": (
        "e = Conv (x, u) q = Add (a, e) y = Conv (q, v)",
        {"u": normal(6, 3, 3, 3)},
        "1 of its channels are dead or double, but 'e' shares them and needs them",
    ),
}


@pytest.mark.parametrize("case", STAYING)
def test_dead_channels_that_stay_have_a_reason(case: str) -> None:
    nodes, more, reason = STAYING[case]
    w, b = normal(6, 3, 3, 3), normal(6)
    w[1], b[1] = 0, 0
    assert channels_or_reason(ms.prune(net(nodes, w=w, b=b, **more)))["a"] == reason
