"""The steps of every surgery verb: edit a copy, compare it with the original, check the tolerance."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api.operation import operate
from modelsurgeon.api.options import SurgeryOptions
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit, tables
from tests import zoo


def scaled(factor: float) -> ir.Model:
    return zoo.model(
        "g (float[N, 4] x) => (float[N, 3] y) { h = MatMul (x, w) y = Mul (h, k) }",
        w=np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
        k=np.float32(factor),
    )


def halved(subject: PassContext) -> list[Edit]:
    """A pass that changes the outputs: the Mul is replaced by Identity."""
    node = next(node for node in subject.graph if node.op_type == "Mul")
    if reason := subject.skip_reason(subject.names[node]):
        return [Edit(layer=subject.names[node], action="drop", skipped=reason)]
    subject.replace(node, [ir.node("Identity", [node.inputs[0]])])
    return [Edit(layer=subject.names[node], action="drop", details={"factor": 0.5})]


def run(factor: float, *, exact: bool, **how: object) -> ms.Operation:
    return operate(scaled(factor), "halve", halved, SurgeryOptions(**how), exact=exact)  # type: ignore[typeddict-item]


def test_an_exact_verb_must_keep_the_outputs() -> None:
    with pytest.raises(ms.ToleranceExceeded, match=r"halve changed the outputs.* is 1, at most 1e-05 was"):
        run(0.5, exact=True)
    assert run(1.0, exact=True).comparison is not None


def test_other_verbs_check_only_a_given_tolerance() -> None:
    done = run(0.5, exact=False)
    assert done.comparison is not None
    assert done.comparison.verdict == "different"
    assert run(0.5, exact=False, tolerance=1.1).as_dict()["comparison"]["verdict"] == "within-tolerance"
    with pytest.raises(ms.ToleranceExceeded, match=r"at most 0\.9 was allowed"):
        run(0.5, exact=False, tolerance=0.9)


def test_no_comparison_is_noted() -> None:
    done = run(0.5, exact=True, compare=False)
    assert done.as_dict() == {
        "edits": [{"layer": "y", "action": "drop", "factor": 0.5, "skipped": None}],
        "comparison": None,
        "notes": ["not compared"],
    }
    assert "not compared" in done.tables()[0].text(80)
    assert ms.history(done.model).as_dict()[0]["verdict"] == "not compared"


@pytest.mark.parametrize("globs", [{"skip": ["y"]}, {"only": ["h"]}])
def test_only_and_skip_select_layers(globs: dict[str, list[str]]) -> None:
    (edit,) = run(0.5, exact=True, **globs).edits
    assert f"(--{next(iter(globs))})" in str(edit.skipped)


def test_a_glob_without_a_layer_raises() -> None:
    with pytest.raises(ms.BadPlan, match="no layer is called 'conv'"):
        run(1.0, exact=True, only=["y", "conv"])


def test_output_names_stay_and_unused_weights_are_removed() -> None:
    model = run(1.0, exact=True).model
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert list(model.graph.initializers) == ["w"]


def test_the_comparison_uses_the_data() -> None:
    samples = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    done = run(1.0, exact=True, data=samples)
    assert done.comparison is not None
    assert (done.comparison.inputs, done.comparison.samples) == ("data", 5)


def test_skipped_layers_are_counted_by_reason() -> None:
    done = Edit(layer="a", action="fold", details={"into": "conv", "error": 1e-7, "axes": [0, 1]})
    kept = [Edit(layer=name, action="fold", skipped="shared") for name in "bc"]
    edited, left = tables([done, *kept])
    assert [column.kind for column in edited.columns] == ["text", "text", "text", "float", "shape"]
    assert left.rows == [{"count": 2, "reason": "shared", "such": "b"}]
    assert "none" in tables([])[0].text(80)


@pytest.mark.parametrize(("factor", "holds"), [(1.001, True), (1.1, False)])
def test_half_precision_has_a_wider_tolerance(factor: float, holds: bool) -> None:
    model = zoo.model(
        "g (float16[2, 4] x) => (float16[2, 3] y) { h = MatMul (x, w) y = Mul (h, k) }",
        w=np.ones((4, 3), np.float16),
        k=np.float16(factor),
    )
    if holds:
        done = operate(model, "halve", halved, SurgeryOptions(), exact=True)
        assert done.comparison is not None
        assert done.comparison.tolerance == 1e-2
    else:
        with pytest.raises(ms.ToleranceExceeded, match=r"at most 0\.01 was allowed"):
            operate(model, "halve", halved, SurgeryOptions(), exact=True)
