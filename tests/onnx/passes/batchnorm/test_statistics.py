"""Statistics from data equal those of one large batch; `bn inspect` and `bn sanitize`."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.run import runner
from tests import zoo
from tests.onnx.passes.batchnorm.nets import CONV, MAPS, NORM, STATS, net, weights

DEEP = f"""
    n = BatchNormalization (x, {STATS}) c = Conv (n, w) r = Relu (c)
    m = BatchNormalization (r, {STATS}) o = BatchNormalization (c, {STATS}) s = Add (m, o)
    y = BatchNormalization (s, {STATS})
"""


def statistics(model: ir.Model) -> list[np.ndarray]:
    return [
        ir.convenience.get_const_tensor(node.inputs[place]).numpy()  # type: ignore[union-attr, arg-type]
        for node in model.graph
        if node.op_type == "BatchNormalization"
        for place in (3, 4)
    ]


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(7).normal(1.0, 2.0, size=(count, 4, 6, 6)).astype(np.float32)


def test_statistics_equal_one_large_batch() -> None:
    """The reference is onnxruntime: in training mode with momentum 0 it outputs the batch statistics."""
    done = ms.bn.recalibrate(net(DEEP, "float[N, 4, 6, 6] x", **CONV), data=samples(8))
    model = net(DEEP, "float[8, 4, 6, 6] x", **CONV)
    norms = [node for node in model.graph if node.op_type == "BatchNormalization"]
    for number, node in enumerate(norms):
        node.attributes.add(ir.AttrInt64("training_mode", 1))
        node.attributes.add(ir.AttrFloat32("momentum", 0.0))
        node.resize_outputs(3)
        for name, value in zip(("mean", "var"), node.outputs[1:], strict=True):
            value.name, value.type = f"{name}{number}", ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(value)
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    _, *wanted = session.run(None, {"x": samples(8)})
    for ours, theirs in zip(statistics(done.model), wanted, strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-5 * np.linalg.norm(theirs)
    assert done.comparison is not None
    assert done.comparison.samples == 8
    assert "the statistics are those of all 8 samples, and compared on the same" in done.comparison.notes


def test_recalibrate_needs_samples() -> None:
    with pytest.raises(ms.BadData, match="can't be made from noise: give samples with --data"):
        ms.bn.recalibrate(net(f"c = Relu (x) y = {NORM}", **CONV))


@pytest.mark.parametrize(
    ("body", "x", "reason"),
    [
        (f"y, m, v = BatchNormalization <training_mode = 1> (x, {STATS})", MAPS, "training mode"),
        (f"y = BatchNormalization (x, {STATS})", "float[1, 4] x", "fewer than two values per channel"),
    ],
)
def test_skipped_norm_has_a_reason(body: str, x: str, reason: str) -> None:
    model = net(body, x, **CONV)
    data = np.ones([int(size) for size in model.graph.inputs[0].shape], np.float32)  # type: ignore[union-attr]
    (edit,) = ms.bn.recalibrate(model, data=data, compare=False).edits
    assert reason in str(edit.skipped)


def test_only_option() -> None:
    done = ms.bn.recalibrate(net(DEEP, **CONV), data=samples(4), only=["m"])
    assert [edit.layer for edit in done.edits if edit.skipped is None] == ["m"]


def test_inspect_lists_every_norm() -> None:
    body = (
        f"n = BatchNormalization (x, {STATS}) y, m, v = BatchNormalization <training_mode = 1> (n, {STATS})"
    )
    model = net(body, **(CONV | {"var": np.array([1, -1, 1e-9, 1], np.float32)}))
    found = ms.bn.inspect(model)
    rules = {name: {finding.rule for finding in each} for name, each in found.layers.items()}
    assert rules == {
        "n": {"negative-variance", "near-zero-variance"},
        "y": {"negative-variance", "near-zero-variance", "training-mode"},
    }
    (first, _) = found.as_dict()["layers"]
    assert set(first) == {"layer", "findings"}
    assert set(first["findings"][0]) == {"rule", "message"}
    assert "2 batch norms, 0 of them without a finding" in found.tables()[0].text(80)
    assert "mean-drift" in {f.rule for f in ms.bn.inspect(model, data=samples(4)).layers["n"]}


def test_unreadable_norm_is_reported() -> None:
    model = net("y = BatchNormalization (x, scale, shift, mean, v)", f"{MAPS}, float[4] v", **CONV)
    assert ms.bn.inspect(model).layers["y"][0].rule == "unreadable"


@pytest.mark.parametrize("data", [None, samples(4)])
def test_sanitize_gives_finite_outputs(data: np.ndarray | None) -> None:
    broken = CONV | {"var": np.array([1, np.nan, 0, -1], np.float32)}
    norm = f"BatchNormalization <training_mode = 1, momentum = 2.0> (c, {STATS})"
    model = net(f"c = Conv (x, w) n, m, v = {norm} y = Relu (n)", **broken)
    done = ms.bn.sanitize(model, data=data, compare=data is not None)
    (edit,) = done.edits
    repairs = edit.details["repairs"]
    assert all(word in repairs for word in ("training mode ended", "momentum set to 0.9", "of 4 channels"))
    assert ("those of the data" in repairs) is (data is not None)
    outputs = runner(done.model)({"x": samples(2)})
    assert np.isfinite(outputs["y"]).all()
    again = ms.bn.sanitize(done.model, compare=False)
    assert [edit.skipped for edit in again.edits] == ["nothing is wrong with it"]


def test_half_precision_norms_are_measured_where_no_type_is_written() -> None:
    """Nor does a variance that overflows the type get into the file."""
    half = {"w": np.full((4, 4, 1, 1), 1, np.float16)} | {
        name: np.ones(4, np.float16) for name in ("s", "b", "m", "v")
    }
    model = net("c = Conv (x, w) y = BatchNormalization (c, s, b, m, v)", "float16[N, 4, 6, 6] x", **half)
    data = np.random.default_rng(0).standard_normal((4, 4, 6, 6)).astype(np.float16)
    assert all(edit.skipped is None for edit in ms.bn.recalibrate(model, data=data, compare=False).edits)
    [edit] = ms.bn.recalibrate(model, data=data * np.float16(1000), compare=False).edits
    assert edit.skipped == "its statistics aren't finite in float16"


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("verb", [ms.bn.recalibrate, ms.bn.sanitize, ms.bn.inspect])
def test_inputs_of_norms_are_measured_in_their_own_type(verb: Any, dtype: np.dtype[Any]) -> None:  # noqa: ANN401
    """No type of an inner tensor is declared: it isn't float in every net."""
    kind = {np.float16: "float16", np.float64: "double"}[dtype]
    arrays = {name: array.astype(dtype) for name, array in weights(w=(4, 4)).items()}
    text = f"g ({kind}[N, 4] x) => ({kind}[N, 4] y) {{ c = MatMul (x, w) y = {NORM} }}"
    found = verb(zoo.model(text, **arrays), data=samples(8)[:, :, 0, 0].astype(dtype))
    drifts = [finding.rule for layer in getattr(found, "layers", {}).values() for finding in layer]
    assert "mean-drift" in drifts or found.comparison is not None
