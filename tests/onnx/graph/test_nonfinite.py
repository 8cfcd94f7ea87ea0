"""No verb writes NaN or an infinite number that wasn't in the model."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api.operation import operate
from modelsurgeon.onnx.graph.nonfinite import check_finite
from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit
from tests import zoo

NAN, INF = np.float32("nan"), np.float32("inf")


def net(weight: object = 1.0, bias: object = 1.0) -> ir.Model:
    return zoo.model(
        "g (float[N, 2] x) => (float[N, 2] y) { [dense] h = MatMul (x, w) y = Add (h, b) }",
        w=np.array([[1, 2], [3, weight]], np.float32),
        b=np.array([1, bias], np.float32),
    )


def written(model: ir.Model, name: str, *values: float) -> ir.Model:
    """A copy with new values in one initializer."""
    edited = editable_copy(model)
    tensor = np.resize(np.array(values, np.float32), model.graph.initializers[name].const_value.shape.numpy())  # type: ignore[union-attr]
    edited.graph.initializers[name].const_value = ir.tensor(tensor, name=name)
    return edited


@pytest.mark.parametrize(
    ("value", "words"), [(NAN, "NaN"), (INF, "an infinite number"), (-INF, "an infinite number")]
)
def test_a_new_number_that_is_not_finite_is_refused_with_layer_and_tensor(value: float, words: str) -> None:
    with pytest.raises(ms.UnsupportedLayer, match=rf"tensor 'w' of layer 'dense' would hold {words}"):
        check_finite(written(net(), "w", 1, float(value)), net(), written(net(), "w", 2))
    check_finite(written(net(), "w", 1, 2), net())


@pytest.mark.parametrize(
    ("there", "new", "fine"),
    [(NAN, NAN, True), (INF, INF, True), (INF, NAN, True), (NAN, INF, False), (1, NAN, False)],
)
def test_a_number_may_move_from_a_tensor_that_is_gone(there: float, new: float, fine: bool) -> None:
    original = net(bias=there)
    edited = written(written(original, "b", 0), "w", new)
    if fine:
        check_finite(edited, original)
        return
    with pytest.raises(ms.UnsupportedLayer, match="which the model didn't hold"):
        check_finite(edited, original)


def test_one_that_stays_excuses_no_other() -> None:
    original = net(bias=NAN)
    check_finite(editable_copy(original), original)
    with pytest.raises(ms.UnsupportedLayer, match="tensor 'w'"):
        check_finite(written(original, "w", float(NAN)), original)


def test_tensors_in_attributes_and_bodies_are_checked() -> None:
    original = zoo.model(
        "g (bool c, float[2] x) => (float[2] y) { y = If (c) <"
        "then_branch = t () => (float[2] p) { k = Constant <value = float[2] {1, 2}> () p = Add (x, k) },"
        "else_branch = e () => (float[2] q) { q = Identity (x) }> }"
    )
    edited = editable_copy(original)
    constant = next(node for node in edited.graph.all_nodes() if node.op_type == "Constant")
    check_finite(edited, original)
    constant.attributes["value"] = ir.AttrTensor("value", ir.tensor(np.array([1, NAN]), name="k"))
    with pytest.raises(ms.UnsupportedLayer, match="would hold NaN"):
        check_finite(edited, original)


@pytest.mark.parametrize(("name", "new"), [("value_float", NAN), ("value_floats", [1.0, INF])])
def test_numbers_in_attributes_are_checked(name: str, new: object) -> None:
    value = {"value_float": "float = 1.0", "value_floats": "floats = [1.0, 2.0]"}[name].split(" = ")[1]
    original = zoo.model(
        f"g (float[2] x) => (float[2] y) {{ k = Constant <{name} = {value}> () y = Add (x, k) }}"
    )
    edited = editable_copy(original)
    check_finite(edited, original)
    [constant] = [node for node in edited.graph if node.op_type == "Constant"]
    changed = ir.AttrFloat32(name, float(new)) if name == "value_float" else ir.AttrFloat32s(name, new)  # type: ignore[arg-type]
    constant.attributes[name] = changed
    with pytest.raises(ms.UnsupportedLayer, match=f"attribute '{name}' of layer .* would hold"):
        check_finite(edited, original)
    check_finite(edited, edited)
    check_finite(editable_copy(edited), edited)


def test_unchanged_tensors_are_not_read() -> None:
    original = net()

    def unread() -> ir.TensorProtocol:
        raise AssertionError

    lazy = ir.LazyTensor(unread, ir.DataType.FLOAT, ir.Shape([2]), name="b")
    original.graph.initializers["b"].const_value = lazy
    check_finite(written(original, "w", 3), original)


@pytest.mark.parametrize("compare", [True, False])
def test_every_verb_is_checked(compare: bool) -> None:
    def overflow(context: PassContext) -> list[Edit]:
        context.graph.initializers["w"].const_value = ir.tensor(np.full((2, 2), INF), name="w")
        return [Edit(layer="dense", action="scale")]

    with pytest.raises(ms.UnsupportedLayer, match="tensor 'w' of layer 'dense' would hold an infinite"):
        operate(net(), "scale", overflow, {"compare": compare}, exact=True)


@pytest.mark.parametrize("compare", [True, False])
@pytest.mark.parametrize(
    ("value", "reason"),
    [(1e5, "the donor's weight reaches 1e+05, which is more than float16 holds"), (NAN, "holds NaN or inf")],
)
def test_steal_leaves_layers_alone_whose_type_cannot_hold_the_weights(
    value: float, reason: str, compare: bool
) -> None:
    def dense(kind: str, weight: np.ndarray) -> ir.Model:
        return zoo.model(f"g ({kind}[N, 2] x) => ({kind}[N, 2] y) {{ [dense] y = MatMul (x, w) }}", w=weight)

    donor = dense("float", np.array([[value, 2], [3, 4]], np.float32))
    recipient = dense("float16", np.ones((2, 2), np.float16))
    done = ms.steal(donor, recipient, compare=compare)
    assert reason in str(done.edits[0].skipped)
    weight = done.model.graph.initializers["w"].const_value.numpy()
    np.testing.assert_array_equal(weight, np.ones((2, 2), np.float16))


def test_steal_from_a_wider_type_is_compared() -> None:
    def dense(kind: str, weight: np.ndarray) -> ir.Model:
        return zoo.model(f"g ({kind}[N, 2] x) => ({kind}[N, 2] y) {{ [dense] y = MatMul (x, w) }}", w=weight)

    donor = dense("float", np.array([[1.001, 2], [3, 4]], np.float32))
    done = ms.steal(donor, dense("float16", np.ones((2, 2), np.float16)), tolerance=1e-2)
    assert done.comparison is not None
    assert done.comparison.verdict == "within-tolerance"


def test_a_tolerance_needs_a_comparison() -> None:
    for verb in (ms.prune, ms.equalize, ms.bn.fold, ms.bn.sanitize):
        with pytest.raises(ms.NoVerdict, match=r"a tolerance of 0\.1 was given"):
            verb(net(), tolerance=0.1, compare=False)
    with pytest.raises(ms.NoVerdict, match="nothing is compared that it holds for"):
        ms.compress(net(), rank=1, tolerance=0.1, compare=False)
    with pytest.raises(ms.NoVerdict, match="nothing is compared that it holds for"):
        ms.sweep(net(), [0.5], tolerance=0.1, compare=False)
    other = zoo.model("g (int64[N] x) => (float[N] y) { h = Cast <to = 1> (x) y = Add (h, b) }", b=np.ones(1))
    with pytest.raises(ms.NoVerdict, match="take different inputs"):
        ms.steal(net(), other, tolerance=0.1)
