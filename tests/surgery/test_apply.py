"""Plans carried out on a model: what is put in the place of a layer, and what the edits say of it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.errors import BadPlan
from modelsurgeon.factorize import METHODS, relative_error
from modelsurgeon.layers import Layer
from modelsurgeon.onnx import run
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.apply import apply_plan, computed_part, macs
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep
from tests.zoo import lowish, model


@pytest.fixture
def net() -> ir.Model:
    return model(
        """g (float[2, 24, 6, 6] x) => (float[2, 32, 6, 6] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
            r = Relu (a)
            y = Conv (r, v)
        }""",
        w=lowish(24, 24, 3, 3),
        b=np.arange(24, dtype=np.float32),
        v=lowish(32, 24, 1, 1),
    )


def test_each_step_is_one_edit_with_both_costs(net: ir.Model) -> None:
    editable = OnnxModel(net)
    one, two = (site.layer for site in editable.sites)
    plan = Plan({"a": PlanStep(method="svd", rank=8), "y": PlanStep(method="svd", rank=FULL_RANK)})
    first, last = apply_plan(plan, editable.sites)
    assert (first.layer, first.method, first.rank) == ("a", "svd", 8)
    assert (last.layer, last.rank) == ("y", 24)  # the largest that there is
    positions = 2 * 6 * 6
    assert (first.macs_before, first.macs_after) == (positions * one.weight.size, positions * 8 * (216 + 24))
    assert (last.macs_before, last.macs_after) == (positions * two.weight.size, positions * 24 * (24 + 32))
    assert (first.params_before, first.params_after) == (24 * 216 + 24, 8 * (216 + 24) + 24)
    assert first.error == pytest.approx(relative_error(one, METHODS["svd"](one, 8)))
    assert last.error == pytest.approx(0, abs=1e-6)
    assert editable.total("macs") == first.macs_after + last.macs_after  # type: ignore[operator]


def test_a_selection_of_channels_stays_one_layer(net: ir.Model) -> None:
    """Its weights for the other channels are zero, so that no node selects any."""
    editable = OnnxModel(net)
    layer = editable.sites[1].layer
    [edit] = apply_plan(Plan({"y": PlanStep(method="channels", rank=16)}), editable.sites)
    assert edit.macs_after == 2 * 36 * 16 * 32 and edit.params_after == 16 * 32
    small = editable.finish()
    assert [node.op_type for node in small.graph] == ["Conv", "Relu", "Conv"]
    weight = np.asarray(constant_array(small.graph[-1].inputs[1]))
    assert weight.shape == layer.weight.shape
    gone = [not weight[:, channel].any() for channel in range(24)]
    assert sum(gone) == 8
    kept = np.where(np.array(gone)[:, None, None], 0, layer.weight)
    np.testing.assert_allclose(weight, kept, rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(2, 24, 6, 6)).astype(np.float32)
    inner = np.asarray(run.runner(net, outputs=["r"], optimize=False)({"x": x})["r"])
    found = np.asarray(run.runner(small, optimize=False)({"x": x})["y"])
    np.testing.assert_allclose(
        found, np.einsum("oi,nihw->nohw", kept[..., 0, 0], inner), rtol=1e-3, atol=1e-3
    )


def test_a_step_for_a_layer_that_is_not_there_raises(net: ir.Model) -> None:
    sites = OnnxModel(net).sites
    step = PlanStep(method="svd", rank=2)
    with pytest.raises(BadPlan, match="layer 'z' can't be replaced in this model"):
        apply_plan(Plan({"a": step, "z": step}), sites)
    with pytest.raises(BadPlan, match="layer 'y' can't be replaced"):
        apply_plan(Plan({"a": step, "y": step}), sites[:1])


def test_macs_are_the_sum_over_all_calls() -> None:
    layer = Layer(weight=np.ones((4, 3, 3, 3)), padding=((1, 1), (1, 1)))
    assert macs([layer], [((5, 6), 2), ((7, 7), 1)]) == 4 * 27 * (2 * 30 + 49)
    assert macs([layer, layer.like(np.ones((2, 4, 1, 1)))], [((5, 6), 1)]) == 30 * (4 * 27 + 8)
    assert macs([layer], []) == 0


@pytest.mark.parametrize("method", METHODS)
def test_selecting_channels_costs_nothing(method: str) -> None:
    chain = METHODS[method].sketch(Layer(weight=np.ones((8, 8, 3, 3))), 2)
    assert list(computed_part(method, chain)) == (chain[1:] if method == "channels" else chain)
