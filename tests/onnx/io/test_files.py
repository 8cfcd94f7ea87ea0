"""Loading and saving: errors for invalid files, external data, deterministic bytes."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, numpy_helper

from modelsurgeon.errors import BadModel, Unwritable
from modelsurgeon.onnx.io import files
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor
from tests import zoo

RNG = np.random.default_rng(0)
BIG = RNG.standard_normal((100, 80)).astype(np.float32)
SMALL = RNG.standard_normal((1, 80)).astype(np.float32)


def dense(weight: np.ndarray = BIG) -> ir.Model:
    return zoo.model(
        "g (float[N, 100] x) => (float[N, 80] y) { a = MatMul (x, w) y = Add (a, b) }", w=weight, b=SMALL
    )


def tensor(model: ir.Model, name: str = "w") -> ir.TensorProtocol:
    found = model.graph.initializers[name].const_value
    assert found is not None
    return found


def saved(folder: Path, name: str = "model.onnx") -> Path:
    files.save(dense(), folder / name)
    return folder / name


def outside(folder: Path, location: str = "model.data", *, data: bool = True, **entries: str) -> Path:
    """A model whose weight w is external data."""
    model = onnx.load(saved(folder))
    (weight,) = (each for each in model.graph.initializer if each.name == "w")
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in ({"location": location} | entries).items():
        weight.external_data.add(key=key, value=value)
    if data:
        (folder / "model.data").write_bytes(BIG.tobytes())
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder / "model.onnx"


def output(model: ir.Model | Path) -> np.ndarray:
    whole = model.read_bytes() if isinstance(model, Path) else ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(whole, providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"x": np.ones((2, 100), np.float32)})[0]
    return found


# Invalid files


def test_a_missing_file_raises(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"gone.onnx can't be opened \(No such file or directory\)"):
        files.load(tmp_path / "gone.onnx")


def test_control_characters_of_a_path_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"\\x1b\[2J\\n.onnx can't be opened"):
        files.load(tmp_path / "\x1b[2J\n.onnx")


def test_a_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"is a folder: name the .onnx file in it"):
        files.load(tmp_path)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", r"is empty: an ONNX model is needed"),
        (b"Hello, I am no model.\n", r"is a text file that begins 'Hello, I am no model'"),
        (b'{"layers": []}', r"is a text file"),
        ("é".encode() * 400, r"is a text file"),
        (b"a" + "é".encode() * 400, r"is a text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", r"is a Git LFS pointer: fetch"),
        (b"PK\x03\x04" + bytes(40), r"is a zip archive"),
        (pickle.dumps({"weight": 1}), r"is a Python pickle"),
        (b"\x08\x09", r"holds no graph"),
        (bytes(100), r"can't be read as an ONNX model"),
        (bytes([0xFB, 0xF0, 0xD5]) + bytes([0xFF]) * 50, r"no ONNX model|can't be read"),
    ],
)
def test_other_files_raise(content: bytes, match: str, tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    with pytest.raises(BadModel, match=match):
        files.load(path)


def test_a_truncated_model_raises(tmp_path: Path) -> None:
    whole = saved(tmp_path).read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 20):
        (tmp_path / "model.onnx").write_bytes(whole[:length])
        with pytest.raises(BadModel, match=r"is cut short"):
            files.load(tmp_path / "model.onnx")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes with names")
def test_a_pipe_raises_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(BadModel, match=r"is a device or a pipe"):
        files.load(tmp_path / "pipe.onnx")


# Weights on disk


def test_large_weights_are_read_on_access(tmp_path: Path) -> None:
    model = files.load(saved(tmp_path))
    weight = tensor(model)
    assert isinstance(weight, StoredTensor)
    assert not isinstance(tensor(model, "b"), StoredTensor)
    np.testing.assert_array_equal(weight.numpy(), BIG)
    assert weight.tobytes() == BIG.tobytes()
    assert not weight.numpy().flags.writeable


@pytest.mark.parametrize("field", ["float_data", "raw_data"])
def test_attributes_and_typed_fields_are_read_on_access(field: str, tmp_path: Path) -> None:
    proto = onnx.load(saved(tmp_path))
    weight = next(each for each in proto.graph.initializer if each.name == "w")
    proto.graph.initializer.remove(weight)
    if field == "float_data":
        weight.ClearField("raw_data")
        weight.float_data.extend(BIG.ravel())
    constant = onnx.helper.make_node("Constant", [], ["w"], value=weight)
    proto.graph.node.insert(0, constant)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    model = files.load(tmp_path / "model.onnx")
    stored = model.graph[0].attributes["value"].as_tensor()
    assert isinstance(stored, StoredTensor)
    np.testing.assert_array_equal(stored.numpy(), BIG)
    files.save(model, tmp_path / "again.onnx")
    np.testing.assert_array_equal(output(tmp_path / "again.onnx"), output(tmp_path / "model.onnx"))


@pytest.mark.parametrize("dtype", list(ir.DataType), ids=lambda dtype: dtype.name)
def test_every_element_type_is_read_as_in_onnx_ir(dtype: ir.DataType, tmp_path: Path) -> None:
    if dtype in (ir.DataType.UNDEFINED, ir.DataType.STRING):
        return
    count = 200_001 if dtype.bitwidth in (2, 4) else 200_000  # the last byte isn't full
    values = RNG.integers(0, 2, -(-count * int(dtype.bitwidth) // 8), dtype=np.uint8).tobytes()
    whole = TensorProto(name="w", data_type=dtype.value, dims=[count], raw_data=values)
    proto = ir.to_proto(dense())
    proto.graph.initializer.append(TensorProto.FromString(whole.SerializeToString()))
    proto.graph.initializer[-1].name = "z"
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    stored = tensor(files.load(tmp_path / "model.onnx"), "z")
    assert isinstance(stored, StoredTensor)
    assert stored.tobytes() == values
    np.testing.assert_array_equal(stored.numpy(), ir.serde.deserialize_tensor(whole).numpy())


def test_reading_from_a_changed_file_raises(tmp_path: Path) -> None:
    path = saved(tmp_path)
    model = files.load(path)
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BadModel, match=r"has changed since the model was loaded: load it again"):
        tensor(model).numpy()
    path.unlink()
    with pytest.raises(BadModel, match=r"has changed since"):
        tensor(model).numpy()


def test_loading_takes_no_memory_for_weights(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    files.save(dense(np.zeros((100, 80_000), np.float32)), tmp_path / "large.onnx")  # 32 MB
    code = """
