"""The low-rank rule: findings for weights of low rank, none for weights of full rank."""

from __future__ import annotations

import numpy as np
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.check import check
from tests.onnx.lint.nets import found, one

DRAW = np.random.default_rng(0)


def dense(rank: int) -> np.ndarray:
    return (DRAW.normal(size=(256, rank)) @ DRAW.normal(size=(rank, 192))).astype(np.float32)


def test_a_weight_of_low_rank() -> None:
    built = one("y = MatMul (x, w)", "4, 256", w=dense(16))
    [entry] = found(built, "low-rank")
    assert entry.evidence["rank"] == 16
    assert entry.evidence["even"] == 256 * 192 // (256 + 192)
    assert entry.advice.endswith("--only y --method svd --rank 16`")


def test_predicted_macs() -> None:
    built = one("y = MatMul (x, w)", "4, 256", w=dense(16))
    [entry] = found(built, "low-rank")
    result = ms.compress(built, rank=entry.evidence["rank"], method=entry.evidence["method"])
    assert result.after["macs"] == pytest.approx(entry.evidence["kept"] * result.before["macs"])


def test_a_convolution_of_low_rank() -> None:
    weight = np.einsum("or,rcij->ocij", DRAW.normal(size=(64, 16)), DRAW.normal(size=(16, 64, 3, 3)))
    built = one("y = Conv <pads = [1, 1, 1, 1]> (x, w)", "1, 64, 8, 8", w=weight.astype(np.float32))
    [entry] = found(built, "low-rank")
    assert entry.evidence["rank"] == 16


@pytest.mark.parametrize(
    "weight", [DRAW.normal(size=(256, 192)), np.zeros((256, 192)), np.full((256, 192), np.nan)]
)
def test_full_rank_zero_or_nan_weight(weight: np.ndarray) -> None:
    assert not found(one("y = MatMul (x, w)", "4, 256", w=weight.astype(np.float32)), "low-rank")


def test_rule_needs_weights_option() -> None:
    built = one("y = MatMul (x, w)", "4, 256", w=dense(16))
    assert "low-rank" not in [rule.id for rule in check(built).rules]
    assert "low-rank" in [entry.rule for entry in check(built, weights=True).findings]
