"""Default lengths of caches, masks and new tokens fit each other: decoders run at them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, default_dims
from modelsurgeon.onnx.shapes import sizes as shape_of
from tests import zoo

PRODUCTS = """
g (float[B, S, 64] x, int64[B, MASK] mask, float[B, 4, P, 16] past_k, float[B, 4, P, 16] past_v)
    => (float y, float k, float v)
{
    q0 = MatMul (x, w)
    t = Constant <value = int64[4] {0, -1, 4, 16}> ()
    q1 = Reshape (q0, t)
    new = Transpose <perm = [0, 2, 1, 3]> (q1)
    k = Concat <axis = 2> (past_k, new)
    v = Concat <axis = -2> (past_v, new)
    kt = Transpose <perm = [0, 1, 3, 2]> (k)
    s0 = MatMul (new, kt)
    axes = Constant <value = int64[2] {1, 2}> ()
    m0 = Unsqueeze (mask, axes)
    m = Cast <to = 1> (m0)
    s = Add (s0, m)
    p = Softmax (s)
    y = MatMul (p, v)
}
"""
GROUPED = """
g (float[B, S, 64] x, int64[B, T] mask, float[B, 2, P, 16] past_k, float[B, 2, P, 16] past_v)
    => (float y, float k, float v)
{
    n = MatMul (x, u)
    axis = Constant <value = int64[1] {1}> ()
    n0 = ReduceSum <keepdims = 0> (mask, axis)
    one = Constant <value = int64 {1}> ()
    n1 = Sub (n0, one)
    n2 = Cast <to = 6> (n1)
    s = Shape (mask)
    t0 = Gather (s, one)
    t = Cast <to = 6> (t0)
    y, k, v = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2>
        (x, n, n, past_k, past_v, n2, t)
}
"""
MULTI_HEAD = """
g (float[B, S, 64] x, int32[B, T] mask, float[B, 4, P, 16] past_k, float[B, 4, P, 16] past_v)
    => (float y, float k, float v)
{
    y, k, v = com.microsoft.MultiHeadAttention <num_heads = 4> (x, x, x, , mask, , past_k, past_v)
}
"""
PROJECTED = """
g (float[B, S, 64] x, int32[B, T] mask, float[2, B, 4, P, 16] past) => (float y, float k) {
    y, k = com.microsoft.Attention <num_heads = 4> (x, w3, b3, mask, past)
}
"""
STANDARD = """
g (float[B, 4, S, 16] q, float[B, 4, S, 16] n, float[B, 1, S, T] mask, float[B, 4, P, 16] past_k,
    float[B, 4, P, 16] past_v) => (float y, float k, float v)
{
    y, k, v = Attention (q, n, n, mask, past_k, past_v)
}
"""
W, U, W3, B3 = zoo.ones(64, 64), zoo.ones(64, 32), zoo.ones(64, 192), zoo.ones(192)
DECODERS = {
    "products": lambda: zoo.model(PRODUCTS.replace("MASK", "T"), w=W),
    "a mask named after its sum": lambda: zoo.model(PRODUCTS.replace("MASK", '"P + S"'), w=W),
    "one new token": lambda: zoo.model(PRODUCTS.replace("MASK", '"P + 1"'), w=W),
    "grouped": lambda: zoo.model(GROUPED, u=U),
    "multi head": lambda: zoo.model(MULTI_HEAD),
    "projected": lambda: zoo.model(PROJECTED, w3=W3, b3=B3),
    "standard": lambda: zoo.model(STANDARD, opset=23),
}


def run(model: ir.Model, sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """Shapes of the outputs of onnxruntime at these sizes; inputs are ones."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {
        str(value.name): np.ones(
            tuple(value.shape.evaluate(sizes).numpy() if value.shape else ()), value.dtype.numpy()
        )
        for value in model.graph.inputs
        if value.dtype is not None
    }
    names = [output.name for output in session.get_outputs()]
    return {name: array.shape for name, array in zip(names, session.run(names, feed), strict=True)}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_runs_at_its_default_sizes_and_is_counted(name: str) -> None:
    model = DECODERS[name]()
    found = analyze(model)
    sizes = dict(found.defaults)
    assert all(size > 0 for size in sizes.values())
    assert sizes["B"] == 1 and sizes["P"] > 1
    assert not found.uncounted
    outputs = {str(value.name): shape_of(value) for value in bound(model, dims=sizes).graph.outputs}
    assert outputs == run(model, sizes)


@pytest.mark.parametrize("name", DECODERS)
def test_the_formula_of_a_decoder_holds_at_other_sizes(name: str) -> None:
    model = DECODERS[name]()
    sizes = {"B": 1, "S": 1 if name == "one new token" else 3, "P": 7, "T": 10}
    dims = {key: size for key, size in sizes.items() if key in analyze(model).defaults}
    formula = analyze(model).formulas["macs"]
    macs = eval(formula, {"Max": max, **sizes})  # noqa: S307 - our own formula
    assert macs == analyze(model, dims=dims).totals.macs


def test_a_buffer_of_fixed_length_leaves_the_mask_free() -> None:
    model = zoo.model(GROUPED.replace("P", "512"), u=U)
    found = analyze(model)
    assert found.defaults == {"B": 1, "S": 128, "T": 128}
    outputs = {shape_of(value) for value in bound(model, dims=dict(found.defaults)).graph.outputs}
    assert outputs == {(1, 128, 64), (1, 2, 512, 16)}


def test_a_length_that_the_user_gives_moves_the_others() -> None:
    opened = bound(DECODERS["products"](), dims={"T": 20})
    assert default_dims(opened) == {"B": 1, "S": 1, "P": 19}
    opened = bound(DECODERS["products"](), dims={"P": 20})
    assert default_dims(opened) == {"B": 1, "S": 128, "T": 148}
    opened = bound(DECODERS["products"](), dims={"P": 20, "T": 24})
    assert str(opened.graph.outputs[1].shape) == "[B,4,24,16]"  # S can only be 4


def test_an_image_is_no_cache() -> None:
    model = zoo.model(
        "g (float[N, 4, H, W] x, float[N, 4, H, W] z) => (float y) { y = Concat <axis = 1> (x, z) }"
    )
    assert default_dims(bound(model)) == {"N": 1, "H": 224, "W": 224}
