"""Opened inputs: each position of a larger output is the answer of the original net to the crop there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo

SIZE, LARGER = (13, 11), (17, 15)


def body(tail: str, trunk: str = "m = Conv <strides = [2, 2]> (x, w0)", opset: int = 18) -> ir.Model:
    """A net whose map of 6 x 5 is `m`; `tail` makes y, with weights for 120, 4 and 7 numbers."""
    draw = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return (draw.normal(size=shape) / np.prod(shape) ** 0.5).astype(np.float32)

    weights = {
        "w0": normal(4, 3, 3, 3),
        "w1": normal(4, 4, 1, 1),
        "w": normal(120, 7),
        "v": normal(4, 7),
        "u": normal(7, 7),
        "b": normal(7),
        "s": np.abs(normal(4)) + 1,
        "t": np.abs(normal(7)) + 1,
        "one": np.array([1], np.int64),
        "zero": np.array(0, np.int64),
        "two": np.array([2], np.int64),
        "parts": np.array([3, 4], np.int64),
        "spread": np.array([2, 3], np.int64),
    }
    dtype = "int64" if "ArgMax" in tail else "float"
    text = f"g (float[N, 3, {SIZE[0]}, {SIZE[1]}] x) => ({dtype} y) {{ {trunk} {tail} }}"
    model = zoo.model(text, opset=opset, **weights)
    for name in [name for name in weights if not model.graph.initializers[name].uses()]:
        del model.graph.initializers[name]
    return model


def answer(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(run.runner(model, optimize=False, threads=1)({"x": x})["y"])


def at_any_size(model: ir.Model) -> ir.Model:
    """The model, with no sizes declared."""
    free = model.clone()
    free.graph.inputs[0].shape = ir.Shape(["N", 3, "h", "w"])
    for node in free.graph:
        for value in node.outputs:
            value.shape = None
    return free


def is_open(model: ir.Model) -> bool:
    return any(not isinstance(dim, int) for dim in list(model.graph.inputs[0].shape or ())[2:])


def agree(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether the relative L2 of the difference is at most 1e-5; for indices, whether they are equal."""
    same_shape = one.shape == other.shape
    return same_shape and bool(np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(one))


def check_meaning(model: ir.Model, made: ir.Model) -> None:
    """The same at the old size; at a larger one each position is its crop, a vector that of the old nodes."""
    draw = np.random.default_rng(8)
    x = draw.normal(size=(2, 3, *SIZE)).astype(np.float32)
    assert agree(answer(model, x).ravel(), answer(made, x).ravel())
    if not is_open(made):
        return
    x = draw.normal(size=(2, 3, *LARGER)).astype(np.float32)
    y, stride = answer(made, x), 2
    if y.ndim == answer(model, x[:, :, : SIZE[0], : SIZE[1]]).ndim:
        assert agree(answer(at_any_size(model), x), y)
        return
    assert y.shape[-2:] == (3, 3)
    for i, j in np.ndindex(3, 3):
        crop = x[:, :, stride * i : stride * i + SIZE[0], stride * j : stride * j + SIZE[1]]
        assert agree(answer(model, crop), y[..., i, j])


