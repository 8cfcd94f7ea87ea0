"""Calibration of whole nets: lower errors than by weight, error prediction, and unusual samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.output_errors import score_function, squared_error
from modelsurgeon.calibration.sensitivity import Sensitivity, collect_moments, sensitivity
from modelsurgeon.compression.result import disagreement_notes
from modelsurgeon.errors import BadData
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import PlanStep
from tests.calibration.nets import ending, pictures
from tests.zoo import model

DIGITS = Path(__file__).parents[2] / "examples" / "digits"


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return ending("y = Identity (z)")


def worst(result: ms.Result) -> float:
    assert result.comparison is not None
    return float(result.comparison.worst)


def test_samples_lower_the_error_and_a_refit_even_more(net: ir.Model) -> None:
    data = pictures(64, 2)
    plan = ms.compress(net, macs=0.4, compare=False).plan
    blind = ms.compare(net, ms.compress(net, plan=plan, compare=False).model, data=data).worst
    aware = worst(ms.compress(net, plan=plan, data=data, refit=False))
    fitted = worst(ms.compress(net, plan=plan, data=data))
    assert fitted < 0.95 * aware and aware < 0.6 * blind


def test_predicted_error_is_near_the_measured(net: ir.Model) -> None:
    result = ms.compress(net, macs=0.4, data=pictures(64, 3))
    assert result.predicted is not None
    assert result.predicted / 1.5 < worst(result) < result.predicted * 1.5
    assert all(e.output_error is not None and e.output_error < 1 for e in result.edits if e.skipped is None)
    assert result.as_dict()["predicted_error"] == result.predicted
    assert result.as_dict()["measured_error"] == worst(result)


@pytest.mark.parametrize("goal", [{"macs": 0.4}, {"rank": 16, "method": "cp"}])
def test_edits_have_their_own_error_and_the_error_so_far(net: ir.Model, goal: dict[str, Any]) -> None:
    done = [e for e in ms.compress(net, **goal, data=pictures(64, 3)).edits if e.skipped is None]
    assert len(done) > 1
    for edit in done:
        assert edit.own_error is not None and edit.output_error is not None
        assert 0 < edit.own_error < 1 and 0 < edit.output_error < 1
    first = done[0]  # no error comes before it, and the refit reduces its own
    assert first.output_error < 1.1 * first.own_error  # type: ignore[operator]


def test_the_tables_show_predicted_and_measured_errors(net: ir.Model) -> None:
    result = ms.compress(net, macs=0.4, data=pictures(64, 3))
    by_title = {table.title: table for table in result.tables()}
    [row] = by_title["Error at the outputs"].rows
    assert (row["predicted"], row["measured"]) == (result.predicted, worst(result))
    layers = by_title["Layers replaced"]
    assert {"own error", "error so far"} <= {column.title for column in layers.columns}
    assert layers.html().count("<circle") == 2 * len(layers.rows)


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.4, ""), (0.7, ""), (2.0, "2 times what was"), (0.25, "4 times less")]
)
def test_a_wrong_prediction_gets_a_note(ratio: float, words: str) -> None:
    notes = disagreement_notes(ratio)
    assert bool(notes) == bool(words)
    assert all(words in note for note in notes)


def test_the_least_sensitive_layer_is_cut_most() -> None:
    """A branch that is scaled by 1e-3 before the output is cut most."""
    split = model(
        """g (float[N, 8, 12, 12] x) => (float[N, 32, 12, 12] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            b = Conv <pads = [1, 1, 1, 1]> (x, v)
            c = Mul (b, small)
            y = Add (a, c)
        }""",
        w=np.random.default_rng(4).normal(size=(32, 8, 3, 3)).astype(np.float32),
        v=np.random.default_rng(5).normal(size=(32, 8, 3, 3)).astype(np.float32),
        small=np.float32(1e-3),
    )
    result = ms.compress(split, macs=0.6, data=pictures(16, 6))
    kept = {e.layer: (e.macs_after or 0) / (e.macs_before or 1) for e in result.edits if e.skipped is None}
    assert kept["b"] < 0.5 and kept["b"] < kept.get("a", 1.0)


def test_a_dry_run_predicts_the_error(net: ir.Model) -> None:
    dry, done = (ms.compress(net, macs=0.5, data=pictures(16, 7), dry_run=dry) for dry in (True, False))
    assert dry.model is None and dry.plan == done.plan
    assert dry.predicted == pytest.approx(done.predicted, rel=1e-3)


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_very_few_samples_do_not_overfit(net: ir.Model, count: int) -> None:
    result = ms.compress(net, macs=0.6, data=pictures(count, 8))
    blind = ms.compress(net, plan=result.plan, compare=False)
    others = pictures(32, 9)
    ours, theirs = (ms.compare(net, each.model, data=others).worst for each in (result, blind))
    assert ours < 1.1 * theirs
    assert any("too few to calibrate on" in note for note in result.notes) == (count < 5)


def test_equal_samples_and_seed_give_equal_models(net: ir.Model) -> None:
    one, two = (ms.compress(net, macs=0.5, data=pictures(16, 7)) for _ in range(2))
    assert one.plan == two.plan
    assert ms.compare(one.model, two.model, data=pictures(4, 8)).verdict == "identical"


def test_compression_reports_progress_of_every_stage(net: ir.Model) -> None:
    steps: list[tuple[str, int, int]] = []
    watched = ms.compress(net, macs=0.5, data=pictures(16, 1), watch=lambda *what: steps.append(what))
    pieces = list(dict.fromkeys(what for what, _, _ in steps))
    assert pieces == ["calibration", "candidates", "sensitivity", "trial fits", "fitting", "comparison"]
    assert all(steps.count((what, total, total)) == 1 for what, _, total in steps)
    alone = ms.compress(net, macs=0.5, data=pictures(16, 1))
    assert ms.compare(watched.model, alone.model, data=pictures(2, 2)).worst == 0


def test_samples_can_be_fed_in_batches(net: ir.Model) -> None:
    one, four = (ms.compress(net, macs=0.5, data=pictures(64, 7), batch=batch) for batch in (None, 4))
    assert one.before is not None and four.before is not None
    assert four.before["macs"] == 4 * one.before["macs"]
    assert any("4 samples at once" in note for note in four.notes)
    assert four.predicted == pytest.approx(one.predicted, rel=0.3)


def test_extreme_samples_give_finite_outputs(net: ir.Model) -> None:
    for data in (np.zeros_like(pictures(8, 1)), 1e12 * pictures(8, 1), np.ones_like(pictures(8, 1))):
        result = ms.compress(net, macs=0.5, data=data)
        assert result.comparison is not None and not any(o.nan_or_inf for o in result.comparison.outputs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("where", [1, 4])
def test_non_finite_and_huge_samples_are_refused(net: ir.Model, bad: float, where: int) -> None:
    """In a sample of the moments, and in one that only validates the refit."""
    data = pictures(8, 1)
    data[where, 2, :, :] = bad
    finite = r"layer 'a' is fed NaN, Inf or values beyond 1e\+15 on calibration samples"
    with pytest.raises(BadData, match=finite if np.isfinite(bad) else f"infinite values in sample {where}"):
        ms.compress(net, macs=0.5, data=data)
    others = ms.compress(net, macs=0.5, data=np.delete(data, where, axis=0))
    assert others.predicted is not None and worst(others) < 1


def test_constant_and_zero_channels_are_handled(net: ir.Model) -> None:
    data = pictures(16, 1)
    data[:, 3], data[:, 4] = 1.5, 0.0
    result = ms.compress(net, macs=0.6, data=data)
    assert worst(result) < 0.6 and result.predicted is not None


def test_one_batch_is_noted_as_its_own_validation(net: ir.Model) -> None:
    notes = ms.compress(net, macs=0.6, data=pictures(8, 1), batch=8).notes
    assert "one batch only: calibration and validation use the same samples" in notes
    assert "calibrated and refitted on 8 samples, compared on the same" in notes


def test_feeds_may_differ_in_size() -> None:
    """The axes of samples and steps are dynamic, as in a text model."""
    rng = np.random.default_rng(0)
    reader = model(
        "g (float[N, T, 64] x) => (float[N, T, 48] y) { a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, v) }",
        w=rng.normal(size=(64, 96)).astype(np.float32) / 8,
        v=rng.normal(size=(96, 48)).astype(np.float32) / 8,
    )
    causes = rng.normal(size=(6, 64))
    feeds = [{"x": (rng.normal(size=(1 + n % 3, 4 + n, 6)) @ causes).astype(np.float32)} for n in range(12)]
    result = ms.compress(reader, macs=0.75, data=feeds)
    assert result.predicted is not None and worst(result) < 0.2


def test_nets_with_several_inputs_and_outputs() -> None:
    rng = np.random.default_rng(0)
    double = model(
        """g (float[N, 8, 12, 12] x, float[N, 64] z) => (float[N, 10] y, float[N, 64] u) {
            a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)  b = Relu (a)  f = Flatten (b)
            c = MatMul (z, v)  u = Relu (c)  d = Concat <axis = 1> (f, u)  y = Gemm <transB = 1> (d, h)
        }""",
        w=(rng.normal(size=(48, 8, 3, 3)) / 8).astype(np.float32),
        v=(rng.normal(size=(64, 64)) / 8).astype(np.float32),
        h=(rng.normal(size=(10, 48 * 36 + 64)) / 40).astype(np.float32),
    )
    data = {"x": pictures(16, 1), "z": rng.normal(size=(16, 64)).astype(np.float32)}
    result = ms.compress(double, macs=0.7, data=data)
    assert result.comparison is not None
    assert [output.name for output in result.comparison.outputs] == ["y", "u"]
    assert result.predicted is not None and worst(result) < 0.7
    with pytest.raises(BadData, match="the data lacks z, it has x"):
        ms.compress(double, macs=0.7, data={"x": data["x"]})


def test_half_precision_is_kept() -> None:
    rng = np.random.default_rng(0)
    half = model(
        """g (float16[N, 8, 12, 12] x) => (float16[N, 10] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = Relu (a)  f = Flatten (b)
            y = Gemm <transB = 1> (f, h)
        }""",
        w=(rng.normal(size=(48, 8, 3, 3)) / 8).astype(np.float16),
        h=(rng.normal(size=(10, 48 * 144)) / 80).astype(np.float16),
    )
    result = ms.compress(half, macs=0.6, data=pictures(16, 1).astype(np.float16))
    assert result.predicted is not None and worst(result) < 0.6
    kinds = {value.dtype for value in result.model.graph.initializers.values() if value.dtype is not None}
    assert kinds == {ir.DataType.FLOAT16}


def test_the_error_is_of_the_worst_float_output() -> None:
    ours = [{"a": np.array([3.0, 4.0]), "b": np.array([1.0]), "i": np.array([1])}]
    theirs = [{"a": np.array([3.0, 4.5]), "b": np.array([1.5]), "i": np.array([9])}]
    assert squared_error(ours, theirs) == pytest.approx(0.25)


def scores_of(output: np.ndarray) -> np.ndarray:
    return score_function([output])(output)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(("dtype", "close"), [("f8", 1e-9), ("f4", 1e-5), ("f2", 2e-2)])
def test_softmax_outputs_give_centered_scores(axis: int, dtype: str, close: float) -> None:
    fed = np.random.default_rng(0).normal(size=(3, 5, 7))
    shares = np.exp(fed) / np.exp(fed).sum(axis, keepdims=True)
    np.testing.assert_allclose(
        scores_of(shares.astype(dtype)), fed - fed.mean(axis, keepdims=True), rtol=0, atol=close
    )


@pytest.mark.parametrize(("dtype", "close"), [("f8", 1e-9), ("f4", 1e-5), ("f2", 2e-2)])
def test_sigmoid_outputs_give_scores(dtype: str, close: float) -> None:
    fed = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(scores_of((1 / (1 + np.exp(-fed))).astype(dtype)), fed, rtol=0, atol=close)


def test_probabilities_of_0_have_finite_scores() -> None:
    assert np.isfinite(scores_of(np.array([[1.0, 0.0, 0.0]], np.float32))).all()


@pytest.mark.parametrize(
    "answer",
    [
        np.array([[0.0, 0.6]]),
        np.array([[0.5, 1.6]]),
        np.array([[1.5, -0.5]]),
        np.array([[1, 0]]),
        np.zeros((0, 2)),
    ],
    ids=["a zero", "above one", "below zero", "integers", "nothing"],
)
def test_other_outputs_are_unchanged(answer: np.ndarray) -> None:
    assert scores_of(answer) is answer


def test_sensitivities_are_equal_with_a_final_softmax() -> None:
    ends = "y = Softmax (z)", "m = ReduceMean <axes = [1]> (z)  y = Sub (z, m)"
    one, other = (weights(ending(end), pictures(8, 3)) for end in ends)
    assert list(one) == ["a", "b", "c", "z"]
    assert one == pytest.approx(other, rel=1e-3)


TIMES_9 = "k = Constant <value = float {9.0}> ()  s = Mul (z, k)"


@pytest.mark.parametrize(
    "end",
    [
        "y = Sigmoid (z)",
        f"{TIMES_9} y = Sigmoid (s)",
        "i = Identity (z)  g = Sigmoid (i)  t = Transpose (g)  y = Transpose (t)",
    ],
    ids=["sigmoid", "saturated", "moved"],
)
def test_sensitivities_are_those_of_the_scores_behind_a_sigmoid(end: str) -> None:
    one, other = (weights(ending(each), pictures(8, 3)) for each in (end, "y = Identity (z)"))
    assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize("opset", [11, 17])
def test_a_saturated_softmax_shows_its_scores(opset: int) -> None:
    """Its outputs are 0 and 1 exactly, of which nothing can be undone."""
    big = "k = Constant <value = float {999.0}> ()  s = Mul (z, k)"
    ends = f"{big} y = Softmax (s)", "m = ReduceMean <axes = [1]> (z)  y = Sub (z, m)"
    nets = [ending(end) for end in ends]
    for net in nets:
        net.opset_imports[""] = opset
    one, other = (weights(net, pictures(8, 3)) for net in nets)
    assert one == pytest.approx(other, rel=1e-3)


NAN_EVERYWHERE = "n = Constant <value = float {nan}> ()  y = Add (z, n)"
HALF_NAN = """
    zero = Constant <value = float {0.0}> ()  n = Constant <value = float {nan}> ()
    up = Greater (z, zero)  y = Where (up, z, n)
