"""Functions of any opset are inlined to be measured; to be run, those that mean the same in the model."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, inlined, sizes
from tests import zoo


def called(body: str, *, model: int, function: int, inputs: str = "float[2, 3, 4] x") -> ir.Model:
    """A model that calls a function of another opset between two products."""
    names = ", ".join(part.split()[-1] for part in inputs.split("; "))
    return zoo.model(
        f"""
        g ({inputs.replace(";", ",")}) => (float y) {{
            n = Relu (x)
            y = local.f ({names.replace("x", "n", 1)})
        }}
        <domain: "local", opset_import: ["" : {function}]> f ({names}) => (b) {{ {body} }}
        """,
        opset=model,
    )


# What an operator of this opset means in a model of others.
BODIES = [
    ("b = Squeeze <axes = [0]> (x)", 11, "float[1, 3, 4] x"),
    ("b = Unsqueeze <axes = [0, 2]> (x)", 11, "float[2, 3, 4] x"),
    ("b = ReduceSum <axes = [1]> (x)", 11, "float[2, 3, 4] x"),
    ("b = ReduceMean <axes = [1], keepdims = 0> (x)", 13, "float[2, 3, 4] x"),
    ("b = ReduceMax <axes = [-1]> (x)", 12, "float[2, 3, 4] x"),
    ("b = Slice <axes = [1], starts = [1], ends = [3]> (x)", 9, "float[2, 3, 4] x"),
    ("b = Pad <pads = [0, 1, 0, 0, 0, 2]> (x)", 10, "float[2, 3, 4] x"),
    ("b = Clip <min = 0.0, max = 6.0> (x)", 10, "float[2, 3, 4] x"),
    ("b, c = Split <axis = 2, split = [1, 3]> (x)", 12, "float[2, 3, 4] x"),
    ("b = Softmax (x)", 12, "float[2, 3, 4] x"),
    ("b, m = Dropout (x)", 9, "float[2, 3, 4] x"),
    ("b = Flatten <axis = 1> (x)", 8, "float[2, 3, 4] x"),
    ("s = Constant <value = int64[1] {1}> () b = Squeeze (x, s)", 13, "float[2, 1, 4] x"),
    ("s = Constant <value = int64[1] {1}> () b = Unsqueeze (x, s)", 13, "float[2, 3, 4] x"),
    ("s = Constant <value = int64[1] {2}> () b = ReduceMean (x, s)", 18, "float[2, 3, 4] x"),
    ("b, c = Split <axis = 0, num_outputs = 2> (x)", 18, "float[2, 3, 4] x"),
    ("k = Constant <value = int64[1] {2}> () b, i = TopK (x, k)", 11, "float[2, 3, 4] x"),
    ("b = HardSwish (x)", 14, "float[2, 3, 4] x"),
    ("b = Mish (x)", 18, "float[2, 3, 4] x"),
    ("b = LayerNormalization (x, x)", 17, "float[4] x"),
]


@pytest.mark.parametrize(("body", "function", "inputs"), BODIES)
@pytest.mark.parametrize("model", [11, 13, 18, 21])
def test_a_function_has_the_shapes_of_its_own_opset(
    body: str, function: int, inputs: str, model: int
) -> None:
    built = called(body, model=model, function=function, inputs=inputs)
    found = bound(built)
    (x,) = built.graph.inputs
    feed = {"x": np.ones(tuple(x.shape.numpy() if x.shape else ()), np.float32)}
    (right,) = ReferenceEvaluator(ir.to_proto(built)).run(None, feed)
    assert not found.functions
    assert [sizes(value) for value in found.graph.outputs] == [right.shape]
    assert not analyze(built).uncounted


@pytest.mark.parametrize("model", [11, 21])
def test_sizes_computed_in_a_function_follow_its_opset(model: int) -> None:
    body = """
        s = Shape (x)
        one = Constant <value = int64[1] {1}> ()
        two = Constant <value = int64[1] {3}> ()
        tail = Slice (s, one, two)
        scalar = Constant <value = int64[1] {-1}> ()
        target = Concat <axis = 0> (tail, scalar)
        b = Reshape (x, target)
    """
    found = bound(called(body, model=model, function=13, inputs="float[N, 3, 4] x"))
    (value,) = found.graph.outputs
    assert list(map(str, value.shape or ())) == ["3", "4", "N"]


NESTED = """
g (float[1, 4, 16] x) => (float y) {
    h = local.outer (x)
    y = local.product (h)
}
<domain: "local", opset_import: ["" : 17]>
product (a) => (c) { n = Constant <value = int64[2] {16, 8}> () w = ConstantOfShape (n) c = MatMul (a, w) }
<domain: "local", opset_import: ["" : 17]>
same (a) => (c) { z = Constant <value = int64[1] {0}> () u = Unsqueeze (a, z) c = Squeeze (u, z) }
<domain: "local", opset_import: ["" : 11, "local" : 1]>
outer (a) => (c) { b = Squeeze <axes = [0]> (a) c = local.same (b) }
"""


def test_nested_functions_of_several_opsets_are_all_counted() -> None:
    found = analyze(zoo.model(NESTED))
    assert found.totals.macs == 4 * 16 * 8
    assert not found.uncounted


def test_what_is_inlined_to_run_gives_the_same_outputs() -> None:
    model = zoo.model(NESTED)
    clone = inlined(model)
    assert sorted(name for _, name, _ in clone.functions) == ["outer", "same"]
    assert [node.op_type for node in clone.graph] == ["outer", "Constant", "ConstantOfShape", "MatMul"]
    feed = {"x": np.ones((1, 4, 16), np.float32)}
    results = [ReferenceEvaluator(ir.to_proto(one)).run(None, feed)[0] for one in (model, clone)]
    np.testing.assert_array_equal(*results)
    assert all(node.version is None for node in clone.graph.all_nodes())


def test_functions_may_import_different_versions_of_a_domain_that_the_model_does_not_import() -> None:
    model = zoo.model(
        """
        g (float[2, 3] x) => (float y, float z) { y = local.f (x) z = local.h (x) }
        <domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 1]>
        f (a) => (b) { b = ai.onnx.ml.Binarizer (a) }
        <domain: "local", opset_import: ["" : 17, "ai.onnx.ml" : 3]>
        h (a) => (b) { b = ai.onnx.ml.Normalizer (a) }
        """
    )
    assert [node.op_type for node in bound(model).graph] == ["Binarizer", "Normalizer"]
    assert not inlined(model).functions or inlined(model).functions.keys() == model.functions.keys()
