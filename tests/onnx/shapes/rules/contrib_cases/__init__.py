"""Small models of one node each, for the operators of onnxruntime that its build for CPUs runs."""

from tests.onnx.shapes.rules.contrib_cases.attention import attentions
from tests.onnx.shapes.rules.contrib_cases.case import Case
from tests.onnx.shapes.rules.contrib_cases.elements import (
    elementwise,
    gathers,
    normalizations,
    standard_domain,
)
from tests.onnx.shapes.rules.contrib_cases.products import products
from tests.onnx.shapes.rules.contrib_cases.windows import convolutions

CASES = [
    *elementwise(),
    *normalizations(),
    *standard_domain(),
    *gathers(),
    *convolutions(),
    *products(),
    *attentions(),
]

__all__ = ["CASES", "Case"]
