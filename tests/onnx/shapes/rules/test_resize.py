"""Resize and Upsample have the sizes that onnxruntime computes, at fixed sizes and by formula."""

from __future__ import annotations

import random

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.rules.standard.resize import scaled_size, simplest_fraction
from tests import zoo

SCALES = (
    0.1,
    0.3,
    0.5,
    0.6,
    0.7,
    0.9,
    1.3,
    1.6,
    1.7,
    2,
    2.1,
    2.7,
    1 / 3,
    2 / 3,
    3 / 7,
    1 / 49,
    5 / 224,
    32 / 7,
)
# Whether a multiple of these is a whole number in float32 depends on the multiple.
AMBIGUOUS = (1.3, 2.1)


def resize(node: str, opset: int, inputs: str, **constants: np.ndarray) -> onnx.ModelProto:
    """A model of one Resize or Upsample; inputs: the declaration of x."""
    imports = f'<ir_version: 8, opset_import: ["": {opset}]>'
    model = onnx.parser.parse_model(f"{imports} g ({inputs}) => (float y) {{ y = {node} }}")
    model.graph.output[0].ClearField("type")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return model


@pytest.mark.parametrize("scale", SCALES)
def test_scaled_sizes_are_those_of_onnxruntime(scale: float) -> None:
    model = resize("Resize (x, , s)", 13, "float[N] x", s=np.array([scale], np.float32))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    formula = scaled_size(ir.SymbolicDim("N"), float(np.float32(scale)))
    assert formula is not None or scale in AMBIGUOUS
    for size in (*range(1, 64), 90, 110, 224, 480, 1000, 2047):
        if int(np.float32(size) * np.float32(scale)):  # onnxruntime doesn't resize to nothing
            (ran,) = session.run(None, {"x": np.zeros(size, np.float32)})
            assert scaled_size(size, float(np.float32(scale))) == ran.size
            assert formula is None or sizes_of(formula, size) == ran.size


def sizes_of(formula: int | ir.SymbolicDim, size: int) -> int | None:
    """The formula at a size of N."""
    return formula if isinstance(formula, int) else formula.evaluate({"N": size})


def test_scales_are_the_simplest_fractions() -> None:
    for scale in SCALES:
        fraction = simplest_fraction(float(np.float32(scale)))
        assert np.float32(fraction.numerator / fraction.denominator) == np.float32(scale)
        assert fraction.denominator < 300


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
def test_policies_for_the_aspect_ratio(policy: str) -> None:
    chosen, compared = random.Random(policy), 0  # noqa: S311 - no secret
    for _ in range(16):
        axes = chosen.choice([[2, 3], [3, 2], [1, 2, 3], [2], [0, 1, 2, 3]])
        shape = [4, 3, chosen.randint(1, 40), chosen.randint(1, 40)]
        wanted = np.array([chosen.randint(1, 40 if axis > 1 else 6) for axis in axes], np.int64)
        node = f'Resize <axes = {axes}, keep_aspect_ratio_policy = "{policy}"> (x, , , z)'
        if np.prod(shape) * max(new / shape[axis] for axis, new in zip(axes, wanted, strict=True)) ** 4 > 1e6:
            continue
        fixed = resize(node, 19, f"float{shape} x", z=wanted)
        named = resize(node, 19, "float[A, B, C, D] x", z=wanted)
        try:
            session = onnxruntime.InferenceSession(
                fixed.SerializeToString(), providers=["CPUExecutionProvider"]
            )
            (ran,) = session.run(None, {"x": np.zeros(shape, np.float32)})
        except Exception:  # noqa: BLE001, S112 - onnxruntime has no common class of errors; an axis became 0
            continue
        opened = bound(ir.from_proto(named)).graph.outputs[0]
        assert sizes(bound(ir.from_proto(fixed)).graph.outputs[0]) == ran.shape, (shape, wanted, axes)
        assert sizes(opened, dict(zip("ABCD", shape, strict=True))) == ran.shape, (shape, wanted, axes)
        compared += 1
    assert compared > 5


def test_only_the_named_axes_are_unknown_with_unknown_sizes() -> None:
    model = zoo.model(
        "g (float[2, 3, 8, 8] x, int64[2] z) => (float y) { y = Resize <axes = [2, -1]> (x, , , z) }",
        opset=19,
    )
    shape = bound(model).graph.outputs[0].shape
    assert shape is not None
    assert list(shape)[:2] == [2, 3]
    assert not any(isinstance(size, int) for size in list(shape)[2:])


def test_sizes_from_the_shape_of_another_map() -> None:
    model = zoo.model(
        """g (float[1, 3, 8, 8] x, float[1, 5, H, W] z) => (float y) {
            s = Shape <start = 2> (z)
            y = Resize <axes = [2, 3]> (x, , , s)
        }""",
        opset=19,
    )
    assert str(bound(model).graph.outputs[0].shape) == "[1,3,H,W]"


@pytest.mark.parametrize("empty", ["s", "z"])
def test_an_empty_tensor_is_an_input_left_out(empty: str) -> None:
    given = {"s": np.array([1, 1, 2, 2], np.float32), "z": np.array([1, 3, 16, 16], np.int64)}
    given[empty] = given[empty][:0]
    model = resize("Resize (x, , s, z)", 13, "float[1, 3, 8, 8] x", **given)
    assert sizes(bound(ir.from_proto(model)).graph.outputs[0]) == (1, 3, 16, 16)
