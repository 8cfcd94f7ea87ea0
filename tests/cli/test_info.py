"""The `modelsurgeon info` command."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper

from tests.cli.conftest import Command

MACS = 16 * 4 * 9 * 144 + 32 * 16 * 9 * 36 + 1152 * 40


def test_the_table_has_every_layer_and_the_totals(run: Command) -> None:
    done = run("info", "model.onnx", "--dim", "N=1")
    assert (done.code, done.err) == (0, "")
    assert all(name in done.out for name in ("conv1", "conv2", "fc"))
    assert "295 k" in done.out


def test_json_has_totals_layers_and_opset(run: Command) -> None:
    data = json.loads(run("info", "model.onnx", "--dim", "N=1", "--format", "json").out)
    assert data["totals"]["macs"] == MACS
    assert data["totals"]["params"] == 16 * 36 + 16 + 32 * 144 + 1152 * 40
    assert [layer["name"] for layer in data["layers"] if layer["macs"]] == ["conv1", "conv2", "fc"]
    assert data["model"]["opset"] == {"": 18}


def test_an_open_symbol_gives_formulas(run: Command) -> None:
    data = json.loads(run("info", "model.onnx", "--format", "json").out)
    assert data["formulas"]["macs"].replace(" ", "") == f"{MACS}*N"
    assert data["totals"]["macs"] == MACS


@pytest.mark.parametrize("option", [("--shape", "x=2,4,12,12"), ("--dim", "N=2")])
def test_shape_and_dim_set_open_dimensions(run: Command, option: tuple[str, str]) -> None:
    data = json.loads(run("info", "model.onnx", *option, "--format", "json").out)
    assert data["totals"]["macs"] == 2 * MACS
    assert not data.get("formulas")


def test_csv_is_one_table(run: Command) -> None:
    rows = list(csv.DictReader(io.StringIO(run("info", "model.onnx", "--dim", "N=1", "--format", "csv").out)))
    assert sum(int(row["macs"]) for row in rows) == MACS


def test_markdown_and_html_name_the_layers(run: Command) -> None:
    assert "| conv1 |" in run("info", "model.onnx", "--format", "markdown").out
    page = run("info", "model.onnx", "--format", "html").out
    assert page.startswith("<!doctype html>")
    assert "conv1" in page


@pytest.mark.parametrize("format", ["table", "json", "csv", "markdown", "html"])
def test_output_writes_a_file_and_prints_nothing(run: Command, here: Path, format: str) -> None:
    done = run("info", "model.onnx", "--format", format, "--output", "result")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "conv1" in (here / "result").read_text(encoding="utf-8")


def test_a_closed_pipe_is_no_error(here: Path) -> None:
    program = f"{sys.executable} -m modelsurgeon_cli info model.onnx --format json"
    code = "import os; os.close(0)"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {program} | {sys.executable} -c '{code}'"],
        capture_output=True,
        text=True,
        cwd=here,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_special_characters_in_names_are_escaped(run: Command, here: Path) -> None:

    model = onnx.load(here / "model.onnx")
    model.graph.node[0].name = "[red]\x1b[31m\n<script>"
    onnx.save(model, here / "nasty.onnx")
    done = run("info", "nasty.onnx")
    assert "[red]\\x1b[31m\\n<script>" in done.out
    assert "<script>" not in run("info", "nasty.onnx", "--format", "html").out
    assert json.loads(run("info", "nasty.onnx", "--format", "json").out)["layers"][0]["name"] == (
        "[red]\x1b[31m\n<script>"
    )


@pytest.mark.parametrize(
    ("gate", "held", "missed"),
    [
        ("--max-macs", "1M", "200k"),
        ("--max-params", "52000", "1e3"),
        ("--max-param-bytes", "0.3MB", "1kB"),
        ("--max-activation-bytes", "1MB", "10 kB"),
    ],
)
def test_a_missed_gate_exits_1_after_the_result(run: Command, gate: str, held: str, missed: str) -> None:
    assert run("info", "model.onnx", "--dim", "N=1", gate, held).code == 0
    done = run("info", "model.onnx", "--dim", "N=1", gate, missed)
    assert done.code == 1
    assert "conv1" in done.out
    assert done.err.startswith("error: model.onnx: ")
    assert gate in done.err
    assert done.err.count("\n") == 1


def test_two_missed_gates_are_one_line(run: Command) -> None:
    done = run("info", "model.onnx", "--max-macs", "1", "--max-params", "1")
    assert f"macs is {MACS}, --max-macs is 1; params is" in done.err


@pytest.mark.parametrize("amount", ["", "many", "-1", "1e999", "5X", "nan"])
def test_an_invalid_amount_is_wrong_usage(run: Command, amount: str) -> None:
    done = run("info", "model.onnx", f"--max-macs={amount}")
    assert done.code == 2
    assert "amount" in done.err


def test_strict_refuses_uncounted_operators(run: Command, here: Path) -> None:
    assert run("info", "model.onnx", "--strict").code == 0
    model = onnx.load(here / "model.onnx")
    model.graph.node[1].CopyFrom(helper.make_node("Mystery", ["c1"], ["r1"], domain="some.where"))
    model.opset_import.append(helper.make_opsetid("some.where", 1))
    onnx.save(model, here / "odd.onnx")
    assert run("info", "odd.onnx").code == 0
    done = run("info", "odd.onnx", "--strict")
    assert done.code == 1
    assert "Mystery" in done.err


def names(run: Command, *options: str) -> list[str]:
    done = run("info", "model.onnx", "--dim", "N=1", *options, "--format", "json")
    return [layer["name"] for layer in json.loads(done.out)["layers"]]


def test_rows_are_sorted_and_cut(run: Command) -> None:
    assert names(run, "--sort", "macs", "--top", "2") == ["conv2", "conv1"]
    assert names(run, "--sort", "params", "--top", "1") == ["fc"]
    assert names(run, "--top", "1") == ["conv2"]
    assert names(run, "--sort", "name")[:2] == ["conv1", "conv2"]


def test_rows_are_grouped(run: Command) -> None:
    assert names(run, "--by", "op") == ["Conv", "Relu", "Flatten", "Gemm"]
    assert names(run, "--by", "node") == names(run)


def test_definitions_are_printed_without_a_model(run: Command) -> None:
    done = run("info", "--definitions")
    assert (done.code, done.err) == (0, "")
    keys = ("macs", "flops", "bias_adds", "params", "param_bytes", "bn_stats", "activation_bytes")
    assert all(f"\n{key} " in f"\n{done.out}" for key in keys)


def test_memory_is_shown_on_request(run: Command) -> None:
    assert "alive" not in run("info", "model.onnx").out
    assert "^ " in run("info", "model.onnx", "--memory").out
    assert "<svg" in run("info", "model.onnx", "--memory", "--format", "html").out
    data = json.loads(run("info", "model.onnx", "--dim", "N=1", "--format", "json").out)
    memory = data["memory"]
    assert memory["peak"]["bytes"] == data["totals"]["peak_activation_bytes"]
    assert memory["peak"]["bytes"] == max(step["bytes"] for step in memory["timeline"])
    assert sum(one["bytes"] for one in memory["peak"]["tensors"]) == memory["peak"]["bytes"]


def test_rows_are_filtered(run: Command) -> None:
    assert names(run, "--op", "Conv") == ["conv1", "conv2"]
    assert names(run, "--only", "conv*", "--skip", "conv1") == ["conv2"]
    assert "2 of 6 nodes are chosen" in run("info", "model.onnx", "--op", "Conv").out
    assert run("info", "model.onnx", "--only", "tail").err.startswith("error: no layer or module is called")


def test_depth_needs_by_module(run: Command) -> None:
    done = run("info", "model.onnx", "--depth", "2")
    assert (done.code, "add --by module" in done.err) == (2, True)
    rows = json.loads(run("info", "model.onnx", "--by", "module", "--depth", "2", "--format", "json").out)
    tops = [row for row in rows["layers"] if not row["level"]]
    assert sum(row["macs"] for row in tops) == rows["totals"]["macs"]


def test_training_is_shown_on_request(run: Command) -> None:
    assert "Memory to train" not in run("info", "model.onnx").out
    done = run("info", "model.onnx", "--training", "--dim", "N=8")
    assert all(word in done.out for word in ("Memory to train", "Adam", "optimizer state", "Kept for"))
    data = json.loads(run("info", "model.onnx", "--training", "--dim", "N=8", "--format", "json").out)
    train = data["training"]
    assert train["optimizers"]["adam"]["total"] == (
        train["weights"] + train["gradients"] + 8 * train["trained_params"] + train["activations"]
    )


PLUGIN = """
import modelsurgeon as ms

