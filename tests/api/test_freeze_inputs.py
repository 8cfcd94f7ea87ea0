"""Weights that a file lists as inputs: every verb edits them with freeze_inputs, and none without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.graph.constants import constant_array, why_unreadable
from modelsurgeon.onnx.graph.frozen_inputs import defaulted_inputs, freeze_inputs
from modelsurgeon.onnx.run import runner
from tests import zoo
from tests.onnx.lint.nets import found

RNG = np.random.default_rng(3)
WEIGHTS = {name: RNG.uniform(0.5, 1.5, 8).astype(np.float32) for name in ("s", "t", "m", "v")} | {
    "a": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32),
    "b": RNG.normal(size=(8, 8, 3, 3)).astype(np.float32),
    "f": RNG.normal(size=(8, 6)).astype(np.float32),
}
NODES = """c = Conv (x, a)  d = BatchNormalization (c, s, t, m, v)  r = Relu (d)  e = Conv (r, b)
           p = AveragePool <kernel_shape = [5, 5]> (e)  q = Flatten (p)  y = MatMul (q, f)"""
VERBS: dict[str, Callable[..., Any]] = {
    "fold": ms.bn.fold,
    "freeze": ms.bn.freeze,
    "equalize": lambda model, **options: ms.equalize(ms.bn.fold(model, **options).model, **options),
    "fc2conv": ms.fc2conv,
    "pool2conv": ms.pool2conv,
    "compress": lambda model, **options: ms.compress(model, rank=2, **options),
    "steal": lambda model, **options: ms.steal(model, model, **options),
}


def listed(version: int = 8) -> ir.Model:
    """A net whose weights are all inputs, too."""
    inputs = ", ".join(f"float[{', '.join(map(str, array.shape))}] {n}" for n, array in WEIGHTS.items())
    text = f"g (float[N, 4, 9, 9] x, {inputs}) => (float[N, 6] y) {{ {NODES} }}"
    return zoo.model(text, version=version, **WEIGHTS)


def edited(result: Any) -> int:  # noqa: ANN401 - of several verbs
    return sum(edit.skipped is None for edit in result.edits)


@pytest.mark.parametrize("verb", VERBS)
def test_with_the_option_every_verb_edits(verb: str) -> None:
    model = listed()
    done = VERBS[verb](model, freeze_inputs=True)
    assert edited(done) > 0
    assert [value.name for value in done.model.graph.inputs] == ["x"]
    assert len(model.graph.inputs) == 1 + len(WEIGHTS)
    onnx.checker.check_model(ir.to_proto(done.model))
    assert done.comparison.verdict in ("identical", "within-noise", "within-tolerance") or verb == "compress"
    arguments = ms.history(done.model).records[-1].arguments
    assert arguments["freeze_inputs"] is True
    notes = [note for note in done.notes if "taken out of the inputs, and fixed" in note]
    assert len(notes) == 1 or verb == "equalize"  # the fold before it froze them


@pytest.mark.parametrize("verb", VERBS)
def test_without_it_the_reason_names_the_flag(verb: str) -> None:
    done = VERBS[verb](listed(), compare=False)
    reasons = [edit.skipped for edit in done.edits if edit.skipped and "graph input" in edit.skipped]
    assert all("--freeze-inputs" in reason for reason in reasons)
    assert reasons or verb in ("pool2conv", "fc2conv", "steal", "equalize")
    assert len(done.model.graph.inputs) == 1 + len(WEIGHTS)


def test_the_outputs_are_those_of_the_defaults() -> None:
    x = RNG.normal(size=(2, 4, 9, 9)).astype(np.float32)

    def outputs(model: ir.Model) -> np.ndarray:
        found: np.ndarray = runner(model, optimize=False)({"x": x})["y"]
        return found

    frozen = freeze_inputs(listed()).model
    assert not defaulted_inputs(frozen)
    assert np.array_equal(outputs(frozen), outputs(listed()))


def test_a_file_of_ir_version_3_becomes_one_of_version_4_and_says_so(tmp_path: Path) -> None:
    done = ms.bn.fold(listed(version=3), freeze_inputs=True)
    assert any("IR version is raised from 3 to 4" in note for note in done.notes)
    ms.save(done.model, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto)
    assert (proto.ir_version, [value.name for value in proto.graph.input]) == (4, ["x"])


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("version", [3, 8])
def test_extract_leaves_no_default_behind(version: int, frozen: bool) -> None:
    cut = ms.extract(listed(version), ["r"], freeze_inputs=frozen)
    assert cut.comparison.verdict == "identical"
    assert set(cut.model.graph.initializers) == {"a", "s", "t", "m", "v"}
    onnx.checker.check_model(ir.to_proto(cut.model))


@pytest.mark.parametrize("version", [3, 8])
def test_a_donor_gives_the_defaults_of_its_inputs(version: int) -> None:
    recipient = freeze_inputs(listed()).model
    for value in recipient.graph.initializers.values():
        value.const_value = ir.tensor(np.ones_like(WEIGHTS[str(value.name)]), name=value.name)
    stolen = ms.steal(listed(version), recipient)
    assert edited(stolen) == len(stolen.edits) == 4
    assert {n: v.const_value.numpy().tolist() for n, v in stolen.model.graph.initializers.items()} == {
        n: array.tolist() for n, array in WEIGHTS.items()
    }
    assert ("weights of the donor are inputs: their defaults are taken" in stolen.notes) == (version > 3)


def test_a_head_that_is_an_input_names_the_flag() -> None:
    with pytest.raises(ms.BadPlan, match=r"'y' can't be grown: its weight is .*--freeze-inputs"):
        ms.steal(listed(), listed(), grow={"y": 9})
    with pytest.raises(ms.BadPlan, match="there is no layer 'nope' to grow"):
        ms.steal(listed(), listed(), grow={"nope": 9})


def test_a_recipe_freezes_for_all_its_steps(tmp_path: Path) -> None:
    ms.save(listed(), tmp_path / "model.onnx")
    steps = [{"verb": "bn fold"}, {"verb": "compress", "rank": 2}]
    recipe = {"model": str(tmp_path / "model.onnx"), "tolerance": 9.0, "step": steps}
    ran = ms.pipeline({**recipe, "freeze_inputs": True})
    assert [value.name for value in ran.model.graph.inputs] == ["x"]
    assert all(edited(report.result) for report in ran.steps)
    assert ran.comparison is not None


def test_before_version_4_data_replace_no_default() -> None:
    data = [{"x": np.ones((1, 4, 9, 9), np.float32), "s": 2 * WEIGHTS["s"]}]
    old = ms.bn.freeze(listed(3), data=data)
    assert old.comparison.notes == ("ignored, since no input has this name: s",)
    assert not ms.bn.freeze(listed(4), data=data).comparison.notes


def test_a_net_without_defaults_says_that_nothing_was_frozen() -> None:
    done = ms.prune(zoo.classifier(), freeze_inputs=True)
    assert "no input has a default: nothing was frozen" in done.notes
    model = zoo.classifier()
    assert freeze_inputs(model).model is model


def test_inspect_and_a_dry_run_take_the_option() -> None:
    assert ms.bn.inspect(listed()).layers["d"][0].rule == "unreadable"
    assert not ms.bn.inspect(listed(), freeze_inputs=True).layers["d"]
    dry = ms.compress(listed(), rank=2, dry_run=True, freeze_inputs=True)
    assert dry.plan
    assert any("taken out of the inputs" in note for note in dry.notes)


def test_a_weight_behind_a_transposition_has_the_same_reason() -> None:
    model = zoo.model(
        "g (float[2, 6] x, float[4, 6] w, float[6, 4] u) => (float y, float z) "
        "{ v = Transpose (w)  y = MatMul (x, v)  n = Neg (u)  z = MatMul (x, n) }",
        w=np.ones((4, 6), np.float32),
    )
    values = {value.name: value for node in model.graph for value in node.outputs}
    assert why_unreadable(values["v"], "weight").endswith(
        "which a caller may override: --freeze-inputs fixes it"
    )
    assert why_unreadable(values["n"], "weight") == "its weight is computed at run time"
    assert "without a default" in why_unreadable(model.graph.inputs[2], "weight")
    assert constant_array(values["v"]) is None


def test_check_reports_weights_that_are_inputs() -> None:
    [entry] = found(listed(), "weights-are-inputs")
    assert entry.message == "is an input with a default, and so are 6 more: a caller may override it"
    assert "--freeze-inputs" in entry.advice
    assert not found(listed(version=3), "weights-are-inputs")
    assert not found(freeze_inputs(listed()).model, "weights-are-inputs")
