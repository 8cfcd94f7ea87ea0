"""Chains that make the model slower are rolled back."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelsurgeon.calibration.sensitivity import Calibration
from modelsurgeon.compression.candidates import plan_by_budget
from modelsurgeon.compression.latency_model import is_slower
from modelsurgeon.compression.planner import without_slower_chains
from modelsurgeon.compression.rollback import NEGLIGIBLE_MS, _is_slower, carry_out_with_rollback
from modelsurgeon.compression.study import Study
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep
from tests.zoo import lowish, model

SLOW = PlanStep(method="cp", rank=FULL_RANK)  # far more MACs than the layer
QUICK = PlanStep(method="svd", rank=8)


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return model(
        """g (float[1, 64, 32, 32] x) => (float[1, 64, 32, 32] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, one)
            b = Relu (a)
            y = Conv <pads = [1, 1, 1, 1]> (b, two)
        }""",
        one=lowish(64, 64, 3, 3),
        two=lowish(64, 64, 3, 3),
    )


def studied(net: ir.Model, *methods: str) -> tuple[Study, OnnxModel]:
    editable = OnnxModel(net)
    study = Study(
        model=editable.fresh_copy(),
        sites=editable.sites,
        methods=methods,
        calibration_data=None,
        held_out=editable.batches(0),
        refit=False,
        seed=0,
        calibration=Calibration(),
    )
    return study, editable


def test_slow_chains_are_put_back(net: ir.Model) -> None:
    study, editable = studied(net)
    done = carry_out_with_rollback(Plan({"a": SLOW, "y": QUICK}), study, editable, firm=False)
    assert dict(done.plan) == {"y": QUICK}
    assert [edit.layer for edit in done.edits if edit.skipped is None] == ["y"]
    [back] = [edit for edit in done.edits if edit.skipped is not None]
    assert (back.layer, str(back.skipped)[:8]) == ("a", "put back")
    assert [node.op_type for node in editable.finish().graph] == ["Conv", "Relu", "Conv", "Conv"]
    assert done.latency is not None


def test_without_gain_the_original_is_kept(net: ir.Model) -> None:
    study, editable = studied(net)
    done = carry_out_with_rollback(Plan({"a": SLOW}), study, editable, firm=False)
    assert not done.plan and done.latency is None
    assert [(edit.layer, edit.method) for edit in done.edits] == [("a", None)]
    assert len(editable.finish().graph) == len(net.graph)


def test_a_firm_plan_is_kept_even_if_slow(net: ir.Model) -> None:
    study, editable = studied(net)
    done = carry_out_with_rollback(Plan({"a": SLOW}), study, editable, firm=True)
    assert dict(done.plan) == {"a": SLOW}
    assert done.latency is not None and done.latency["speedup"] < 1
    [edit] = done.edits
    assert edit.milliseconds_before is not None and edit.milliseconds_after is not None
    assert edit.milliseconds_after > edit.milliseconds_before


def test_chains_measured_slower_are_not_chosen() -> None:
    """In three dimensions a depthwise factor costs more time than it saves at .9 of the MACs."""
    net = model(
        """g (float[1, 32, 8, 8, 8] x) => (float[1, 32, 8, 8, 8] y) {
            y = Conv <pads = [1, 1, 1, 1, 1, 1]> (x, w)
        }""",
        w=lowish(32, 32, 3, 3, 3),
    )
    study, _ = studied(net, "cp")
    options = study.options("milliseconds").candidates
    total = study.model.total("macs")
    free = plan_by_budget(options, 0.9, total, "macs")
    assert any(is_slower(*ms) for ms in study.times(free.plan).values())
    kept = without_slower_chains(options, study, lambda: plan_by_budget(options, 0.9, total, "macs"))
    assert kept.plan
    assert not any(is_slower(*ms) for ms in study.times(kept.plan).values())


@pytest.mark.parametrize(
    ("before", "lost", "p90", "slower"),
    [
        (1.0, 2 * NEGLIGIBLE_MS, 0.9, True),
        (1.0, 2 * NEGLIGIBLE_MS, 1.1, False),  # within the noise of the comparisons
        (1.0, 0.5 * NEGLIGIBLE_MS, 0.9, False),  # no more than a few calls of nodes
        (0.01, 0.9 * NEGLIGIBLE_MS, 0.2, False),
        (9000.0, 1.0, 0.999, True),
        (1.0, -0.5, 2.5, False),
    ],
)
def test_a_model_is_slower_beyond_noise_and_by_more_than_calls_cost(
    before: float, lost: float, p90: float, slower: bool
) -> None:
    latency = {
        "before": {"median_ms": before},
        "after": {"median_ms": before + lost},
        "p10": 0.5 * p90,
        "p90": p90,
    }
    assert _is_slower(latency) is slower
    assert not _is_slower(None)