import resource, sys
from modelsurgeon.onnx.io import files
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
files.save(files.load(sys.argv[1]), sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "large.onnx", tmp_path / "copy.onnx"],
        capture_output=True,
        check=True,
        text=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 24e6
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "large.onnx").read_bytes()


# External data


@pytest.mark.parametrize(
    "entries",
    [{}, {"offset": "0"}, {"length": str(BIG.nbytes)}, {"checksum": "1234"}, {"location": "./model.data"}],
)
def test_external_data_is_found(entries: dict[str, str], tmp_path: Path) -> None:
    model = files.load(outside(tmp_path, **entries))
    np.testing.assert_array_equal(tensor(model).numpy(), BIG)


def test_external_data_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = outside(tmp_path)
    monkeypatch.chdir(tmp_path)
    model = files.load(path.name)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(tensor(model).numpy(), BIG)


@pytest.mark.parametrize(
    "location",
    ["../model.data", "a/../../model.data", "/etc/passwd", "C:\\model.data", "..\\model.data", "", "a\0b"],
)
def test_data_outside_the_folder_is_refused(location: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"only a path inside the model's folder is read"):
        files.load(outside(tmp_path, location))


@pytest.mark.parametrize(
    ("entries", "match"),
    [
        ({"offset": "4"}, r"ends at byte 32004 of model.data, which has 32000"),
        ({"offset": "-4"}, r"has the offset '-4': a whole number from 0 on is needed"),
        ({"offset": "1e3"}, r"has the offset '1e3'"),
        ({"offset": "٣"}, r"has the offset '٣'"),
        ({"length": "32001"}, r"has 32001 bytes, 32000 are needed"),
        ({"length": "31999"}, r"has 31999 bytes, 32000 are needed"),
        ({"length": "9" * 30}, r"has the length '9"),
        (
            {"location": "other.data"},
            r"needs its data file 'other.data', which can't be opened \(No such file",
        ),
        ({"location": "."}, r"needs its data file '.', which is a folder"),
        ({"location": "*/_ORT_MEM_ADDR_/*"}, r"needs its data file"),
    ],
)
def test_invalid_external_data_raises(entries: dict[str, str], match: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=match):
        files.load(outside(tmp_path, **entries))


