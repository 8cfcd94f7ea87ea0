"""Pooling, reductions and resampling: no MACs."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, NCHWC_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, Uncounted, counts, moves


@counts("MaxPool", "AveragePool")
@counts("QLinearAveragePool", "NhwcMaxPool", "MaxpoolWithMask", domain=MICROSOFT_DOMAIN)
@counts("MaxPool", "AveragePool", domain=NCHWC_DOMAIN)
def pool(op: ShapedNode) -> Cost:
    """One comparison or addition for each tap."""
    return Cost(other=op.elements * prod(op.integers("kernel_shape")))


@counts("LpPool")
def lp_pool(op: ShapedNode) -> Cost:
    """One power and one addition for each tap."""
    return Cost(other=2 * op.elements * prod(op.integers("kernel_shape")))


@counts("GlobalMaxPool", "GlobalAveragePool")
@counts("QLinearGlobalAveragePool", "QLinearReduceMean", "ReduceSumInteger", domain=MICROSOFT_DOMAIN)
@counts("GlobalMaxPool", "GlobalAveragePool", domain=NCHWC_DOMAIN)
@counts("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceLogSum")
@counts("ArgMax", "ArgMin", "CumSum", "CumProd", "TopK", "Hardmax", "NonZero", "Col2Im")
def one_per_input_element(op: ShapedNode) -> Cost:
    """One operation for each input element."""
    return Cost(other=op.elements_in)


@counts("GlobalLpPool", "ReduceL1", "ReduceL2", "ReduceSumSquare")
def two_per_input_element(op: ShapedNode) -> Cost:
    """One power and one addition for each input element."""
    return Cost(other=2 * op.elements_in)


@counts("ReduceLogSumExp")
def reduce_log_sum_exp(op: ShapedNode) -> Cost:
    """Maximum, exponential and sum of each input element."""
    return Cost(other=3 * op.elements_in)


INTERPOLATION_TAPS = {"nearest": 0, "linear": 2, "bilinear": 2, "cubic": 4, "bicubic": 4}


@counts("Resize", "Upsample")
@counts("Upsample", domain=NCHWC_DOMAIN)
def resize(op: ShapedNode) -> Cost | Uncounted:
    """A product and a sum for each tap: 2 (linear) or 4 (cubic) per axis that changes; nearest copies."""
    axes = sum(size != new for size, new in zip(op.shape(), op.out(), strict=True))
    return _interpolation_cost(op, op.text("mode", "nearest"), axes)


@counts("GridSample")
@counts("GridSample", domain=MICROSOFT_DOMAIN)
def grid_sample(op: ShapedNode) -> Cost | Uncounted:
    """A product and a sum for each tap of every spatial axis; nearest copies."""
    return _interpolation_cost(op, op.text("mode", "linear"), len(op.shape()) - 2)


def _interpolation_cost(op: ShapedNode, mode: str, axes: int) -> Cost | Uncounted:
    if mode not in INTERPOLATION_TAPS:
        return Uncounted(reason=f"interpolation {mode!r} is not understood")
    return (
        Cost(other=2 * INTERPOLATION_TAPS[mode] ** axes * op.elements)
        if axes and INTERPOLATION_TAPS[mode]
        else moves(op)
    )


@counts("RoiAlign")
def roi_align(op: ShapedNode) -> Cost | Uncounted:
    """Four taps for each sampling point of each bin."""
    if not (ratio := op.integer("sampling_ratio")):
        return Uncounted(reason="the number of sampling points depends on the regions (sampling_ratio 0)")
    return Cost(other=8 * ratio**2 * op.elements)


@counts("AffineGrid")
def affine_grid(op: ShapedNode) -> Cost:
    """A product of the matrix with each homogeneous coordinate."""
    return Cost(other=2 * (op.out()[-1] + 1) * op.elements)


@counts("Scatter", "ScatterElements", "ScatterND")
def scatter(op: ShapedNode) -> Cost:
    """One operation for each update where updates are reduced; else data is moved."""
    return moves(op) if op.text("reduction", "none") == "none" else Cost(other=prod(op.shape(2)))
