"""Nets with operators that can't run here: what runs is compared, and messages name --no-compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api.operation import operate
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.run import runner
from modelsurgeon.onnx.run.runnable_part import part, runnable_part
from modelsurgeon.surgery.edits import Edit
from tests import zoo

HEAD = """c = Conv (x, a)  d = BatchNormalization (c, s, t, m, v)
          r = Relu (d)  box = Conv (r, b)"""
RNG = np.random.default_rng(0)
WEIGHTS = {name: RNG.uniform(0.5, 1.5, 8).astype(np.float32) for name in "stmv"} | {
    "a": RNG.normal(size=(8, 4, 3, 3)).astype(np.float32),
    "b": RNG.normal(size=(8, 8, 3, 3)).astype(np.float32),
}
IN_FUNCTION = '<domain: "local", opset_import: ["" : 17, "plugin" : 1]> F (p) => (q) { q = plugin.Nms (p) }'
IN_BRANCH = """y = If (k) <then_branch = t () => (float[N, 8, 5, 5] e) { e = plugin.Nms (box) },
                           else_branch = f () => (float[N, 8, 5, 5] o) { o = Relu (box) }>"""
VERBS: dict[str, Callable[..., Any]] = {
    "fold": ms.bn.fold,
    "freeze": ms.bn.freeze,
    "sanitize": ms.bn.sanitize,
    "equalize": ms.equalize,
    "prune": ms.prune,
    "fc2conv": ms.fc2conv,
    "pool2conv": ms.pool2conv,
    "steal": lambda model, **options: ms.steal(model, model, **options),
    "compress": lambda model, **options: ms.compress(model, rank=1, **options),
    "extract": lambda model, **options: ms.extract(model, ["y"], **options),
}


def net(tail: str, *functions: str, head: str = HEAD, **weights: np.ndarray) -> ir.Model:
    inputs = "float[N, 4, 9, 9] x" + ", bool k" * ("If" in tail)
    graph = f"g ({inputs}) => (float[N, 8, 5, 5] y) {{ {head} {tail} }}"
    model = zoo.model("\n".join([graph, *functions]), **WEIGHTS, **weights)
    model.opset_imports["plugin"] = 1
    return model


TAILS = {
    "at the end": net("y = plugin.Nms (box)"),
    "an operator that onnx doesn't have": net("y = Frobnicate (box)"),
    "of a known domain": net("y = com.microsoft.Frobnicate (box)"),
    "in a function": net("y = local.F (box)", IN_FUNCTION),
    "in a branch": net(IN_BRANCH),
    "followed by others": net("z = plugin.Nms (box)  p = Relu (box)  y = Add (z, p)"),
    "a kernel that is missing": net(
        "h = Cast <to = 11> (box)  w = Cast <to = 11> (b)  q = Conv (h, w)  y = Cast <to = 1> (q)"
    ),
}


@pytest.mark.parametrize("case", [case for case in TAILS if "kernel" not in case])
def test_the_tensors_in_front_of_an_operator_are_compared(case: str) -> None:
    model = TAILS[case]
    folded = ms.bn.fold(model)
    assert [edit.skipped for edit in folded.edits] == [None]
    assert next(output.name for output in folded.comparison.outputs) == "box"
    assert any("compared at box" in note and "can't run here" in note for note in folded.comparison.notes)


def test_a_damage_in_front_of_the_operator_is_seen() -> None:
    def damage(context: PassContext) -> list[Edit]:
        relu = next(node for node in context.graph if node.op_type == "Relu")
        relu.op_type = "Neg"
        return [Edit(layer="r", action="damage")]

    with pytest.raises(ms.ToleranceExceeded, match=r"damage changed the outputs"):
        operate(net("y = plugin.Nms (box)"), "damage", damage, {}, exact=True)


@pytest.mark.parametrize("case", TAILS)
def test_extract_runs_only_what_its_outputs_need(case: str) -> None:
    cut = ms.extract(TAILS[case], ["box"])
    x = RNG.normal(size=(2, 4, 9, 9)).astype(np.float32)
    expected = runner(net("y = Relu (box)"), outputs=["box"])({"x": x})["box"]
    assert np.array_equal(runner(cut.model)({"x": x})["box"], expected)
    assert [output.name for output in cut.comparison.outputs] == ["box"]
    assert cut.comparison.verdict == "identical"


def test_what_can_not_be_computed_is_fed_with_noise() -> None:
    model = net("z = plugin.Nms (box)  y = Relu (z)")
    z = next(value for node in model.graph for value in node.outputs if value.name == "z")
    z.type, z.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["N", 8, 5, 5])
    cut = ms.extract(model, ["y"], ["z"])
    assert cut.comparison.verdict == "identical"
    assert any("z: fed with noise" in note for note in cut.comparison.notes)


def test_a_tensor_that_the_edit_removed_is_not_compared() -> None:
    model = net("drop = Dropout (box)  y = plugin.Nms (drop)")
    with pytest.raises(ms.Unavailable, match=r"Nms can't run here, and no tensor .* --no-compare$"):
        ms.extract(model, ["y"])


def test_an_input_without_a_type_is_refused() -> None:
    model = net("z = plugin.Nms (box)  y = Relu (z)")
    with pytest.raises(ms.BadPlan, match="the type of 'z' isn't known"):
        ms.extract(model, ["y"], ["z"], compare=False)


def test_an_edit_behind_the_operator_can_not_be_compared() -> None:
    behind = net(
        HEAD.replace("(x, a)", "(i, a)") + " y = Relu (box)", head="j = Relu (x)  i = plugin.Pre (j)"
    )
    with pytest.raises(ms.Unavailable, match=r"'d' was edited, and Pre, .* --no-compare"):
        ms.bn.fold(behind)
    assert [edit.skipped for edit in ms.bn.fold(behind, compare=False).edits] == [None]


@pytest.mark.parametrize("verb", VERBS)
def test_without_anything_that_runs_the_message_names_no_compare(verb: str) -> None:
    for model in (
        net("y = Relu (box)", head="i = plugin.Pre (x) " + HEAD.replace("(x, a)", "(i, a)")),
        newer("opset"),
        newer("IR version"),
    ):
        with pytest.raises(ms.Unavailable, match=r"--no-compare$") as refused:
            VERBS[verb](model)
        assert "\n" not in str(refused.value)
        assert VERBS[verb](model, compare=False).model.graph.num_nodes()


def newer(what: str) -> ir.Model:
    model = net("y = Relu (box)")
    if what == "opset":
        model.opset_imports[""] = 99
    else:
        model.ir_version = 99
    return model


def test_the_part_towards_a_tensor_is_all_that_it_needs() -> None:
    model = net("y = plugin.Nms (box)")
    cut = part(model, ["d"])
    assert [node.op_type for node in cut.graph] == ["Conv", "BatchNormalization"]
    assert part(model, ["y"]) is model
    with pytest.raises(ms.BadModel, match="no tensor 'q'"):
        part(model, ["q"])
    found = runnable_part(model, ["y"])
    assert (list(found.outputs), list(found.operators), found.layers_behind) == (["box"], ["Nms"], {"y"})
