"""Pipelines: every surgery verb can be a step, steps run in order, and gates are checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import modelsurgeon as ms
from modelsurgeon.api.pipeline import VERBS, read
from modelsurgeon_cli.reference import contexts
from tests import zoo
from tests.onnx.passes.batchnorm.nets import CONV, NORM, net

EXAMPLE = Path(__file__).parents[2] / "examples" / "pipeline.toml"
NO_SURGERY = {"bn inspect", "check", "compare", "diff", "history", "info", "pipeline", "profile"}
# Arguments that a step of the verb requires.
NEEDS: dict[str, dict[str, Any]] = {"compress": {"rank": 2}, "extract": {"outputs": ["y"]}}
FILES = {"bn recalibrate": {"data": "samples.npz"}, "steal": {"donor": "model.onnx"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model of a convolution and a batch norm, and samples for it."""
    ms.save(net(f"c = Conv (x, w) y = {NORM}", **CONV), tmp_path / "model.onnx")
    samples = np.random.default_rng(0).normal(size=(8, 4, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=samples)
    return tmp_path


def recipe(folder: Path, *steps: Mapping[str, Any], **more: object) -> dict[str, Any]:
    return {"model": str(folder / "model.onnx"), "step": list(steps), **more}


def test_every_surgery_verb_can_be_a_step() -> None:
    names = {ctx.command_path.removeprefix("modelsurgeon ") for ctx in contexts() if ctx.parent}
    assert names - NO_SURGERY - {"bn"} == set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_runs_as_a_step(folder: Path, verb: str) -> None:
    files = {key: str(folder / file) for key, file in FILES.get(verb, {}).items()}
    run = ms.pipeline(recipe(folder, {"verb": verb, **files, **NEEDS.get(verb, {})}))
    assert [line["verb"] for line in ms.history(run.model).as_dict()] == [verb]


def test_steps_run_in_order(folder: Path) -> None:
    steps = [{"verb": "bn fold"}, {"verb": "extract", "outputs": ["y"]}, {"verb": "compress", "rank": 2}]
    run = ms.pipeline(recipe(folder, *steps, tolerance=2.0))
    assert [report.step.verb for report in run.steps] == ["bn fold", "extract", "compress"]
    assert [line["verb"] for line in ms.history(run.model).as_dict()] == ["bn fold", "extract", "compress"]
    assert run.as_dict()["steps"][2]["arguments"] == {"rank": 2}
    assert run.comparison is not None
    summary = run.tables()[0]
    assert [row["edited"] for row in summary.rows] == [1, 0, 1]
    assert "bn fold" in summary.text(80)


@pytest.mark.parametrize(
    ("step", "more", "error", "message"),
    [
        (
            {"verb": "bn fold", "max_macs": 10},
            {},
            ms.GateMissed,
            r"step 1, bn fold: macs is 4608, at most 10",
        ),
        ({"verb": "compress", "rank": 1, "tolerance": 1e-6}, {}, ms.ToleranceExceeded, "at most 1e-06"),
        (
            {"verb": "compress", "rank": 1},
            {"tolerance": 1e-6},
            ms.ToleranceExceeded,
            "differs from the first",
        ),
        ({"verb": "fold"}, {}, ms.BadPlan, "step 1 has the verb 'fold'; there are bn fold"),
        (
            {"verb": "bn fold", "tolerence": 1},
            {},
            ms.BadPlan,
            "takes no 'tolerence'; did you mean 'tolerance'",
        ),
        ({"verb": "compress"}, {}, ms.BadPlan, "step 1, compress: one of rank"),
        ({"verb": "compress", "rank": "many"}, {}, ms.BadPlan, "step 1, compress: "),
        ({"verb": "bn fold"}, {"colour": 1}, ms.BadPlan, "a pipeline takes no 'colour'"),
        ({"verb": "bn fold"}, {"model": 7}, ms.BadPlan, "no model is named"),
        ({"verb": "bn fold"}, {"step": []}, ms.BadPlan, "there is no step"),
    ],
)
def test_missed_gates_and_invalid_steps_raise(
    folder: Path, step: dict[str, Any], more: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ms.pipeline(recipe(folder, step) | more)


def test_paths_are_relative_to_the_file(folder: Path) -> None:
    text = 'model = "model.onnx"\nout = "new.onnx"\ndata = "samples.npz"\n[[step]]\nverb = "bn recalibrate"\n'
    (folder / "steps.toml").write_text(text)
    found = read(folder / "steps.toml")
    assert (found.model, found.out) == (folder / "model.onnx", folder / "new.onnx")
    (report,) = ms.pipeline(folder / "steps.toml").steps
    assert report.result.edits[0].skipped is None
    assert not (folder / "new.onnx").exists()


@pytest.mark.parametrize(
    ("text", "message"), [("verb = ", "steps.toml is no TOML"), ("", "steps.toml: no model")]
)
def test_invalid_files_raise(folder: Path, text: str, message: str) -> None:
    (folder / "steps.toml").write_text(text)
    with pytest.raises(ms.BadPlan, match=message):
        ms.pipeline(folder / "steps.toml")


def test_the_example_is_valid() -> None:
    found = read(EXAMPLE)
    assert found.model.exists()
    assert [step.verb for step in found.steps] == ["bn fold", "compress"]


@pytest.mark.slow
def test_the_example_halves_the_macs() -> None:
    run = ms.pipeline(EXAMPLE)
    first, second = run.steps
    assert first.totals["macs"] > 200e6
    assert second.totals["macs"] < 110e6
    assert run.comparison is not None
    assert run.comparison.verdict == "within-tolerance"


def test_a_limit_on_a_total_that_leaves_something_out_is_missed(folder: Path) -> None:
    text = """
    g (float[4, 16] x, int64 n) => (float y) {
        t = Constant <value = bool {1}> ()
        y = Loop (n, t, x) <
            body = b (int64 k, bool c, float[4, 16] s) => (bool o, float[4, 16] z) {
                o = Identity (c) z = MatMul (s, w)
            }
        >
    }
    """
    ms.save(zoo.model(text, w=zoo.ones(16, 16)), folder / "model.onnx")
    step = {"verb": "extract", "outputs": ["y"]}
    ms.pipeline(recipe(folder, {**step, "max_params": 1e9}))
    with pytest.raises(ms.GateMissed, match=r"macs is at least 1024, .*; left out: Loop 'y'"):
        ms.pipeline(recipe(folder, {**step, "max_macs": 1e9}))


@pytest.mark.parametrize(
    "step",
    [{"verb": "fc2conv"}, {"verb": "extract", "outputs": ["z"]}, {"verb": "pool2conv"}, {"verb": "prune"}],
    ids=lambda step: step["verb"],
)
def test_changed_inputs_and_outputs_compare_as_their_step_does(
    step: dict[str, object], tmp_path: Path
) -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 6, 4, 4] x) => (float[1, 5] y) '
        "<float[96, 5] f> { f0 = Flatten(x) z = Gemm(f0, f) y = Softmax<axis = 1>(z) }"
    )
    weight = np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)
    del proto.graph.initializer[:]
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "f"))
    onnx.save(proto, tmp_path / "m.onnx")
    run = ms.pipeline({"model": str(tmp_path / "m.onnx"), "tolerance": 1e-3, "step": [step]})
    assert run.comparison is not None
    assert run.comparison.worst < 1e-5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tolerance": "0.1"}, "the pipeline: tolerance is the text '0.1', a finite number"),
        ({"data": 5}, "the pipeline: data is 5, text or a path"),
        (
            {"step": [{"verb": "prune", "only": "fc"}]},
            "step 1, prune: only is the text 'fc', a list of texts",
        ),
        ({"step": [{"verb": "prune", "max_params": "many"}]}, "step 1, prune: max_params is the text 'many'"),
        (
            {"step": [{"verb": "prune", "compare": "no"}]},
            "step 1, prune: compare is the text 'no', True or False",
        ),
        ({"step": [{"verb": ["prune"]}]}, r"step 1 has the verb \['prune'\]; there are"),
        ({"step": [{"verb": "compress", "macs": float("nan")}]}, "step 1, compress: macs is nan"),
    ],
)
def test_a_value_of_a_wrong_type_is_one_line(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ms.BadPlan, match=message):
        ms.pipeline({"model": "m.onnx", "step": [{"verb": "prune"}], **changed})
