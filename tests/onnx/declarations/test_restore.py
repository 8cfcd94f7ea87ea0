"""What an edited model declares, edit by edit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.declarations import restore_declarations
from modelsurgeon.onnx.layers.sites import editable_copy
from tests import zoo
from tests.onnx.declarations import nets


def value(model: ir.Model, name: str) -> ir.Value:
    values = [*model.graph.inputs, *(v for node in model.graph for v in node.outputs)]
    return next(each for each in values if each.name == name)


def declared(model: ir.Model, name: str) -> list[object] | None:
    """The declared shape; None for an open size, and where there is no shape."""
    shape = value(model, name).shape
    return None if shape is None else [d if isinstance(d, int) else d.value for d in shape]


def edited(original: ir.Model, edit: Callable[[ir.Model], object]) -> ir.Model:
    copy = editable_copy(original)
    edit(copy)
    restore_declarations(copy, original)
    return copy


def wider(model: ir.Model, name: str, columns: int) -> None:
    """Give a matrix other columns."""
    held = model.graph.initializers[name]
    assert held.const_value is not None
    held.const_value = ir.tensor(np.ones((held.const_value.shape[0], columns), np.float32), name=name)


def unknown_twice() -> ir.Model:
    """Two operators that nobody knows behind a matrix, with an operator between; all shapes are declared."""
    return zoo.model(
        "g (float[3, 4] x) => (float[3, 7] y) <float[3, 5] z, float[3, 6] p, float[3, 6] r> {"
        " z = MatMul (x, w) p = local.Pre (z) r = Relu (p) y = local.Post (r) }",
        w=zoo.ones(4, 5),
    )


def test_sizes_behind_unknown_operators_are_opened_where_their_inputs_changed() -> None:
    done = edited(unknown_twice(), lambda model: wider(model, "w", 9))
    assert declared(done, "z") == [3, 9]
    assert [declared(done, name) for name in "pry"] == [[3, None]] * 3


def test_a_first_size_behind_an_unknown_operator_is_opened_where_that_of_its_data_changed() -> None:
    model = zoo.model(
        "g (float[4, 3] x) => (float[5, 3] y) { z = MatMul (w, x) y = local.Post (z) }", w=zoo.ones(5, 4)
    )

    def taller(copy: ir.Model) -> None:
        copy.graph.initializers["w"].const_value = ir.tensor(zoo.ones(9, 4), name="w")

    assert declared(edited(model, taller), "y") == [None, None]


def test_sizes_are_opened_where_an_unknown_operator_reads_another_value() -> None:
    def flatten(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Post")
        flat = ir.node("Flatten", [node.inputs[0]], {"axis": 0}, name="flat")
        flat.outputs[0].name = "all"
        model.graph.insert_before(node, flat)
        node.replace_input_with(0, flat.outputs[0])

    assert declared(edited(unknown_twice(), flatten), "y") == [None, None]


def test_sizes_stay_where_identities_before_an_unknown_operator_go() -> None:
    model = zoo.model(
        "g (float[3, 4] x) => (float[3, 7] y) { p = local.Pre (x) i = Identity (p) y = local.Post (i) }"
    )
    assert declared(ms.clean(model, compare=False).model, "y") == [3, 7]


def test_sizes_behind_unknown_operators_stay_where_their_inputs_did() -> None:
    done = edited(unknown_twice(), lambda model: wider(model, "w", 5))
    assert [declared(done, name) for name in "zpry"] == [[3, 5], [3, 6], [3, 6], [3, 7]]


def test_a_declared_batch_survives_and_a_changed_size_is_inferred() -> None:
    model = zoo.model(
        "g (float[batch, 4] x) => (float[rows, 5] y) <float[rows, 5] z> { z = MatMul (x, w) y = Relu (z) }",
        w=zoo.ones(4, 5),
    )
    done = edited(model, lambda copy: wider(copy, "w", 6))
    assert declared(done, "y") == declared(done, "z") == ["rows", 6]


@pytest.mark.parametrize("false", ["", "[5, 3]", "[3, 4, 1]"])
def test_a_declaration_that_the_model_contradicts_is_corrected(false: str) -> None:
    model = zoo.model(f"g (float[3, 4] x) => (float{false} y) {{ z = Neg (x) y = Relu (z) }}")
    assert declared(edited(model, lambda _: None), "y") == [3, 4]


def test_new_values_are_declared_where_the_file_declares_others() -> None:
    def split(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Relu")
        first = ir.node("Neg", [node.inputs[0]], name="minus")
        first.outputs[0].name = "negative"
        model.graph.insert_before(node, first)
        node.replace_input_with(0, first.outputs[0])

    assert declared(edited(unknown_twice(), split), "negative") == [3, 6]
    plain = zoo.model("g (float[3, 4] x) => (float[3, 4] y) { z = Neg (x) y = Relu (z) }")
    assert declared(edited(plain, split), "negative") is None


def test_version_3_stays_and_lists_its_weights_in_the_old_order() -> None:
    original = nets.old_head()
    done = ms.bn.fold(original, compare=False).model
    before = [str(each.name) for each in original.graph.inputs]
    after = [str(each.name) for each in done.graph.inputs]
    assert done.ir_version == 3
    assert [name for name in after if name in before] == [name for name in before if name in after]
    assert set(done.graph.initializers) == set(after) - {"x"}


def test_sizes_given_for_one_call_are_not_written() -> None:
    done = ms.extract(nets.head(), ["a"], shapes={"x": (2, 3, 8, 8)}, compare=False).model
    assert declared(done, "x") == ["N", 3, 8, 8]
    assert declared(done, "a") == ["N", 20]


def test_an_edit_that_leaves_sizes_that_do_not_fit_is_refused() -> None:
    model = zoo.model(
        "g (float[3, 4] x) => (float[3, 5] y) { z = MatMul (x, w) y = Add (z, b) }",
        w=zoo.ones(4, 5),
        b=zoo.ones(5),
    )
    with pytest.raises(ms.BadModel, match=r"leave sizes that don't fit at 'y'.*--skip"):
        edited(model, lambda copy: wider(copy, "w", 6))


def test_an_edit_that_renames_an_output_is_refused() -> None:
    def rename(model: ir.Model) -> None:
        model.graph.outputs[0].name = "z2"

    with pytest.raises(ms.BadModel, match=r"change the outputs of the model, first '(y|z2)'"):
        edited(unknown_twice(), rename)


def test_an_edit_that_changes_the_type_of_an_output_is_refused() -> None:
    def cast(model: ir.Model) -> None:
        node = next(node for node in model.graph if node.op_type == "Relu")
        turned = ir.node("Cast", [node.outputs[0]], {"to": 10}, name="turned")
        turned.outputs[0].name = "y"
        model.graph.append(turned)
        node.outputs[0].name = "before"
        model.graph.outputs[0] = turned.outputs[0]

    model = zoo.model("g (float[3, 4] x) => (float[3, 4] y) { y = Relu (x) }")
    with pytest.raises(ms.BadModel, match=r"make 'y' .*FLOAT16.* instead of .*FLOAT"):
        edited(model, cast)


def test_a_scalar_keeps_its_shape_where_its_operator_goes() -> None:
    model = zoo.model(
        "g (float[6] x) => (float y, float z) <float m> { m = ReduceMin <keepdims = 0> (x)"
        " n = Abs (m) y = Identity (n) z = Neg (m) }"
    )
    cleaned = ms.clean(model)
    assert [edit.layer for edit in cleaned.edits] == ["y"]
    assert declared(cleaned.model, "y") == []
    assert declared(ms.extract(model, ["z"], ["m"]).model, "m") == []
