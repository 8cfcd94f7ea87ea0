"""Models without layers, nodes or inputs: every section in every format, without a traceback."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Command

HEADER = '<ir_version: 8, opset_import: ["" : 17, "odd" : 1]> '
MODELS = {
    "no nodes": "g (float[2, 3] x) => (float[2, 3] x) { }",
    "no inputs": "g () => (float[2] y) { y = Constant <value = float[2] {1, 2}> () }",
    "no inputs and nodes": "g () => () { }",
    "an unused input": "g (float[2] x, float[3] unused) => (float[2] y) { y = Identity (x) }",
    "an unused result": "g (float[2] x) => (float[2] y) { y = Identity (x) z = Relu (x) }",
    "shapes only": "g (float[N, 3] x) => (int64[2] y) { y = Shape (x) }",
    "integers only": "g (int64[2] x) => (int64[2] y) { y = Add (x, x) }",
    "no weights": "g (float[2, 3] x) => (float[2, 3] y) { y = Softmax (x) }",
    "a custom operator": "g (float[2] x) => (y) { y = odd.Magic (x) }",
    "an empty batch": "g (float[0, 3] x, float[3, 3] w) => (y) { y = MatMul (x, w) }",
    "a constant alone": """g (float[2] x) => (float[2] y) {
        w = Constant <value = float[2] {1, 2}> () z = Neg (w) y = Identity (x)
    }""",
    "an empty weight": """g (float[2, 3] x) => (float[2, 0] y) {
        n = Constant <value = int64[2] {3, 0}> () w = ConstantOfShape (n) y = MatMul (x, w)
    }""",
}
SECTIONS = {
    "training": ["--training"],
    "memory": ["--memory"],
    "weights": ["--weights"],
    "by op": ["--by", "op"],
}
SECTIONS |= {"by module": ["--by", "module", "--depth", "2"], "top": ["--top", "1", "--sort", "params"]}


@pytest.fixture
def degenerate(here: Path, request: pytest.FixtureRequest) -> str:
    model = onnx.parser.parse_model(HEADER + MODELS[request.param])
    (here / "model.onnx").write_bytes(model.SerializeToString())
    return "model.onnx"


@pytest.mark.parametrize("degenerate", MODELS, indirect=True)
@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_in_every_format(run: Command, degenerate: str, section: str) -> None:
    for form in ("table", "json", "csv", "markdown", "html"):
        done = run("info", degenerate, *SECTIONS[section], "--format", form)
        assert (done.code, done.err) == (0, ""), form


@pytest.mark.parametrize("degenerate", MODELS, indirect=True)
@pytest.mark.parametrize(
    "verb", [["check"], ["check", "--read-weights"], ["diff", "model.onnx"], ["info", "model.onnx"]]
)
def test_other_verbs_in_every_format(run: Command, degenerate: str, verb: list[str]) -> None:
    for form in ("table", "json", "csv", "markdown", "html"):
        done = run(*verb, degenerate, "--format", form)
        assert "Traceback" not in done.err
        assert done.code in (0, 1)
