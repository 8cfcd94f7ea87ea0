"""How many feeds a sensitivity is measured on: as many as the MACs allow, and never fewer than a few."""

from __future__ import annotations

import numpy as np
import pytest

from modelsurgeon.calibration import sensitivity as module
from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.calibration.sensitivity import MIN_TRIAL_FEEDS, feeds_within, sensitivity
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import PlanStep
from tests.zoo import model

RNG = np.random.default_rng(0)
FEEDS = 64


def editable(quiet: np.ndarray) -> OnnxModel:
    """A sum of two branches, of which one is silent on the feeds that `quiet` marks."""
    x, z = RNG.normal(size=(2, FEEDS, 16)).astype(np.float32)
    z[quiet] *= 1e-3
    net = model(
        """g (float[N, 16] x, float[N, 16] z) => (float[N, 16] y) {
            a = MatMul (x, wa)  b = MatMul (z, wb)  y = Add (a, b)
        }""",
        wa=RNG.normal(size=(16, 16)).astype(np.float32),
        wb=RNG.normal(size=(16, 16)).astype(np.float32),
    )
    return OnnxModel(net, data={"x": x, "z": z})


def share_of_b(of: OnnxModel) -> float:
    """The sensitivity to the branch that may be silent, relative to that of the other."""
    step = PlanStep(method="svd", rank=4)
    tried = {site.name: (CalibratedLayer(layer=site.layer), step) for site in of.sites}
    found = sensitivity(of, tried, of.batches(0)).weights
    return found["b"] / found["a"]


def every(number: int) -> np.ndarray:
    return np.arange(FEEDS) % number == 0


@pytest.mark.parametrize(("runs", "feeds"), [(100, 100), (1000.5, 1000), (8, 8), (3, 8), (0, 8)])
def test_the_number_of_feeds_follows_from_the_macs(runs: float, feeds: int) -> None:
    of = editable(every(8))
    macs = 2 * 16 * 16
    assert of.totals()["macs"] == macs
    assert MIN_TRIAL_FEEDS == 8
    assert feeds_within(of, runs * macs) == feeds


def test_a_small_model_is_tried_on_all_feeds() -> None:
    """The branch is silent on eight feeds that are evenly spaced, but not on the others."""
    assert share_of_b(editable(every(8))) > 0.3
    assert share_of_b(editable(every(1))) < 1e-4


def test_the_macs_are_those_of_all_trials_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """For two layers they allow 16 feeds each, which are every fourth."""
    monkeypatch.setattr(module, "TRIAL_MACS", 2 * 16 * (2 * 16 * 16))
    assert share_of_b(editable(every(4))) < 1e-4
    assert share_of_b(editable(every(8))) > 0.2


def test_a_sensitivity_is_of_squared_errors_at_the_output_where_they_are_largest() -> None:
    rng = np.random.default_rng(1)
    w, x = rng.normal(size=(16, 16)).astype(np.float32), rng.normal(size=(FEEDS, 16)).astype(np.float32)
    net = model(
        """g (float[N, 16] x) => (float[N, 16] u, float[N, 16] y, float[N, 16] v) {
            y = MatMul (x, w)  k = Constant <value = float {9.0}> ()  u = Add (y, k)  v = Sub (y, k)
        }""",
        w=w,
    )
    of = OnnxModel(net, data={"x": x})
    step = PlanStep(method="svd", rank=4)
    view = CalibratedLayer(layer=of.sites[0].layer)
    [found] = sensitivity(of, {"y": (view, step)}, of.batches(0)).weights.values()
    first, last = (link.weight for link in view.chain("svd", 4))
    at_y = np.linalg.norm(x @ w - x @ first.T @ last.T) / np.linalg.norm(x @ w)
    assert found == pytest.approx((at_y / view.error("svd", [4])[0]) ** 2, rel=1e-3)
