"""What totals leave out: the root node is named, what is behind it is summed up."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.onnx.info import analyze
from tests import zoo

COUNTS = ["macs", "flops", "bias_adds"]
BYTES = ["activation_bytes", "peak_activation_bytes"]
WHILE = """
    g (float[4, 16] x) => (float y) {
        n = Constant <value = int64 {5}> ()
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <
            body = b (int64 k, bool c, float[4, 16] s) => (bool o, float z) {
                z = MatMul (s, w)
                m = ReduceMax <keepdims = 0> (z)
                l = Constant <value = float {1.0}> ()
                o = Less (m, l)
            }
        >
    }
"""
LOOP = """
    g (float[4, 16] x) => (float y) {
        n = Constant <value = int64 {5}> ()
        t = Constant <value = bool {1}> ()
        a = Loop (n, t, x) <
            body = b (int64 k, bool c, s) => (bool o, z) { o = Identity (c) z = somewhere.Magic (s) }
        >
        y = MatMul (a, w)
    }
"""
HIDDEN = """
    g (float[4, 16] x, bool c) => (float y) {
        a = If (c) <
            then_branch = t () => (p) { p = somewhere.Magic (x) },
            else_branch = e () => (float q) { q = MatMul (x, w) }
        >
        y = MatMul (a, w)
    }
