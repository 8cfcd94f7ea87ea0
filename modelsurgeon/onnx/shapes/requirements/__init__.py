"""Sizes that operators require of their inputs: one table, for sizes that can't run and sizes that follow."""

from modelsurgeon.onnx.shapes.requirements import (
    attention,
    axes,
    conv,
    elementwise,
    matmul,
    movement,
    normalization,
    pooling,
    quantization,
    recurrent,
    sampling,
)
from modelsurgeon.onnx.shapes.requirements.registry import (
    REQUIREMENTS,
    Relation,
    Requirement,
    requirements,
    requires,
)

__all__ = [
    "REQUIREMENTS",
    "Relation",
    "Requirement",
    "attention",
    "axes",
    "conv",
    "elementwise",
    "matmul",
    "movement",
    "normalization",
    "pooling",
    "quantization",
    "recurrent",
    "requirements",
    "requires",
    "sampling",
]
