"""Pooling as convolution: exact where possible, an approximation on request, a reason otherwise."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo

RNG = np.random.default_rng(8)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def net(nodes: str, size: str = "9, 8", opset: int = 19, **weights: np.ndarray) -> ir.Model:
    return zoo.model(f"g (float[N, 3, {size}] x) => (float y) {{ {nodes} }}", opset=opset, **weights)


def error(model: ir.Model, done: ms.Operation, x: np.ndarray | None = None) -> float:
    """Relative error of the outputs, with optimizations off."""
    x = normal(2, 3, 9, 8) if x is None else x
    a, b = (run.runner(m, optimize=False)({"x": x})["y"] for m in (model, done.model))
    assert a.shape == b.shape
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def operators(done: ms.Operation) -> list[str]:
    return [node.op_type for node in done.model.graph]


def reasons(done: ms.Operation) -> list[str | None]:
    return [edit.skipped for edit in done.edits if edit.skipped]


POOLS = {
    "plain": ("kernel_shape = [2, 2], strides = [2, 2]", ["Conv"]),
    "not square": ("kernel_shape = [3, 2], strides = [1, 3]", ["Conv"]),
    "dilated": ("kernel_shape = [3, 2], dilations = [2, 3]", ["Conv"]),
    "padding counts": ("kernel_shape = [3, 3], pads = [1, 0, 1, 2], count_include_pad = 1", ["Conv"]),
    "padding doesn't count": (
        "kernel_shape = [3, 3], pads = [1, 0, 1, 2], strides = [2, 2]",
        ["Conv", "Mul"],
    ),
    "automatic": ('kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_UPPER"', ["Conv", "Mul"]),
    "automatic, at the beginning": ('kernel_shape = [2, 3], auto_pad = "SAME_LOWER"', ["Conv", "Mul"]),
    "rounded up, to no effect": ("kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1", ["Conv"]),
    "rounded up": ("kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1", ["Conv", "Mul"]),
}


@pytest.mark.parametrize("name", POOLS)
def test_average_pool(name: str) -> None:
    options, becomes = POOLS[name]
    model = net(f"y = AveragePool <{options}> (x)")
    done = ms.pool2conv(model)
    assert operators(done) == becomes
    assert error(model, done) < 1e-6
    assert done.edits[0].details == {"kind": "exact"}


def test_average_pool_with_open_sizes() -> None:
    model = net("y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", size="H, W")
    assert error(model, ms.pool2conv(model), normal(1, 3, 11, 6)) < 1e-6


SAMPLED = {
    "pooling of one tap": "y = MaxPool <kernel_shape = [1, 1], strides = [2, 3]> (c)",
    "rounded up": "y = AveragePool <kernel_shape = [1, 1], strides = [2, 3], ceil_mode = 1> (c)",
    "slice": "y = Slice (c, zeros, ends, axes, steps)",
    "through others": "r = Relu (c) "
    "b = BatchNormalization (r, k, k, k, k) y = Slice (b, zeros, ends, axes, steps)",
}


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("conv", ["pads = [1, 1, 1, 1]", 'strides = [1, 2], auto_pad = "SAME_LOWER"'])
def test_subsampling_moves_into_the_stride(name: str, conv: str) -> None:
    model = net(
        f"c = Conv <{conv}> (x, w) {SAMPLED[name]}",
        w=normal(4, 3, 3, 3),
        k=np.abs(normal(4)),
        zeros=np.array([0, 0]),
        ends=np.array([9, 2**31]),
        axes=np.array([2, -1]),
        steps=np.array([2, 3]),
    )
    done = ms.pool2conv(model)
    assert not {"Slice", "MaxPool", "AveragePool"} & set(operators(done))
    assert done.edits[0].details == {"kind": "exact", "into": "c"}
    assert error(model, done) < 1e-6


def test_pointwise_stride_moves_to_the_layer_before() -> None:
    model = net(
        "c = Conv (x, w) r = Relu (c) y = Conv <strides = [2, 2]> (r, v)",
        w=normal(4, 3, 3, 3),
        v=normal(5, 4, 1, 1),
    )
    done = ms.pool2conv(model)
    assert error(model, done) < 1e-6
    assert ms.info(done.model, dims={"N": 1}).totals.macs < ms.info(model, dims={"N": 1}).totals.macs / 2


W = {"w": normal(4, 3, 3, 3)}
SLICE = {"starts": np.array([1]), "ends": np.array([9]), "axes": np.array([2]), "steps": np.array([2])}
SKIPPED = {
    "a maximum is no convolution; --approximate": ("y = MaxPool <kernel_shape = [2, 2]> (x)", {}),
    "it takes maps of any size": ("y = GlobalAveragePool (x)", {}),
    "a norm is no convolution": ("y = LpPool <kernel_shape = [2, 2]> (x)", {}),
    "runtimes differ in how they divide windows": (
        "y = AveragePool <kernel_shape = [2, 3], strides = [2, 2], ceil_mode = 1, count_include_pad = 1> (x)",
        {},
    ),
    "it doesn't keep exactly every s-th position": (
        "c = Conv (x, w) y = Slice (c, starts, ends, axes, steps)",
        W | SLICE,
    ),
    "no convolution comes before it": ("y = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (x)", {}),
    "between it and a convolution is Softmax": (
        "c = Conv (x, w) s = Softmax (c) y = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (s)",
        W,
    ),
    "has other uses": (
        "c = Conv (x, w) p = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (c) "
        "s = ReduceMax (c) y = Add (p, s)",
        W,
    ),
}


@pytest.mark.parametrize("reason", SKIPPED)
def test_skipped_node_has_a_reason(reason: str) -> None:
    nodes, weights = SKIPPED[reason]
    model = net(nodes, **weights)
    done = ms.pool2conv(model)
    assert reason in str(reasons(done)[0])
    assert error(model, done) == 0


OPEN = {
    "on a map whose size is open": "y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (x)",
    "depends on an open size": "y = AveragePool <kernel_shape = [2, 2], strides = [2, 2], ceil_mode = 1> (x)",
}


@pytest.mark.parametrize("reason", OPEN)
def test_dependence_on_open_sizes_is_skipped(reason: str) -> None:
    model = net(OPEN[reason], size="H, W")
    assert reason in str(reasons(ms.pool2conv(model))[0])
    assert not reasons(ms.pool2conv(model, shapes={"x": (1, 3, 9, 8)}))


def test_max_pool_is_approximated_on_data() -> None:
    model = net("r = Relu (x) y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)")
    x = normal(40, 3, 9, 8)
    done = ms.pool2conv(model, approximate=True, data={"x": x})
    assert operators(done) == ["Relu", "Conv"]
    [edit] = done.edits
    assert edit.details["kind"] == "approximate"
    assert done.comparison is not None
    assert done.comparison.worst == pytest.approx(edit.details["error"], rel=0.2)
    assert 0.1 < edit.details["error"] < 0.5


@pytest.mark.parametrize("window", ["kernel_shape = [3, 2], strides = [2, 1], pads = [1, 0, 0, 1]",
                                    "kernel_shape = [2, 3], dilations = [2, 1], ceil_mode = 1"])  # fmt: skip
def test_windows_of_any_shape_are_approximated(window: str) -> None:
    model = net(f"y = MaxPool <{window}> (x)")
    x = np.abs(normal(30, 3, 9, 8))
    done = ms.pool2conv(model, approximate=True, data={"x": x})
    assert done.comparison is not None
    assert done.comparison.worst < 0.4


def test_linear_maximum_is_fitted_exactly() -> None:
    """On maps that increase along both axes the maximum is the last tap, which is linear."""
    model = net("y = MaxPool <kernel_shape = [2, 3], strides = [2, 1]> (x)")
    ramp = np.add.outer(np.arange(9), 2 * np.arange(8)).astype(np.float32)
    x = normal(30, 3, 1, 1) + np.abs(normal(30, 3, 1, 1)) * ramp
    done = ms.pool2conv(model, approximate=True, data={"x": x})
    assert done.edits[0].details["error"] < 1e-3


def test_an_approximation_needs_data() -> None:
    with pytest.raises(ms.BadData, match="pass --data"):
        ms.pool2conv(net("y = MaxPool <kernel_shape = [2, 2]> (x)"), approximate=True)
