"""Sites of ONNX graphs: operators are read as layers and replaced by chains."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings

from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer, chain_params
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from tests import conv
from tests.onnx.operated import operated, outputs, reasons, relative
from tests.strategies import layers
from tests.zoo import model

RNG = np.random.default_rng(7)


def written(layer: Layer, size: tuple[int, ...]) -> ir.Model:
    """A model of one Conv, ConvTranspose or Gemm that applies the layer."""
    seed = "Gemm (x, w)" if not layer.kernel else "Conv (x, w)"
    dims = ", ".join(map(str, (1, layer.in_channels, *size)))
    built = model(f"g (float[{dims}] x) => (float y) {{ y = {seed} }}", w=layer.weight)
    [node] = built.graph
    if not layer.kernel:
        node.attributes["transB"] = ir.AttrInt64("transB", 1)
    stand_in = Layer(weight=layer.weight) if not layer.kernel else replace(layer, bias=None)
    if layer.kernel:
        node.op_type = "ConvTranspose" if layer.transposed else "Conv"
        for name, value in operators.attributes(stand_in).items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)
        built.graph.initializers["w"].const_value = ir.tensor(
            operators.weight_as_stored(node, layer), name="w"
        )
    if layer.bias is not None:
        bias = ir.Value(name="b", const_value=ir.tensor(layer.bias, name="b"))
        built.graph.register_initializer(bias)
        node.resize_inputs(3)
        node.replace_input_with(2, bias)
    return built


@settings(max_examples=40)
@given(layer=layers(dtype=np.float32))
def test_an_operator_is_read_as_its_layer(layer: Layer) -> None:
    size = conv.sizes(layer)
    x = RNG.normal(size=(layer.in_channels, *size)).astype(np.float32)
    built = written(layer, size)
    [site], _ = sites(editable_copy(built))
    [y] = outputs(built, x=x[None])
    assert relative(y[0], conv.run([site.layer], x)) < 1e-5
    assert site.calls == [(size, 1)]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25)
@given(layer=layers(dtype=np.float32))
def test_a_replaced_layer_gives_the_outputs_of_the_chain(method: str, layer: Layer) -> None:
    size = conv.sizes(layer)
    x = RNG.normal(size=(layer.in_channels, *size)).astype(np.float32)
    [y] = outputs(operated(written(layer, size), method, 2), x=x[None])
    assert relative(y[0], conv.run(METHODS[method](layer, 2), x)) < 1e-4


GEMMS = {
    "plain": ("y = Gemm (x, w, b)", (6, 4), (4,)),
    "transB": ("y = Gemm <transB = 1> (x, w, b)", (4, 6), (4,)),
    "scaled": ("y = Gemm <alpha = 0.5, beta = 2.0> (x, w, b)", (6, 4), (4,)),
    "a row as bias": ("y = Gemm (x, w, b)", (6, 4), (1, 4)),
    "one number as bias": ("y = Gemm (x, w, b)", (6, 4), (1,)),
}


@pytest.mark.parametrize(("node", "weight", "bias"), GEMMS.values(), ids=GEMMS)
def test_gemm_in_all_its_forms(node: str, weight: tuple[int, ...], bias: tuple[int, ...]) -> None:
    w, b = RNG.normal(size=weight).astype(np.float32), RNG.normal(size=bias).astype(np.float32)
    built = model(f"g (float[3, 6] x) => (float[3, 4] y) {{ {node} }}", w=w, b=b)
    x = RNG.normal(size=(3, 6)).astype(np.float32)
    assert relative(outputs(operated(built), x=x)[0], outputs(built, x=x)[0]) < 1e-6


@pytest.mark.parametrize("node", ["y = MatMul (x, w)", "y = MatMul (w, x)"])
def test_matmul_with_the_weight_on_either_side(node: str) -> None:
    w, x = RNG.normal(size=(6, 6)).astype(np.float32), RNG.normal(size=(2, 3, 6, 6)).astype(np.float32)
    built = model(f"g (float[2, 3, 6, 6] x) => (float[2, 3, 6, 6] y) {{ {node} }}", w=w)
    copy = operated(built)
    assert [n.op_type for n in copy.graph] == ["MatMul", "MatMul"]
    assert relative(outputs(copy, x=x)[0], outputs(built, x=x)[0]) < 1e-6
    [site], _ = sites(editable_copy(built))
    assert site.calls == [((), 36)]


PADS = ["auto_pad = 'SAME_UPPER'", "auto_pad = 'SAME_LOWER'", "auto_pad = 'VALID'", "pads = [0, 1, 2, 1]"]


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("method", METHODS)
def test_padding_in_all_its_forms(pads: str, op: str, method: str) -> None:
    attributes = f"<{pads}, strides = [2, 1], kernel_shape = [4, 3]>".replace("'", '"')
    w = RNG.normal(size=(4, 4, 4, 3)).astype(np.float32)
    built = model(f"g (float[1, 4, 9, 9] x) => (float y) {{ y = {op} {attributes} (x, w) }}", w=w)
    x = RNG.normal(size=(1, 4, 9, 9)).astype(np.float32)
    assert relative(outputs(operated(built, method), x=x)[0], outputs(built, x=x)[0]) < 1e-6


def test_weights_behind_casts_and_reshapes() -> None:
    w = RNG.normal(size=(3, 5)).astype(np.float32)
    built = model(
        """g (float[2, 3] x) => (float[2, 5] y) {
            half = Cast <to = 10> (w)
            whole = Cast <to = 1> (half)
            flipped = Transpose <perm = [1, 0]> (whole)
            row = Unsqueeze (flipped, zero)
            back = Squeeze (row, zero)
            shaped = Reshape (back, size)
            same = Identity (shaped)
            y = Gemm <transB = 1> (x, same)
        }""",
        w=w,
        zero=np.array([0]),
        size=np.array([0, -1]),
    )
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    copy = operated(built)
    assert relative(outputs(copy, x=x)[0], outputs(built, x=x)[0]) < 1e-3
    assert relative(outputs(copy, x=x)[0], x @ w.astype(np.float16).astype(np.float32)) < 1e-6


def test_a_shared_weight_is_factorized_once() -> None:
    w = RNG.normal(size=(6, 6)).astype(np.float32)
    built = model("g (float[2, 6] x) => (float[2, 6] y) { h = MatMul (x, w)\n y = MatMul (h, w) }", w=w)
    copy = operated(built, rank=2)
    assert len(list(copy.graph)) == 4
    names = {str(v.name) for n in copy.graph for v in n.inputs if v is not None and v.is_initializer()}
    assert len(names) == 2
    [site], _ = sites(editable_copy(built))
    assert site.calls == [((), 2), ((), 2)]


def test_initializers_of_ir_version_3_are_not_inputs() -> None:
    w = RNG.normal(size=(6, 6)).astype(np.float32)
    built = model(
        "g (float[2, 6] x, float[6, 6] w) => (float[2, 6] y) { y = MatMul (x, w) }", opset=9, version=3, w=w
    )
    copy = operated(built, rank=2)
    assert [v.name for v in copy.graph.inputs] == ["x"]
    assert outputs(copy, x=np.ones((2, 6), np.float32))[0].shape == (2, 6)
    assert [v.name for v in built.graph.inputs] == ["x", "w"]


def test_the_original_is_unchanged() -> None:
    w = RNG.normal(size=(6, 6)).astype(np.float32)
    built = model("g (float[2, 6] x) => (float[2, 6] y) { y = MatMul (x, w) }", w=w)
    before = ir.to_proto(built).SerializeToString()
    operated(built, rank=1)
    assert ir.to_proto(built).SerializeToString() == before


def test_output_names_are_kept_and_new_names_are_unique() -> None:
    w = RNG.normal(size=(6, 6)).astype(np.float32)
    built = model(
        """g (float[2, 6] x) => (float[2, 6] y) {
            a.0 = Relu (x)
            a.1 = MatMul (a.0, w)
            y = Relu (a.1)
        }""".replace("a.", "a_"),
        w=w,
    )
    before, site, _ = built.graph
    before.name, site.name = "a.0", "a"
    copy = operated(built, rank=2)
    assert [v.name for v in copy.graph.outputs] == ["y"]
    names = [node.name for node in copy.graph if node.name]
    assert len(names) == len(set(names))


def test_an_unchanged_bias_is_kept() -> None:
    w, b = RNG.normal(size=(6, 6)).astype(np.float32), RNG.normal(size=6).astype(np.float32)
    copy = operated(model("g (float[2, 6] x) => (float[2, 6] y) { y = Gemm (x, w, b) }", w=w, b=b), rank=2)
    assert "b" in copy.graph.initializers


W = RNG.normal(size=(6, 6)).astype(np.float32)
ONES = np.ones((2, 6, 6), np.float32)
SAME = 'auto_pad = "SAME_UPPER", strides = [2]'
SKIPPED: dict[str, tuple[Callable[[], ir.Model], str]] = {
    "weight is a graph input": (
        lambda: model("g (float[2, 6] x, float[6, 6] w) => (float[2, 6] y) { y = MatMul (x, w) }", w=W),
        "a graph input, which a caller may override: --freeze-inputs fixes it",
    ),
    "weight is computed": (
        lambda: model("g (float[2, 6] x, float[6, 6] v) => (float y) { w = Relu (v)\n y = MatMul (x, w) }"),
        "computed at run time",
    ),
    "weight is a graph output": (
        lambda: model("g (float[2, 6] x) => (float y, float[6, 6] w) { y = MatMul (x, w) }", w=W),
        "weight is a graph output",
    ),
    "weight is shared with another operator": (
        lambda: model(
            "g (float[2, 6] x) => (float y) { h = MatMul (x, w)\n y = Gather (w, i) }", w=W, i=np.array([0])
        ),
        "also used by Gather",
    ),
    "weight is shared in another way": (
        lambda: model("g (float[6, 6] x) => (float y) { h = MatMul (x, w)\n y = MatMul (w, h) }", w=W),
        "apply it in different ways",
    ),
    "weight is quantized": (
        lambda: model(
            "g (float[2, 6] x) => (float y) { w = DequantizeLinear (q, s)\n y = MatMul (x, w) }",
            q=np.ones((6, 6), np.int8),
            s=np.float32(1),
        ),
        "weight is quantized",
    ),
    "weight is of whole numbers": (
        lambda: model("g (int32[2, 6] x) => (int32 y) { y = MatMul (x, w) }", w=np.ones((6, 6), np.int32)),
        "int32: floating point is needed",
    ),
    "weight is a batch of matrices": (
        lambda: model(
            "g (float[2, 3, 6] x) => (float y) { y = MatMul (x, w) }", w=np.ones((2, 6, 6), np.float32)
        ),
        "no single matrix",
    ),
    "data is transposed": (
        lambda: model("g (float[6, 2] x) => (float y) { y = Gemm <transA = 1> (x, w) }", w=W),
        r"transposed \(transA\)",
    ),
    "bias differs over rows": (
        lambda: model(
            "g (float[2, 6] x) => (float y) { y = Gemm (x, w, b) }", w=W, b=np.ones((2, 6), np.float32)
        ),
        "differs from row to row",
    ),
    "bias is a graph input": (
        lambda: model("g (float[2, 6] x, float[6] b) => (float y) { y = Gemm (x, w, b) }", w=W),
        "bias is a graph input without a default: --freeze-inputs fixes those that have one",
    ),
    "automatic padding on an open size": (
        lambda: model(
            'g (float[1, 2, n] x) => (float y) { y = Conv <auto_pad = "SAME_UPPER", strides = [2]> (x, w) }',
            w=np.ones((4, 2, 3), np.float32),
        ),
        "size the model leaves open",
    ),
    "padding from output_shape": (
        lambda: model(
            "g (float[1, 2, 8] x) => (float y) { y = ConvTranspose <output_shape = [16]> (x, w) }",
            w=np.ones((2, 4, 3), np.float32),
        ),
        "follows from output_shape",
    ),
    "in a subgraph": (
        lambda: model(
            """g (float[2, 6] x, bool c) => (float y) {
                y = If (c) <
                    then_branch = one () => (float a) { a = MatMul (x, w) },
                    else_branch = two () => (float b) { b = Identity (x) }
                >
            }""",
            w=W,
        ),
        "in a subgraph or function",
    ),
}


@pytest.mark.parametrize(("build", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_skipped_layers_have_a_reason(build: Callable[[], ir.Model], reason: str) -> None:
    found = reasons(build())
    assert found and all(re.search(reason, each) for each in found), found


@pytest.mark.parametrize("pads", ["SAME_UPPER", "SAME_LOWER"])
def test_automatic_padding_at_stride_1_needs_no_size(pads: str) -> None:
    built = model(
        f'g (float[1, 2, n] x) => (float y) {{ y = Conv <auto_pad = "{pads}"> (x, w) }}',
        w=RNG.normal(size=(4, 2, 4)).astype(np.float32),
    )
    x = RNG.normal(size=(1, 2, 9)).astype(np.float32)
    assert relative(outputs(operated(built), x=x)[0], outputs(built, x=x)[0]) < 1e-6


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.alone])
def test_params_of_the_graph_are_those_of_the_chain(method: str) -> None:
    layer = Layer(weight=RNG.normal(size=(8, 3, 3, 3)).astype(np.float32), groups=2, padding=((1, 1), (1, 1)))
    copy = operated(written(layer, (7, 7)), method, 2)
    used = {v for n in copy.graph for v in n.inputs if v is not None and v.is_initializer()}
    held = sum(v.const_value.size for v in used if v.const_value is not None)
    assert held == chain_params(METHODS[method](layer, 2))
