"""A report as tables and as plain data."""

import json
from pathlib import Path

import pytest

import modelsurgeon as ms
from modelsurgeon.inspection.findings import SEVERITIES, Report, reaches
from modelsurgeon.onnx.lint import RULES
from tests import zoo

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def report() -> Report:
    """A net with an error, warnings and notes, several of one rule."""
    norm = "BatchNormalization ({}, scale, shift, mean, var)"
    built = zoo.model(
        f"""
        g (float[1, 8, 27, 27] x) => (float y) {{
            a = Conv (x, w1) b = {norm.format("a")}
            c = Conv (b, w2) d = {norm.format("c")}
            e = Conv (d, w3) f = {norm.format("e")}
            on = Constant <value = bool {{1}}> () half = Constant <value = float {{0.5}}> ()
            dropped = Dropout (f, half, on)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (dropped)
            l = Flatten (p)
            y = Gemm (l, w4)
            unused = Softmax (y)
        }}
        """,
        **{f"w{i}": zoo.ones(8, 8, 3, 3) for i in (1, 2, 3)},
        w4=zoo.ones(800, 10),
        **{name: zoo.ones(8) for name in ("scale", "shift", "mean", "var")},
    )
    return ms.check(built)


def test_a_severity_reaches_itself_and_milder() -> None:
    pairs = [(a, b) for a in SEVERITIES for b in SEVERITIES if reaches(a, b)]
    assert pairs == [
        ("error", "error"), ("error", "warning"), ("error", "note"),
        ("warning", "warning"), ("warning", "note"), ("note", "note"),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 140])
def test_tables_match_golden_files(report: Report, width: int) -> None:
    shown = "\n".join(table.text(width) for table in report.brief(2).tables())
    assert shown == (GOLDEN / f"check_{width}.txt").read_text(encoding="utf-8")
    assert max(map(len, shown.splitlines())) <= width


def test_brief_hides_and_counts_findings(report: Report) -> None:
    [whole, _] = report.tables()
    [brief, _] = report.brief(1).tables()
    assert len(whole.rows) == len(report.findings) == len(report.brief(1).findings)
    assert len(brief.rows) == len({finding.rule for finding in report.findings})
    assert "bn-not-folded: 2 more like these" in brief.notes


def test_at_least_drops_milder_ones(report: Report) -> None:
    grave = report.at_least("warning")
    assert {finding.severity for finding in grave.findings} == {"error", "warning"}
    assert f"{report.counts()['note']} milder findings aren't shown" in grave.notes
    assert report.at_least("note").notes == report.notes


def test_the_dictionary_is_json_and_complete(report: Report) -> None:
    found = json.loads(json.dumps(report.as_dict()))
    assert set(found) == {"model", "counts", "findings", "rules", "roofline", "notes"}
    keys = {"rule", "severity", "layer", "message", "advice", "evidence"}
    assert all(set(finding) == keys for finding in found["findings"])
    assert sum(found["counts"].values()) == len(found["findings"])


def test_a_clean_report_has_one_table() -> None:
    clean = ms.check(zoo.model("g (float[2] x) => (float y) { y = Relu (x) }"))
    [table] = clean.tables()
    assert not table.rows
    quick = sum(not rule.weights for rule in RULES.values())
    assert table.notes[0] == f"{quick} rules: 0 errors, 0 warnings, 0 notes"
