"""An analysis sorted, grouped, filtered, shortened and displayed."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import modelsurgeon as ms
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.inspection.rows import Bottleneck, LayerRow, Totals, UncountedOperators
from modelsurgeon.inspection.views import GROUPS, SORT_KEYS
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table
from tests import zoo

ROWS = [
    LayerRow(
        name="stem",
        op="Conv",
        module="net.stem",
        macs=300,
        flops=600,
        params=30,
        param_bytes=120,
        mac_share=0.3,
        param_share=0.5,
        output_shapes=((1, 8, 4, 4),),
        output_bytes=512,
    ),
    LayerRow(name="act", op="Relu", module="net.stem", flops=128, output_bytes=512),
    LayerRow(name="odd", op="Magic", macs=None, flops=None, bias_adds=None, mac_share=None),
    LayerRow(
        name="head",
        op="Gemm",
        macs=700,
        flops=1400,
        params=30,
        param_bytes=120,
        mac_share=0.7,
        param_share=0.5,
    ),
]
FOUND = Analysis(
    model={"path": "some/net.onnx"},
    totals=Totals(
        macs=1000, flops=2128, params=60, param_bytes=240, bn_stats=4, nodes=4, activation_bytes=2048
    ),
    layers=ROWS,
    uncounted=[UncountedOperators(op="Magic", count=1, reason="nobody knows")],
    bottlenecks=[Bottleneck(layer="head", rule="dominates-macs", message="70 % of all MACs")],
    formulas={"macs": "1000*N"},
    defaults={"N": 1},
    notes=["a note"],
)


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("macs", ["odd", "head", "stem", "act"]),
        ("name", ["act", "head", "odd", "stem"]),
        ("output_bytes", ["stem", "act", "odd", "head"]),
    ],
)
def test_layers_are_sorted(key: str, order: list[str]) -> None:
    assert [row.name for row in FOUND.sorted_by(key).layers] == order


@pytest.mark.parametrize("key", SORT_KEYS)
def test_every_key_sorts(key: str) -> None:
    assert sorted(row.name for row in FOUND.sorted_by(key).layers) == ["act", "head", "odd", "stem"]


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValueError, match="not by 'color'"):
        FOUND.sorted_by("color")
    with pytest.raises(ValueError, match="not by 'color'"):
        FOUND.grouped_by("color")


def test_top_keeps_the_totals() -> None:
    short = FOUND.sorted_by("macs").top(2)
    assert [row.name for row in short.layers] == ["odd", "head"]
    assert short.totals == FOUND.totals


def test_groups_add_up() -> None:
    [stem, odd, head] = FOUND.grouped_by("module").layers
    assert (stem.name, stem.op, stem.macs, stem.flops, stem.output_bytes) == (
        "net.stem",
        "2 nodes",
        300,
        728,
        1024,
    )
    assert (odd.name, odd.op, odd.macs) == ("odd", "1 Magic", None)
    assert (head.name, head.params) == ("head", 30)


@pytest.mark.parametrize("key", GROUPS)
def test_groups_keep_all_macs(key: str) -> None:
    assert sum(row.macs or 0 for row in FOUND.grouped_by(key).layers) == FOUND.totals.macs


@pytest.mark.parametrize("width", [60, 80, 140])
def test_tables_fit_their_width(width: int) -> None:
    for table in FOUND.tables():
        lines = table.text(width).splitlines()
        assert lines
        assert max(map(len, lines)) <= width


def test_rows_without_macs_and_params_are_hidden() -> None:
    layers, bottlenecks, uncounted = FOUND.tables()
    assert [row["name"] for row in layers.rows] == ["stem", "odd", "head"]
    assert layers.title == "net.onnx"
    assert "1 more node has no MACs and no params (128 FLOPs)" in layers.notes
    assert "MACs = 1000*N; shown for N = 1" in layers.notes
    assert "a note" in layers.notes
    assert [row["rule"] for row in bottlenecks.rows] == ["dominates-macs"]
    assert [row["reason"] for row in uncounted.rows] == ["nobody knows"]


def test_a_long_formula_is_not_in_the_table() -> None:
    long = Analysis(
        model={}, totals=Totals(), layers=[], formulas={"macs": "N + " * 99 + "1"}, defaults={"N": 1}
    )
    assert long.tables()[0].notes[1:] == ["shown for N = 1"]


def test_rich_prints_it() -> None:
    console = Console(width=80, file=StringIO())
    console.print(FOUND)
    assert "dominates-macs" in console.file.getvalue()


class Colour:
    def as_dict(self) -> dict[str, Any]:
        return {"hue": 7}

    def tables(self) -> list[Table]:
        return [Table(title="Colour", columns=[Column(key="hue", title="Hue")], rows=[{"hue": 7}])]


def test_a_section_is_in_json_and_tables() -> None:
    whole = replace(FOUND, sections={"colour": Colour()})
    assert whole.as_dict() == {**FOUND.as_dict(), "colour": {"hue": 7}}
    assert [table.title for table in whole.top(1).tables()][-1] == "Colour"


def test_a_filter_keeps_totals_and_notes_its_share() -> None:
    chosen = FOUND.filtered(only=["net.*"], ops=["Conv"])
    assert [row.name for row in chosen.layers] == ["stem"]
    assert chosen.totals == FOUND.totals
    share = "1 of 4 nodes are chosen: 30.0 % of the MACs, 50.0 % of the params"
    assert share in chosen.tables()[0].notes
    assert chosen.as_dict()["notes"] == ["a note", share]
    assert FOUND.filtered() is FOUND
    assert FOUND.top(9).view == ()
    assert FOUND.top(1).view == ("the first 1 of 3 rows have 30.0 % of the MACs, 50.0 % of the params",)


def test_sections_of_layers_are_filtered() -> None:
    model = zoo.model(
        "g (float[1, 4, 8, 8] x) => (float y) { a = Conv (x, v) r = Relu (a) y = Conv (r, w) }",
        v=zoo.ones(4, 4, 1, 1),
        w=zoo.ones(2, 4, 1, 1),
    )
    data = np.ones((2, 4, 8, 8), np.float32)
    found = ms.info(model, weights=True, data=data, memory=True).filtered(only=["y"])
    assert [entry["layer"] for entry in found.as_dict()["weights"]] == ["y"]
    assert [entry["layer"] for entry in found.as_dict()["activations"]] == ["y"]
    assert len(found.as_dict()["memory"]["timeline"]) == 3


def test_a_tree_is_indented_except_in_csv() -> None:
    tree = FOUND.nested(2)
    [table, *_] = tree.tables()
    lines = table.text(140).splitlines()
    assert [line.split("  ")[0] for line in lines[3:5]] == ["net", ""]
    assert lines[4].startswith("  stem ")
    assert "· stem" in table.markdown()
    assert '<span style="padding-left:1.2em">stem</span>' in table.html()
    header, *rows = table.csv().splitlines()
    assert header.endswith("level")
    assert [(row.split(",")[0], row[-1]) for row in rows[:2]] == [("net", "0"), ("net.stem", "1")]
