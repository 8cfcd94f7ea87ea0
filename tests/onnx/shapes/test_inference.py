"""Inference once per kind of node equals inference of every node by onnx_shape_inference."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.io.files import load
from modelsurgeon.onnx.shapes import bound
from modelsurgeon.onnx.shapes.inference import _infer_all, _infer_each_kind
from tests import zoo

Inferred = list[tuple[list[str] | None, ir.DataType | None]]

ALIKE = """
g (float[N, 4, H, W] x, float[N, 4, H, W] z, int64[2] s, float[4, 4, K, K] w) => (float y, float v, int64 t)
{
    a = MaxPool <kernel_shape = [3, 3]> (x)
    b = MaxPool <kernel_shape = [3, 3]> (z)
    c = MaxPool <kernel_shape = [2, 2]> (z)
    d = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (c)
    y = Add (a, b)
    two = Constant <value = int64[2] {2, 2}> ()
    three = Constant <value = int64[2] {3, 3}> ()
    p = Add (two, two)
    q = Add (three, three)
    t = Add (s, q)
    r = NonZero (d)
    u = NonZero (y)
    k = Cast <to = 1> (r)
    l = Cast <to = 1> (u)
    m = Relu (k)
    n = Relu (l)
    e = Conv (x, w)
    f = Conv (x, w)
    v = ConstantOfShape (p)
}
"""


def inferred(model: ir.Model) -> Inferred:
    """Sizes and type of every computed value."""
    values = (value for node in nodes(model) for value in node.outputs)
    return [(None if one.shape is None else list(map(str, one.shape)), one.dtype) for one in values]


def again(model: ir.Model, infer: Callable[[ir.Model], object]) -> Inferred:
    """Sizes and types after a new inference."""
    for node in nodes(model):
        for value in node.outputs:
            value.shape = None
    assert infer(model) is not False
    return inferred(model)


@pytest.mark.parametrize(
    "make",
    [
        lambda: zoo.model(ALIKE),
        lambda: load(zoo.light("resnet50")),
        lambda: load(zoo.light("inception_v2")),
        zoo.classifier,
        zoo.padded,
        zoo.quantized,
    ],
)
def test_inference_per_kind_equals_that_per_node(make: Callable[[], ir.Model]) -> None:
    assert again(bound(make()), _infer_each_kind) == again(bound(make()), _infer_all)


def test_other_attributes_or_symbols_make_another_kind() -> None:
    model = bound(zoo.model(ALIKE))
    shapes = {value.name: value.shape for node in model.graph for value in node.outputs}
    assert shapes["a"] == shapes["b"] != shapes["c"]
    assert shapes["m"] != shapes["n"] and shapes["e"] != shapes["f"]


def test_subgraphs_and_invalid_nodes_need_full_inference() -> None:
    bad = bound(zoo.model("g (float[2, 3] x) => (float y) { y = MatMul (x, x) }"))
    for model in (bound(zoo.branches()), bound(zoo.loop()), bad):
        assert not _infer_each_kind(model)
