"""Rules about windows that don't tile the map: a finding where they don't, none where they do."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from modelsurgeon.onnx.lint.windows import Axis
from tests import zoo
from tests.onnx.lint.nets import chain, found, one

axes = st.builds(
    lambda size, taps, dilation, stride, begin, end, ceil: (
        Axis(
            size=size, taps=taps, dilation=dilation, stride=stride, begin=begin, end=end,
            count=-((dilation * (taps - 1) + 1 - size - begin - end) // stride) + 1
            if ceil else (size + begin + end - dilation * (taps - 1) - 1) // stride + 1,
        )
    ),
    st.integers(1, 9), st.integers(1, 5), st.integers(1, 3), st.integers(1, 5), st.integers(0, 4),
    st.integers(0, 4), st.booleans(),
)  # fmt: skip


@given(axes)
def test_axis_equals_enumeration(axis: Axis) -> None:
    """Counts and shares equal those found by enumerating every tap of every window."""
    assume(axis.count > 0)
    taps = [
        [window * axis.stride - axis.begin + tap * axis.dilation for tap in range(axis.taps)]
        for window in range(axis.count)
    ]
    seen = [sum(row.count(at) for row in taps) for at in range(axis.size)]
    assert axis.tap_counts.tolist() == seen
    assert axis.inside_share == pytest.approx(sum(seen) / (axis.count * axis.taps))
    assert axis.empty == sum(not any(0 <= at < axis.size for at in row) for row in taps)
    assert axis.dropped == max(0, axis.size - 1 - taps[-1][-1])
    assert axis.overhang == max(0, taps[-1][-1] + 1 - axis.size - axis.end)


def pooled(size: int, attributes: str = "", op: str = "MaxPool", kernel: int = 3) -> ir.Model:
    return one(
        f"y = {op} <kernel_shape = [{kernel}, {kernel}], strides = [2, 2] {attributes}> (x)",
        f"1, 4, {size}, {size}",
    )


@pytest.mark.parametrize(
    ("size", "attributes", "count"),
    [
        (26, "", 1),
        (27, "", 0),  # (27 - 3) / 2 is whole
        (26, ", ceil_mode = 1", 0),
        (26, ", pads = [0, 0, 1, 1]", 0),  # (26 + 1 - 3) / 2 is whole
        (26, ", pads = [1, 1, 0, 0]", 0),
        (26, ', auto_pad = "SAME_UPPER"', 0),
        (224, "", 0),  # less than 2 % of the map
    ],
)
def test_pooling_drops_the_edge(size: int, attributes: str, count: int) -> None:
    entries = found(pooled(size, attributes), "drops-edge")
    assert len(entries) == count
    lost = "drops 1×1 of 26×26 positions at the end: 7.5 %"
    assert all(entry.message.startswith(lost) for entry in entries)


def test_convolution_drops_the_edge() -> None:
    built = one("y = Conv <strides = [4, 4]> (x, w)", "1, 3, 26, 26", w=zoo.ones(4, 3, 5, 5))
    [entry] = found(built, "drops-edge")
    assert entry.evidence["dropped"] == [1, 1]


def test_an_open_size_drops_nothing() -> None:
    built = one("y = MaxPool <kernel_shape = [3, 3], strides = [2, 2]> (x)", "N, 4, H, 26")
    [entry] = found(built, "drops-edge")
    assert entry.message.startswith("drops 0×1 of ?×26 ")
    assert found(built, "drops-edge", dims={"H": 26})[0].evidence["dropped"] == [1, 1]


@pytest.mark.parametrize(("size", "count"), [(2, 1), (3, 0)])
def test_empty_window(size: int, count: int) -> None:
    built = one("y = MaxPool <kernel_shape = [2], dilations = [3], pads = [1, 1]> (x)", f"1, 4, {size}")
    entries = found(built, "empty-window")
    assert [entry.severity for entry in entries] == ["error"] * count


def test_unread_values() -> None:
    skipping = "Conv <strides = [2, 2]>"
    weights = {"v": zoo.ones(8, 8, 3, 3), "w": zoo.ones(8, 8, 1, 1)}
    both = one(f"a = Conv (x, v) r = Relu (a) b = {skipping} (r, w) c = {skipping} (r, w) y = Add (b, c)",
               "1, 8, 18, 18", **weights)  # fmt: skip
    [entry] = found(both, "unread-values")
    assert entry.evidence == {"share": 0.75, "readers": 2}
    assert entry.message == "75.0 % of the positions of 'r' are read by nothing: kernel 1×1, stride 2×2"
    body = f"a = Conv (x, v) b = {skipping} (a, w) c = Conv (a, w) e = Flatten (b) f = Flatten (c)"
    one_reads_all = one(f"{body} y = Concat <axis = 1> (e, f)", "1, 8, 18, 18", **weights)
    assert not found(one_reads_all, "unread-values")


def test_two_readers_cover_all_values() -> None:
    readers = "b = Conv <strides = [2]> (a, w) c = Conv <strides = [2], pads = [1, 0]> (a, w)"
    built = one(f"a = Relu (x) {readers} y = Concat <axis = 2> (b, c)", "1, 8, 18", w=zoo.ones(8, 8, 1))
    assert not found(built, "unread-values")


def test_a_kernel_larger_than_the_map() -> None:
    [entry] = found(chain(4, 4, kernel=5, size=1), "wasted-taps")
    assert entry.message == "96.0 % of its MACs meet padding: kernel 5×5 on input 1×4×1×1"
    assert not found(chain(4, 4, kernel=5, size=8), "wasted-taps")


@pytest.mark.parametrize(
    ("geometry", "share"),
    [("pads = [2, 2]", 3 / 5), ('auto_pad = "SAME_UPPER"', 3 / 5), ("pads = [4, 4], dilations = [2]", 4 / 5)],
)
def test_share_of_taps_on_padding(geometry: str, share: float) -> None:
    [entry] = found(one(f"y = Conv <{geometry}> (x, w)", "1, 4, 2", w=zoo.ones(4, 4, 5)), "wasted-taps")
    assert entry.message.startswith(f"{100 * share:.1f} % of its MACs meet padding")


@pytest.mark.parametrize(("size", "counted", "count"), [(4, 1, 1), (4, 0, 0), (35, 1, 0)])
def test_average_of_padding(size: int, counted: int, count: int) -> None:
    built = one(
        f"y = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = {counted}> (x)",
        f"1, 4, {size}, {size}",
    )
    entries = found(built, "averages-padding")
    assert len(entries) == count
    ones = np.pad(np.ones((4, 4)), 1)
    inside = np.mean([ones[i : i + 3, j : j + 3].mean() for i in range(4) for j in range(4)])
    assert all(entry.evidence["share"] == pytest.approx(1 - inside) for entry in entries)


@pytest.mark.parametrize(("size", "counted", "count"), [(26, 1, 1), (27, 1, 0), (26, 0, 0)])
def test_overhanging_window(size: int, counted: int, count: int) -> None:
    built = pooled(size, f", ceil_mode = 1, count_include_pad = {counted}", "AveragePool")
    assert len(found(built, "overhanging-window")) == count


def test_shares_multiply_over_the_axes() -> None:
    [entry] = found(pooled(26), "drops-edge")
    assert entry.evidence["share"] == pytest.approx(1 - prod([25 / 26] * 2))
