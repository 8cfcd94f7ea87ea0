"""Shapes that the file declares: believed where nothing else is known, never against what follows."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, symbols
from tests import zoo

WEIGHT = {"w": zoo.ones(8, 4)}


def shapes(model: ir.Model) -> dict[str, str]:
    """Shape of every value that a node makes, branches and bodies included, as text."""
    return {str(value.name): str(value.shape) for node in model.graph.all_nodes() for value in node.outputs}


@pytest.mark.parametrize("operator", ["somewhere.Magic", "Magic", "local.Magic", "com.microsoft.Magic"])
def test_the_shape_behind_an_unknown_operator_is_taken_from_the_file(operator: str) -> None:
    text = f"g (float[2, 3] x) => (float[5, 4] y) <float[5, 8] v> {{ v = {operator} (x) y = MatMul (v, w) }}"
    found = analyze(zoo.model(text, **WEIGHT))
    assert found.totals.macs == 5 * 8 * 4
    assert "shapes that nothing else determines are taken as the file says: v is 5 x 8" in found.notes
    assert [entry.op.split("::")[-1] for entry in found.uncounted] == ["Magic"]


def test_unknown_operators_behind_each_other_are_all_taken_from_the_file() -> None:
    body = "a = Magic (x) b = Relu (a) c = somewhere.Magic (b) d = Magic (c) e = Relu (d) y = MatMul (e, w)"
    text = f"g (float[2, 3] x) => (float[4, 4] y) <float[3, 8] a, float[4] c, float[4, 8] d> {{ {body} }}"
    assert shapes(bound(zoo.model(text, **WEIGHT))) == {
        "a": "[3,8]",
        "b": "[3,8]",
        "c": "[4]",
        "d": "[4,8]",
        "e": "[4,8]",
        "y": "[4,4]",
    }


def test_operators_behind_a_value_without_declaration_are_taken_from_the_file() -> None:
    body = "v = Magic (x) r = Relu (v) y = MatMul (r, w)"
    text = f"g (float[2, 3] x) => (float[5, 4] y) <float[5, 8] r> {{ {body} }}"
    assert shapes(bound(zoo.model(text, **WEIGHT))) == {"v": "None", "r": "[5,8]", "y": "[5,4]"}


def test_what_follows_beats_what_is_declared() -> None:
    text = (
        "g (float[2, 3] x) => (float[9, 9] y) <float[7, 7] r> { v = Magic (x) r = Relu (x) y = Add (r, v) }"
    )
    model = bound(zoo.model(text))
    assert shapes(model)["r"] == "[2,3]"


def test_declared_symbols_are_sizes_of_their_own() -> None:
    text = "g (float[N, 3] x) => (float[?, 4] y) <float[rows, 8] v> { v = Magic (x) y = MatMul (v, w) }"
    built = zoo.model(text, **WEIGHT)
    found = analyze(built)
    assert found.formulas["macs"] == "32*rows"
    assert found.defaults == {"N": 1, "rows": 1}
    assert "rows: axis 0 of 'v', open in the file; counted at 1; set with --dim rows=N" in found.notes
    assert analyze(built, dims={"rows": 6}).totals.macs == 6 * 32
    with pytest.raises(UnknownShape, match="no input has a dimension 'rowz'; open dimensions are: N, rows"):
        bound(built, dims={"rowz": 1})


def test_declared_names_and_expressions_are_read_as_those_of_inputs() -> None:
    built = zoo.model(
        "g (float[1, 3] x) => (float[?, 4] y) { v = Magic (x) u = Magic (v) y = MatMul (u, w) }", **WEIGHT
    )
    built.graph.inputs[0].shape = ir.Shape(["batch-size", 3])
    v, u = (node.outputs[0] for node in list(built.graph)[:2])
    v.shape = ir.Shape(["batch-size", "num boxes", None, 0])
    u.shape = ir.Shape(["2*batch", 8])
    model = bound(built)
    assert shapes(model)["v"] == "[batch_size,num_boxes,v_size_2,v_size_3]"
    assert symbols(model) == ["batch_size", "num_boxes", "v_size_2", "v_size_3", "batch"]
    assert (
        shapes(bound(built, dims={"batch": 3, "num boxes": 4, "batch-size": 2, "v_size_2": 9}))["v"]
        == "[2,4,9,v_size_3]"
    )


@pytest.mark.parametrize(
    ("declared", "found"),
    [
        ((1, 8), "[N,8]"),  # exported with a batch of 1
        ((2, 8), "[2,8]"),
        (("N", 8), "[N,8]"),
        (("N", "K"), "[N,K]"),
    ],
)
def test_a_declared_batch_of_1_stands_for_the_open_batch(declared: tuple[int | str, ...], found: str) -> None:
    built = zoo.model("g (float[N, 3] x) => (float[?, ?] y) { y = Magic (x) }")
    built.graph.outputs[0].shape = ir.Shape(declared)
    assert shapes(bound(built))["y"] == found
    assert shapes(bound(built, {"x": (4, 3)}))["y"] == found.replace("N", "4")
    assert shapes(bound(built, dims={"N": 4}))["y"] == found.replace("N", "4")


def test_the_batch_of_the_example_is_seen_in_other_declared_shapes() -> None:
    text = "g (float[N, 3] x) => (float[2, 8] y) <float[2, 3] r> { r = Relu (x) y = Magic (r) }"
    assert shapes(bound(zoo.model(text)))["y"] == "[N,8]"
    assert shapes(bound(zoo.model(text), dims={"N": 5}))["y"] == "[5,8]"


def test_a_batch_that_is_fixed_in_the_file_stays() -> None:
    text = "g (float[4, 3] x, float[N, 3] z) => (float[1, 8] y) { y = Magic (x) }"
    assert shapes(bound(zoo.model(text)))["y"] == "[1,8]"


def test_a_declared_scalar_says_nothing() -> None:
    text = "g (float[2, 3] x) => (float y, float z) { y = Magic (x) v = Magic (x) z = Add (v, v) }"
    assert shapes(bound(zoo.model(text))) == {"y": "None", "v": "None", "z": "None"}


def test_what_is_computed_at_known_sizes_is_not_taken_from_the_file() -> None:
    text = """
        g (float[N, 6] x) => (float[9, 9] y) <float[9, 1] c> {
            s = Shape (x) f = Cast <to = 1> (s) h = Div (f, two) n = Cast <to = 7> (h)
            c = Reshape (x, n) y = Relu (c)
        }
    """
    built = zoo.model(text, two=np.float32(1))
    assert shapes(bound(built, dims={"N": 4}))["y"] == "[4,6]"
    found = analyze(built)
    assert found.totals.activation_bytes == analyze(built, dims={"N": 1}).totals.activation_bytes
    assert found.defaults == {"N": 1}
    assert found.notes == []


def test_a_first_size_without_a_name_is_assumed_to_be_the_batch() -> None:
    built = zoo.model("g (float[N, 3] x) => (float[?, 7] y) { y = Magic (x) }")
    found = analyze(built, dims={"N": 5})
    assert found.defaults == {"y_size_0": 5}
    assert analyze(built).defaults == {"N": 1, "y_size_0": 1}


@pytest.mark.parametrize(
    "text",
    [
        "g (bool c, float[2, 3] x) => (float[5, 4] y) { y = If (c) <then_branch = t () => (float[5, 4] a)"
        " <float[5, 8] v> { v = Magic (x) a = MatMul (v, w) },"
        " else_branch = e () => (float[5, 4] b) <float[5, 8] u> { u = Magic (x) b = MatMul (u, w) }> }",
        "g (float[2, 3] x) => (float[7, 5, 4] y) { y = Loop (seven, yes) <body = b (int64 k, bool c) =>"
        " (bool d, float[5, 4] a) <float[5, 8] v> { d = Identity (c) v = Magic (x) a = MatMul (v, w) }> }",
    ],
)
def test_declarations_in_branches_and_bodies_are_believed(text: str) -> None:
    found = shapes(bound(zoo.model(text, seven=7, yes=True, **WEIGHT)))
    assert found["v"] == "[5,8]"
    assert found["a"] == "[5,4]"
    assert found["y"].endswith("5,4]")


def test_declarations_in_functions_are_believed() -> None:
    text = """
        g (float[2, 3] x) => (float[5, 4] y) { v = local.f (x) y = MatMul (v, w) }
        <domain: "local", opset_import: ["" : 17, "somewhere" : 1]> f (a) => (b) { b = somewhere.Magic (a) }
    """
    built = zoo.model(text, **WEIGHT)
    next(iter(built.graph)).outputs[0].shape = ir.Shape([5, 8])
    assert shapes(bound(built))["y"] == "[5,4]"


def test_a_size_known_at_run_time_has_the_declared_name_or_size() -> None:
    text = (
        "g (bool[9] m, float[9, 8] x) => (float[?, 4] y) { c = Compress <axis = 0> (x, m) y = MatMul (c, w) }"
    )
    for declared, macs in (("chosen", "32*chosen"), ("num-chosen", "32*num_chosen")):
        built = zoo.model(text, **WEIGHT)
        built.graph.outputs[0].shape = ir.Shape([declared, 4])
        assert analyze(built).formulas["macs"] == macs
        assert analyze(built).totals.macs == 9 * 32
    built.graph.outputs[0].shape = ir.Shape([6, 4])
    assert analyze(built).totals.macs == 6 * 32
    assert analyze(built).defaults == {}


def test_a_declared_size_gives_the_other_size_of_a_reshape() -> None:
    text = "g (float[16, 64] x, int64[2] s) => (float[?, 32] y) { v = Reshape (x, s) y = MatMul (v, w) }"
    built = zoo.model(text, w=zoo.ones(64, 32))
    built.graph.outputs[0].shape = ir.Shape([16, 32])
    assert shapes(bound(built)) == {"v": "[16,64]", "y": "[16,32]"}


def test_declarations_behind_a_node_that_cannot_run_are_not_believed() -> None:
    text = """
        g (bool c, float[2, 3] x) => (float[9, 4] y) {
            y = If (c) <then_branch = t () => (float[2, 3] a) { a = Relu (x) },
                else_branch = e () => (float[5, 4] b) <float[5, 8] v> { v = MatMul (x, w) b = Relu (v) }>
        }
    """
    found = shapes(bound(zoo.model(text, **WEIGHT)))
    assert (found["v"], found["b"]) == ("None", "None")
