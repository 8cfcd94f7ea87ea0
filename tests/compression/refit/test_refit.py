"""The refit compared with the error of the running chain and with least squares on all rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.moments import MomentCollector
from modelsurgeon.calibration.sensitivity import Calibration, collect_moments
from modelsurgeon.compression.candidates import with_refit_gain
from modelsurgeon.compression.refit import refit as module
from modelsurgeon.compression.refit.refit import refit
from modelsurgeon.compression.refit.rows import normal_equations
from modelsurgeon.compression.refit.solvers import FitRows, fit_all
from modelsurgeon.compression.select import Candidate
from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer
from modelsurgeon.layers.patches import output_positions, patches_at
from modelsurgeon.linalg.least_squares import RegressionSums
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import PlanStep
from modelsurgeon.surgery.site import InputPair
from tests import conv
from tests.zoo import model

RNG = np.random.default_rng(11)
KERNELS = {"svd": (), "input-svd": (3, 3), "spatial-svd": (3, 3), "tucker2": (3, 3), "cp": (3, 3)}


def made(method: str, groups: int = 1) -> tuple[Layer, list[InputPair]]:
    """A layer and pairs of inputs: original, and current, which is mixed, scaled and shifted."""
    kernel = KERNELS[method]
    layer = Layer(
        weight=RNG.normal(size=(8, 6 // groups, *kernel)),
        bias=RNG.normal(size=8),
        padding=((1, 1),) * len(kernel),
        groups=groups,
    )
    mix = np.eye(6) + 0.2 * RNG.normal(size=(6, 6))
    pairs = []
    for _ in range(16):
        x = np.abs(RNG.normal(size=(4, 6, *(7 for _ in kernel))))
        pairs.append(InputPair(x, np.einsum("ij,nj...->ni...", mix, x) + 0.3))
    return layer, pairs


def outputs_of(chain: list[Layer], x: np.ndarray) -> np.ndarray:
    return np.stack([conv.run(chain, sample) for sample in x])


def off(layer: Layer, chain: list[Layer], pairs: list[InputPair]) -> float:
    wanted = np.concatenate([outputs_of([layer], fed.original) for fed in pairs])
    given = np.concatenate([outputs_of(chain, fed.current) for fed in pairs])
    mean = wanted.mean(axis=(0, *range(2, wanted.ndim)), keepdims=True)
    return float(np.linalg.norm(given - wanted) / np.linalg.norm(wanted - mean))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", KERNELS)
def test_a_refit_lowers_the_error(method: str, groups: int) -> None:
    layer, pairs = made(method, groups if KERNELS[method] else 1)
    chain = METHODS[method](layer, 3)
    fit = refit(layer, chain, pairs, 64)
    before, after = off(layer, chain, pairs), off(layer, list(fit.chain), pairs)
    assert after < 0.8 * before
    assert fit.error < fit.before
    assert fit.error == pytest.approx(after, rel=0.3)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_a_reduced_factor_is_the_best_of_its_rank(shape: tuple[int, int]) -> None:
    """The error of the best rank-2 outputs is the tail of the spectrum of all outputs."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(200, shape[1])) @ rng.normal(size=(shape[1], shape[1]))
    factor = rng.normal(size=shape)
    problem = RegressionSums.of(z, z @ factor.T).problem(centred=False)
    left, right = problem.reduced(factor, 2)
    assert (left.shape, right.shape) == ((shape[0], 2), (2, shape[1]))
    tail = np.linalg.svd(z @ factor.T, compute_uv=False)[2:]
    assert np.linalg.norm(z @ (factor - left @ right).T) == pytest.approx(np.linalg.norm(tail), rel=1e-4)