TRUNKS = {
    "plain": "m = Conv <strides = [2, 2]> (x, w0)",
    "norm": "c = Conv <strides = [2, 2]> (x, w0) n = BatchNormalization (c, s, s, s, s) m = Relu (n)",
    "pool": "c = Conv (x, w0) m = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (c)",
    "skip": "c = Conv <strides = [2, 2]> (x, w0) d0 = Conv (c, w1) m = Add (c, d0)",
    "instance": "c = Conv <strides = [2, 2]> (x, w0) n = InstanceNormalization (c, s, s) m = Relu (n)",
    "squeeze": "c = Conv <strides = [2, 2]> (x, w0) "
    "g = GlobalAveragePool (c) e = Conv (g, w1) m = Mul (c, e)",
    "softmax": "c = Conv <strides = [2, 2]> (x, w0) m = Softmax <axis = 1> (c)",
    "softmax over width": "c = Conv <strides = [2, 2]> (x, w0) m = Softmax <axis = 3> (c)",
    "scaled by size": "c = Conv <strides = [2, 2]> (x, w0) "
    "l0 = Size (c) l1 = Cast <to = 1> (l0) m = Div (c, l1)",
    "layer norm": "c = Conv <strides = [2, 2]> (x, w0) p = Transpose <perm = [0, 2, 3, 1]> (c) "
    "q = LayerNormalization (p, s, s) m = Transpose <perm = [0, 3, 1, 2]> (q)",
    "both turned": "c = Conv <strides = [2, 2]> (x, w0) p = Transpose <perm = [0, 1, 3, 2]> (c) "
    "m = Transpose <perm = [0, 1, 3, 2]> (p)",
}
FLAT = "f = Flatten (m) h = Gemm (f, w, b)"
HEADS = {
    "flatten": FLAT,
    "chain": "f = Flatten (m) d = Dropout (f) g1 = Gemm (d, w, b) r1 = Relu (g1) h = MatMul (r1, u)",
    "channels last": "t1 = Transpose <perm = [0, 2, 3, 1]> (m) f = Flatten (t1) h = Gemm (f, w, b)",
    "average pool": "a = AveragePool <kernel_shape = [6, 5]> (m) f = Flatten (a) h = Gemm (f, v, b)",
    "global pool": "a = GlobalAveragePool (m) f = Flatten (a) h = Gemm (f, v, b)",
    "mean, then a non-linearity": "a = GlobalAveragePool (m) "
    "f = Flatten (a) r1 = Relu (f) h = Gemm (r1, v, b)",
    "mean of channels last": "t1 = Transpose <perm = [0, 2, 3, 1]> (m) "
    "a1 = Constant <value = int64[2] {1, 2}> () a = ReduceMean <keepdims = 0> (t1, a1) h = Gemm (a, v, b)",
    "maximum": "a = GlobalMaxPool (m) f = Flatten (a) h = Gemm (f, v, b)",
}
TAILS = {
    "none": "y = Identity (h)",
    "softmax": "y = Softmax <axis = 1> (h)",
    "log softmax of the last axis": "y = LogSoftmax (h)",
    "norm": "n1 = BatchNormalization (h, t, t, t, t) y = Sigmoid (n1)",
    "constants": "k1 = Mul (h, t) y = Add (k1, b)",
    "layer norm": "y = LayerNormalization (h, t, t)",
    "argmax": "y = ArgMax <axis = 1> (h)",
    "argmax alone": "y = ArgMax <axis = -1, keepdims = 0> (h)",
    "argmax of samples": "y = ArgMax <axis = 0> (h)",
    "top": "y, i1 = TopK <axis = 1> (h, two)",
    "largest": "y = ReduceMax (h, one)",
    "by sum": "e1 = Exp (h) s1 = ReduceSum (e1, one) y = Div (e1, s1)",
    "sum alone": "y = ReduceSum <keepdims = 0> (h, one)",
    "two heads": "r2 = Relu (h) y = Concat <axis = 1> (h, r2)",
    "samples joined": "r2 = Relu (h) y = Concat <axis = 0> (h, r2)",
    "halves": "y1, y2 = Split <axis = 1> (h, parts) n2 = Neg (y1) y = Concat <axis = 1> (y2, n2)",
    "reshaped": "t2 = Constant <value = int64[3] {0, 7, 1}> () y = Reshape (h, t2)",
    "turned": "y = Transpose <perm = [1, 0]> (h)",
    "picked": "y = Gather <axis = 1> (h, one)",
    "running sum": "y = CumSum (h, one)",
    "of a lower norm": "y = LpNormalization <axis = 1, p = 2> (h)",
    "new axis": "y = Unsqueeze (h, one)",
    "of the batch": "q2 = ReduceMean (h, one) q3 = Sub (h, q2) y = Mul (q3, q3)",
}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(TRUNKS)), st.sampled_from(sorted(HEADS)), st.sampled_from(sorted(TAILS)))
def test_opened_or_kept_with_a_reason(trunk: str, head: str, tail: str) -> None:
    check(trunk, head, tail)


@pytest.mark.slow
@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("trunk", sorted(TRUNKS))
def test_every_combination(trunk: str, head: str) -> None:
    for tail in TAILS:
        check(trunk, head, tail)


def check(trunk: str, head: str, tail: str) -> ir.Model:
    model = body(f"{HEADS[head]} {TAILS[tail]}", TRUNKS[trunk])
    done = ms.fc2conv(model, compare=False)
    check_meaning(model, done.model)
    if not is_open(done.model):
        assert any(edit.skipped for edit in done.edits)
        assert [node.op_type for node in done.model.graph] == [node.op_type for node in model.graph]
    return done.model
