"""Grown heads: old scores stay exact whatever stands behind the head, or the reason is given."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo

X = np.random.default_rng(9).normal(size=(3, 6, 5, 5)).astype(np.float32)
OLD, NEW = 4, 7


def net(behind: str, head: str = "h = Conv (x, w, b)", opset: int = 18, dtype: str = "float") -> ir.Model:
    """A head of 4 classes on 6 channels of 5 x 5; its scores are `h`."""
    draw = np.random.default_rng(2)

    def normal(*shape: int) -> np.ndarray:
        return draw.normal(size=shape).astype(np.float32)

    weights = {
        "w": normal(OLD, 6, 1, 1),
        "v": normal(6, OLD),
        "wg": normal(OLD, 3, 1, 1),
        "b": normal(OLD),
        "bm": normal(OLD),
        "s": np.abs(normal(OLD)) + 0.5,
        "q": normal(OLD, 1, 1),
        "l": normal(1, OLD),
        "d": normal(OLD, 3),
        "c": normal(2, OLD, 5, 5),
        "four": np.array([0, OLD, 25], np.int64),
        "halves": np.array([0, 2, 2, 5, 5], np.int64),
        "parts": np.array([2, 2], np.int64),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "none": np.array([0], np.int64),
        "axes": np.array([2, 3], np.int64),
    }
    model = zoo.model(f"g (float[N, 6, 5, 5] x) => ({dtype} y) {{ {head} {behind} }}", opset=opset, **weights)
    for name in [name for name in weights if not model.graph.initializers[name].uses()]:
        del model.graph.initializers[name]
    for node in model.graph:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            node.name = "head" if not any(other.name == "head" for other in model.graph) else "next"
    return model


def value(model: ir.Model, name: str) -> np.ndarray:
    return np.asarray(run.runner(model, outputs=[name], optimize=False, threads=1)({"x": X})[name])


VECTOR = "p = GlobalAveragePool (x) f = Flatten (p) h = Gemm (f, v, b)"
MATMUL = "p = GlobalAveragePool (x) f = Flatten (p) m = MatMul (f, v) h = Add (m, bm)"
CONV = "h = Conv (x, w, b)"
# What stands behind -> the head, and the tensor in which old classes come first on axis 1.
GROWS = {
    "y = Identity (h)": (CONV, "y"),
    "y = BatchNormalization (h, s, b, b, s)": (CONV, "y"),
    "y = InstanceNormalization (h, s, b)": (CONV, "y"),
    "a = Mul (h, q) y = Add (a, q)": (CONV, "y"),
    "y = PRelu (h, q)": (CONV, "y"),
    "y = Max (h, q)": (CONV, "y"),
    "y = Softmax <axis = 1> (h)": (VECTOR, "h"),
    "a = Div (h, s) y = Softmax (a)": (VECTOR, "a"),
    "a = Mul (h, l) y = LogSoftmax (a)": (MATMUL, "a"),
    "r = Reshape (h, four) y = Softmax <axis = 2> (r)": (CONV, "y"),
    "y = Reshape (h, four)": (CONV, "y"),
    "p = GlobalAveragePool (h) y = Flatten (p)": (CONV, "y"),
    "p = GlobalAveragePool (h) f = Squeeze (p, axes) y = Mul (f, s)": (CONV, "y"),
    "y = ReduceMean <keepdims = 0> (h, axes)": (CONV, "y"),
    "t = Transpose <perm = [0, 2, 3, 1]> (h) u = Mul (t, s) y = Transpose <perm = [0, 3, 1, 2]> (u)": (
        CONV,
        "y",
    ),
    "a = Sigmoid (h) y = Mul (h, a)": (CONV, "y"),
    "y = Slice (h, one, two, two)": (CONV, "y"),
    "a = Relu (h) y = Concat <axis = 2> (h, a)": (CONV, "y"),
    "y, u = Split <axis = 2, num_outputs = 2> (h)": (CONV, "y"),
    "s1 = ReduceMax (h, one) y = Identity (s1)": (CONV, "h"),
    "y = Gather <axis = 0> (h, none)": (CONV, "y"),
}


@pytest.mark.parametrize("init", ["zero", "mean", "random"])
@pytest.mark.parametrize("behind", GROWS)
def test_old_scores_stay_exact(behind: str, init: str) -> None:
    head, scores = GROWS[behind]
    model = net(behind, head)
    done = ms.steal(model, model, grow={"head": NEW}, grow_init=init)  # type: ignore[arg-type]
    old, new = value(model, scores), value(done.model, scores)
    assert new.shape[1] == NEW
    assert np.allclose(new[:, :OLD], old, rtol=1e-5, atol=1e-6)
    assert np.isfinite(new).all()
    assert done.comparison is not None
    assert done.comparison.worst < 1e-5
    onnx.checker.check_model(ir.to_proto(done.model), full_check=True)


def test_new_classes_are_zero_behind_a_norm() -> None:
    model = net("y = BatchNormalization (h, s, b, b, s)")
    done = ms.steal(model, model, grow={"head": NEW})
    assert not value(done.model, "y")[:, OLD:].any()


def test_best_class_is_taken_from_more() -> None:
    model = net("y = ArgMax <axis = 1> (h)", VECTOR, dtype="int64")
    done = ms.steal(model, model, grow={"head": NEW})
    assert "before classes are compared" in str(done.comparison)
    assert np.allclose(value(done.model, "h")[:, :OLD], value(model, "h"), rtol=1e-5, atol=1e-6)


def test_groups_become_one() -> None:
    model = net("y = Relu (h)", "h = Conv <group = 2> (x, wg, b)")
    done = ms.steal(model, model, grow={"head": NEW}, grow_init="mean")
    assert np.allclose(value(done.model, "h")[:, :OLD], value(model, "h"), rtol=1e-5, atol=1e-6)
    assert done.model.graph[0].attributes.get_int("group", 1) == 1


def test_labels_move_numbers_of_each_class() -> None:
    model = net("a = Mul (h, q) y = BatchNormalization (a, s, b, b, s)")
    labels = {"donor": list("ABCD"), "recipient": list("DXBYACZ")}
    done = ms.steal(model, model, grow={"head": NEW}, grow_init="map", labels=labels)
    assert np.allclose(value(done.model, "y")[:, [4, 2, 5, 0]], value(model, "y"), rtol=1e-5, atol=1e-6)


STOPS = {
    "takes some of its classes": "y = Slice (h, none, two, one)",
    "splits its classes": "y, u = Split <axis = 1> (h, parts)",
    "places would move": "y = Concat <axis = 1> (h, x)",
    "picks classes by their number": "y = Gather <axis = 1> (h, two)",
    "reduces over its classes": "y = ReduceMean (h, one)",
    "is a layer that reads its classes": "y = Conv (h, c)",
    "splits the axis of its classes": "y = Reshape (h, halves)",
    "merges it with others": "y = Flatten (h)",
    "isn't known to treat each class alone": "y = CumSum (h, one)",
    "joins them with a value that doesn't grow": "e = Conv <group = 2> (x, wg) y = Add (h, e)",
}


@pytest.mark.parametrize("reason", STOPS)
def test_a_node_that_mixes_classes_stops_growth(reason: str) -> None:
    model = net(STOPS[reason])
    with pytest.raises(ms.BadPlan, match=f"'head' doesn't grow: .*{reason}"):
        ms.steal(model, model, grow={"head": NEW}, compare=False)


def test_changed_old_classes_are_an_error() -> None:
    donor, recipient = net("y = Identity (h)"), net("y = Tanh (h)")
    with pytest.raises(ms.ToleranceExceeded, match="old classes of the grown head changed"):
        ms.steal(donor, recipient, grow={"head": NEW})


def test_other_inputs_can_not_be_compared() -> None:
    donor = net("y = Identity (h)")
    recipient = net("y = Identity (h)")
    recipient.graph.inputs[0].shape = ir.Shape(["N", 6, 4, 4])
    with pytest.raises(ms.BadPlan, match="old classes of 'head' can't be compared"):
        ms.steal(donor, recipient, grow={"head": NEW})
