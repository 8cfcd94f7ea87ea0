"""Windows over maps of any size: numbers of windows, and maps that are too small, against onnxruntime."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from modelsurgeon.onnx.shapes import bound
from modelsurgeon.onnx.shapes.impossible import impossible
from tests.onnx.shapes.rules import ran

MICROSOFT = "com.microsoft"
POOLS = ("MaxPool", "AveragePool", "LpPool", "QLinearAveragePool", "NhwcMaxPool")
CONVOLUTIONS = ("Conv", "ConvTranspose", "FusedConv", "ConvInteger", "QLinearConv")
QUANTIZED = ("QLinearAveragePool", "NhwcMaxPool", "ConvInteger", "QLinearConv")
QUANTIZED_INPUTS = {"QLinearAveragePool": "x s z s z", "QLinearConv": "x s z w s z s z"}


def window(op: str, rng: Random) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A model of one node with a random window over a random map, and what to feed."""
    axes = 2 if op == "NhwcMaxPool" else rng.choice((1, 1, 2))
    sizes = [rng.randint(1, 6) for _ in range(axes)]
    kernel = [rng.randint(1, 5) for _ in range(axes)]
    attributes: dict[str, Any] = {"activation": "Relu"} if op == "FusedConv" else {}
    channels_last = op == "NhwcMaxPool"
    if rng.random() < 0.6:
        attributes["strides"] = [rng.randint(1, 4) for _ in range(axes)]
    padding = rng.random()
    if padding < 0.6:
        attributes["pads"] = [rng.randint(0, 2) for _ in range(2 * axes)]
    elif padding < 0.75:
        attributes["auto_pad"] = rng.choice(("SAME_UPPER", "SAME_LOWER", "VALID"))
    same = attributes.get("auto_pad", "").startswith("SAME")
    if same and op != "ConvTranspose":  # larger strides are refused by some pools only
        attributes["strides"] = [rng.randint(1, taps) for taps in kernel]
    elif op != "QLinearAveragePool" and rng.random() < 0.4:  # onnxruntime has no dilated SAME padding
        attributes["dilations"] = [rng.randint(1, 3) for _ in range(axes)]
    if op == "ConvTranspose" and rng.random() < 0.4:
        name = "output_shape" if rng.random() < 0.5 and not same else "output_padding"
        attributes[name] = [rng.randint(0, 1) + (8 if name == "output_shape" else 0) for _ in range(axes)]
    if op in POOLS:
        attributes |= {"kernel_shape": kernel, "ceil_mode": rng.randint(0, 1)}
    if op == "QLinearAveragePool" and 0 not in sizes and rng.random() < 0.5:
        attributes["channels_last"], channels_last = 1, True
    dtype = np.uint8 if op in QUANTIZED else np.float32
    data = np.ones([1, *sizes, 2] if channels_last else [1, 2, *sizes], dtype)
    constants = {"w": np.ones([2, 2, *kernel], dtype), "s": np.float32(1), "z": np.uint8(0)}
    inputs = QUANTIZED_INPUTS.get(op, "x" if op in POOLS else "x w").split()
    domain = MICROSOFT if op in ("QLinearAveragePool", "NhwcMaxPool", "FusedConv") else ""
    node = helper.make_node(op, inputs, ["y"], domain=domain, **attributes)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, data.shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9), {"x": data}


def compared(op: str, count: int) -> Counter[str]:
    """How often onnxruntime and the table agree that a window runs, and on its shape; raises where not."""
    rng, found = Random(op), Counter[str]()  # noqa: S311 - no secret
    for _ in range(count):
        model, feed = window(op, rng)
        inferred = bound(ir.from_proto(model))
        reason = next(iter(impossible(inferred).values()), None)
        shape = inferred.graph.outputs[0].shape
        if op == "QLinearAveragePool" and shape is not None and 0 in shape.dims:
            continue  # onnxruntime divides by 0, and the process ends
        outputs = ran.run(model, feed)
        shown = (helper.printable_node(model.graph.node[0]), feed["x"].shape, reason, shape)
        if outputs is None:
            assert reason is not None, shown
        else:
            assert reason is None, shown
            assert shape is not None, shown
            assert tuple(shape.dims) == np.shape(outputs["y"]), shown
        found["refused" if outputs is None else "ran"] += 1
    return found


@pytest.mark.parametrize("op", [*POOLS, *CONVOLUTIONS])
def test_windows_run_where_onnxruntime_runs_them(op: str) -> None:
    found = compared(op, 40)
    assert min(found["ran"], found["refused"]) > 2


@pytest.mark.slow
@pytest.mark.parametrize("op", [*POOLS, *CONVOLUTIONS])
def test_many_windows_run_where_onnxruntime_runs_them(op: str) -> None:
    compared(op, 600)