"""
CONSTANT = "lo = Constant <value = float {5000.0}> ()  y = Clip (z, lo)"
BLIND = {
    "nan": NAN_EVERYWHERE,
    "constant": CONSTANT,
    "times zero": "zero = Constant <value = float {0.0}> () y = Mul (z, zero)",
}


@pytest.mark.parametrize("end", BLIND.values(), ids=BLIND)
def test_where_no_output_moves_each_layer_counts_by_its_own_error(end: str) -> None:
    found = tried_at_rank_4(ending(end), pictures(8, 3))
    assert found.weights == {"a": 1.0, "b": 1.0, "c": 1.0, "z": 1.0}
    assert found.unmoved == ["y"] and "changes the output 'y'" in found.notes[0]


@pytest.mark.parametrize("end", [*BLIND.values(), HALF_NAN], ids=[*BLIND, "half nan"])
def test_a_choice_made_on_outputs_that_show_nothing_is_no_cheapest_one(end: str) -> None:
    result = ms.compress(ending(end), macs=0.8, data=pictures(64, 3), dry_run=end == NAN_EVERYWHERE)
    assert 0.7 < result.after["macs"] / result.before["macs"] <= 0.8
    assert any("changes the output 'y'" in note for note in result.notes) == (end != HALF_NAN)


def test_an_output_that_a_cut_leaves_as_it_is_is_named() -> None:
    end = "k = Constant <value = float {60.0}> ()  s = Add (z, k)  y = Sigmoid (s)"
    result = ms.compress(ending(end), macs=0.8, data=pictures(64, 3))
    assert worst(result) == 0
    assert "says nothing about the output 'y'" in result.notes[-1]


def test_errors_count_where_the_original_is_finite() -> None:
    ours = [{"y": np.array([np.nan, 3.0, 4.0, np.inf])}]
    assert squared_error(ours, [{"y": np.array([7.0, 3.0, 4.5, 0.0])}]) == pytest.approx(0.01)
    assert squared_error(ours, [{"y": np.array([np.nan, np.nan, 4.0, np.inf])}]) == np.inf
    assert squared_error([{"y": np.zeros(2)}], [{"y": np.ones(2)}]) == np.inf
    assert squared_error([{"y": np.full(2, np.nan)}], [{"y": np.ones(2)}]) == 0


def test_integers_count_by_the_share_that_differs_where_there_is_nothing_else() -> None:
    ours, theirs = np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])
    assert squared_error([{"i": ours}], [{"i": theirs}]) == pytest.approx(1 / 16)
    assert squared_error([{"i": ours, "y": np.ones(1)}], [{"i": theirs, "y": np.ones(1)}]) == 0


def weights(model: ir.Model, data: np.ndarray) -> Mapping[str, float]:
    """The sensitivity of each layer, tried at rank 4."""
    return tried_at_rank_4(model, data).weights


def tried_at_rank_4(model: ir.Model, data: np.ndarray) -> Sensitivity:
    editable = OnnxModel(model, data=data)
    feeds = editable.batches(0)
    inputs = collect_moments(editable, editable.sites, feeds)
    tried = {
        site.name: (
            CalibratedLayer(layer=site.layer, inputs=inputs[site.name]),
            PlanStep(method="svd", rank=4),
        )
        for site in editable.sites
    }
    return sensitivity(editable, tried, feeds)


@pytest.mark.slow
def test_a_trained_net_keeps_its_predictions_at_15_percent_of_macs() -> None:
    with np.load(DIGITS / "calibration.npz") as stored:
        images = stored["image"]
    result = ms.compress(DIGITS / "model.onnx", macs=0.15, data=images)
    assert worst(result) < 0.06
    with np.load(DIGITS / "test.npz") as stored:
        verdict = ms.compare(DIGITS / "model.onnx", result.model, data={"image": stored["image"]})
    assert verdict.outputs[0].top1_agreement > 0.99
