"""Exports with open axes: MACs at given sizes equal those that ran, and formulas equal them at every size."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch

from modelsurgeon.onnx.info import analyze
from tests.macs import macs, ran
from tests.onnx.analysis.formulas.test_formulas import value
from tests.torch.dynamic.nets import NETS, DynamicNet

KEYS = ("macs", "flops", "bias_adds", "activation_bytes")
# The bounds of its slices depend on the length in more than one way: a formula may be too long.
MAY_LACK_FORMULA = {"relative"}


def exported(net: DynamicNet, exporter: str) -> onnx.ModelProto:
    """The export of a net by one of torch's exporters, traced at the second of its sizes."""
    inputs = net.inputs(**net.sizes[1])
    names = [f"x{place}" for place in range(len(inputs))]
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = net.make().eval()
        if exporter == "torchscript":
            axes = {name: dict(open_axes) for name, open_axes in zip(names, net.axes, strict=True)}
            torch.onnx.export(
                module, inputs, file, input_names=names, dynamic_axes=axes, opset_version=17, dynamo=False
            )
        else:
            dynamic = tuple(dict.fromkeys(open_axes, torch.export.Dim.DYNAMIC) for open_axes in net.axes)
            torch.onnx.export(
                module, inputs, file, input_names=names, dynamic_shapes=dynamic, dynamo=True, verbose=False
            )
    return onnx.load_from_string(file.getvalue())


def check_export(name: str, exporter: str, folder: Path) -> None:
    net = NETS[name]
    model = exported(net, exporter)
    found = analyze(ir.from_proto(model))
    for key in KEYS:
        stopped = any("no formula" in note and key in note for note in found.notes)
        assert (key in found.formulas) != stopped
        assert not stopped or name in MAY_LACK_FORMULA, key
    for given in net.sizes:
        inputs = net.inputs(**given)
        feed = {port.name: one.numpy() for port, one in zip(model.graph.input, inputs, strict=True)}
        sizes = {
            dim.dim_param: size
            for port, one in zip(model.graph.input, inputs, strict=True)
            for dim, size in zip(port.type.tensor_type.shape.dim, one.shape, strict=True)
            if dim.dim_param
        }
        bound = analyze(ir.from_proto(model), dims=sizes)
        assert not bound.uncounted
        assert bound.totals.macs == macs(ran(model, feed, folder)), given
        for key, formula in found.formulas.items():
            assert value(formula, sizes) == getattr(bound.totals, key), (given, key)


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if "torchscript" in net.exporters])
def test_exports_by_torchscript(name: str, tmp_path: Path) -> None:
    check_export(name, "torchscript", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, net in NETS.items() if "dynamo" in net.exporters])
def test_exports_by_dynamo(name: str, tmp_path: Path) -> None:
    check_export(name, "dynamo", tmp_path)
