"""A model that onnxruntime optimized and saved has the MACs of its source, and the params that it stores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from modelsurgeon.layers.onnx_names import NCHWC_DOMAIN
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.io.files import load
from tests import zoo

LEVELS = ("ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")
RNG = np.random.default_rng(5)


def weight(*shape: int) -> np.ndarray:
    """A weight without zeros."""
    return RNG.uniform(0.1, 1, shape).astype(np.float32)


def optimized(model: onnx.ModelProto, folder: Path, level: str = "ORT_ENABLE_ALL") -> Path:
    """The file that onnxruntime saves."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.log_severity_level = 4
    options.optimized_model_filepath = str(folder / f"{level}.onnx")
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return folder / f"{level}.onnx"


def chain(first: int, second: int, third: int) -> ir.Model:
    """Convolutions in a row, with a pool, a depthwise one and a residual; open sizes."""
    return zoo.model(
        """
        g (float[N, 3, H, W] x) => (float y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            r = Relu (a)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            c = Conv <pads = [1, 1, 1, 1]> (p, w2)
            d = Conv <group = GROUP, pads = [1, 1, 1, 1]> (c, w3, b2)
            e = Conv (d, w4)
            s = Add (e, c)
            t = Relu (s)
            u = Conv <strides = [2, 2]> (t, w5, b3)
            v = Conv (u, w6)
            q = GlobalAveragePool (v)
            y = Flatten (q)
        }
        """.replace("GROUP", str(second)),
        w1=weight(first, 3, 3, 3),
        b1=weight(first),
        w2=weight(second, first, 3, 3),
        w3=weight(second, 1, 3, 3),
        b2=weight(second),
        w4=weight(second, second, 1, 1),
        w5=weight(third, second, 3, 3),
        b3=weight(third),
        w6=weight(third, third, 1, 1),
    )


def upsampling() -> ir.Model:
    """A map that is enlarged, joined with another, and pooled."""
    return zoo.model(
        """
        g (float[1, 3, 32, 32] x) => (float y) {
            a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1, b1)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (a, w2, b2)
            u = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"> (c, , scales)
            j = Concat <axis = 1> (a, u)
            d = Conv <pads = [1, 1, 1, 1]> (j, w3, b3)
            e = AveragePool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (d)
            y = ConvTranspose <strides = [2, 2]> (e, w4)
        }
        """,
        w1=weight(16, 3, 3, 3),
        b1=weight(16),
        w2=weight(32, 16, 3, 3),
        b2=weight(32),
        scales=np.array([1, 1, 2, 2], np.float32),
        w3=weight(24, 48, 3, 3),
        b3=weight(24),
        w4=weight(24, 8, 2, 2),
    )


def quantized() -> ir.Model:
    """A convolution, a pool and a dense layer between QuantizeLinear and DequantizeLinear."""
    return zoo.model(
        """
        g (float[1, 8, 12, 12] x) => (float y) {
            xq = QuantizeLinear (x, s, z)
            xd = DequantizeLinear (xq, s, z)
            wd = DequantizeLinear (w1, s, zi)
            c = Conv <pads = [1, 1, 1, 1]> (xd, wd)
            cq = QuantizeLinear (c, s, z)
            cd = DequantizeLinear (cq, s, z)
            p = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (cd)
            pq = QuantizeLinear (p, s, z)
            pd = DequantizeLinear (pq, s, z)
            f = Flatten (pd)
            vd = DequantizeLinear (w2, s, zi)
            y = MatMul (f, vd)
        }
        """,
        s=np.float32(0.5),
        z=np.uint8(3),
        zi=np.int8(0),
        w1=RNG.integers(1, 9, (16, 8, 3, 3)).astype(np.int8),
        w2=RNG.integers(1, 9, (16 * 36, 10)).astype(np.int8),
    )


