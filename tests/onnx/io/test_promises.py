"""What the writer refuses, because the original of an edited model said more."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

import modelsurgeon as ms
from tests.onnx.declarations import nets


@pytest.fixture
def made() -> ir.Model:
    """A model that a verb gave."""
    found = ms.bn.fold(nets.head(), compare=False).model
    for number, node in enumerate(found.graph):
        node.name = f"node_{number}"
    return found


def test_an_output_without_its_type_is_refused(made: ir.Model, tmp_path: Path) -> None:
    made.graph.outputs[0].type = None
    with pytest.raises(ms.BadModel, match="nothing gives the type of 'y'"):
        ms.save(made, tmp_path / "out.onnx")
    assert not list(tmp_path.iterdir())


def test_an_input_without_its_shape_is_refused(made: ir.Model, tmp_path: Path) -> None:
    made.graph.inputs[0].shape = None
    with pytest.raises(ms.BadModel, match="lose the shape of 'x'"):
        ms.save(made, tmp_path / "out.onnx")


def test_two_nodes_of_one_name_are_refused(tmp_path: Path) -> None:
    proto = ir.to_proto(nets.head())
    for number, node in enumerate(proto.graph.node):
        node.name = f"node_{number}"
    found = ms.bn.fold(ir.from_proto(proto), compare=False).model
    first, second, *_ = found.graph
    second.name = first.name
    with pytest.raises(ms.BadModel, match=f"two nodes named '{first.name}'"):
        ms.save(found, tmp_path / "out.onnx")


def test_a_renamed_output_is_written(made: ir.Model, tmp_path: Path) -> None:
    made.graph.outputs[0].name = "scores"
    ms.save(made, tmp_path / "out.onnx")
    assert ms.load(tmp_path / "out.onnx").graph.outputs[0].name == "scores"
