"""Rules about training leftovers: a finding in a net with the problem, none in a net without it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.api.operation import pass_context
from modelsurgeon.onnx.passes.batchnorm.fold import fold
from tests import zoo
from tests.onnx.lint.nets import found, one

STATISTICS = {name: zoo.ones(8) for name in ("scale", "shift", "mean", "var")}
NORM = "BatchNormalization ({}, scale, shift, mean, var)"


def dropout(training: str, ratio: float = 0.5) -> ir.Model:
    return zoo.model(
        f"""
        g (float[2, 8] x) => (float y) {{
            r = Constant <value = float {{{ratio}}}> () t = Constant <value = bool {{{training}}}> ()
            y = Dropout (x, r, t)
        }}
        """
    )


def test_active_dropout() -> None:
    [entry] = found(dropout("1"), "dropout-active")
    assert (entry.severity, entry.layer) == ("error", "y")
    assert entry.message == "is in training mode and zeroes values at random, 50.0 % of them"
    assert not found(dropout("0"), "dropout-active")
    assert not found(dropout("1", 0.0), "dropout-active")


def test_inactive_dropout() -> None:
    assert len(found(dropout("0"), "dropout-left")) == 1
    assert not found(dropout("1"), "dropout-left")


UNKNOWN = {
    "a graph input": "y = Dropout (x, r, t)",
    "computed": "n = Not (t) y = Dropout (x, r, n)",
    "in a branch": "y = If (t) <then_branch = b () => (float c) { c = Dropout (x, r, t) },"
    " else_branch = e () => (float d) { d = Neg (x) }>",
    "computed from a size": "s = Shape (x) n = Size (s) i = Cast <to = 9> (n) y = Dropout (x, r, i)",
    "with a ratio that is an input": "y = Dropout (x, q, t)",
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_dropout_with_an_unknown_flag_is_neither_active_nor_idle(body: str) -> None:
    head = "g (float[2, 8] x, bool t, float q) => (float y) { r = Constant <value = float {0.5}> () "
    built = zoo.model(f"{head} {body} }}")
    [entry] = found(built, "dropout-switchable")
    assert "training_mode" in entry.advice
    assert not found(built, "dropout-left")
    assert not found(built, "dropout-active")
    assert not found(dropout("0"), "dropout-switchable")
    assert not found(dropout("1", 0.0), "dropout-switchable")


@pytest.mark.parametrize(("steps", "rule"), [
    ("t = Not (u)", "dropout-left"), ("t = Identity (u)", "dropout-active"),
    ("n = Cast <to = 6> (u) t = Cast <to = 9> (n)", "dropout-active"),
    ("v = Not (u) t = And (u, v)", "dropout-left"),
])  # fmt: skip
def test_a_flag_that_follows_from_constants_is_known(steps: str, rule: str) -> None:
    head = "r = Constant <value = float {0.5}> () u = Constant <value = bool {1}> ()"
    built = zoo.model(f"g (float[N, 8] x) => (float y) {{ {head} {steps} y = Dropout (x, r, t) }}")
    rules = ("dropout-active", "dropout-left", "dropout-switchable")
    assert [name for name in rules if found(built, name)] == [rule]


def test_a_ratio_that_is_an_input_leaves_dropout_active() -> None:
    head = "g (float[2, 8] x, float q) => (float y) { t = Constant <value = bool {1}> () "
    [entry] = found(zoo.model(f"{head} y = Dropout (x, q, t) }}"), "dropout-active")
    assert entry.evidence == {}
    assert not found(zoo.model(f"{head} f = Not (t) y = Dropout (x, q, f) }}"), "dropout-active")


@pytest.mark.parametrize(("attribute", "active"), [("<is_test = 1>", 0), ("", 1)])
def test_is_test_of_old_dropout(attribute: str, active: int) -> None:
    built = zoo.model(f"g (float[2, 8] x) => (float y) {{ y = Dropout {attribute} (x) }}", opset=6)
    assert len(found(built, "dropout-active")) == active
    assert len(found(built, "dropout-left")) == 1 - active


@pytest.mark.parametrize(("opset", "made", "count"), [
    (17, f"y, m, v = {NORM.replace(' (', ' <training_mode = 1> (')}", 1),
    (17, f"y = {NORM}", 0),
    (9, f"y, m, v = {NORM} u = Relu (m)", 1),
    (9, f"y = {NORM}", 0),
    (6, f"y = {NORM}", 1),
    (6, f"y = {NORM.replace(' (', ' <is_test = 1> (')}", 0),
])  # fmt: skip
def test_batch_norm_in_training(opset: int, made: str, count: int) -> None:
    text = f"g (float[2, 8, 4, 4] x) => (float y) {{ {made.format('x')} }}"
    entries = found(zoo.model(text, opset=opset, **STATISTICS), "batchnorm-training")
    assert [entry.severity for entry in entries] == ["error"] * count


WEIGHT = {"w": zoo.ones(8, 8, 3, 3), "bias": zoo.ones(8, 1, 1)}


@pytest.mark.parametrize(
    "body",
    [
        f"c = Conv (x, w) y = {NORM.format('c')}",
        f"c = ConvTranspose (x, w) y = {NORM.format('c')}",
        f"c = Conv (x, w) d = Add (c, bias) y = {NORM.format('d')}",
        f"n = {NORM.format('x')} y = Conv (n, w)",  # without padding
    ],
)
def test_foldable_batch_norm(body: str) -> None:
    [entry] = found(one(body, "1, 8, 6, 6", **WEIGHT, **STATISTICS), "bn-not-folded")
    assert entry.severity == "note"
    assert "exactly" in entry.message
    assert "bn fold" in entry.advice


@pytest.mark.parametrize(
    "body",
    [
        f"c = Conv (x, w) n = {NORM.format('c')} y = Add (n, c)",  # used twice
        f"c = Conv (x, w) r = Relu (c) y = {NORM.format('r')}",  # a non-linearity between
        f"n = {NORM.format('x')} y = Conv <pads = [1, 1, 1, 1]> (n, w)",  # the norm doesn't shift the padding
        f"n = {NORM.format('x')} r = Relu (n) y = Conv (r, w)",
        f"c = Conv (x, w) d = Conv (x, w) n = {NORM.format('c')} y = Add (n, d)",  # a shared weight
        f"c = Conv (x, v) y = {NORM.format('c')}",  # a computed weight
        f"c = Conv (x, w) d = Add (c, x) y = {NORM.format('d')}",
    ],
)
def test_batch_norm_not_foldable(body: str) -> None:
    body = f"v = Abs (x9) {body}" if ", v)" in body else body
    head = "float[1, 8, 6, 6] x, float[8, 8, 3, 3] x9"
    built = zoo.model(f"g ({head}) => (float y) {{ {body} }}", **WEIGHT, **STATISTICS)
    assert not found(built, "bn-not-folded")


def test_norm_after_a_graph_output() -> None:
    built = zoo.model(
        f"g (float[1, 8, 6, 6] x) => (float y, float c) {{ c = Conv (x, w) y = {NORM.format('c')} }}",
        **WEIGHT, **STATISTICS,
    )  # fmt: skip
    assert not found(built, "bn-not-folded")


def test_no_fold_into_a_quantized_weight() -> None:
    body = f"d = DequantizeLinear (q, s) c = Conv (x, d) y = {NORM.format('c')}"
    built = one(body, "1, 8, 6, 6", q=np.ones((8, 8, 3, 3), np.int8), s=np.float32(0.1), **STATISTICS)
    assert not found(built, "bn-not-folded")


@pytest.mark.parametrize(("shape", "count"), [("5, 4", 1), ("8, 5, 4", 0)])
def test_fold_into_matmul_needs_channels_on_axis_1(shape: str, count: int) -> None:
    built = one(f"c = MatMul (x, w) y = {NORM.format('c')}", shape, w=zoo.ones(4, 8), **STATISTICS)
    assert len(found(built, "bn-not-folded")) == count


@pytest.mark.parametrize("name", ["resnet50", "shufflenet"])
def test_findings_match_bn_fold(name: str) -> None:
    model = ir.load(zoo.light(name))
    edits = fold(pass_context(model, {}, None))
    folded = {edit.layer for edit in edits if edit.skipped is None}
    assert {entry.layer for entry in found(model, "bn-not-folded")} == folded
