"""Large tensors split from a model are joined again, and nothing else changes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.io import files, protobuf
from tests import zoo

sizes = st.sampled_from(
    [
        0,
        1,
        protobuf.LARGE_TENSOR_BYTES - 1,
        protobuf.LARGE_TENSOR_BYTES,
        protobuf.LARGE_TENSOR_BYTES + 1,
        3 * protobuf.LARGE_TENSOR_BYTES,
    ]
)


@st.composite
def tensors(draw: st.DrawFn) -> TensorProto:
    size = draw(sizes)
    kind = draw(st.sampled_from(["raw", "floats", "doubles", "integers", "mixed"]))
    tensor = TensorProto(name=draw(st.text(max_size=5)), dims=[size], data_type=TensorProto.FLOAT)
    if kind == "raw":
        tensor.raw_data = b"w" * size
    elif kind == "floats":
        tensor.float_data.extend(np.ones(size // 4))
    elif kind == "doubles":
        tensor.data_type = TensorProto.DOUBLE
        tensor.double_data.extend(np.ones(size // 8))
    elif kind == "integers":
        tensor.int64_data.extend([7] * size)
    else:
        tensor.raw_data = b"w" * size
        tensor.float_data.extend(np.ones(size // 4))
    return tensor


@st.composite
def models(draw: st.DrawFn, depth: int = 2) -> ModelProto:
    """Models with tensors in all places: initializers, attributes, subgraphs, functions."""
    model = ModelProto(ir_version=9, graph=helper.make_graph([], "g", [], []))
    graph = model.graph
    for _ in range(depth):
        graph.initializer.extend(draw(st.lists(tensors(), max_size=2)))
        node = graph.node.add(op_type="If", name=draw(st.text(max_size=3)))
        node.attribute.add(name="value", t=draw(tensors()))
        node.attribute.add(name="values", tensors=draw(st.lists(tensors(), max_size=2)))
        inner = node.attribute.add(name="body")
        graph = inner.g if draw(st.booleans()) else inner.graphs.add()
    body = model.functions.add(name="f").node.add(op_type="Constant")
    body.attribute.add(name="value", t=draw(tensors()))
    return model


class Slice:
    """Some bytes of a file, as a tensor."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.nbytes = len(content)


def every_tensor(message: object) -> list[TensorProto]:
    if isinstance(message, TensorProto):
        return [message]
    found = []
    for field, value in message.ListFields():  # type: ignore[attr-defined]
        if field.message_type is not None:
            for each in value if field.is_repeated else [value]:
                found += every_tensor(each)
    return found


@given(models())
def test_split_tensors_are_joined_unchanged(model: ModelProto) -> None:
    whole = model.SerializeToString()
    skeleton = ModelProto.FromString(protobuf.split_large_tensors(BytesIO(whole), len(whole)))
    references = [each for each in every_tensor(skeleton) if each.data_location == TensorProto.EXTERNAL]
    found = []
    for number, each in enumerate(references):
        entries = {entry.key: entry.value for entry in each.external_data}
        start = int(entries["offset"])
        found.append(Slice(whole[start : start + int(entries["length"])]))
        each.external_data[1].value = str(number)
    pieces = protobuf.join_large_tensors(
        skeleton.SerializeToString(), lambda number: protobuf.raw_data_field(found[number])
    )
    again = b"".join(piece.content if isinstance(piece, Slice) else piece for piece in pieces)  # type: ignore[misc]
    assert protobuf.total_bytes(pieces) == len(again)
    assert normal(ModelProto.FromString(again)) == normal(model)


@given(models())
def test_large_tensors_in_one_field_are_split(model: ModelProto) -> None:
    whole = model.SerializeToString()
    skeleton = ModelProto.FromString(protobuf.split_large_tensors(BytesIO(whole), len(whole)))
    for before, after in zip(every_tensor(model), every_tensor(skeleton), strict=True):
        one_field = not (before.raw_data and before.float_data)
        size = max(len(before.raw_data), 4 * len(before.float_data), 8 * len(before.double_data))
        aside = after.data_location == TensorProto.EXTERNAL
        assert aside == (one_field and size > protobuf.LARGE_TENSOR_BYTES)
        assert after.name == before.name
        assert aside or after == before


def normal(model: ModelProto) -> bytes:
    """The serialized model, with typed floats as raw data."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for tensor in every_tensor(copy):
        typed, kind = (
            (tensor.float_data, "<f4")
            if tensor.data_type == TensorProto.FLOAT
            else (tensor.double_data, "<f8")
        )
        if len(typed) and not tensor.raw_data:
            tensor.raw_data = np.asarray(typed, kind).tobytes()
            del typed[:]
    return copy.SerializeToString(deterministic=True)


def test_unpacked_floats_are_not_split() -> None:
    loose = b"\x25\x00\x00\x80\x3f" * 5000  # float_data, not packed
    content = TensorProto(name="w", dims=[5000], data_type=1).SerializeToString() + loose
    graph = b"\x2a" + varint(len(content)) + content
    whole = b"\x08\x09\x3a" + varint(len(graph)) + graph
    assert protobuf.split_large_tensors(BytesIO(whole), len(whole)) == whole


def varint(value: int) -> bytes:
    return bytes([value & 127 | 128, *varint(value >> 7)]) if value > 127 else bytes([value])


def test_a_forged_reference_to_split_data_raises(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = zoo.model("g (float[2] x) => (float[2] y) { y = Neg (x) }")
    files.save(model, path)
    proto = ModelProto.FromString(path.read_bytes())
    fake = proto.graph.initializer.add(name="w", dims=[10**6], data_type=TensorProto.FLOAT)
    fake.MergeFrom(protobuf.external_reference(protobuf.ASIDE_LOCATION, 0, 4 * 10**6))
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadModel, match=r"ends at byte 4000000 of model.onnx"):
        files.load(path)


@pytest.mark.parametrize(
    "content",
    [b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x3a\x05abc", b"\x0b", b"\xff" * 12, b"\x3d\x00"],
)
def test_bytes_that_are_no_protobuf_raise(content: bytes) -> None:
    with pytest.raises(BadModel, match=r"is cut short or no ONNX model|can't be read as an ONNX model"):
        protobuf.split_large_tensors(BytesIO(content), len(content))
