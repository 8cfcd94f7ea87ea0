"""Convolutions as matrix products: outputs are unchanged, and skipped layers have a reason."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modelsurgeon as ms
from modelsurgeon.layers import Layer
from modelsurgeon.onnx import run
from modelsurgeon.onnx.layers.operators import attributes
from tests import zoo
from tests.strategies import layers

RNG = np.random.default_rng(23)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def applying(layer: Layer, size: tuple[int, ...], opset: int) -> ir.Model:
    """A model of one convolution."""
    sizes = ", ".join(str(n) for n in (layer.in_channels, *size))
    text = f"g (float[N, {sizes}] x) => (float y) {{ y = Conv (x, w{'' if layer.bias is None else ', b'}) }}"
    made = zoo.model(text, opset=opset, w=layer.weight, **({} if layer.bias is None else {"b": layer.bias}))
    [node] = made.graph
    node.attributes.update({each.name: each for each in ir.convenience.convert_attributes(attributes(layer))})
    return made


def outputs_of(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(run.runner(model, optimize=False)({"x": x})["y"])


@settings(max_examples=25, deadline=None)
@given(
    layer=layers(ndim=st.integers(1, 3), transposed=st.just(False), dtype=np.float32),
    opset=st.sampled_from([9, 13, 17]),
)
def test_every_geometry_is_exact(layer: Layer, opset: int) -> None:
    size = tuple(d * (k - 1) + 4 for k, d in zip(layer.kernel, layer.dilation, strict=True))
    model = applying(layer, size, opset)
    done = ms.fc2conv(model, reverse=True, im2col=True, compare=False)
    assert [edit.action for edit in done.edits] == ["to matrix product"]
    assert "Conv" not in [node.op_type for node in done.model.graph]
    x = normal(2, layer.in_channels, *size)
    a, b = outputs_of(model, x), outputs_of(done.model, x)
    assert a.shape == b.shape
    assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(a)


def test_1x1_kernel_on_open_sizes() -> None:
    model = zoo.model("g (float[N, 3, H, W] x) => (float y) { y = Conv (x, w, b) }",
                      w=normal(5, 3, 1, 1), b=normal(5))  # fmt: skip
    done = ms.fc2conv(model, reverse=True, im2col=True)
    assert [node.op_type for node in done.model.graph] == ["Transpose", "MatMul", "Add", "Transpose"]
    assert done.comparison is not None
    assert done.comparison.verdict != "different"


def test_one_position_to_fully_connected() -> None:
    model = zoo.model("g (float[N, 3, 4, 5] x) => (float y) { a = Conv (x, w) r = Relu (a) y = Flatten (r) }",
                      w=normal(6, 3, 4, 5))  # fmt: skip
    done = ms.fc2conv(model, reverse=True, im2col=True)
    assert [edit.action for edit in done.edits] == ["to fully connected"]


STAYS = {
    "the size of its map is open": "y = Conv <pads = [1, 1, 1, 1]> (x, w)",
    "it is transposed": "y = ConvTranspose (x, w)",
}


@pytest.mark.parametrize("reason", STAYS)
def test_skipped_layer_has_a_reason(reason: str) -> None:
    model = zoo.model(f"g (float[N, 3, H, W] x) => (float y) {{ {STAYS[reason]} }}", w=normal(3, 3, 3, 3))
    [edit] = ms.fc2conv(model, reverse=True, im2col=True).edits
    assert edit.skipped is not None
    assert edit.skipped.startswith(reason)


def test_im2col_needs_reverse() -> None:
    with pytest.raises(ms.BadPlan, match="it goes with reverse"):
        ms.fc2conv(zoo.classifier(), im2col=True)
