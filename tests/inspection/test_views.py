"""Views of rows: sums don't change with the view."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.errors import UnknownLayer
from modelsurgeon.inspection.rows import LayerRow, Totals
from modelsurgeon.inspection.views import (
    GROUPS,
    SORT_KEYS,
    SUMMED_KEYS,
    describe_share,
    grouped,
    in_order,
    matching,
    nested,
)

PARTS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=4)


@st.composite
def many(draw: st.DrawFn) -> list[LayerRow]:
    """Rows of a model: some without a module, some of unknown cost."""
    count = draw(st.integers(1, 12))
    return [
        LayerRow(
            name=f"n{number}",
            op=draw(st.sampled_from(["Conv", "Relu"])),
            module=".".join(draw(PARTS)) or None,
            macs=draw(st.one_of(st.none(), st.integers(0, 99))),
            params=draw(st.integers(0, 99)),
            output_bytes=draw(st.integers(0, 99)),
        )
        for number in range(count)
    ]


def total(rows: list[LayerRow], key: str) -> int | None:
    values = [getattr(row, key) for row in rows]
    return None if None in values else sum(values)


@given(rows=many(), depth=st.integers(1, 5))
def test_each_tree_row_is_the_sum_of_its_children(rows: list[LayerRow], depth: int) -> None:
    tree = nested(rows, depth)
    assert max(row.level for row in tree) < depth
    top = [row for row in tree if not row.level]
    for key in SUMMED_KEYS:
        if (whole := total(rows, key)) is not None:
            assert total(top, key) == whole
    for place, row in enumerate(tree):
        below = tree[place + 1 :]
        end = next((i for i, one in enumerate(below) if one.level <= row.level), len(below))
        children = [one for one in below[:end] if one.level == row.level + 1]
        for key in SUMMED_KEYS:
            assert not children or total(children, key) == getattr(row, key)


@given(rows=many(), depth=st.integers(1, 5), key=st.sampled_from(SORT_KEYS))
def test_sorting_a_tree_keeps_the_parents(rows: list[LayerRow], depth: int, key: str) -> None:
    tree = nested(rows, depth)
    done = in_order(tree, key)
    assert sorted(map(repr, done)) == sorted(map(repr, tree))
    assert parents(done) == parents(tree)
    tops = [row for row in done if not row.level]
    assert tops == in_order(tops, key)


def parents(tree: list[LayerRow]) -> dict[str, str | None]:
    above: list[LayerRow] = []
    found: dict[str, str | None] = {}
    for row in tree:
        del above[row.level :]
        found[row.name] = above[-1].name if above else None
        above.append(row)
    return found


@given(rows=many(), key=st.sampled_from(GROUPS))
def test_groups_add_up_to_all(rows: list[LayerRow], key: str) -> None:
    for column in SUMMED_KEYS:
        if (whole := total(rows, column)) is not None:
            assert total(grouped(rows, key), column) == whole


def test_own_nodes_of_a_module_have_a_row() -> None:
    rows = [
        LayerRow(name="x", op="Conv", module="net.stem", macs=3),
        LayerRow(name="y", op="Add", module="net", macs=1),
        LayerRow(name="z", op="Add", macs=5),
    ]
    assert [(row.level, row.name, row.op, row.macs) for row in nested(rows, 2)] == [
        (0, "net", "2 nodes", 4),
        (1, "net.stem", "1 Conv", 3),
        (1, "net.(own)", "1 Add", 1),
        (0, "z", "1 Add", 5),
    ]
    assert [row.name for row in nested(rows, 1)] == ["net", "z"]


NAMED = [
    LayerRow(name="stem", op="Conv", module="net.stem", macs=30, params=1),
    LayerRow(name="act", op="Relu", module="net.stem"),
    LayerRow(name="head", op="Gemm", module="net.head", macs=70, params=3),
    LayerRow(name="odd", op="Gemm", macs=0),
]


@pytest.mark.parametrize(
    ("only", "skip", "ops", "names"),
    [
        ([], [], [], ["stem", "act", "head", "odd"]),
        (["s*"], [], [], ["stem"]),
        (["net.*"], [], [], ["stem", "act", "head"]),
        (["net.*"], ["head"], [], ["stem", "act"]),
        ([], ["*d"], [], ["stem", "act"]),
        ([], [], ["Gemm", "R*"], ["act", "head", "odd"]),
        (["odd", "stem"], [], ["Gemm"], ["odd"]),
    ],
)
def test_globs_filter(only: list[str], skip: list[str], ops: list[str], names: list[str]) -> None:
    assert [row.name for row in matching(NAMED, only, skip, ops)] == names


def test_a_glob_without_match_is_refused() -> None:
    with pytest.raises(UnknownLayer, match="called 'tail'"):
        matching(NAMED, ["tail"], [], [])
    with pytest.raises(UnknownLayer, match="called 'tail'"):
        matching(NAMED, [], ["tail"], [])
    with pytest.raises(UnknownLayer, match="no node is a 'LSTM': this model has Conv, Gemm, Relu"):
        matching(NAMED, [], [], ["LSTM"])


def test_the_share_counts_nothing_twice() -> None:
    totals = Totals(macs=100, params=4)
    assert describe_share(NAMED[:1], totals) == "30.0 % of the MACs, 25.0 % of the params"
    assert describe_share(nested(NAMED, 3), totals) == "100.0 % of the MACs, 100.0 % of the params"
    assert describe_share([], Totals()) == "0.0 % of the MACs, 0.0 % of the params"
