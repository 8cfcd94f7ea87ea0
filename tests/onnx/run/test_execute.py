"""Models in onnxruntime: inputs, outputs, error messages and timing."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from modelsurgeon.comparison.compare import compare
from modelsurgeon.data import Input, batches, noise
from modelsurgeon.errors import BadData, BadModel, Unavailable
from modelsurgeon.onnx import run
from modelsurgeon.onnx.io import files
from modelsurgeon.onnx.run import sessions
from tests import zoo

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((100, 80)).astype(np.float32)
FEED = {"x": RNG.standard_normal((2, 100)).astype(np.float32)}


def dense(weight: np.ndarray = WEIGHT) -> ir.Model:
    return zoo.model("g (float[N, 100] x) => (float[N, 80] y) { a = MatMul (x, w) y = Relu (a) }", w=weight)


# Inputs


def test_inputs_have_their_open_dimensions() -> None:
    model = zoo.model("g (float[N, 3, 8] x, int64[2] i, bool b) => (float[N, 3, 8] y) { y = Relu (x) }")
    assert run.inputs(model) == [
        Input(name="x", dtype=np.dtype(np.float32), shape=(None, 3, 8)),
        Input(name="i", dtype=np.dtype(np.int64), shape=(2,)),
        Input(name="b", dtype=np.dtype(np.bool_), shape=()),
    ]


def test_inputs_with_a_default_need_not_be_fed() -> None:
    model = zoo.model("g (float[2] x, float[2] w) => (float[2] y) { y = Add (x, w) }", w=zoo.ones(2))
    assert [each.name for each in run.inputs(model)] == ["x"]
    assert run.runner(model)({"x": zoo.ones(2)})["y"].tolist() == [2, 2]
    assert run.runner(model)({"x": zoo.ones(2), "w": zoo.ones(2) * 5})["y"].tolist() == [6, 6]


@pytest.mark.parametrize("dims", [(None, 3), (-1, 3), ("N", 3)])
def test_unknown_dimensions_are_open(dims: tuple[int | str | None, ...]) -> None:
    model = zoo.model("g (float[1] x) => (float y) { y = Relu (x) }")
    model.graph.inputs[0].shape = ir.Shape(dims)
    assert run.inputs(model)[0].shape == (None, 3)
    model.graph.inputs[0].shape = None
    assert run.inputs(model)[0].shape is None


def test_an_input_that_is_no_tensor_is_an_error() -> None:
    model = zoo.model("g (seq(float[2]) x) => (int64 y) { y = SequenceLength (x) }")
    with pytest.raises(BadModel, match=r"input 'x' is no tensor"):
        run.inputs(model)


# Running


def test_a_runner_gives_the_outputs_by_name() -> None:
    found = run.runner(dense(), optimize=False, threads=1)(FEED)
    assert list(found) == ["y"]
    np.testing.assert_allclose(found["y"], np.maximum(FEED["x"] @ WEIGHT, 0), rtol=1e-4, atol=1e-4)


def test_arrays_that_are_no_input_are_ignored() -> None:
    assert "y" in run.runner(dense())(FEED | {"label": np.zeros(2)})


@pytest.mark.parametrize("optimize", [True, False])
def test_inner_tensors_are_returned_on_request(optimize: bool) -> None:
    model = dense()
    found = run.runner(model, outputs=["a", "y"], optimize=optimize)(FEED)
    assert list(found) == ["y", "a"]
    np.testing.assert_allclose(found["a"], FEED["x"] @ WEIGHT, rtol=1e-4, atol=1e-4)
    assert [value.name for value in model.graph.outputs] == ["y"]


@pytest.mark.parametrize("kind", ["float16", "float", "double"])
def test_tensors_sequences_and_optionals_are_returned_whatever_their_type(kind: str) -> None:
    model = zoo.model(f"""g ({kind}[N, 4] x) => ({kind}[N, 4] y) {{
        c = Relu (x)  s = SequenceConstruct (c, c)  o = Optional (s)
        first = Constant <value_int: int = 0> ()  t = OptionalGetElement (o)  y = SequenceAt (t, first)
    }}""")
    x = np.ones((2, 4), {"float16": np.float16, "float": np.float32, "double": np.float64}[kind])
    found = run.runner(model, outputs=["c", "s", "o"])({"x": x})
    assert [found["c"].dtype, len(found["s"]), found["o"][1].dtype] == [x.dtype, 2, x.dtype]


def test_an_unknown_tensor_is_an_error() -> None:
    with pytest.raises(BadModel, match=r"there is no tensor 'q' among those"):
        run.runner(dense(), outputs=["q"])


def test_stale_shapes_in_the_file_are_ignored() -> None:
    model = dense()
    model.graph[0].outputs[0].shape = ir.Shape([7, 7, 7])
    model.graph[0].outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    assert run.runner(model, outputs=["a"])(FEED)["a"].shape == (2, 80)


def test_a_loaded_model_is_run_from_disk(tmp_path: Path) -> None:
    files.save(dense(), tmp_path / "model.onnx")
    model = files.load(tmp_path / "model.onnx")
    np.testing.assert_array_equal(run.runner(model)(FEED)["y"], run.runner(dense())(FEED)["y"])


def test_large_models_use_a_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run.runner(dense())(FEED)["y"]
    monkeypatch.setattr(sessions, "MAX_PROTOBUF_BYTES", 10_000)
    monkeypatch.setattr(files, "MAX_PROTOBUF_BYTES", 10_000)
    monkeypatch.setattr(sessions.tempfile, "tempdir", str(tmp_path))
    np.testing.assert_array_equal(run.runner(dense())(FEED)["y"], expected)
    assert not list(tmp_path.iterdir())


def test_weights_of_large_models_are_read_from_their_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run.runner(dense())(FEED)["y"]
    files.save(dense(), tmp_path / "model.onnx")
    model = files.load(tmp_path / "model.onnx")
    more = files.load(tmp_path / "model.onnx")
    more.graph.initializers["w"].const_value = ir.tensor(WEIGHT * 2, name="w")
    monkeypatch.setattr(sessions, "MAX_PROTOBUF_BYTES", 10_000)
    monkeypatch.setattr(sessions.tempfile, "tempdir", str(tmp_path / "gone"))
    np.testing.assert_array_equal(run.runner(model)(FEED)["y"], expected)
    (tmp_path / "model.onnx").write_bytes(b"changed")
    with pytest.raises(FileNotFoundError, match="gone"):  # through a temporary file
        run.runner(model)
    with pytest.raises(FileNotFoundError, match="gone"):
        run.runner(more)


def test_optimizations_do_not_change_the_outputs() -> None:
    model = files.load(zoo.light("squeezenet"))
    found = compare(
        run.runner(model),
        run.runner(model, optimize=False, threads=1),
        noise(run.inputs(model), samples=1),
    )
    assert found.worst < 1e-5


# Errors


@pytest.mark.parametrize(
    ("feed", "match"),
    [
        (
            {"x": zoo.ones(2, 99)},
            r"the model can't run on these inputs \(.*100.*\): give sizes that fit with --shape",
        ),
        ({"x": np.ones((2, 100))}, r"the model can't run on these inputs \(.*double.*\): give"),
        ({"z": zoo.ones(2, 100)}, r"the feed lacks x: the model needs x"),
    ],
)
def test_a_feed_that_does_not_fit_is_an_error_of_one_line(feed: dict[str, np.ndarray], match: str) -> None:
    with pytest.raises(BadData, match=match) as caught:
        run.runner(dense())(feed)
    text = str(caught.value)
    assert "\n" not in text
    assert "onnxruntime_src" not in text
    assert "[ONNXRuntimeError]" not in text


def test_sizes_that_clash_in_the_graph_are_an_error() -> None:
    model = zoo.model("g (float[N] x) => (float[M] y) { y = Add (x, w) }", w=zoo.ones(3))
    with pytest.raises(BadData, match=r"the model can't run on these inputs"):
        run.runner(model)({"x": zoo.ones(2)})


def test_a_missing_operator_is_an_error() -> None:
    model = zoo.model("g (float[N] x) => (float[N] y) { y = local.Mystery (x) }")
    with pytest.raises(Unavailable, match=r"onnxruntime here lacks an operator \(.*Mystery"):
        run.runner(model)


def test_a_graph_that_onnxruntime_refuses_is_an_error() -> None:
    model = zoo.model("g (float[N] x) => (float[N] y) { y = Add (x) }")
    with pytest.raises(BadModel, match=r"onnxruntime can't load the model \(.*\): check it"):
        run.runner(model)


def test_an_unknown_provider_is_an_error() -> None:
    with pytest.raises(Unavailable, match=r"there is no provider 'tpu': use cpu or cuda"):
        run.runner(dense(), provider="tpu")


@pytest.mark.skipif("CUDAExecutionProvider" in ort.get_available_providers(), reason="CUDA is here")
def test_missing_cuda_is_an_error_without_fallback() -> None:
    with pytest.raises(Unavailable, match=r"cuda isn't in this onnxruntime: install onnxruntime-gpu"):
        run.runner(dense(), provider="cuda")


def test_onnxruntime_prints_nothing_by_itself(capfd: pytest.CaptureFixture[str]) -> None:
    model = zoo.model("g (float[N] x) => (float[M] y) { y = Add (x, w) }", w=zoo.ones(3))
    with pytest.raises(BadData, match=r"can't run"):
        run.runner(model)({"x": zoo.ones(2)})
    assert capfd.readouterr() == ("", "")


# Timing


def test_latency_is_measured_for_each_model() -> None:
    models = [dense(), dense(WEIGHT[:, :8])]
    found = run.latency(models, FEED, repeats=20, threads=1)
    for each in found:
        assert 0 < each.p10_ms <= each.median_ms <= each.p90_ms
        assert (each.runs, each.threads, each.provider) == (20, 1, "cpu")


def test_the_larger_model_takes_longer() -> None:
    deep = "g (float[64, 512] x) => (float[64, 512] y) {{ a = MatMul (x, w) {} }}"
    wide = RNG.standard_normal((512, 512)).astype(np.float32)
    one = zoo.model(deep.format("y = Relu (a)"), w=wide)
    many = zoo.model(
        deep.format(
            "b = MatMul (a, w) c = MatMul (b, w) d = MatMul (c, w) e = MatMul (d, w) y = MatMul (e, w)"
        ),
        w=wide,
    )
    found = run.speedup(many, one, {"x": zoo.ones(64, 512)}, repeats=30, threads=1)
    assert found.speedup > 2
    assert found.p10 <= found.speedup <= found.p90
    assert found.as_dict()["before"]["median_ms"] == found.before.median_ms


@pytest.mark.parametrize(("repeats", "runs"), [(1, 1), (3, 3), (10, 10), (11, 20)])
def test_at_least_as_many_runs_as_were_asked_for(repeats: int, runs: int) -> None:
    (found,) = run.latency([dense()], FEED, repeats=repeats, threads=1)
    assert found.runs == runs


def test_timing_needs_a_run_and_a_feed_that_fits() -> None:
    with pytest.raises(BadData, match=r"0 timed runs"):
        run.latency([dense()], FEED, repeats=0)
    with pytest.raises(BadData, match=r"the model can't run on this feed"):
        run.latency([dense()], {"x": zoo.ones(2, 99)}, threads=1)


def test_a_runner_is_thread_safe() -> None:
    runner, expected = run.runner(dense(), threads=1), run.runner(dense(), threads=1)(FEED)["y"]
    found: list[bool] = []
    workers = [
        threading.Thread(target=lambda: found.append(np.array_equal(runner(FEED)["y"], expected)))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 4


def test_inputs_with_defaults_and_of_whole_numbers() -> None:
    model = zoo.model(
        """
        g (float[N, 8] ids, float[N, 8] x, float[8] w) => (float[N, 8] y) {
            i = Cast <to = 7> (ids)
            f = Cast <to = 1> (i)
            s = Add (x, f)
            y = Add (s, w)
        }
        """,
        w=zoo.ones(8),
    )
    assert [spec.name for spec in run.inputs(model)] == ["ids", "x"]
    ids, x, w = run.inputs(model, with_defaults=True)
    assert (ids.made_whole, x.made_whole, w.has_default) == (True, False, True)
    pixels = np.arange(256.0).reshape(-1, 8)
    assert batches({"ids": pixels, "x": pixels / 255}, [ids, x, w]).note == ""
    assert "warning: x holds" in batches({"ids": pixels, "x": pixels}, [ids, x, w]).note
