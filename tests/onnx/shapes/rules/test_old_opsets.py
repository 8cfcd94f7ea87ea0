"""Operators in the forms of old opsets: shapes are those of the specification, and of onnxruntime's run."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from modelsurgeon.onnx.shapes import bound, sizes
from tests.onnx.shapes.rules.ran import run

Sizes = tuple[int, ...]

X234 = "float[2, 3, 4] x"
IMAGE = "float[1, 2, 6, 6] x"
ROW = "float[2, 3] x"
NORM = "float[2, 3, 4] x, float[3] s, float[3] b, float[3] m, float[3] v"
SEQUENCE = "float[5, 2, 3] x, float[1, 12, 3] w, float[1, 12, 4] r"
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

# opset, inputs, node, constants, shape of the output
FORMS: list[tuple[int, str, str, str, Sizes]] = [
    (1, X234, 'Cast <to = "INT32"> (x)', "", (2, 3, 4)),
    (6, X234, "Cast <to = 6> (x)", "", (2, 3, 4)),
    (1, ROW, "Pad <paddings = [0, 1, 2, 0]> (x)", "", (4, 4)),
    (2, ROW, "Pad <pads = [0, 1, 2, 0]> (x)", "", (4, 4)),
    (10, ROW, "Pad <pads = [0, 1, 2, -1]> (x)", "", (4, 3)),
    (1, ROW, "Clip <max = 1.0, min = 0.0> (x)", "", (2, 3)),
    (6, ROW, "Clip <max = 1.0, min = 0.0> (x)", "", (2, 3)),
    *(
        (opset, X234, f"Reduce{kind} <axes = [1]> (x)", "", (2, 1, 4))
        for kind in REDUCTIONS
        for opset in (1, 11, 12)
    ),
    *(
        (17, X234, f"Reduce{kind} <axes = [0, -1], keepdims = 0> (x)", "", (3,))
        for kind in REDUCTIONS
        if kind != "Sum"
    ),
    (1, f"{IMAGE}, float[3, 5] r", "MaxRoiPool <pooled_shape = [2, 2]> (x, r)", "", (3, 2, 2, 2)),
    (1, IMAGE, "LpPool <kernel_shape = [2, 2], p = 2.0, strides = [2, 2]> (x)", "", (1, 2, 3, 3)),
    (2, IMAGE, "LpPool <kernel_shape = [2, 2], strides = [2, 2]> (x)", "", (1, 2, 3, 3)),
    (1, IMAGE, "GlobalLpPool <p = 2.0> (x)", "", (1, 2, 1, 1)),
    (2, IMAGE, "GlobalLpPool (x)", "", (1, 2, 1, 1)),
    (1, IMAGE, "MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (x)", "", (1, 2, 2, 2)),
    (1, IMAGE, "AveragePool <kernel_shape = [3, 3], strides = [2, 2]> (x)", "", (1, 2, 2, 2)),
    (1, f"{IMAGE}, float[4, 2, 3, 3] w", "Conv (x, w)", "", (1, 4, 4, 4)),
    (1, f"{IMAGE}, float[2, 4, 3, 3] w", "ConvTranspose (x, w)", "", (1, 4, 8, 8)),
    (1, "float[4, 6] x", "Slice <axes = [1], ends = [5], starts = [-4]> (x)", "", (4, 3)),
    (1, "float[4, 6] x", "Slice <axes = [-1], ends = [-1], starts = [0]> (x)", "", (4, 5)),
    (9, "float[4, 6] x", "Slice <ends = [3, 1000], starts = [1, 2]> (x)", "", (2, 4)),
    (1, ROW, "Dropout <consumed_inputs = [0], is_test = 1> (x)", "", (2, 3)),
    (6, ROW, "Dropout <is_test = 1> (x)", "", (2, 3)),
    (10, ROW, "Dropout <ratio = 0.5> (x)", "", (2, 3)),
    (
        *(1, NORM),
        "BatchNormalization <consumed_inputs = [0, 0, 0, 1, 1], is_test = 1> (x, s, b, m, v)",
        *("", (2, 3, 4)),
    ),
    (6, NORM, "BatchNormalization <is_test = 1> (x, s, b, m, v)", "", (2, 3, 4)),
    (7, NORM, "BatchNormalization (x, s, b, m, v)", "", (2, 3, 4)),
    (1, "float[2, 3, 4] x, float[3] s, float[3] b", "InstanceNormalization (x, s, b)", "", (2, 3, 4)),
    (
        *(18, "float[1, 4, 3, 3] x, float[2] s, float[2] b"),
        *("GroupNormalization <num_groups = 2> (x, s, b)", "", (1, 4, 3, 3)),
    ),
    (1, "float[2, 3] x, float[3, 4] w, float[4] b", "Gemm <broadcast = 1> (x, w, b)", "", (2, 4)),
    (6, "float[2, 3] x, float[4, 3] w, float[4] b", "Gemm <broadcast = 1, transB = 1> (x, w, b)", "", (2, 4)),
    (1, "float[2, 3] x, float[3, 5] w", "MatMul (x, w)", "", (2, 5)),
    (
        *(1, "float[5, 2, 3] x, float[1, 4, 3] w, float[1, 4, 4] r"),
        *("RNN <hidden_size = 4, output_sequence = 1> (x, w, r)", "", (5, 1, 2, 4)),
    ),
    (1, SEQUENCE, "GRU <hidden_size = 4, output_sequence = 1> (x, w, r)", "", (5, 1, 2, 4)),
    (3, SEQUENCE, "GRU <hidden_size = 4, output_sequence = 1> (x, w, r)", "", (5, 1, 2, 4)),
    (
        *(1, "float[5, 2, 3] x, float[1, 16, 3] w, float[1, 16, 4] r"),
        *("LSTM <hidden_size = 4, output_sequence = 1> (x, w, r)", "", (5, 1, 2, 4)),
    ),
    (1, "float[1, 8, 2, 3] x", "DepthToSpace <blocksize = 2> (x)", "", (1, 2, 4, 6)),
    (1, "float[1, 2, 4, 6] x", "SpaceToDepth <blocksize = 2> (x)", "", (1, 8, 2, 3)),
    (1, X234, "Reshape <shape = [0, -1]> (x)", "", (2, 12)),
    (1, X234, "Reshape <consumed_inputs = [0], shape = [4, 6]> (x)", "", (4, 6)),
    (1, X234, "Flatten <axis = 2> (x)", "", (6, 4)),
    *((opset, "float[1, 3, 1] x", "Squeeze <axes = [0]> (x)", "", (3, 1)) for opset in (1, 11, 12)),
    (11, "float[1, 3, 1] x", "Squeeze <axes = [-1]> (x)", "", (1, 3)),
    (1, "float[1, 3, 1] x", "Squeeze (x)", "", (3,)),
    *((opset, "float[3] x", "Unsqueeze <axes = [0, 2]> (x)", "", (1, 3, 1)) for opset in (1, 11, 12)),
    (11, "float[3] x", "Unsqueeze <axes = [-1]> (x)", "", (3, 1)),
    (
        *(1, "float[1, 2, 3, 4] x"),
        *("Upsample <height_scale = 2.0, width_scale = 1.5> (x)", "", (1, 2, 6, 6)),
    ),
    (7, "float[1, 2, 3, 4] x", "Upsample <scales = [1.0, 1.0, 2.0, 1.5]> (x)", "", (1, 2, 6, 6)),
    (9, "float[1, 2, 3, 4] x", "Upsample (x, c)", "float[4] c = {1, 1, 2, 1.5}", (1, 2, 6, 6)),
    (10, "float[1, 2, 3, 4] x", "Resize (x, c)", "float[4] c = {1, 1, 2, 1.5}", (1, 2, 6, 6)),
    (1, ROW, "Tile (x, c, d)", "float c = {3}, float d = {1}", (2, 9)),
    (6, ROW, "Tile (x, c)", "int64[2] c = {1, 3}", (2, 9)),
    (1, "float[2, 6] x", "TopK <k = 3> (x)", "", (2, 3)),
    (1, "float[2, 6] x", "TopK <axis = 0, k = 1> (x)", "", (1, 6)),
    (10, "float[2, 6] x", "TopK (x, c)", "int64[1] c = {4}", (2, 4)),
    (9, "float[3, 3] x, int64[2, 3] i, float[2, 3] u", "Scatter (x, i, u)", "", (3, 3)),
    (1, "float[2, 3] x, float[2, 3] z", "Concat (x, z)", "", (2, 6)),
    (4, "float[2, 3] x, float[2, 3] z", "Concat <axis = 0> (x, z)", "", (4, 3)),
    (1, "float[4, 6] x", "Split <axis = 1> (x)", "", (4, 6)),
    (2, "float[4, 6] x", "Split <split = [4]> (x)", "", (4, 6)),
    (1, "float[4, 6] x, float[6] z", "Add <axis = 1, broadcast = 1> (x, z)", "", (4, 6)),
    (6, "float[4, 6] x, float[4] z", "Mul <axis = 0, broadcast = 1> (x, z)", "", (4, 6)),
    (6, "float[4, 6] x, float[6] z", "PRelu (x, z)", "", (4, 6)),
    (1, X234, "Softmax (x)", "", (2, 3, 4)),
    (1, X234, "ArgMax <axis = 1> (x)", "", (2, 1, 4)),
    (17, "float[2, 8, 1] x", "DFT <axis = 1, onesided = 1> (x)", "", (2, 5, 2)),
    (
        *(10, f"{IMAGE}, float[3, 4] r, int64[3] b"),
        *("RoiAlign <output_height = 2> (x, r, b)", "", (3, 2, 2, 1)),
    ),
    (13, "float[2, 3, 4] x, float[4] s", "LayerNormalization (x, s)", "", (2, 3, 4)),
    (6, IMAGE, "ImageScaler <bias = [0.0, 0.0], scale = 2.0> (x)", "", (1, 2, 6, 6)),
    (6, IMAGE, "Crop <border = [1, 0, 2, 1]> (x)", "", (1, 2, 5, 3)),
    (6, IMAGE, "Crop <border = [1, 0, 2, 1], scale = [2, 3]> (x)", "", (1, 2, 2, 3)),
]


def form(opset: int, inputs: str, node: str, constants: str) -> onnx.ModelProto:
    """A model of one node, without the type of its output."""
    imports = f'<ir_version: 8, opset_import: ["": {opset}]>'
    initializers = f"<{constants}>" if constants else ""
    model = onnx.parser.parse_model(f"{imports} g ({inputs}) => (float y) {initializers} {{ y = {node} }}")
    model.graph.output[0].ClearField("type")
    return model


@pytest.mark.parametrize(("opset", "inputs", "node", "constants", "expected"), FORMS)
def test_old_forms(opset: int, inputs: str, node: str, constants: str, expected: Sizes) -> None:
    model = form(opset, inputs, node, constants)
    result = bound(ir.from_proto(model)).graph.outputs[0]
    assert sizes(result) == expected
    assert result.dtype is not None
    feed = {
        value.name: np.zeros(
            [dim.dim_value for dim in value.type.tensor_type.shape.dim],
            onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
        )
        for value in model.graph.input
    }
    ran = run(model, feed)
    assert ran is None or np.asarray(ran["y"]).shape == expected
