"""Lint rules on whole models: selection, order of findings, robustness."""

from __future__ import annotations

import os
from pathlib import Path

import onnx_ir as ir
import pytest

from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.findings import SEVERITIES
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.check import MAX_BOTTLENECKS_PER_RULE, _net, check
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.lint import RULES
from modelsurgeon.onnx.lint.net import MAX_PREDECESSORS
from tests import zoo
from tests.onnx.lint.nets import chain, one
from tests.truth import LIGHT

MODELS = os.environ.get("MODELSURGEON_MODELS")
CASES = sorted(Path(MODELS).rglob("*.onnx")) if MODELS else []

TANGLED = "d = Conv (x, w) t = Constant <value = bool {1}> () r = Constant <value = float {0.5}> () " \
    "y = Dropout (d, r, t) z = Neg (y)"  # fmt: skip


def tangled() -> ir.Model:
    """A model with an error, warnings and notes."""
    return one(TANGLED, "1, 4, 2, 2", w=zoo.ones(4, 4, 1, 1))


def test_findings_are_sorted_by_severity() -> None:
    findings = check(chain(16, 64, 4, 32, 32, 2, 64, kernel=1)).findings
    order = [SEVERITIES.index(finding.severity) for finding in findings]
    assert order == sorted(order)
    squeezed = [entry.evidence["channels"] for entry in findings if entry.rule == "narrow"]
    assert squeezed == [2, 4]


def test_rules_are_selected_and_ignored() -> None:
    model = tangled()
    assert {finding.rule for finding in check(model).findings} >= {"dropout-active", "dead-node"}
    assert [rule.id for rule in check(model, select=["dead-node"]).rules] == ["dead-node"]
    assert "dead-node" not in {finding.rule for finding in check(model, ignore=["dead-node"]).findings}
    assert not check(model, select=["dead-node"], ignore=["dead-node"]).rules


@pytest.mark.parametrize("option", ["select", "ignore"])
def test_an_unknown_rule_raises(option: str) -> None:
    with pytest.raises(ValueError, match="there is no rule 'dead-nodes'; did you mean dead-node"):
        check(tangled(), **{option: ["dead-nodes"]})


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UnknownShape, match="no input has a dimension 'K'"):
        check(tangled(), dims={"K": 1})


def test_default_sizes_are_noted() -> None:
    assert "judged at N = 1, H = 224, W = 224" in check(zoo.classifier()).notes
    bound = check(zoo.classifier(), shapes={"x": (1, 3, 64, 64)})
    assert not any("judged" in note for note in bound.notes)


@pytest.mark.parametrize("balance", [1.0, 1000.0])
def test_the_memory_bound_share_grows_with_the_balance(balance: float) -> None:
    share = check(chain(16, 16, 16), balance=balance).roofline.memory_bound_share
    assert (share == 1.0) is (balance == 1000.0)
    assert 0 < share <= 1


def test_info_limits_the_bottlenecks_per_rule() -> None:
    built = chain(*[64, 4] * 6, 64)
    narrowings = [entry for entry in analyze(built).bottlenecks if entry.rule == "narrow"]
    assert len(narrowings) == MAX_BOTTLENECKS_PER_RULE < len(check(built, select=["narrow"]).findings)
    assert all(RULES[entry.rule].bottleneck for entry in analyze(built).bottlenecks)


def test_predecessors_are_the_nearest_layers() -> None:
    """With all predecessors, their number would be quadratic in depth and that of pairs cubic."""
    depth = 3 * MAX_PREDECESSORS
    adds = " ".join(f"c{i} = MatMul (x{i}, w) x{i + 1} = Add (x{i}, c{i})" for i in range(depth))
    built = zoo.model(f"g (float[2, 4] x0) => (float x{depth}) {{ {adds} }}", w=zoo.ones(4, 4))
    layers = _net(MeasuredModel.of(built, None, None)).layers
    assert [layer.row.name for layer in layers[-1].predecessors] == [
        f"c{i}" for i in range(depth - 9, depth - 1)
    ]
    assert max(len(layer.predecessors) for layer in layers) == MAX_PREDECESSORS


def test_a_model_without_layers_has_no_findings() -> None:
    assert not check(one("y = Relu (x)", "2")).findings


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_field_of_a_rule_is_empty(rule: object) -> None:
    assert all(str(text).strip() for text in vars(rule).values())


# True findings in these nets, such as poolings that drop a row and heads with most of the params.
EXPECTED = {
    "bvlc_alexnet": {"drops-edge", "dominates-params", "memory-bound", "dropout-left"},
    "densenet121": {"bn-not-folded"},
    "inception_v1": {"dropout-left"},
    "inception_v2": {"bn-not-folded"},
    "resnet50": {"bn-not-folded"},
    "shufflenet": {"bn-not-folded", "dominates-params"},
    "squeezenet": {"dropout-left"},
    "vgg19": {"dominates-params", "memory-bound", "dropout-left"},
    "zfnet512": {"drops-edge", "dominates-params", "memory-bound"},
}


@pytest.mark.parametrize("name", LIGHT)
def test_classic_nets_raise_no_false_alarm(name: str) -> None:
    assert {finding.rule for finding in check(ir.load(zoo.light(name))).findings} == EXPECTED[name]


@pytest.mark.models
@pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with models")
def test_no_rule_fails_on_any_model() -> None:
    for path in CASES:
        report = check(ir.load(path), weights=path.stat().st_size < 1e6)
        assert all(finding.message and finding.advice for finding in report.findings), path
        assert all(table.text(80) for table in report.brief(MAX_BOTTLENECKS_PER_RULE).tables()), path
