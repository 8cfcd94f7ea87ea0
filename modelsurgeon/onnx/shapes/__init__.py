"""The shape of every value: symbols where the model leaves a size open, numbers where it is fixed."""

from modelsurgeon.onnx.shapes.bound_model import (
    Dims,
    bound,
    bound_to_defaults,
    data_inputs,
    default_dims,
    expressions,
    inlined,
    open_shapes,
    sizes,
    symbols,
)

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
