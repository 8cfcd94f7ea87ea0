"""Each rule finds what it is for, says so in numbers, and keeps quiet elsewhere."""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir
import pytest

from modelsurgeon.onnx.analysis import analyze
from modelsurgeon.onnx.bottlenecks import FEW, RULES
from modelsurgeon.rows import Bottleneck
from tests import zoo


def chain(*widths: int, kernel: int = 3, size: int = 32) -> ir.Model:
    """Convolutions in a row over a map that keeps its size, by their channels."""
    names = ["x", *(f"c{number}" for number in range(1, len(widths)))]
    nodes = [
        f"{new} = Conv <pads = [{kernel // 2}, {kernel // 2}, {kernel // 2}, {kernel // 2}]> ({old}, w{new})"
        for old, new in pairwise(names)
    ]
    weights = {
        f"w{name}": zoo.ones(out, channels, kernel, kernel)
        for name, (channels, out) in zip(names[1:], pairwise(widths), strict=True)
    }
    text = f"g (float[1, {widths[0]}, {size}, {size}] x) => (float {names[-1]}) {{ {' '.join(nodes)} }}"
    return zoo.model(text, **weights)


def found(model: ir.Model, rule: str) -> list[Bottleneck]:
    return [entry for entry in analyze(model).bottlenecks if entry.rule == rule]


def test_one_layer_does_most_of_the_work() -> None:
    [entry] = found(chain(4, 4, 4, 32, 32, 4, 4), "dominates-macs")
    assert entry.layer == "c4"
    assert entry.message.startswith("77.1 % of all MACs (9.44 M)")


def test_a_dense_layer_holds_most_params() -> None:
    built = zoo.model(
        """
        g (float[1, 3, 32, 32] x) => (float y) {
            a = Conv (x, w1)
            b = Conv (a, w2)
            c = Conv (b, w3)
            f = Flatten (c)
            y = Gemm (f, w4)
        }
        """,
        w1=zoo.ones(8, 3, 3, 3),
        w2=zoo.ones(8, 8, 3, 3),
        w3=zoo.ones(8, 8, 3, 3),
        w4=zoo.ones(8 * 26 * 26, 10),
    )
    [entry] = found(built, "dominates-params")
    assert entry.layer == "y"
    assert "97.5 % of all params" in entry.message
    [bound] = found(built, "memory-bound")
    assert bound.layer == "y"
    assert "0.45 FLOPs a byte" in bound.message


def test_neighbours_that_are_far_apart() -> None:
    [entry] = found(chain(1, 1, 128, 128), "uneven")
    assert entry.layer == "c3"
    assert entry.message == "does 128 times the MACs of 'c2' before it"


def test_a_depthwise_layer_is_meant_to_be_cheap() -> None:
    built = zoo.model(
        """
        g (float[1, 256, 32, 32] x) => (float y) {
            d = Conv <group = 256, pads = [1, 1, 1, 1]> (x, w1)
            y = Conv <pads = [1, 1, 1, 1]> (d, w2)
        }
        """,
        w1=zoo.ones(256, 1, 3, 3),
        w2=zoo.ones(256, 256, 3, 3),
    )
    assert not found(built, "uneven")


def test_channels_through_a_needle() -> None:
    [entry] = found(chain(16, 64, 4, 32), "narrow")
    assert entry.layer == "c2"
    assert entry.message == "squeezes 64 channels into 4 on the way to 32"
    assert not found(chain(16, 64, 16, 64), "narrow")


def test_a_kernel_larger_than_the_map() -> None:
    [entry] = found(chain(4, 4, kernel=5, size=1), "wasted-taps")
    assert entry.message == "96.0 % of its MACs meet padding: kernel 5×5 on input 1×4×1×1"
    assert not found(chain(4, 4, kernel=5, size=8), "wasted-taps")


@pytest.mark.parametrize(
    ("geometry", "share"),
    [("pads = [2, 2]", 3 / 5), ('auto_pad = "SAME_UPPER"', 3 / 5), ("pads = [4, 4], dilations = [2]", 4 / 5)],
)
def test_padded_taps_are_counted_as_they_fall(geometry: str, share: float) -> None:
    built = zoo.model(
        f"g (float[1, 4, 2] x) => (float y) {{ y = Conv <{geometry}> (x, w) }}", w=zoo.ones(4, 4, 5)
    )
    [entry] = found(built, "wasted-taps")
    assert entry.message.startswith(f"{100 * share:.1f} % of its MACs meet padding")


def test_work_on_a_map_that_has_just_grown() -> None:
    built = zoo.model(
        """
        g (float[1, 8, 16, 16] x) => (float y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            s = Constant <value = float[4] {1, 1, 2, 2}> ()
            u = Resize (a, , s)
            y = Conv <pads = [1, 1, 1, 1]> (u, w)
        }
        """,
        w=zoo.ones(8, 8, 3, 3),
    )
    [entry] = found(built, "grown-map")
    assert entry.layer == "y"
    assert entry.message == "works on a map 4 times as large as that of 'a' before it"


def test_an_even_net_has_no_bottleneck() -> None:
    assert not analyze(chain(16, 16, 16, 16, 16, 16)).bottlenecks


def test_a_rule_keeps_to_the_worst_few() -> None:
    widths = [64, 4] * 6 + [64]
    assert len(found(chain(*widths), "narrow")) == FEW


def test_every_rule_says_what_it_looks_for() -> None:
    assert all((rule.__doc__ or "").strip() for rule in RULES.values())


def test_a_model_without_layers_has_none() -> None:
    assert not analyze(zoo.model("g (float[2] x) => (float y) { y = Relu (x) }")).bottlenecks
