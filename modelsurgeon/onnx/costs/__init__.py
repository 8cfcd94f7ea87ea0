"""Cost of a node in MACs and other operations. Every operator is in one of three states, none silently 0:

counted    a function under `@counts` returns its operations from the shapes of its inputs and outputs
free       it moves, names or re-types data: no operation
uncounted  no function is registered, or a shape that is needed is unknown: it is reported with the reason

One MAC is one multiply and one add of a linear or attention operator; everything else is one operation for
each element and step of the formula. Importing this package registers all cost functions.
"""

from modelsurgeon.onnx.costs import (
    attention,
    conv,
    einsum,
    elementwise,
    fourier,
    matmul,
    normalization,
    pooling,
    recurrent,
    traditional_ml,
)
from modelsurgeon.onnx.costs.registry import Shape, ShapedNode, Uncounted, cost_of, counts, is_free, moves

__all__ = [
    "Shape",
    "ShapedNode",
    "Uncounted",
    "attention",
    "conv",
    "cost_of",
    "counts",
    "einsum",
    "elementwise",
    "fourier",
    "is_free",
    "matmul",
    "moves",
    "normalization",
    "pooling",
    "recurrent",
    "traditional_ml",
]
