"""Long lists in attributes: read as fast as protobuf does, with the same entries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.diff import diff
from modelsurgeon.onnx.graph.attributes import attribute_values
from modelsurgeon.onnx.io import files, protobuf
from modelsurgeon.onnx.io.long_lists import MIN_LENGTH, LongList

LISTS = {
    "floats": np.random.default_rng(0).random(MIN_LENGTH).astype(np.float32).tolist(),
    "ints": list(range(-5, MIN_LENGTH)),
    "texts": ["LEAF", "é", ""] * MIN_LENGTH,
    "short": list(range(7)),
}


def node_model(**attributes: Sequence[object]) -> ModelProto:
    node = helper.make_node("Mystery", ["x"], ["y"], domain="some.where")
    node.attribute.extend(helper.make_attribute(name, entries) for name, entries in attributes.items())
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("some.where", 1)]
    return helper.make_model(helper.make_graph([node], "g", [x], [y]), opset_imports=opsets, ir_version=8)


def saved(model: ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def test_entries_are_those_of_protobuf(tmp_path: Path) -> None:
    model = node_model(**LISTS)
    model.graph.node[0].attribute[0].doc_string = "kept"
    loaded, whole = files.load(saved(model, tmp_path)), files.from_proto(model)
    attributes = loaded.graph.node(0).attributes
    assert {name: list(attribute.value) for name, attribute in attributes.items()} == LISTS
    assert isinstance(attributes["floats"].value, LongList)
    assert attributes["floats"].value[1:3] == tuple(LISTS["floats"][1:3])
    assert attributes["texts"].value[:3] == ("LEAF", "é", "")
    assert dict(attributes) == dict(whole.graph.node(0).attributes)


def test_what_is_written_is_what_was_read(tmp_path: Path) -> None:
    loaded = files.load(saved(node_model(**LISTS), tmp_path))
    files.save(loaded.clone(), tmp_path / "again.onnx")
    again = onnx.load(tmp_path / "again.onnx")
    assert list(again.graph.node[0].attribute) == list(node_model(**LISTS).graph.node[0].attribute)


def test_equal_lists_have_equal_keys_and_others_do_not(tmp_path: Path) -> None:
    one, same, other = (
        files.load(saved(node_model(entries=entries), tmp_path)).graph.node(0)
        for entries in (LISTS["ints"], LISTS["ints"], [*LISTS["ints"][:-1], 0])
    )
    assert attribute_values(one) == attribute_values(same)
    assert hash(attribute_values(one)) == hash(attribute_values(same))
    assert attribute_values(one) != attribute_values(other)


def test_lists_are_compared_by_their_entries(tmp_path: Path) -> None:
    model, changed = node_model(**LISTS), node_model(**{**LISTS, "floats": LISTS["floats"][::-1]})
    loaded = files.load(saved(model, tmp_path))
    assert [change.kind for change in diff(loaded, files.from_proto(model)).changes] == ["same"]
    [change] = diff(loaded, files.from_proto(changed)).changes
    assert "floats 4096 entries" in change.what[0]


def test_lists_inside_branches_and_functions_are_put_back(tmp_path: Path) -> None:
    model = node_model()
    branch = helper.make_graph(
        [helper.make_node("Mystery", ["x"], ["z"], domain="some.where", ints=LISTS["ints"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])],
    )
    model.graph.node[0].attribute.add(name="then", type=AttributeProto.GRAPH, g=branch)
    loaded = files.load(saved(model, tmp_path))
    inner = loaded.graph.node(0).attributes["then"].as_graph().node(0)
    assert list(inner.attributes["ints"].value) == LISTS["ints"]


def test_texts_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="can't be read as an ONNX model"):
        files.load(saved(node_model(texts=[b"\xff"] * MIN_LENGTH), tmp_path))


def test_a_list_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    content = node_model(ints=LISTS["ints"]).SerializeToString()
    start = content.find(b"ints") + 2000
    (tmp_path / "cut.onnx").write_bytes(content[:start] + b"\xff" * 200 + content[start + 200 :])
    with pytest.raises(BadModel, match="can't be read as an ONNX model"):
        files.load(tmp_path / "cut.onnx")


def unpacked_tensor(count: int) -> bytes:
    """A model whose tensor has each entry as a field of its own, as some writers do."""

    def field(number: int, content: bytes) -> bytes:
        return protobuf._field_header(number, len(content)) + content

    entries = b"\x25\0\0\x80\x3f" * count
    tensor = TensorProto(name="t", dims=[count], data_type=TensorProto.FLOAT).SerializeToString() + entries
    whole: bytes = node_model().SerializeToString()
    return whole + field(7, field(5, tensor))


@pytest.mark.parametrize("kind", ["floats", "ints", "tensor"])
def test_time_is_that_of_protobuf(tmp_path: Path, kind: str) -> None:
    count = 1_000_000
    path = tmp_path / "model.onnx"
    if kind == "tensor":
        path.write_bytes(unpacked_tensor(count))
    else:
        saved(node_model(entries=np.ones(count, "f4" if kind == "floats" else "i8").tolist()), tmp_path)

    def least(run: Callable[[Path], object]) -> float:
        took = []
        for _ in range(3):
            start = process_time()
            run(path)
            took.append(process_time() - start)
        return min(took)

    assert least(files.load) < 5 * least(onnx.load) + 0.05


def test_a_value_of_a_long_list_is_an_attribute(tmp_path: Path) -> None:
    loaded = files.load(saved(node_model(**LISTS), tmp_path))
    attribute = loaded.graph.node(0).attributes["floats"]
    assert (attribute.type, attribute.is_ref(), len(attribute.as_floats())) == (
        ir.AttributeType.FLOATS,
        False,
        MIN_LENGTH,
    )
    assert attribute.value.nbytes == 4 * MIN_LENGTH
