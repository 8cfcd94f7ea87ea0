"""Which samples teach, and which judge: moments of the first, sensitivities and predictions on the others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.compression.study import Study
from modelsurgeon.onnx import run
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import Plan, PlanStep
from tests.zoo import model

RNG = np.random.default_rng(4)
SAMPLES = 32
JUDGING = np.arange(SAMPLES) % 4 == 3  # every fourth sample validates


def weights(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)


def samples(width: int, judging: float) -> np.ndarray:
    """Samples of which those that validate are scaled."""
    x = RNG.normal(size=(SAMPLES, width)).astype(np.float32)
    x[JUDGING] *= judging
    return x


@pytest.fixture(scope="module")
def net() -> ir.Model:
    """The output is the sum of two branches, each with an input of its own."""
    return model(
        """g (float[N, 32] x, float[N, 32] z) => (float[N, 40] y) {
            a = MatMul (x, wa)
            b = MatMul (z, wb)
            y = Add (a, b)
        }""",
        wa=weights(32, 40),
        wb=weights(32, 40),
    )


def studied(net: ir.Model, data: Mapping[str, np.ndarray]) -> Study:
    editable = OnnxModel(net, data=data)
    return Study(
        model=editable.fresh_copy(),
        sites=editable.sites,
        methods=["svd"],
        calibration_data=editable.batches(0),
        held_out=None,
        refit=False,
        seed=0,
        block=4,
    ).calibrated()


def test_the_error_is_predicted_on_samples_that_taught_nothing(net: ir.Model) -> None:
    """Branch `a`, which is cut, is silent on the samples that teach."""
    data = {"x": samples(32, 1.0), "z": samples(32, 1.0)}
    data["x"][~JUDGING] *= 0.01
    study = studied(net, data)
    cut = study.trial(Plan({"a": PlanStep(method="svd", rank=8)}))
    predicted = study.predict_error(cut)

    def error(chosen: np.ndarray) -> float:
        feed = {name: array[chosen] for name, array in data.items()}
        before, after = (
            np.asarray(run.runner(each, optimize=False)(feed)["y"]) for each in (net, cut.finish())
        )
        return float(np.linalg.norm(before - after) / np.linalg.norm(before))

    assert predicted == pytest.approx(error(JUDGING), rel=1e-4)
    assert error(~JUDGING) < 0.1 * error(JUDGING)


def test_moments_are_of_the_samples_that_teach_alone(net: ir.Model) -> None:
    data = {"x": samples(32, 50.0), "z": samples(32, 1.0)}
    inputs = studied(net, data).calibration.inputs
    for name, layer in (("x", "a"), ("z", "b")):
        [moments] = inputs[layer].channels
        taught = data[name][~JUDGING].astype(np.float64)
        assert (moments.count, inputs[layer].samples) == (len(taught), len(taught))
        np.testing.assert_allclose(moments.second, taught.T @ taught / len(taught), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("silent", "other"), [("x", "z"), ("z", "x")])
def test_sensitivities_are_those_on_samples_that_taught_nothing(
    net: ir.Model, silent: str, other: str
) -> None:
    """A branch that is silent on those has little damage, however loud it is on the samples that teach."""
    data = {silent: samples(32, 0.01), other: samples(32, 1.0)}
    found = studied(net, data).options("macs").candidates
    layer = {"x": "a", "z": "b"}
    share = {
        name: found[layer[name]][1].damage / found[layer[name]][1].error ** 2 for name in (silent, other)
    }
    assert share[silent] < 0.01 * share[other]