@ms.counts("Tenfold", domain="tests")
def tenfold(op):
    return ms.Cost(macs=10 * op.elements_in)
"""


def test_a_plugin_counts_a_custom_operator(run: Command, here: Path) -> None:
    node = helper.make_node("Tenfold", ["x"], ["y"], domain="tests", name="ten")
    ports = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("tests", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), here / "own.onnx")
    assert run("info", "own.onnx", "--strict").code == 1
    (here / "tenfold_costs.py").write_text(PLUGIN)
    done = run("info", "own.onnx", "--strict", "--plugin", "tenfold_costs", "--format", "csv")
    assert (done.code, [row["macs"] for row in csv.DictReader(io.StringIO(done.out))]) == (0, ["60"])


def test_a_missing_plugin_is_an_error(run: Command) -> None:
    done = run("info", "model.onnx", "--plugin", "no_such_module")
    assert done.code == 1
    assert "no Python module 'no_such_module'" in done.err


def test_several_models_are_summarized(run: Command, here: Path) -> None:
    (here / "copy.onnx").write_bytes((here / "model.onnx").read_bytes())
    done = run("info", "model.onnx", "copy.onnx", "--dim", "N=1")
    assert (done.code, done.err) == (0, "")
    assert "conv1" not in done.out
    both = json.loads(run("info", "model.onnx", "copy.onnx", "--dim", "N=1", "--format", "json").out)
    assert [one["totals"]["macs"] for one in both] == [MACS, MACS]
    missed = run("info", "model.onnx", "copy.onnx", "--max-macs", "1")
    assert missed.code == 1
    assert missed.err == (
        f"error: model.onnx: macs is {MACS}, --max-macs is 1; copy.onnx: macs is {MACS}, --max-macs is 1\n"
    )
    assert "name one" in run("info", "model.onnx", "copy.onnx", "--example", "x.npz").err


@pytest.fixture
def while_loop(here: Path) -> str:
    """A Loop whose condition is computed: its number of iterations isn't known."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[4, 16] x, float[16, 16] w) => (float[4, 16] y) {
        n = Constant <value = int64 {5}> ()
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <
            body = b (int64 k, bool c, float[4, 16] s) => (bool o, float[4, 16] z) {
                z = MatMul (s, w)
                m = ReduceMax <keepdims = 0> (z)
                l = Constant <value = float {1.0}> ()
                o = Less (m, l)
            }
        >
    }"""
    onnx.save(onnx.parser.parse_model(text), here / "while.onnx")
    return "while.onnx"


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (["--max-macs", "1G"], 1),
        (["--max-macs", "1"], 1),
        (["--strict"], 1),
        (["--max-params", "1G"], 0),
        (["--max-activation-bytes", "1GB"], 0),
    ],
)
def test_a_gate_on_a_total_that_leaves_something_out_is_missed(
    run: Command, while_loop: str, gate: list[str], code: int
) -> None:
    done = run("info", while_loop, *gate)
    assert done.code == code
    assert "total, at least" in done.out
    assert done.err.count("\n") == (1 if code else 0)
    if code:
        assert "at least 1024" in done.err or "Loop 'y'" in done.err


def test_the_message_of_a_gate_names_the_first_gaps(run: Command, here: Path) -> None:
    nodes = " ".join(f"y{step} = odd.Magic{step} (x)" for step in range(5))
    text = f'<ir_version: 8, opset_import: ["" : 17, "odd" : 1]> g (float[2] x) => (float y0) {{ {nodes} }}'
    onnx.save(onnx.parser.parse_model(text), here / "odd.onnx")
    done = run("info", "odd.onnx", "--strict")
    assert done.code == 1
    assert done.err.endswith(" and 2 more\n")
    assert "odd::Magic0 'y0'" in done.err