@pytest.mark.parametrize("groups", [1, 2])
def test_fitting_both_factors_is_better_than_the_last_alone(groups: int) -> None:
    rng = np.random.default_rng(5)
    layer = Layer(weight=rng.normal(size=(12, 10 // groups, 1, 1)), bias=rng.normal(size=12), groups=groups)
    mix = np.eye(10) + 0.4 * rng.normal(size=(10, 10))
    pairs = [
        InputPair(x, np.einsum("ij,njhw->nihw", mix, x)) for x in np.abs(rng.normal(size=(16, 8, 10, 4, 4)))
    ]
    chain = METHODS["svd"](layer, 3)
    one, both = (refit(layer, chain, pairs, 128, inner=inner) for inner in (False, True))
    assert off(layer, list(both.chain), pairs) < 0.97 * off(layer, list(one.chain), pairs)
    assert both.error == pytest.approx(off(layer, list(both.chain), pairs), rel=0.2)
    assert [link.weight.shape for link in both.chain] == [link.weight.shape for link in chain]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("method", [name for name, kernel in KERNELS.items() if kernel])
def test_fitting_all_factors_is_better_than_the_last_alone(method: str, groups: int) -> None:
    layer, pairs = made(method, groups)
    chain = METHODS[method](layer, 2)
    one, every = (refit(layer, chain, pairs, 64, inner=inner) for inner in (False, True))
    assert off(layer, list(every.chain), pairs) < 0.97 * off(layer, list(one.chain), pairs)
    assert every.error == pytest.approx(off(layer, list(every.chain), pairs), rel=0.3)
    for ours, theirs in zip(every.chain, chain, strict=True):
        assert ours.weight.shape == theirs.weight.shape
        same = replace(ours, weight=theirs.weight, bias=theirs.bias)
        assert vars(same) == vars(theirs)


def test_with_too_many_columns_only_the_last_factor_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, pairs = made("cp")
    chain = METHODS["cp"](layer, 3)
    monkeypatch.setattr(module, "MAX_KERNEL_COLUMNS", 6 * 9 - 1)
    first, middle, last = refit(layer, chain, pairs, 64).chain
    assert first is chain[0] and middle is chain[1] and last is not chain[2]


@pytest.mark.parametrize("kernel", [(), (3, 3)])
def test_errors_in_the_other_term_of_a_sum_are_corrected(kernel: tuple[int, ...]) -> None:
    """The error of the other term is a linear map of the layer's original input."""
    layer, pairs = made("cp" if kernel else "svd")
    lost = replace(layer, weight=0.3 * RNG.normal(size=layer.weight.shape), bias=None)
    fed = []
    for was, now, _ in pairs:
        other = RNG.normal(size=outputs_of([layer], was).shape)
        fed.append(InputPair(was, now, (other, other - outputs_of([lost], was))))
    chain = METHODS["svd"](layer, 6 if not kernel else 54)

    def wrong(fitted: list[Layer]) -> float:
        """Error of the sums, relative to the layer's original outputs."""
        sums = [
            (outputs_of([layer], f.original) + f.residual[0], outputs_of(fitted, f.current) + f.residual[1])
            for f in fed
        ]
        gone = sum(float(np.square(a - b).sum()) for a, b in sums)
        return (gone / sum(float(np.square(outputs_of([layer], f.original)).sum()) for f in fed)) ** 0.5

    alone = [InputPair(f.original, f.current) for f in fed]
    assert wrong(list(refit(layer, chain, alone, 64).chain)) > 0.1
    # zero padding has no shift at the border, which a bias can't represent
    assert wrong(list(refit(layer, chain, fed, 64).chain)) < 0.06


def test_errors_in_a_broadcast_term_are_not_corrected() -> None:
    layer, pairs = made("svd")
    fed = [InputPair(was, now, (np.ones((1, 8)), np.zeros((1, 8)))) for was, now, _ in pairs]
    chain = METHODS["svd"](layer, 3)
    plain, beside = (refit(layer, chain, each, 64) for each in (pairs, fed))
    np.testing.assert_array_equal(plain.chain[-1].weight, beside.chain[-1].weight)
    np.testing.assert_array_equal(plain.chain[-1].bias, beside.chain[-1].bias)


def gained(
    net: ir.Model, data: np.ndarray, methods: tuple[str, ...], *, only: str = ""
) -> dict[str, dict[str, float]]:
    editable = OnnxModel(net, data=data)
    feeds = editable.batches(0)
    known = Calibration(inputs=collect_moments(editable, editable.sites, feeds))
    tried = {s.name: (known.layer(s), [PlanStep(method=m, rank=6) for m in methods]) for s in editable.sites}
    tried = {name: trial for name, trial in tried.items() if only in ("", name)}
    return module.refit_gains(editable, tried, feeds)


def test_trial_fits_predict_the_gain_of_a_refit() -> None:
    """Pointwise layers have no trial, equal shapes share one, and the gain is near that of the real refit."""
    rng = np.random.default_rng(9)
    weights = {f"w{i}": rng.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8 for i in range(3)}
    net = model(
        """g (float[N, 8, 9, 9] x) => (float[N, 8, 5, 5] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w0)
            r = Relu (a)
            b = Conv <pads = [1, 1, 1, 1]> (r, w1)
            s = Relu (b)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (s, w2)
            y = Conv (c, p)
        }""",
        **weights,
        p=rng.normal(size=(8, 8, 1, 1)).astype(np.float32),
    )
    data = np.cumsum(rng.normal(size=(64, 8, 9, 9)), axis=3).astype(np.float32)
    found = gained(net, data, ("cp", "svd"))
    assert sorted(found) == ["a", "b", "c"] and found["a"] is found["b"]
    assert all(0.2 < gain < 1 for each in found.values() for gain in each.values())
    result = ms.compress(net, plan={"a": {"method": "cp", "rank": 6}}, data=data)
    [edit] = [edit for edit in result.edits if edit.layer == "a"]
    assert edit.output_error is not None and edit.own_error is not None
    assert edit.output_error == pytest.approx(found["a"]["cp"] * edit.own_error, rel=0.3)


@pytest.mark.parametrize(
    ("one", "other"),
    [("strides = [1, 1]", "strides = [2, 2]"), ("group = 1", "group = 2")],
    ids=["strides", "groups"],
)
def test_layers_of_other_strides_or_groups_have_trials_of_their_own(one: str, other: str) -> None:
    """Their weights have the same shape. Each gain is that of a trial of the layer alone."""
    rng = np.random.default_rng(9)
    wide = 16 if "group" in other else 8
    nodes = f"b = Concat <axis = 1> ({', '.join('r' * (wide // 8))})"
    net = model(
        f"""g (float[N, 8, 9, 9] x) => (float[N, 8, H, W] y) {{
            a = Conv <pads = [1, 1, 1, 1], {one}> (x, w0)
            r = Relu (a)
            {nodes}
            y = Conv <pads = [1, 1, 1, 1], {other}> (b, w1)
        }}""",
        **{f"w{i}": rng.normal(size=(8, 8, 3, 3)).astype(np.float32) / 8 for i in range(2)},
    )
    data = np.cumsum(rng.normal(size=(24, 8, 9, 9)), axis=3).astype(np.float32)
    both = gained(net, data, ("cp",))
    assert both["a"] is not both["y"]
    assert both == {name: gained(net, data, ("cp",), only=name)[name] for name in "ay"}
    assert both["a"]["cp"] != pytest.approx(both["y"]["cp"], rel=1e-3)


def test_gains_scale_the_errors_of_candidates() -> None:
    options = {"a": [Candidate(macs=9, params=9), Candidate(method="cp", macs=4, params=4, error=0.5)]}
    [[dense, cut]] = with_refit_gain(options, {"a": {"cp": 0.6}}).values()
    assert (dense.error, cut.error) == (0.0, pytest.approx(0.3))
    assert with_refit_gain(options, {"a": {"svd": 0.6}}) == options == with_refit_gain(options, {})


def test_at_full_rank_a_linear_change_is_undone() -> None:
    layer, pairs = made("svd")
    chain = METHODS["svd"](layer, 6)
    assert off(layer, chain, pairs) > 0.2
    assert off(layer, list(refit(layer, chain, pairs, 64).chain), pairs) < 1e-3


def test_an_exact_chain_stays_exact() -> None:
    layer, pairs = made("cp")
    same = [InputPair(fed.original, fed.original) for fed in pairs]
    chain = METHODS["cp"](layer, METHODS["cp"].full_rank(layer))
    assert off(layer, list(refit(layer, chain, same, 64).chain), same) < 1e-3


def test_without_a_bias_none_is_added() -> None:
    layer, pairs = made("svd")
    layer = replace(layer, bias=None)
    assert refit(layer, METHODS["svd"](layer, 3), pairs, 64, centred=False).chain[-1].bias is None


def test_few_rows_do_not_overfit() -> None:
    """Five rows for a factor of 40 columns: on other rows the error grows by less than 10 %."""
    layer = Layer(weight=RNG.normal(size=(48, 48)), bias=np.zeros(48))
    chain = METHODS["svd"](layer, 40)
    few = [InputPair(x, x + 0.1 * RNG.normal(size=x.shape)) for x in RNG.normal(size=(5, 1, 48))]
    many = [InputPair(x, x + 0.1 * RNG.normal(size=x.shape)) for x in RNG.normal(size=(50, 1, 48))]
    assert off(layer, list(refit(layer, chain, few, 5).chain), many) < 1.1 * off(layer, chain, many)


@pytest.mark.parametrize(("rows", "feeds"), [(12, 1), (12, 12), (48, 3), (48, 48)])
def test_directions_that_few_rows_show_are_not_trusted(rows: int, feeds: int) -> None:
    """A factor of rank 16 fitted to a few rows isn't worse on other rows than the one before the fit."""
    rng = np.random.default_rng(rows + feeds)
    mixer = rng.normal(size=(64, 64)) / 8
    layer = Layer(weight=rng.normal(size=(64, 64)), bias=np.zeros(64))

    def pairs(rows: int, feeds: int) -> list[InputPair]:
        x = rng.normal(size=(rows, 64)) @ mixer
        return [InputPair(part, part) for part in np.split(x, feeds)]

    few, many = pairs(rows, feeds), pairs(1000, 1)
    collector = MomentCollector(layer, rows)
    for pair in few:
        collector.add(pair.original)
    chain = CalibratedLayer(layer=layer, inputs=collector.moments()).chain("svd", 16)
    fit = refit(layer, chain, few, rows, split_feeds=feeds < 4)
    assert off(layer, list(fit.chain), many) < 1.02 * off(layer, chain, many)


def test_a_shrunk_covariance_helps_where_rows_are_few() -> None:
    """48 rows of 64 columns, a changed input: the mean error on other rows, over eight layers."""
    errors = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        mixer, change = rng.normal(size=(64, 64)) / 8, np.eye(64) + 0.1 * rng.normal(size=(64, 64))
        layer = Layer(weight=rng.normal(size=(64, 64)), bias=np.zeros(64))
        x, other = (rng.normal(size=(rows, 64)) @ mixer for rows in (48, 1000))
        pairs = [InputPair(part, part @ change) for part in np.split(x, 48)]
        rows = FitRows.of(*normal_equations(layer, pairs, 48), 48, centred=True)
        assert rows.shares[0] > 0.1
        fits = (
            fit_all(layer, METHODS["svd"](layer, 16), replace(rows, shares=s)) for s in (rows.shares, [0.0])
        )
        many = [InputPair(other, other @ change)]
        errors.append([off(layer, list(fit.chain), many) for fit in fits])
    shrunk, plain = np.mean(errors, axis=0)
    assert shrunk < plain


def test_few_feeds_are_split_into_training_and_validation_rows() -> None:
    layer, pairs = made("spatial-svd")
    training, validation = normal_equations(layer, pairs[:3], 12, split_feeds=True)
    assert [sums.count for sums in (*training, *validation)] == [3 * 3 * 49, 3 * 49]
    whole, _ = normal_equations(layer, pairs[:3], 12)
    np.testing.assert_allclose(training[0].zz + validation[0].zz, whole[0].zz, rtol=1e-4)


def test_an_indefinite_covariance_keeps_the_other_factors() -> None:
    layer, pairs = made("spatial-svd")
    chain = METHODS["spatial-svd"](layer, 3)
    rows = FitRows.of(*normal_equations(layer, pairs, 64), 64, centred=True)
    broken = [replace(rows.training[0], zz=rows.training[0].zz - 2 * np.trace(rows.training[0].zz))]
    fit = fit_all(layer, chain, replace(rows, training=broken))
    np.testing.assert_array_equal(fit.chain[0].weight, chain[0].weight)


def test_zero_inputs_keep_the_factor() -> None:
    layer, _ = made("svd")
    chain = METHODS["svd"](layer, 3)
    fit = refit(layer, chain, [InputPair(np.zeros((4, 6)), np.zeros((4, 6)))] * 8, 32)
    np.testing.assert_allclose(fit.chain[-1].weight, chain[-1].weight)
    np.testing.assert_allclose(fit.chain[-1].bias, layer.bias)


def test_sums_of_parts_add_up_and_solve() -> None:
    z, y = RNG.normal(size=(30, 4)), RNG.normal(size=(30, 2))
    whole, parts = RegressionSums.of(z, y), RegressionSums.of(z[:7], y[:7]) + RegressionSums.of(z[7:], y[7:])
    for key, value in vars(whole).items():
        np.testing.assert_allclose(getattr(parts, key), value)
    problem = whole.problem(centred=True)
    factor = problem.solve(np.zeros((2, 4)), 1e-12)
    design = np.column_stack([z, np.ones(30)])
    best = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(factor, best[:4].T, atol=1e-8)
    np.testing.assert_allclose(problem.bias(factor), best[4], atol=1e-8)
    rest = np.square(y - design @ best).sum() / 30
    assert problem.loss(factor, problem.bias(factor)) == pytest.approx(rest)


def test_the_reported_error_is_that_of_the_running_chain() -> None:
    """The reported error is near that of the running chain, relative to outputs by patches."""
    layer, pairs = made("spatial-svd")
    chain = METHODS["spatial-svd"](layer, 3)
    fit = refit(layer, chain, pairs, 64)
    x, seen, _ = pairs[3]
    rows = patches_at(layer, x, np.arange(output_positions(layer, x)))
    wanted = rows @ layer.weight.reshape(8, -1).T + layer.bias
    given = outputs_of(list(fit.chain), seen).reshape(4, 8, -1).transpose(0, 2, 1).reshape(wanted.shape)
    spread = np.linalg.norm(wanted - wanted.mean(axis=0))
    assert np.linalg.norm(given - wanted) / spread == pytest.approx(fit.error, rel=0.3)
