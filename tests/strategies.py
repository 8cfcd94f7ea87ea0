"""Hypothesis strategy for layers of any geometry, groups, ndim and dtype."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from modelsurgeon.layers import Layer

# Dtypes of weights, and the relative error of one rounding.
ROUNDING = {
    np.dtype(np.float64): 2.0**-53,
    np.dtype(np.float32): 2.0**-24,
    np.dtype(np.float16): 2.0**-11,
    np.dtype(ml_dtypes.bfloat16): 2.0**-8,
}
dtypes = st.sampled_from(list(ROUNDING))


@st.composite
def layers(
    draw: st.DrawFn,
    *,
    ndim: st.SearchStrategy[int] | None = None,
    transposed: st.SearchStrategy[bool] | None = None,
    groups: st.SearchStrategy[int] | None = None,
    dtype: type = np.float64,
) -> Layer:
    """A small layer with random weights: fully connected or up to three kernel axes, any geometry."""
    n = draw(st.integers(0, 3) if ndim is None else ndim)
    scatter = n > 0 and draw(st.booleans() if transposed is None else transposed)
    g = draw(st.sampled_from([1, 1, 2, 3]) if groups is None else groups) if n else 1
    axis = st.integers(1, 3)
    kernel = tuple(draw(axis) for _ in range(n))
    stride = tuple(draw(axis) for _ in range(n))
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(n))
    padding = tuple(_padding(draw, k, d, scatter) for k, d in zip(kernel, dilation, strict=True))
    out_padding = tuple(draw(st.integers(0, s - 1)) if scatter else 0 for s in stride)
    shape = (g * draw(st.integers(1, 5)), draw(st.integers(1, 5)), *kernel)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bias = rng.normal(size=shape[0]).astype(dtype) if draw(st.booleans()) else None
    return Layer(
        weight=rng.normal(size=shape).astype(dtype),
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=g,
        transposed=scatter,
        output_padding=out_padding,
    )


def _padding(draw: st.DrawFn, taps: int, dilation: int, scatter: bool) -> tuple[int, int]:
    """Asymmetric padding; that of a transposed layer is at most the size that its kernel adds."""
    most = dilation * (taps - 1) // 2 if scatter else 2
    return draw(st.integers(0, most)), draw(st.integers(0, most))