def test_a_location_given_twice_is_refused(tmp_path: Path) -> None:
    proto = onnx.load(outside(tmp_path), load_external_data=False)
    weight = next(each for each in proto.graph.initializer if each.name == "w")
    weight.external_data.add(key="location", value="other.data")
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(BadModel, match=r"without one clear location"):
        files.load(tmp_path / "model.onnx")


def test_a_link_out_of_the_folder_is_refused_unless_in_the_root(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    path = outside(folder)
    (tmp_path / "blob").write_bytes((folder / "model.data").read_bytes())
    (folder / "model.data").unlink()
    (folder / "model.data").symlink_to(tmp_path / "blob")
    with pytest.raises(BadModel, match=r"a link out of the model's folder: copy the file there"):
        files.load(path)
    np.testing.assert_array_equal(tensor(files.load(path, root=tmp_path)).numpy(), BIG)
    with pytest.raises(BadModel, match=r"a link out of the model's folder"):
        files.load(path, root=folder)


def test_a_link_within_the_folder_is_followed(tmp_path: Path) -> None:
    path = outside(tmp_path)
    (tmp_path / "model.data").rename(tmp_path / "real")
    (tmp_path / "model.data").symlink_to("real")
    np.testing.assert_array_equal(tensor(files.load(path)).numpy(), BIG)


def test_a_cache_of_links_is_read(tmp_path: Path) -> None:
    """The layout of download caches: model and data are links into a folder of blobs."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    outside(blobs)
    for name in ("model.onnx", "model.data"):
        (blobs / name).rename(blobs / f"{name}.blob")
        (snapshot / name).symlink_to(blobs / f"{name}.blob")
    np.testing.assert_array_equal(tensor(files.load(snapshot / "model.onnx", root=tmp_path)).numpy(), BIG)


def test_a_hard_link_is_refused_unless_a_root_is_given(tmp_path: Path) -> None:
    path = outside(tmp_path)
    os.link(tmp_path / "model.data", tmp_path / "twin")
    with pytest.raises(BadModel, match=r"which is a hard link to a file elsewhere: copy the file"):
        files.load(path)
    assert files.load(path, root=tmp_path)


def test_a_device_is_refused(tmp_path: Path) -> None:
    path = outside(tmp_path, data=False)
    (tmp_path / "model.data").symlink_to("/dev/zero")
    with pytest.raises(BadModel, match=r"is a device or a pipe"):
        files.load(path, root=Path("/"))


# ModelProtos in memory


def test_a_model_proto_is_validated(tmp_path: Path) -> None:
    proto = ir.to_proto(dense())
    np.testing.assert_array_equal(tensor(files.from_proto(proto)).numpy(), BIG)
    proto.graph.node[0].input[0] = "q"
    with pytest.raises(BadModel, match=r"the ModelProto has node 0 .* which needs 'q'"):
        files.from_proto(proto)
    beside = onnx.load(outside(tmp_path), load_external_data=False)
    with pytest.raises(BadModel, match=r"'w', which is in another file: load the model by its path"):
        files.from_proto(beside)


# Saving


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    first = saved(tmp_path)
    files.save(files.load(first), tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == first.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.onnx", "model.onnx"]


@pytest.mark.parametrize("name", ["bvlc_alexnet", "squeezenet"])
def test_saving_keeps_nodes_and_weights(name: str, tmp_path: Path) -> None:
    files.save(files.load(zoo.light(name)), tmp_path / "model.onnx")
    before, after = onnx.load(zoo.light(name)), onnx.load(tmp_path / "model.onnx")
    assert [node.SerializeToString() for node in before.graph.node] == [
        node.SerializeToString() for node in after.graph.node
    ]
    assert {t.name: numpy_helper.to_array(t).tobytes() for t in before.graph.initializer} == {
        t.name: numpy_helper.to_array(t).tobytes() for t in after.graph.initializer
    }


def test_a_model_can_be_saved_over_its_own_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    model = files.load(path)
    model.graph.initializers["b"].const_value = ir.tensor(np.zeros((1, 80), np.float32), name="b")
    files.save(model, path)
    np.testing.assert_array_equal(tensor(model).numpy(), BIG)
    np.testing.assert_allclose(output(path), np.ones((2, 100), np.float32) @ BIG, rtol=1e-4, atol=1e-4)


def test_a_failed_save_changes_no_file(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = path.read_bytes()

    def fails() -> ir.TensorProtocol:
        raise KeyboardInterrupt("stop")

    model = dense()
    shape = ir.Shape([100, 80])
    model.graph.initializers["w"].const_value = ir.LazyTensor(fails, ir.DataType.FLOAT, shape, name="w")
    with pytest.raises(KeyboardInterrupt, match="stop"):
        files.save(model, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_a_weight_with_too_few_bytes_is_not_written(tmp_path: Path) -> None:
    model = dense()
    short = ir.LazyTensor(lambda: ir.tensor(SMALL), ir.DataType.FLOAT, ir.Shape([100, 80]), name="w")
    model.graph.initializers["w"].const_value = short
    with pytest.raises(BadModel, match=r"weight 'w' gave 320 bytes, 32000 are needed"):
        files.save(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_an_invalid_graph_is_not_written(tmp_path: Path) -> None:
    model = dense()
    del model.graph.initializers["w"]
    with pytest.raises(BadModel, match=r"the graph isn't valid, no node makes 'w'"):
        files.save(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(Unwritable, match=r"the folder .*gone doesn't exist"):
        files.save(dense(), tmp_path / "gone" / "model.onnx")


def test_stack_traces_are_not_saved(tmp_path: Path) -> None:
    model = dense()
    node = model.graph[0]
    node.metadata_props["pkg.torch.onnx.stack_trace"] = "File /srv/me/net.py"
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'fc']"
    node.outputs[0].metadata_props["pkg.torch.onnx.stack_trace"] = "File /srv/me/net.py"
    files.save(model, tmp_path / "model.onnx")
    content = (tmp_path / "model.onnx").read_bytes()
    assert b"/srv/me" not in content
    assert b"name_scopes" in content
    assert "pkg.torch.onnx.stack_trace" in node.metadata_props


def test_large_models_have_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_PROTOBUF_BYTES", 10_000)
    files.save(dense(), tmp_path / "model.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (tmp_path / "model.onnx").stat().st_size < 10_000
    np.testing.assert_array_equal(
        ort.InferenceSession(tmp_path / "model.onnx").run(None, {"x": np.ones((2, 100), np.float32)})[0],
        output(dense()),
    )
    model = files.load(tmp_path / "model.onnx")
    files.save(model, tmp_path / "model.onnx")
    np.testing.assert_array_equal(tensor(model).numpy(), BIG)
    np.testing.assert_array_equal(tensor(files.load(tmp_path / "model.onnx")).numpy(), BIG)


def test_external_data_is_embedded_when_it_fits(tmp_path: Path) -> None:
    files.save(files.load(outside(tmp_path)), tmp_path / "one.onnx")
    (tmp_path / "model.data").unlink()
    np.testing.assert_array_equal(output(tmp_path / "one.onnx"), output(dense()))


@pytest.mark.models
def test_every_public_model_is_loaded_and_saved(tmp_path: Path) -> None:
    folder = os.environ.get("MODELSURGEON_MODELS")
    if folder is None:
        pytest.skip("MODELSURGEON_MODELS names no folder")
    for path in sorted(Path(folder).rglob("*.onnx")):
        files.save(files.load(path), tmp_path / "once.onnx")
        files.save(files.load(tmp_path / "once.onnx"), tmp_path / "twice.onnx")
        assert (tmp_path / "once.onnx").read_bytes() == (tmp_path / "twice.onnx").read_bytes()
