"""Shape rules of Resize and Upsample in all their versions.

The library's rules floor where the specification of keep_aspect_ratio_policy rounds, read the inputs of
Resize-13 in Resize-10 (whose scales are its second input), know no scales in attributes (Upsample-1 and -7),
and multiply by scales in exact arithmetic, where .7 times 10 is less than 7; runtimes compute in float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import sympy
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.constant_folding import small_constant
from modelsurgeon.onnx.shapes.dimensions import as_dim, expression_of
from modelsurgeon.onnx.shapes.rules.parts import known_sizes, optional_input
from modelsurgeon.onnx.shapes.rules.registration import replace_rule

Size = int | ir.SymbolicDim

MAX_ROUNDED_AWAY = Fraction(1, 2**25)  # a product that misses a whole number by less becomes it in float32
MAX_DENOMINATOR = 1000  # with larger ones, sizes of some thousands are rounded to the next whole number


def register() -> None:
    """Replace the library's rules."""
    replace_rule("Resize", _resize)
    replace_rule("Upsample", _upsample)


def _upsample(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Scales are two attributes in opset 1, one attribute since opset 7, and an input since opset 9."""
    factors = optional_input(node, 1)
    if factors is not None:
        scales = _floats(factors)
    elif "scales" in node.attributes:
        scales = list(node.attributes["scales"].as_floats())
    else:
        scales = [
            1.0,
            1.0,
            *(node.attributes.get_float(f"{axis}_scale", 1.0) for axis in ("height", "width")),
        ]
    _set_resized(ctx, node, _scaled(node, scales))


def _resize(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Sizes where they are given, else scales: the second input in opset 10, the third since opset 11."""
    sizes = _given(optional_input(node, 3))
    if sizes is not None:
        _set_resized(ctx, node, _resized_to(node, known_sizes(ctx, sizes)))
    else:
        factors = optional_input(node, 1 if ctx.opset < 11 else 2)
        _set_resized(ctx, node, _scaled(node, _floats(factors)))


def _given(value: ir.Value | None) -> ir.Value | None:
    """The value; None if it is an empty tensor, which stands for an input left out."""
    return None if value is not None and value.shape is not None and value.shape.dims == (0,) else value


def _floats(value: ir.Value | None) -> list[float] | None:
    array = small_constant(value)
    return None if array is None else [float(entry) for entry in array.ravel()]


def _set_resized(
    ctx: ShapeInferenceContext, node: ir.Node, resized: Mapping[int, Size | None] | None
) -> None:
    """Set the output's shape: that of the input but for the resized axes. None: unknown sizes."""
    data, output = node.inputs[0], node.outputs[0]
    if data is None or data.shape is None:
        ctx.set_shape_and_dtype(output, None, None if data is None else data.dtype)
        return
    axes = _axes(node, data.shape.rank())
    dims = list(data.shape)
    for axis in axes:
        size = None if resized is None else resized[axis]
        dims[axis] = ctx.new_symbolic_dim() if size is None else size
    ctx.set_shape_and_dtype(output, ir.Shape(dims), data.dtype)


def _axes(node: ir.Node, ndim: int) -> list[int]:
    """Axes that are resized: all, unless an attribute names them."""
    axes = node.attributes.get_ints("axes", None)
    return list(range(ndim)) if axes is None else [axis % ndim for axis in axes]


def _scaled(node: ir.Node, scales: Sequence[float] | None) -> dict[int, Size | None] | None:
    """Sizes of the resized axes by scales; None where the scales aren't known, or don't fit the axes."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or scales is None:
        return None
    axes = _axes(node, shape.rank())
    if len(scales) != len(axes):
        return None
    return {axis: scaled_size(shape[axis], scale) for axis, scale in zip(axes, scales, strict=True)}


def scaled_size(size: Size, scale: float) -> Size | None:
    """The size times a float32 scale, rounded down, as a runtime computes it in float32.

    The product of an open size is exact, with the simplest fraction that is the same float32 for the scale.
    None where that isn't always what a runtime computes: in float32, 10 times 2.1 is 21, but 30 times 2.1 is
    less than 63.
    """
    if isinstance(size, int):
        return int(np.float32(size) * np.float32(scale))
    fraction = simplest_fraction(scale)
    missing = (fraction - Fraction(scale)) / fraction
    if missing > MAX_ROUNDED_AWAY or fraction.denominator > MAX_DENOMINATOR:
        return None
    return as_dim(sympy.floor(expression_of(size) * sympy.Rational(*fraction.as_integer_ratio())))


def simplest_fraction(scale: float) -> Fraction:
    """The fraction of small denominator that rounds to the same float32."""
    exact = Fraction(scale)
    for bits in range(1, 24):
        near = exact.limit_denominator(2**bits)
        if np.float32(near.numerator / near.denominator) == np.float32(scale):
            return near
    return exact


def _resized_to(node: ir.Node, sizes: Sequence[Size] | None) -> dict[int, Size] | None:
    """Sizes of the resized axes by sizes, under the policy for the aspect ratio; None where not known."""
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    if shape is None or sizes is None:
        return None
    axes = _axes(node, shape.rank())
    if len(sizes) != len(axes):
        return None
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return dict(zip(axes, sizes, strict=True))
    before = [shape[axis] for axis in axes]
    return dict(zip(axes, _in_proportion(before, sizes, smallest=policy == "not_larger"), strict=True))


def _in_proportion(before: Sequence[Size], sizes: Sequence[Size], *, smallest: bool) -> list[Size]:
    """Sizes scaled by one factor, the smallest or largest of the axes; halves are rounded up."""
    known = [size for size in (*before, *sizes) if isinstance(size, int)]
    if len(known) == 2 * len(before):
        old, new = np.array(known, np.float32).reshape(2, -1)
        factor = (np.min if smallest else np.max)(new / old)
        return [int(size) for size in np.floor(old * factor + np.float32(0.5))]
    quotients = [expression_of(new) / expression_of(old) for old, new in zip(before, sizes, strict=True)]
    common = (sympy.Min if smallest else sympy.Max)(*quotients, evaluate=False)
    return [as_dim(sympy.floor(expression_of(old) * common + sympy.Rational(1, 2))) for old in before]