def attention() -> ir.Model:
    """A layer with a norm, a product with a transposed operand, and a Gelu."""
    return zoo.model(
        """
        g (float[N, T, 32] x) => (float y) {
            q = MatMul (x, wq)
            k = MatMul (x, wk)
            kt = Transpose <perm = [0, 2, 1]> (k)
            s = MatMul (q, kt)
            p = Softmax <axis = -1> (s)
            c = MatMul (p, x)
            r = Add (c, x)
            m = ReduceMean <axes = [-1]> (r)
            d = Sub (r, m)
            two = Constant <value = float {2.0}> ()
            e = Pow (d, two)
            v = ReduceMean <axes = [-1]> (e)
            small = Constant <value = float {0.00001}> ()
            w = Add (v, small)
            h = Sqrt (w)
            i = Div (d, h)
            j = Mul (i, g1)
            l = Add (j, g2)
            o = MatMul (l, w1)
            sg = Sigmoid (o)
            u = Mul (o, sg)
            y = MatMul (u, w2)
        }
        """,
        opset=13,
        wq=weight(32, 32),
        wk=weight(32, 32),
        g1=weight(32),
        g2=weight(32),
        w1=weight(32, 128),
        w2=weight(128, 32),
    )


NETS: dict[str, Callable[[], ir.Model]] = {
    "blocks of 16": lambda: chain(16, 32, 48),
    "blocks of 8": lambda: chain(8, 24, 40),
    "padded channels": lambda: chain(12, 20, 36),
    "few channels": lambda: chain(4, 12, 20),
    "upsampling": upsampling,
    "quantized": quantized,
    "attention": attention,
    "classifier": zoo.classifier,
}


def stored_params(path: Path) -> int:
    """Elements of all float initializers; none of these nets has one that isn't a param."""
    stored = onnx.load(path).graph.initializer
    return sum(int(np.prod(one.dims)) for one in stored if one.data_type == onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", NETS)
def test_the_saved_model_has_the_macs_of_its_source(name: str, level: str, tmp_path: Path) -> None:
    model = NETS[name]()
    source = analyze(model)
    found = analyze(load(optimized(ir.to_proto(model), tmp_path, level)))
    assert not source.uncounted and not found.uncounted
    assert found.totals.macs == source.totals.macs
    assert found.formulas.get("macs") == source.formulas.get("macs")
    assert all(shape is not None for row in found.layers for shape in row.output_shapes)


@pytest.mark.parametrize("name", ["blocks of 16", "padded channels", "few channels"])
def test_params_are_those_that_the_saved_model_stores(name: str, tmp_path: Path) -> None:
    model = NETS[name]()
    path = optimized(ir.to_proto(model), tmp_path)
    assert any(node.domain == NCHWC_DOMAIN for node in onnx.load(path).graph.node)
    found, source = analyze(load(path)), analyze(model)
    assert found.totals.params == stored_params(path)
    if name == "blocks of 16":  # else channels are padded to whole blocks, and the padding is stored
        assert found.totals.params == source.totals.params


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_a_classic_net_has_the_macs_of_its_source(name: str, tmp_path: Path) -> None:
    source = analyze(load(zoo.light(name)))
    found = analyze(load(optimized(onnx.load(zoo.light(name)), tmp_path)))
    assert found.totals.macs == source.totals.macs and not found.uncounted


def test_filters_that_are_zero_between_others_are_counted(tmp_path: Path) -> None:
    model = chain(16, 32, 48)
    filters = weight(32, 16, 3, 3)
    filters[5] = 0
    model.graph.initializers["w2"].const_value = ir.tensor(filters)
    found = analyze(load(optimized(ir.to_proto(model), tmp_path)))
    assert found.totals.macs == analyze(model).totals.macs


def test_filters_of_unknown_content_count_as_stored() -> None:
    model = zoo.model("g (float[1, 16, 8, 8] x, float[32, 16, 3, 3] w) => (float y) { y = Conv (x, w) }")
    model.opset_imports[NCHWC_DOMAIN] = 1
    next(iter(model.graph)).domain = NCHWC_DOMAIN
    assert analyze(model).totals.macs == 32 * 36 * 16 * 9
