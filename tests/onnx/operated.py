"""Helpers that replace the layers of small graphs and compute outputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from modelsurgeon.factorize import Rank
from modelsurgeon.onnx import run
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from modelsurgeon.surgery.apply import apply_plan
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep


def outputs(built: ir.Model, **feed: np.ndarray) -> list[np.ndarray]:
    """Outputs of the model with optimizations off, so that onnxruntime folds and fuses nothing."""
    return list(run.runner(built, optimize=False, threads=1)(feed).values())


def relative(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float)))


def operated(built: ir.Model, method: str = "svd", rank: Rank = FULL_RANK) -> ir.Model:
    copy = editable_copy(built)
    found, skipped = sites(copy)
    assert not skipped
    apply_plan(Plan({site.name: PlanStep(method=method, rank=rank) for site in found}), found)
    return copy


def reasons(built: ir.Model) -> list[str]:
    found, skipped = sites(editable_copy(built))
    assert not found
    return [str(edit.skipped) for edit in skipped]
