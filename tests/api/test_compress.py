"""End-to-end compression of small ONNX models."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.errors import BadPlan, ToleranceExceeded, Unreachable
from modelsurgeon.factorize import METHODS
from tests.zoo import lowish, model, ones

RNG = np.random.default_rng(3)


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return model(
        """g (float[N, 16, 12, 12] x) => (float[N, 10] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, conv_w)
            b = Relu (a)
            c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (b, down_w)
            d = Relu (c)
            e = Flatten (d)
            y = Gemm <transB = 1> (e, head_w, head_b)
        }""",
        conv_w=lowish(48, 16, 3, 3),
        down_w=lowish(64, 48, 3, 3),
        head_w=RNG.normal(size=(10, 64 * 36)).astype("f4"),
        head_b=RNG.normal(size=10).astype("f4"),
    )


def edited(result: ms.Result) -> dict[str, tuple[str | None, object]]:
    return {e.layer: (e.method, e.rank) for e in result.edits if e.skipped is None}


@pytest.mark.parametrize("fraction", [0.4, 0.8])
@pytest.mark.parametrize("method", ["auto", *(name for name, m in METHODS.items() if m.alone)])
def test_a_budget_in_macs_is_met(net: ir.Model, fraction: float, method: str) -> None:
    result = ms.compress(net, macs=fraction, method=method, compare=False)
    assert result.before is not None and result.after is not None
    assert result.after["macs"] <= fraction * result.before["macs"]
    assert result.after["macs"] == ms.info(result.model).totals.macs
    saved = sum((e.macs_before or 0) - (e.macs_after or 0) for e in result.edits)
    assert result.before["macs"] - result.after["macs"] == saved


def under_noise(rank: int, out: int, into: int, noise: float) -> np.ndarray:
    """A signal of this rank plus noise; its singular values are twice the largest of the noise."""
    left, right = (np.linalg.qr(RNG.normal(size=(side, rank)))[0] for side in (out, into))
    signal = 2 * (out**0.5 + into**0.5) * left @ right.T
    return (noise * (signal + RNG.normal(size=(out, into)))).astype("f4")


def test_evbmf_finds_the_rank_of_the_signal() -> None:
    net = model(
        """g (float[N, 256] x) => (float[N, 160] y) {
            a = Gemm <transB = 1> (x, first_w)
            b = Relu (a)
            c = Gemm <transB = 1> (b, noise_w)
            y = Gemm <transB = 1> (c, last_w)
        }""",
        first_w=under_noise(32, 192, 256, 1e-3),
        noise_w=RNG.normal(size=(224, 192)).astype("f4"),
        last_w=under_noise(48, 160, 224, 1e3),
    )
    result = ms.compress(net, rank="evbmf", method="svd", compare=False)
    assert list(edited(result).values()) == [("svd", 32), ("svd", 48)]
    [left] = [edit for edit in result.edits if edit.skipped is not None]
    assert left.skipped == "no rank that its spectrum suggests (evbmf) costs less than the layer"


@pytest.mark.parametrize("goal", [{"macs": 0.7}, {"energy": 0.9}, {"rank": "60%"}, {"rank": "evbmf"}])
def test_chosen_ranks_are_multiples_of_the_block(net: ir.Model, goal: dict[str, object]) -> None:
    for method in ("svd", "tucker2"):
        result = ms.compress(net, **goal, method=method, block=12, compare=False)
        ranks = [rank for _, rank in edited(result).values()]
        assert all(np.all(np.array(rank) % 12 == 0) for rank in ranks if np.min(rank) >= 12)
        assert ranks or "evbmf" in goal.values()
    with pytest.raises(ValueError, match="block is 0, a whole number of at least 1 is needed"):
        ms.compress(net, **goal, block=0)


def test_the_two_tucker2_ranks_may_differ(net: ir.Model) -> None:
    pairs = [rank for _, rank in edited(ms.compress(net, macs=0.5, method="tucker2", compare=False)).values()]
    assert any(p != q for p, q in pairs)


def test_a_budget_in_params_is_met(net: ir.Model) -> None:
    result = ms.compress(net, params=0.5, compare=False)
    assert result.before is not None and result.after is not None
    assert result.after["params"] <= 0.5 * result.before["params"]


def test_a_smaller_budget_has_more_error(net: ir.Model) -> None:
    errors = [ms.compress(net, macs=f).comparison.worst for f in (0.9, 0.6, 0.3)]  # type: ignore[union-attr]
    assert errors == sorted(errors)


def test_a_rank_is_used_where_it_saves_cost(net: ir.Model) -> None:
    result = ms.compress(net, rank=8, method="svd", compare=False)
    assert edited(result) == {"a": ("svd", 8), "c": ("svd", 8), "y": ("svd", 8)}
    [kept] = [e for e in ms.compress(net, rank=10, method="svd", compare=False).edits if e.skipped]
    assert kept.layer == "y"
    assert kept.skipped == "rank 10 costs no less than the layer; what pays: svd up to 9"


def test_energy_is_kept_in_every_layer(net: ir.Model) -> None:
    result = ms.compress(net, energy=0.9, compare=False)
    assert edited(result)
    assert all(1 - e.error**2 >= 0.9 - 1e-6 for e in result.edits if e.error is not None)


def test_a_plan_reproduces_the_model(net: ir.Model) -> None:
    first = ms.compress(net, macs=0.5, compare=False)
    again = ms.compress(net, plan=first.plan.as_dict(), compare=False)
    assert edited(again) == edited(first)
    for result in (first, again):  # their recorded arguments differ
        result.model.metadata_props.clear()
    assert ir.to_proto(again.model).SerializeToString() == ir.to_proto(first.model).SerializeToString()


def test_a_plan_applies_even_if_cost_grows(net: ir.Model) -> None:
    result = ms.compress(net, plan={"c": {"method": "cp", "rank": "full"}})
    [edit] = [e for e in result.edits if not e.skipped]
    assert edit.macs_after is not None and edit.macs_before is not None
    assert edit.macs_after > edit.macs_before
    assert result.comparison is not None and result.comparison.worst < 1e-5
    with pytest.raises(BadPlan, match="the plan names 'nope', and the model has no such layer"):
        ms.compress(net, plan={"nope": {"method": "svd", "rank": 2}})


@pytest.mark.parametrize("method", METHODS)
def test_full_rank_changes_nothing(net: ir.Model, method: str) -> None:
    result = ms.compress(net, plan={name: {"method": method, "rank": "full"} for name in "acy"})
    assert result.comparison is not None and result.comparison.worst <= 1e-5


def test_only_and_skip_select_layers(net: ir.Model) -> None:
    assert set(edited(ms.compress(net, rank=4, only=["c", "y"], compare=False))) == {"c", "y"}
    assert set(edited(ms.compress(net, rank=4, skip=["[ac]"], compare=False))) == {"y"}
    with pytest.raises(BadPlan, match="no layer is called 'conv\\*'"):
        ms.compress(net, rank=4, only=["conv*"])


def test_a_dry_run_has_the_costs_and_no_model(net: ir.Model) -> None:
    predicted, done = (ms.compress(net, macs=0.5, compare=False, dry_run=dry) for dry in (True, False))
    assert predicted.model is None and predicted.comparison is None
    assert edited(predicted) == edited(done)
    assert predicted.after is not None and done.after is not None
    assert (predicted.after["macs"], predicted.after["params"]) == (done.after["macs"], done.after["params"])


def test_unreachable_goals_raise(net: ir.Model) -> None:
    with pytest.raises(Unreachable, match=r"at least 0\.\d+ of the macs remain"):
        ms.compress(net, macs=0.001)
    with pytest.raises(ToleranceExceeded, match=r"at the outputs is .*, at most 1e-06 was allowed"):
        ms.compress(net, rank=4, tolerance=1e-6)


STAYS: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "a layer left out": (
        "g (float[8, 64] x) => (float y) { h = MatMul (x, w) y = MatMul (h, v) }",
        {"w": ones(64, 64), "v": ones(64, 64)},
        {"skip": ["h"], "method": "svd"},
        r"1 MatMul \(left out as asked \(--skip\), 0\.500 in all\)$",
    ),
    "integers": (
        "g (int8[8, 64] x) => (int32 y) { y = MatMulInteger (x, w) }",
        {"w": np.ones((64, 64), np.int8)},
        {},
        r"1 MatMulInteger \(an operator that is never cut, 1\.000 in all\)$",
    ),
    "a weight that is an input": (
        "g (float[8, 64] x, float[64, 64] w) => (float y) { y = MatMul (x, w) }",
        {},
        {},
        r"1 MatMul \(its weight is a graph input without a default: .*, 1\.000 in all\)$",
    ),
    "a layer that no chain replaces": (
        "g (float[8, 2] x) => (float y) { y = MatMul (x, w) }",
        {"w": ones(2, 2)},
        {},
        r"1 MatMul \(no chain of the methods used is cheaper, 1\.000 in all\)$",
    ),
}


@pytest.mark.parametrize("case", STAYS)
def test_an_unreachable_budget_names_what_stays(case: str) -> None:
    text, weights, options, reason = STAYS[case]
    with pytest.raises(Unreachable, match=rf"0\.1 was asked for; what stays: {reason}"):
        ms.compress(model(text, **weights), macs=0.1, compare=False, **options)


GOALS = {
    "none": ({}, "one of rank, energy, .* is needed, found none"),
    "two": ({"rank": 2, "macs": 0.5}, "found rank and macs"),
    "rank 0": ({"rank": 0}, "rank 0: at least 1"),
    "energy 1.5": ({"energy": 1.5}, "energy is 1.5, a finite number above 0 and at most 1"),
    "macs 0": ({"macs": 0.0}, "macs is 0.0, a finite number above 0"),
    "speedup 1": ({"speedup": 1.0}, "speedup is 1.0, a finite number above 1"),
    "method": ({"rank": 2, "method": "qr"}, "no method 'qr'; there are auto, svd"),
}


@pytest.mark.parametrize(("goal", "message"), GOALS.values(), ids=GOALS)
def test_invalid_goals_raise(net: ir.Model, goal: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ms.compress(net, **goal)


def test_max_error_is_met_and_macs_fall(net: ir.Model) -> None:
    result = ms.compress(net, max_error=0.2)
    assert result.comparison is not None and result.comparison.worst <= 0.2
    assert result.after is not None and result.before is not None
    kept = result.after["macs"] / result.before["macs"]
    assert kept < 1
    further = ms.compress(net, macs=0.9 * kept).comparison
    assert further is not None and further.worst > 0.2  # about as far as the error allows


def test_the_given_data_is_used(net: ir.Model) -> None:
    samples = RNG.normal(size=(8, 16, 12, 12)).astype("f4")
    result = ms.compress(net, rank=4, data={"x": samples})
    assert result.comparison is not None
    assert (result.comparison.inputs, result.comparison.samples) == ("data", 2)  # a quarter is held out
    assert "calibrated and refitted on 6 samples, compared on 2 others" in result.notes
    assert not any("noise" in note for note in result.notes)
    assert any("noise" in note for note in ms.compress(net, rank=4).notes)


def test_no_comparison_is_noted(net: ir.Model) -> None:
    result = ms.compress(net, rank=4, compare=False)
    assert result.comparison is None and result.latency is None
    assert "not compared" in result.notes


def test_a_non_finite_weight_is_skipped_with_a_reason() -> None:
    w = np.full((64, 64), np.nan, np.float32)
    net = model("g (float[2, 64] x) => (float[2, 64] y) { y = MatMul (x, w) }", w=w)
    for goal in ({"rank": 4}, {"macs": 1.0}, {"energy": 0.5}):
        [edit] = ms.compress(net, **goal, compare=False).edits
        assert str(edit.skipped).startswith("the weight holds NaN or Inf")


def test_a_net_without_sites_is_unchanged() -> None:
    result = ms.compress(model("g (float[2, 8] x) => (float[2, 8] y) { y = Relu (x) }"), rank=4)
    assert result.comparison is not None and result.comparison.verdict == "identical"
    assert result.latency is None


def test_compress_is_recorded_in_the_history(net: ir.Model) -> None:
    done = ms.compress(net, rank=2, method="svd", skip=["y"])
    (line,) = ms.history(done.model).as_dict()
    assert line["verb"] == "compress"
    assert line["arguments"] == {"rank": 2, "method": "svd", "skip": ["y"]}
    assert done.comparison is not None
    assert line["verdict"] == done.comparison.verdict


WITHOUT_MACS = {
    "no weights": ("g (float[2, 10] x) => (float y) { y = Softmax (x) }", {}),
    "an embedding": ("g (int64[2, 10] x) => (float y) { y = Gather (w, x) }", {"w": ones(10, 4)}),
}


@pytest.mark.parametrize("kind", WITHOUT_MACS)
@pytest.mark.parametrize("goal", [{"macs": 0.5}, {"max_error": 0.1}])
def test_a_budget_for_a_model_without_macs_is_named(kind: str, goal: dict[str, float]) -> None:
    text, weights = WITHOUT_MACS[kind]
    with pytest.raises(Unreachable, match="the model has no MACs"):
        ms.compress(model(text, **weights), **goal)


@pytest.mark.parametrize("of", ["macs", "params"])
def test_a_sweep_of_a_model_without_weights_is_named(of: str) -> None:
    with pytest.raises(Unreachable, match="the model has no"):
        ms.sweep(model(WITHOUT_MACS["no weights"][0]), [0.5], of=of)
