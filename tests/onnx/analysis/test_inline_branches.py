"""A model with its taken branches inlined has the same outputs; the original is unchanged."""

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.data import batches
from modelsurgeon.errors import BadData
from modelsurgeon.onnx import run
from modelsurgeon.onnx.analysis.inline_branches import branch_path
from modelsurgeon.onnx.analysis.statistics.activation_statistics import collect_activation_statistics
from tests import zoo

X = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32)


def nested() -> ir.Model:
    """An If in an If, the same names in both branches, a captured value and one that is passed through."""
    return zoo.model(
        """
        g (float[2, 4] x, float[1] s) => (float[2, 4] y, float[2, 4] z) {
            zero = Constant <value = float[1] {0.0}> ()
            up = Greater (s, zero)
            c = Squeeze (up)
            y, z = If (c) <
                then_branch = a () => (float[2, 4] y1, float[2, 4] x1) {
                    t = Relu (x)
                    big = ReduceMax <keepdims = 0> (t)
                    one = Constant <value = float {1.0}> ()
                    d = Greater (big, one)
                    y1 = If (d) <
                        then_branch = b () => (float[2, 4] u) { t2 = Relu (t) u = Add (t2, one) },
                        else_branch = e () => (float[2, 4] v) { v = Neg (t) }
                    >
                    x1 = Identity (x)
                },
                else_branch = f () => (float[2, 4] y2, float[2, 4] x2) {
                    t = Sigmoid (x)
                    y2 = Neg (t)
                    x2 = Identity (x)
                }
            >
        }
        """
    )


@pytest.mark.parametrize(
    ("feed", "taken"),
    [
        ({"x": X, "s": np.ones(1, np.float32)}, ["then_branch", "then_branch"]),
        ({"x": 0.01 * X, "s": np.ones(1, np.float32)}, ["then_branch", "else_branch"]),
        ({"x": X, "s": -np.ones(1, np.float32)}, ["else_branch"]),
    ],
)
def test_inlined_branches_give_the_same_outputs(feed: dict[str, np.ndarray], taken: list[str]) -> None:
    model = nested()
    taken_path = branch_path(model, feed)
    assert list(taken_path.taken.values()) == taken
    assert not [node for node in taken_path.model.graph.all_nodes() if node.op_type == "If"]
    assert [node.op_type for node in model.graph][-1] == "If"
    found, true = run.runner(taken_path.model)(feed), run.runner(model)(feed)
    assert list(found) == list(true) == ["y", "z"]
    for name, array in true.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("condition", [True, False])
def test_a_condition_may_be_an_input(condition: bool) -> None:
    feed = {"x": X, "c": np.array(condition)}
    taken_path = branch_path(zoo.branches(), feed)
    (product, *rest) = [node for node in taken_path.model.graph if node.op_type == "MatMul"]
    assert (product.name, len(rest)) == (("a", 0) if condition else ("h", 1))


def test_a_constant_condition_needs_no_run() -> None:
    taken_path = branch_path(zoo.branches("yes"), {"x": X})
    assert (list(taken_path.taken.values()), taken_path.conditions) == (["then_branch"], {})


def test_weights_of_a_branch_are_inlined() -> None:
    model = zoo.branches()
    (choice,) = (node for node in model.graph if node.op_type == "If")
    body = choice.attributes["then_branch"].as_graph()
    weight = ir.Value(name="w1", const_value=ir.Tensor(np.full((4, 3), 2, np.float32), name="w1"))
    weight.shape, weight.type = ir.Shape((4, 3)), ir.TensorType(ir.DataType.FLOAT)
    (product,) = body
    product.replace_input_with(1, weight)
    body.register_initializer(weight)
    taken_path = branch_path(model, {"x": X, "c": np.array(True)})
    (found,) = run.runner(taken_path.model)({"x": X, "c": np.array(True)}).values()
    np.testing.assert_allclose(found, X @ np.full((4, 3), 2), rtol=1e-5)


def test_activations_of_a_branch_have_layer_names() -> None:
    model = nested()
    feeds = [{"x": X, "s": np.ones(1, np.float32)}] * 3
    found = collect_activation_statistics(model, batches(feeds, run.inputs(model)))
    assert [place.place.layer for place in found.places] == ["t", "big", "t2", "u"]
    assert found.notes[0].startswith("branches that the data take: y: then_branch")


def test_samples_of_different_branches_raise() -> None:
    model = nested()
    feeds = [{"x": X, "s": sign * np.ones(1, np.float32)} for sign in (1, -1)]
    with pytest.raises(BadData, match="take different branches, by c: give those of one kind"):
        collect_activation_statistics(model, batches(feeds, run.inputs(model)))
