"""Names of layers: from the module they were exported from, else from the node, else from its output."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelsurgeon.layers.onnx_names import NAME_SCOPES_KEY
from modelsurgeon.onnx.graph.names import (
    layer_names,
    module_path,
    nodes_with_functions,
    scope,
)
from tests import zoo


def named(**scopes: str) -> ir.Model:
    """Two MatMuls and a Relu; `scopes` gives the export metadata of a node by its output."""
    built = zoo.model("g (float[2, 2] x) => (float y) { a = MatMul (x, x) r = Relu (a) y = MatMul (r, r) }")
    for node in built.graph:
        if text := scopes.get(str(node.outputs[0].name)):
            node.metadata_props[NAME_SCOPES_KEY] = text
    return built


def names(built: ir.Model) -> list[str]:
    found = layer_names(built)
    return [found[node] for node in nodes_with_functions(built)]


def test_a_linear_layer_has_the_name_of_its_module() -> None:
    built = named(a="['', 'net', 'net.fc', 'linear']", y="['', 'head', 'matmul']")
    assert names(built) == ["net.fc", "r", "head"]


def test_two_layers_of_one_module_keep_their_own_names() -> None:
    scopes = "['', 'net', 'matmul']"
    assert names(named(a=scopes, y=scopes)) == ["a", "r", "y"]


def test_only_linear_layers_have_module_names() -> None:
    assert names(named(r="['', 'net', 'relu']")) == ["a", "r", "y"]


def test_a_node_has_its_own_name_where_that_is_unique() -> None:
    built = named()
    first, second, third = built.graph
    first.name, second.name, third.name = "same", "own", "same"
    assert names(built) == ["a", "own", "y"]


def test_layer_names_are_unique() -> None:
    built = named(a="['', 'r', 'linear']")
    first, *_ = built.graph
    assert first.outputs[0].name == "a"
    assert names(built) == ["r", "r#2", "y"]


def test_subgraphs_and_functions_are_named_too() -> None:
    assert names(zoo.branches()) == ["yes", "y", "a", "h", "b"]
    assert len(set(names(zoo.functions()))) == len(list(nodes_with_functions(zoo.functions()))) == 7


@pytest.mark.parametrize(
    "scopes",
    ["", "[", "'text'", "[]", "['']", "['', 3, 'op']", "['', '', 'op']", "__import__('os')", "(" * 999],
)
def test_export_metadata_without_a_module_is_ignored(scopes: str) -> None:
    built = named(a=scopes)
    assert module_path(next(iter(built.graph))) is None
    assert names(built) == ["a", "r", "y"]


@pytest.mark.parametrize(
    ("name", "output", "path"),
    [
        ("/encoder/layer.0/query/MatMul", "o", "encoder.layer.0.query"),
        ("model/conv1/Conv2D", "o", "model.conv1"),
        ("/Add_1", "o", None),
        ("conv1.x", "o", None),
        ("", "/head/fc/Gemm_output_0", "head.fc"),
    ],
)
def test_a_path_in_a_name_gives_the_module(name: str, output: str, path: str | None) -> None:
    node = ir.node("Relu", [], name=name or None, outputs=[ir.Value(name=output)])
    assert scope(node) == path
