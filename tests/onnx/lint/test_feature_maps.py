"""Rules about feature maps: a finding in a net with the problem, none in a net without it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from tests import zoo
from tests.onnx.lint.nets import chain, found, one


def test_narrow_layer() -> None:
    [entry] = found(chain(16, 64, 4, 32), "narrow")
    assert entry.layer == "c2"
    assert entry.message == "squeezes 64 channels into 4 on the way to 32"
    assert not found(chain(16, 64, 16, 64), "narrow")


def test_low_rank_factor_is_not_narrow() -> None:
    built = zoo.model(
        """
        g (float[1, 64, 8, 8] x) => (float y) {
            a = Conv (x, w1) b = Relu (a) f = Conv (b, w2) y = Conv (f, w3)
        }
        """,
        w1=zoo.ones(64, 64, 1, 1), w2=zoo.ones(4, 64, 3, 3), w3=zoo.ones(64, 4, 1, 1),
    )  # fmt: skip
    assert not found(built, "narrow")


def test_residual_block_is_not_narrow() -> None:
    body = "a = Conv (x, w1) b = Conv (a, w2) c = Relu (b) d = Conv (c, w3) {} y = Conv (e, w1)"
    weights = {"w1": zoo.ones(64, 64, 1, 1), "w2": zoo.ones(4, 64, 1, 1), "w3": zoo.ones(64, 4, 1, 1)}
    assert found(one(body.format("e = Relu (d)"), "1, 64, 8, 8", **weights), "narrow")
    assert not found(one(body.format("e = Add (a, d)"), "1, 64, 8, 8", **weights), "narrow")


def enlarged(first: str, second: str) -> ir.Model:
    """A convolution, then a Resize by 2 and a convolution in either order."""
    return zoo.model(
        f"""
        g (float[1, 8, 16, 16] x) => (float y) {{
            s = Constant <value = float[4] {{1, 1, 2, 2}}> ()
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            {first}
            {second}
        }}
        """,
        w=zoo.ones(8, 8, 3, 3),
    )


def test_convolution_after_upsampling() -> None:
    convolve = "Conv <pads = [1, 1, 1, 1]>"
    [entry] = found(enlarged("u = Resize (a, , s)", f"y = {convolve} (u, w)"), "grown-map")
    assert entry.layer == "y"
    assert entry.message == "works on a map 4 times as large as that of 'a' before it"
    assert not found(enlarged(f"u = {convolve} (a, w)", "y = Resize (u, , s)"), "grown-map")


def strided(strides: list[int], size: int = 128) -> ir.Model:
    """A chain of convolutions with 8 channels and these strides."""
    nodes = [
        f"c{i + 1} = Conv <pads = [1, 1, 1, 1], strides = [{s}, {s}]> (c{i}, w)"
        for i, s in enumerate(strides)
    ]
    text = f"g (float[1, 8, {size}, {size}] c0) => (float c{len(strides)}) {{ {' '.join(nodes)} }}"
    return zoo.model(text, w=zoo.ones(8, 8, 3, 3))


def test_early_collapse() -> None:
    [entry] = found(strided([2, 2, 2, 2, 2, 1, 1, 1]), "early-collapse")
    assert entry.layer == "c5"
    assert entry.message == "from here on 4 of 8 convolutions work on a map of 4×4 or less"


@pytest.mark.parametrize("strides", [[1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1], [2, 2, 1, 1, 1, 1], [2, 2, 2]])
def test_no_early_collapse(strides: list[int]) -> None:
    assert not found(strided(strides), "early-collapse")


@pytest.mark.parametrize(("kernel", "count"), [(4, 1), (2, 0)])
def test_collapse_in_one_node(kernel: int, count: int) -> None:
    sides = f"{kernel}, {kernel}"
    built = one(
        f"p = MaxPool <kernel_shape = [{sides}], strides = [{sides}]> (x) y = Conv (p, w)",
        "1, 8, 32, 32",
        w=zoo.ones(8, 8, 3, 3),
    )
    entries = found(built, "early-collapse")
    assert len(entries) == count
    assert all(
        entry.message == "1×8×32×32 into 1×8×8×8: one node leaves one value of 16" for entry in entries
    )


def test_patches_are_no_collapse() -> None:
    built = one(
        "p = Conv <strides = [16, 16]> (x, w) y = Conv (p, v)",
        "1, 3, 64, 64",
        w=zoo.ones(768, 3, 16, 16),
        v=zoo.ones(8, 768, 3, 3),
    )
    assert not found(built, "early-collapse")


@pytest.mark.parametrize(("shape", "count"), [("1, 8, 1, 1", 1), ("1, 8, 7, 7", 0), ("1, 8, H, W", 0)])
def test_global_pool_of_one_position(shape: str, count: int) -> None:
    assert len(found(one("y = GlobalAveragePool (x)", shape), "nothing-to-pool")) == count


@pytest.mark.parametrize(("kernel", "count"), [(1, 1), (2, 0)])
def test_pooling_with_kernel_1(kernel: int, count: int) -> None:
    built = one(f"y = MaxPool <kernel_shape = [{kernel}, {kernel}]> (x)", "1, 8, 8, 8")
    assert len(found(built, "nothing-to-pool")) == count
