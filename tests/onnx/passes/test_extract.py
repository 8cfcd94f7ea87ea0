"""Extraction: named outputs stay, other branches are removed, and invalid names raise BadPlan."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from tests import zoo


def two_heads(opset: int = 17) -> ir.Model:
    """A trunk with a dropout, a head, and an auxiliary head that ends in a loss."""
    return zoo.model(
        """
        g (float[2, 4] x, float[2, 3] label) => (float[2, 3] y, float loss) {
            h = MatMul (x, w1)
            d = Dropout (h)
            y = MatMul (d, w2)
            a = MatMul (h, w3)
            e = Sub (a, label)
            s = Mul (e, e)
            loss = ReduceMean <keepdims = 0> (s)
        }
        """,
        opset=opset,
        w1=np.arange(12, dtype=np.float32).reshape(4, 3),
        w2=zoo.ones(3, 3),
        w3=zoo.ones(3, 3),
    )


def edits(operation: ms.Operation) -> set[tuple[str, str, str | None]]:
    return {(edit.layer, edit.action, edit.skipped) for edit in operation.edits}


def test_auxiliary_head_is_removed() -> None:
    model = two_heads()
    done = ms.extract(model, ["y"])
    assert edits(done) == {
        ("loss", "drop output", None),
        ("label", "drop input", None),
        ("d", "drop dropout", None),
    }
    assert [node.op_type for node in done.model.graph] == ["MatMul", "MatMul"]
    assert sorted(done.model.graph.initializers) == ["w1", "w2"]
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"
    assert len(list(model.graph)) == 7, "the caller's model stays as it is"


def test_inner_tensor_as_output_or_input() -> None:
    done = ms.extract(two_heads(), ["a", "y"], inputs=["h"])
    assert [value.name for value in done.model.graph.inputs] == ["h"]
    assert [value.name for value in done.model.graph.outputs] == ["a", "y"]
    (entry,) = done.model.graph.inputs
    assert entry.dtype == ir.DataType.FLOAT
    assert entry.shape == ir.Shape((2, 3))
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"


@pytest.mark.parametrize(
    ("outputs", "inputs", "message"),
    [
        (["yy"], [], r"no tensor is called 'yy'; near it are 'y'"),
        (["zzzzzz"], [], "near it are none"),
        ([], [], "no output is named"),
        (["y", "loss"], ["h"], "also depend on 'label'"),
        (["y"], ["x", "label"], "no kept output depends on 'label'"),
    ],
)
def test_invalid_names_raise(outputs: list[str], inputs: list[str], message: str) -> None:
    with pytest.raises(ms.BadPlan, match=message):
        ms.extract(two_heads(), outputs, inputs)


@pytest.mark.parametrize(
    ("dropout", "reason"),
    [
        ("y = Dropout (h)", "its output is a graph output"),
        ("d, m = Dropout (h) n = Cast <to = 1> (m) y = Mul (d, n)", "its mask is used"),
        ("d = Dropout (h, half, yes) y = Relu (d)", "training mode"),
        ("d = Dropout (h, half, training) y = Relu (d)", "training mode"),
    ],
)
def test_kept_dropout_has_a_reason(dropout: str, reason: str) -> None:
    model = zoo.model(
        f"g (float[2, 4] x, bool training) => (float[2, 4] y) {{ h = Relu (x) {dropout} }}",
        half=np.float32(0.5),
        yes=np.array(True),
    )
    done = ms.extract(model, ["y"], compare=False)
    (kept,) = [edit for edit in done.edits if edit.action == "drop dropout"]
    assert reason in str(kept.skipped)
    assert "Dropout" in {node.op_type for node in done.model.graph}


def test_captured_tensor_becomes_an_input() -> None:
    """The subgraphs use `h`, a tensor of the main graph that becomes an input."""
    model = zoo.model(
        """
        g (float[2, 4] x, bool c) => (float[2, 4] y) {
            h = Relu (x)
            y = If (c) <
                then_branch = one () => (float[2, 4] a) { a = Neg (h) },
                else_branch = two () => (float[2, 4] b) { b = Abs (h) }
            >
        }
        """
    )
    done = ms.extract(model, ["y"], inputs=["h", "c"])
    assert [value.name for value in done.model.graph.inputs] == ["c", "h"]
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"


def test_new_output_has_type_and_known_sizes() -> None:
    model = zoo.model(
        "g (float[N, 3, 8, 8] x) => (float y) { a = Conv (x, w) b = Relu (a) y = NonZero (b) }",
        w=zoo.ones(4, 3, 3, 3),
    )
    for node in model.graph:
        node.outputs[0].type = node.outputs[0].shape = None
    [value] = ms.extract(model, ["b"]).model.graph.outputs
    assert str(value.dtype) == "FLOAT"
    assert str(value.shape) == "[N,4,6,6]"


@pytest.mark.parametrize(
    ("attribute", "kept"), [("", True), ("<is_test = 1>", False), ("<ratio = 0.0>", False)]
)
def test_old_dropout_is_in_training_mode_unless_is_test_says_otherwise(attribute: str, kept: bool) -> None:
    text = f"g (float[2, 4] x) => (float y) {{ d = Dropout {attribute} (x) y = Neg (d) }}"
    done = ms.extract(zoo.model(text, opset=6), outputs=["y"], compare=False)
    assert ("Dropout" in {node.op_type for node in done.model.graph}) is kept
