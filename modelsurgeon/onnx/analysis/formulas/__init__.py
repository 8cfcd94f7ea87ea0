"""Costs as formulas in open sizes, their order of growth, and why a total has none."""

from modelsurgeon.onnx.analysis.formulas.derivation import Formulas, formulas

__all__ = ["Formulas", "formulas"]
