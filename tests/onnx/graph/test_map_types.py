"""Maps and sequences of maps, as classifiers of scikit-learn have them, as inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import modelsurgeon
from modelsurgeon.onnx.graph.map_types import TYPE_KEY, map_type
from modelsurgeon.onnx.io.files import from_proto, load, save
from modelsurgeon.onnx.shapes import bound, sizes

IRIS = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"
PROBABILITIES = "seq(map(int64, float32))"


def map_proto(key: int, number: int) -> onnx.TypeProto:
    return helper.make_map_type_proto(key, helper.make_tensor_type_proto(number, ()))


def operator(op: str, data: onnx.TypeProto, **attributes: object) -> onnx.ModelProto:
    """A model of one operator of ai.onnx.ml."""
    node = helper.make_node(op, ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_value_info("x", data)], [onnx.ValueInfoProto(name="y")]
    )
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def test_info_names_the_types_of_maps() -> None:
    found = modelsurgeon.info(IRIS).as_dict()
    assert [port["dtype"] for port in found["model"]["outputs"]] == ["int64", PROBABILITIES]
    assert found["model"]["outputs"][1]["shape"] is None
    assert "probabilities" in " ".join(found["notes"])
    assert not modelsurgeon.check(IRIS).findings


def test_a_map_is_an_input() -> None:
    proto = operator("CastMap", map_proto(TensorProto.INT64, TensorProto.FLOAT))
    assert modelsurgeon.info(proto).as_dict()["model"]["inputs"][0]["dtype"] == "map(int64, float32)"


def test_reading_a_model_does_not_change_it_and_writing_keeps_its_types(tmp_path: Path) -> None:
    proto = onnx.load(IRIS)
    before = proto.SerializeToString()
    model = from_proto(proto)
    assert proto.SerializeToString() == before
    save(model, tmp_path / "copy.onnx")
    again = onnx.load(tmp_path / "copy.onnx")
    assert again.graph.output == proto.graph.output
    assert TYPE_KEY not in str(again)


def test_a_cut_out_map_keeps_its_type(tmp_path: Path) -> None:
    save(modelsurgeon.extract(IRIS, outputs=["probabilities"]).model, tmp_path / "cut.onnx")
    kind = map_type(load(tmp_path / "cut.onnx").graph.outputs[0])
    assert kind == onnx.load(IRIS).graph.output[1].type
    session = onnxruntime.InferenceSession(tmp_path / "cut.onnx")
    [rows] = session.run(None, {"float_input": np.ones((3, 2), np.float32)})
    assert len(rows) == 3


def test_a_model_with_maps_equals_itself() -> None:
    assert modelsurgeon.diff(IRIS, IRIS).as_dict()["identical"]


@pytest.mark.parametrize(
    ("op", "attributes", "data", "shape"),
    [
        ("DictVectorizer", {"string_vocabulary": ["a", "b", "c"]}, {"a": 1.0, "c": 2.0}, (1, 3)),
        ("DictVectorizer", {"int64_vocabulary": [1, 4]}, {4: 2.0}, (1, 2)),
        ("CastMap", {"map_form": "SPARSE", "max_map": 5}, {1: 2.0, 3: 1.0}, (1, 5)),
    ],
)
def test_operators_on_maps_have_shapes(
    op: str, attributes: dict[str, object], data: dict[object, float], shape: tuple[int, ...]
) -> None:
    key = TensorProto.STRING if "string_vocabulary" in attributes else TensorProto.INT64
    proto = operator(op, map_proto(key, TensorProto.FLOAT), **attributes)
    output = bound(from_proto(proto)).graph.outputs[0]
    [ran] = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": data})
    assert sizes(output) == shape == ran.shape
    assert output.dtype.numpy() == ran.dtype
