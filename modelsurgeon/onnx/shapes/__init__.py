"""Shapes of all values: symbols where the model leaves a size open, numbers where it is fixed."""

from modelsurgeon.onnx.shapes.binding import Dims, data_inputs, open_shapes, symbols
from modelsurgeon.onnx.shapes.bound_model import bound, bound_to_defaults, expressions, sizes
from modelsurgeon.onnx.shapes.default_sizes import default_dims
from modelsurgeon.onnx.shapes.inline_functions import inlined

__all__ = [
    "Dims",
    "bound",
    "bound_to_defaults",
    "data_inputs",
    "default_dims",
    "expressions",
    "inlined",
    "open_shapes",
    "sizes",
    "symbols",
]