"""


def found(text: str, **weights: object) -> Analysis:
    return analyze(zoo.model(text, **(weights or {"w": zoo.ones(16, 16)})))  # type: ignore[arg-type]


def test_a_whole_model_has_no_gaps() -> None:
    whole = analyze(zoo.classifier(), dims={"N": 1})
    assert (whole.gaps, whole.lower_bounds, whole.uncounted) == ([], [], [])
    total = whole.tables()[0].total
    assert total is not None
    assert total["name"] == "total"


def test_a_loop_that_may_end_early_makes_totals_lower_bounds() -> None:
    whole = found(WHILE)
    [gap] = whole.gaps
    assert (gap.op, gap.nodes) == ("Loop", ("y",))
    assert whole.lower_bounds == COUNTS
    assert not whole.uncounted


def test_a_loop_in_a_branch_that_is_not_counted_leaves_nothing_out() -> None:
    inside = WHILE.split("{", 1)[1].rsplit("}", 1)[0].replace("y = Loop", "p = Loop")
    text = f"""
    g (float[4, 16] x) => (float y) {{
        no = Constant <value = bool {{0}}> ()
        y = If (no) <
            then_branch = th () => (float p) {{ {inside} }},
            else_branch = el () => (float q) {{ q = MatMul (x, w) }}
        >
    }}
    """
    assert not found(text).gaps


def test_the_root_is_named_and_what_is_behind_it_is_summed_up() -> None:
    chain = " ".join(f"m{step + 1} = MatMul (m{step}, w) r{step} = Relu (m{step})" for step in range(8))
    whole = found(f"g (float[4, 16] x) => (float m8) {{ m0 = somewhere.Magic (x) {chain} }}")
    [entry] = whole.uncounted
    assert (entry.op, entry.nodes, entry.behind) == ("somewhere::Magic", ("m0",), {"MatMul": 8, "Relu": 8})
    assert "16 nodes behind it: MatMul 8, Relu 8" in entry.summary
    assert whole.lower_bounds == [*COUNTS, *BYTES]
    assert entry.count + sum(entry.behind.values()) == sum(row.macs is None for row in whole.layers)


def test_two_roots_share_no_nodes() -> None:
    whole = found(
        """
        g (float[4, 16] x) => (float y) {
            a = one.Magic (x) b = two.Magic (x) c = MatMul (a, w) d = MatMul (b, w) y = Add (c, d)
        }
        """
    )
    assert {entry.op: entry.behind for entry in whole.uncounted} == {
        "one::Magic": {"MatMul": 1, "Add": 1},
        "two::Magic": {"MatMul": 1},
    }


def test_a_root_behind_another_one_is_named_too() -> None:
    whole = found("g (float[4, 16] x) => (float y) { a = one.Magic (x) y = two.Magic (a) }")
    assert [entry.op for entry in whole.uncounted] == ["one::Magic", "two::Magic"]


def test_a_root_inside_a_loop_is_named() -> None:
    [entry] = found(LOOP).uncounted
    assert (entry.op, entry.nodes, entry.behind["MatMul"]) == ("somewhere::Magic", ("z",), 1)


def test_a_branch_of_unknown_cost_may_be_the_more_expensive_one() -> None:
    whole = found(HIDDEN)
    assert set(whole.lower_bounds) > set(COUNTS)  # the output of the If may have any size, too
    gap = whole.gaps[-1]
    assert (gap.op, gap.nodes) == ("If", ("a",))
    assert "a: else_branch is counted, then_branch may cost more: a part of it isn't counted" in whole.notes
    assert "the cost of somewhere::Magic 'p' isn't known" in gap.reason


@pytest.mark.parametrize(
    ("node", "totals"),
    [
        ("y = ai.onnx.ml.TreeEnsembleRegressor <n_targets = 1> (x)", ["flops"]),
        ("y = Unique (x)", ["flops"]),
        ("y = somewhere.Magic (x)", COUNTS),
    ],
)
def test_operators_without_macs_leave_none_out(node: str, totals: list[str]) -> None:
    bounds = found(f"g (float[4, 16] x) => (float y) {{ {node} }}").lower_bounds
    assert [key for key in bounds if key in COUNTS] == totals


@pytest.mark.parametrize("weight", ["float[2] {1, 2}", "float[1] {1}"])
def test_params_of_a_function_that_is_not_inlined_are_left_out(weight: str) -> None:
    text = f"""
        g (float[2] x) => (float y) {{ y = local.f (x) }}
        <domain: "local", opset_import: ["" : 12]>
        f (a) => (b) {{ w = Constant <value = {weight}> () c = Add (a, w) b = Softmax (c) }}
    """
    whole = found(text, unused=zoo.ones(2))
    if whole.gaps:  # where functions of other operator sets can't be inlined
        assert ("params" in whole.lower_bounds) == weight.startswith("float[2]")


def test_an_unknown_activation_alone_is_a_gap() -> None:
    text = "g (float[4, 16] x) => (seq(float[4, 16]) y) { y = SequenceConstruct (x) }"
    whole = found(text)
    if "activation_bytes" in whole.lower_bounds:
        [gap] = whole.gaps
        assert (gap.op, list(gap.totals)) == ("SequenceConstruct", BYTES)
    assert not whole.uncounted


@pytest.mark.parametrize("model", [zoo.branches, zoo.loop, zoo.scan, zoo.functions])
def test_models_whose_costs_are_known_have_no_gaps(model: object) -> None:
    built = model()  # type: ignore[operator]
    assert isinstance(built, ir.Model)
    assert not analyze(built).gaps


def test_an_input_of_unknown_size_is_a_gap() -> None:
    text = """
    g (seq(float[4, 16]) s) => (float y) {
        i = Constant <value = int64 {0}> () a = SequenceAt (s, i) y = MatMul (a, w)
    }
    """
    whole = found(text)
    assert any(gap.op == "input" and list(gap.nodes) == ["s"] for gap in whole.gaps)
    assert "activation_bytes" in whole.lower_bounds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (seq(float[4, 16]) s) => (y) { y = SequenceLength (s) }", "it is a sequence"),
        ("g (optional(float[4, 16]) s) => (y) { y = OptionalHasElement (s) }", "it is optional"),
        ("g (string[4] s) => (y) { y = Shape (s) }", "it holds texts"),
        (
            "g (float[4, 2] s) => (seq(map(int64, float)) y) {"
            " y = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1]> (s) }",
            "its output holds maps",
        ),
    ],
)
def test_no_shape_is_asked_for_where_none_would_help(text: str, reason: str) -> None:
    header = '<ir_version: 8, opset_import: ["" : 18, "ai.onnx.ml" : 3]> '
    [gap] = ms.info(onnx.parser.parse_model(header + text)).gaps
    assert gap.reason.startswith(reason)
    assert not gap.advice


def test_tables_say_at_least() -> None:
    layers, missing = found(LOOP).tables()[0], found(LOOP).tables()[-1]
    assert layers.total is not None
    assert layers.total["name"] == "total, at least"
    assert any("at least: MACs, FLOPs" in note for note in layers.notes)
    assert [row["first"] for row in missing.rows] == ["z"]


def test_json_lists_lower_bounds_and_what_is_left_out() -> None:
    data = found(LOOP).as_dict()
    assert set(data["lower_bounds"]) == {*COUNTS, *BYTES}
    assert data["uncounted"][0].keys() >= {"op", "count", "reason", "nodes", "behind"}
    assert data["incomplete"][0]["totals"]


def test_a_size_without_a_bound_is_assumed_and_no_lower_bound() -> None:
    whole = found("g (float[2, 16] x, int64[2] k) => (float y) { r = Tile (x, k) y = Relu (r) }")
    assert [(gap.op, gap.assumed) for gap in whole.gaps] == [("size", True), ("size", True)]
    assert not whole.lower_bounds
    [name, _] = (gap.nodes[0] for gap in whole.gaps)
    assert str(whole.gaps[0]).startswith(f"size '{name}' (it depends on data and has no known bound")
    bound = analyze(
        zoo.model("g (float[2, 16] x, int64[2] k) => (float y) { r = Tile (x, k) y = Relu (r) }"),
        dims={gap.nodes[0]: 32 for gap in whole.gaps},
    )
    assert not bound.gaps
