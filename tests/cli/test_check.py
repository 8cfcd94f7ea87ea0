"""The `modelsurgeon check` command."""

import csv
import io
import json
import re
from pathlib import Path

import onnx
import pytest
from onnx import helper

from modelsurgeon.onnx.lint import RULES
from modelsurgeon_cli.rules import page
from tests.cli.conftest import Command, small_net

ROOT = Path(__file__).parents[2]


@pytest.fixture
def random(here: Path) -> Path:
    """A net with an active dropout and a dead node."""
    model = small_net()
    model.graph.node[1].CopyFrom(helper.make_node("Dropout", ["c1", "", "on"], ["r1"], name="drop"))
    on = helper.make_tensor("on", onnx.TensorProto.BOOL, [], [True])
    model.graph.initializer.append(on)
    model.graph.node.append(helper.make_node("Abs", ["y"], ["nowhere"], name="dead"))
    onnx.save(model, here / "random.onnx")
    return here / "random.onnx"


def test_a_sound_net_passes(run: Command) -> None:
    done = run("check", "model.onnx")
    assert (done.code, done.err) == (0, "")
    quick = sum(not rule.weights for rule in RULES.values())
    assert f"{quick} rules: 0 errors, 0 warnings" in done.out


@pytest.mark.usefixtures("random")
def test_an_error_exits_1_after_the_findings(run: Command) -> None:
    done = run("check", "random.onnx")
    assert done.code == 1
    assert "dropout-active" in done.out
    assert done.err.startswith("error: random.onnx: dropout-active at 'drop': --fail-on error allows none")
    assert done.err.count("\n") == 1


@pytest.mark.usefixtures("random")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--fail-on", "never"], 0),
        (["--ignore", "dropout-active"], 0),
        (["--ignore", "dropout-active:dr*"], 0),
        (["--ignore", "dropout-active:conv*"], 1),
        (["--ignore", "dropout-active", "--fail-on", "warning"], 1),
        (["--select", "dead-node"], 0),
        (["--select", "dead-node", "--fail-on", "warning"], 1),
        (["--select", "dead-node", "--fail-on", "warning", "--severity", "error"], 1),
        (["--select", "low-rank", "--fail-on", "note"], 1),
    ],
)
def test_fail_on_decides_the_exit_code(run: Command, options: list[str], code: int) -> None:
    assert run("check", "random.onnx", *options).code == code


@pytest.mark.usefixtures("random")
def test_milder_findings_are_hidden_and_counted(run: Command) -> None:
    done = run("check", "random.onnx", "--severity", "error")
    assert "dead-node" not in done.out
    assert "milder findings aren't shown" in done.out


@pytest.mark.parametrize("option", ["--select", "--ignore"])
def test_an_unknown_rule_is_wrong_usage(run: Command, option: str) -> None:
    done = run("check", "model.onnx", option, "dropout_active")
    assert done.code == 2
    assert "there is no rule 'dropout_active'; did you mean dropout-active" in done.err


@pytest.mark.usefixtures("random")
def test_every_format_has_the_same_findings(run: Command) -> None:
    def made(name: str) -> str:
        return run("check", "random.onnx", "--format", name).out

    found = json.loads(made("json"))
    rules = sorted(finding["rule"] for finding in found["findings"])
    assert {"dropout-active", "dead-node"} <= set(rules)
    assert sum(found["counts"].values()) == len(rules)
    assert sorted(row["rule"] for row in csv.DictReader(io.StringIO(made("csv")))) == rules
    assert sorted(result["ruleId"] for result in json.loads(made("sarif"))["runs"][0]["results"]) == rules
    assert made("junit").count("<failure") == 1
    assert "| dead-node |" in made("markdown")
    assert "dead-node" in made("html")


def test_read_weights_adds_rules(run: Command) -> None:
    assert "low-rank" not in run("check", "model.onnx").out
    done = run("check", "model.onnx", "--read-weights")
    assert f"{len(RULES)} rules" in done.out
    assert "low-rank" in done.out


def test_the_balance_sets_the_memory_bound_share(run: Command) -> None:
    def share(balance: float) -> float:
        done = run("check", "model.onnx", "--balance", balance, "--format", "json")
        return float(json.loads(done.out)["roofline"]["memory_bound_share"])

    assert share(0.01) == 0.0
    assert share(1e6) == 1.0
    assert run("check", "model.onnx", "--balance", "0").code == 2


def test_output_never_overwrites_the_model(run: Command, here: Path) -> None:
    assert run("check", "model.onnx", "--format", "sarif", "--output", "found.sarif").code == 0
    assert json.loads((here / "found.sarif").read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert run("check", "model.onnx", "--output", "model.onnx").code == 2


def test_rules_are_listed_without_a_model(run: Command) -> None:
    done = run("check", "--rules")
    assert (done.code, done.err) == (0, "")
    assert all(f"\n{rule} " in done.out for rule in RULES)


COMMANDS = [
    command for rule in RULES.values() for command in re.findall(r"`modelsurgeon (.*?)`", rule.advice)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_in_the_advice_are_valid(run: Command, command: str) -> None:
    """Each is parsed and fails only because there is no file MODEL."""
    words = re.sub(r"\{\w*rank\w*\}", "4", command).replace("{method}", "svd").split()
    done = run(*words)
    assert done.code == 1
    assert "MODEL" in done.err


def test_the_page_of_rules_is_up_to_date() -> None:
    made = page()
    assert (ROOT / "docs" / "rules.md").read_text(encoding="utf-8") == made, "run make docs"
    assert all(f"\n## {rule}\n" in made for rule in RULES)
