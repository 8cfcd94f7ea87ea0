"""Difference of two ONNX models: nodes, constants and wiring, compared pair by pair."""

from modelsurgeon.onnx.diff.compare import diff

__all__ = ["diff"]
