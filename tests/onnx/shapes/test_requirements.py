"""Sizes at which nodes can't run: the table of requirements against onnxruntime, node by node."""

from __future__ import annotations

from random import Random

import onnx_ir as ir
import pytest

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.check import check
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, default_dims
from modelsurgeon.onnx.shapes.impossible import impossible
from modelsurgeon.onnx.shapes.pinned import pinned
from tests import zoo
from tests.onnx.shapes.mutations import MICROSOFT, Node, reason, runs

NODES = [
    Node(op="Conv", shapes=((1, 4, 6, 6), (6, 2, 3, 3), (6,)), attributes={"group": 2}),
    Node(op="Conv", shapes=((2, 3, 5), (4, 3, 3)), attributes={"kernel_shape": [3], "pads": [1, 1]}),
    Node(op="ConvTranspose", shapes=((1, 4, 4, 4), (4, 3, 2, 2), (6,)), attributes={"group": 2}),
    Node(op="MaxPool", shapes=((1, 2, 5, 6),), attributes={"kernel_shape": [2, 3], "strides": [1, 2]}),
    Node(op="AveragePool", shapes=((1, 2, 5),), attributes={"kernel_shape": [3]}),
    Node(op="MatMul", shapes=((2, 3, 4), (4, 5))),
    Node(op="MatMul", shapes=((4,), (2, 4, 3))),
    Node(op="Gemm", shapes=((2, 3), (4, 3), (4,)), attributes={"transB": 1}),
    Node(op="Add", shapes=((2, 3, 4), (3, 1))),
    Node(op="PRelu", shapes=((2, 3, 4), (3, 1))),
    Node(op="BatchNormalization", shapes=((2, 3, 4), (3,), (3,), (3,), (3,))),
    Node(op="InstanceNormalization", shapes=((2, 3, 4), (3,), (3,))),
    Node(op="LayerNormalization", shapes=((2, 3, 4), (4,), (4,))),
    Node(
        op="GroupNormalization",
        shapes=((1, 4, 3, 3), (4,), (4,)),
        attributes={"num_groups": 2},
        opset=21,
    ),
    Node(op="LSTM", shapes=((2, 1, 3), (1, 8, 3), (1, 8, 2), (1, 16)), attributes={"hidden_size": 2}),
    Node(op="GRU", shapes=((2, 1, 3), (1, 6, 3), (1, 6, 2)), attributes={"hidden_size": 2}),
    Node(op="Reshape", shapes=((2, 3, 4), (2,)), values={1: [6, 4]}),
    Node(op="Flatten", shapes=((2, 3, 4),), attributes={"axis": 2}),
    Node(op="Concat", shapes=((2, 3), (2, 4)), attributes={"axis": 1}),
    Node(op="Split", shapes=((2, 5), (2,)), values={1: [2, 3]}, attributes={"axis": 1}, outputs=2),
    Node(op="Gather", shapes=((3, 4), (2,)), values={1: [-3, 2]}, attributes={"axis": 0}),
    Node(op="Slice", shapes=((3, 4), (1,), (1,), (1,)), values={1: [0], 2: [2], 3: [1]}),
    Node(op="Squeeze", shapes=((2, 1, 3), (1,)), values={1: [1]}),
    Node(op="Unsqueeze", shapes=((2, 3), (1,)), values={1: [2]}),
    Node(op="Expand", shapes=((3, 1), (3,)), values={1: [2, 3, 4]}),
    Node(op="Tile", shapes=((2, 3), (2,)), values={1: [1, 2]}),
    Node(op="Transpose", shapes=((2, 3, 4),), attributes={"perm": [2, 0, 1]}),
    Node(op="Pad", shapes=((3, 4), (4,)), values={1: [1, 0, -1, 2]}),
    Node(op="DepthToSpace", shapes=((1, 8, 2, 3),), attributes={"blocksize": 2}),
    Node(op="SpaceToDepth", shapes=((1, 2, 4, 6),), attributes={"blocksize": 2}),
    Node(op="Softmax", shapes=((2, 3),), attributes={"axis": 1}),
    Node(op="ReduceSum", shapes=((2, 3), (1,)), values={1: [1]}),
    Node(op="TopK", shapes=((2, 4), (1,)), values={1: [3]}, attributes={"axis": 1}, outputs=2),
    Node(op="GridSample", shapes=((1, 2, 4, 4), (1, 3, 3, 2))),
    Node(
        op="Attention",
        shapes=((1, 3, 4), (1, 2, 4), (1, 2, 4), (3, 2)),
        attributes={"q_num_heads": 2, "kv_num_heads": 2},
        opset=23,
    ),
    Node(op="FusedMatMul", shapes=((3, 2), (3, 4)), attributes={"transA": 1}, domain=MICROSOFT),
    Node(op="SkipLayerNormalization", shapes=((2, 3, 4), (2, 3, 4), (4,), (4,)), domain=MICROSOFT),
    Node(op="Attention", shapes=((1, 3, 4), (4, 12), (12,)), attributes={"num_heads": 2}, domain=MICROSOFT),
    Node(
        op="MultiHeadAttention",
        shapes=((1, 3, 4), (1, 2, 4), (1, 2, 4), (12,)),
        attributes={"num_heads": 2},
        domain=MICROSOFT,
    ),
    Node(op="BiasGelu", shapes=((2, 3, 4), (4,)), domain=MICROSOFT),
]


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.op)
def test_nodes_are_named_where_onnxruntime_refuses_them(node: Node) -> None:
    assert runs(node)
    assert reason(node) is None
    refused = missed = 0
    for mutation in node.mutations(Random(0)):  # noqa: S311 - no secret
        found = reason(mutation)
        if runs(mutation):
            assert found is None, (mutation, found)
        else:
            refused, missed = refused + 1, missed + (found is None)
    assert refused
    assert 8 * missed <= refused  # the rest are quirks of kernels


def conv(channels: int = 3) -> ir.Model:
    text = "g (float[?, ?, ?, ?] x) => (float y) { a = Conv (x, w) r = Relu (a) y = Conv (r, v) }"
    return zoo.model(text, w=zoo.ones(4, channels, 3, 3), v=zoo.ones(4, 4, 3, 3))


def test_impossible_nodes_are_named_and_not_counted() -> None:
    built = zoo.model(
        "g (float[1, 5, 8, 8] x) => (float y) { a = Conv (x, w) y = Conv (a, v) }",
        w=zoo.ones(4, 3, 3, 3),
        v=zoo.ones(4, 4, 3, 3),
    )
    found = analyze(built)
    assert found.totals.macs == 0
    assert "its input has 5 channels, its weight takes 3" in found.uncounted[0].reason
    errors = [finding for finding in check(built).findings if finding.severity == "error"]
    assert [(finding.rule, finding.layer) for finding in errors] == [("cannot-run", "a")]


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 32, 32, 3), r"'a' \(Conv\) can't run.*32 channels.*channels last\? \[1, 3, 32, 32\] fits"),
        ((1, 4, 32, 32), r"its input has 4 channels, its weight takes 3; input 'x' takes \[x_0, 3,"),
        ((1, 3, 4, 4), r"'y' \(Conv\) can't run.*2 positions along a side, its window takes 3"),
    ],
)
def test_given_sizes_that_can_not_run_are_refused(shape: tuple[int, ...], message: str) -> None:
    for spend in (False, True):
        with pytest.raises(UnknownShape, match=message):
            bound(conv(), {"x": shape}, spend=spend)
    assert not impossible(bound(conv(), {"x": (1, 3, 32, 32)}))


def test_fixed_sizes_in_another_order_get_a_hint() -> None:
    with pytest.raises(UnknownShape, match=r"channels last\? \[1, 3, 32, 40\] fits"):
        bound(zoo.classifier(), {"x": (1, 32, 40, 3)})


def test_several_inputs_in_another_order_get_a_hint() -> None:
    text = """
        g (float[N, C, H, W] x, float[N, D, H, W] z) => (float y) {
            a = Conv (x, w) b = Conv (z, w) y = Add (a, b)
        }
    """
    with pytest.raises(UnknownShape, match=r"last\? \[1, 3, 32, 40\] and \[1, 3, 32, 40\] fit"):
        bound(zoo.model(text, w=zoo.ones(4, 3, 3, 3)), dict.fromkeys("xz", (1, 32, 40, 3)))


def test_a_model_that_never_runs_is_not_blamed_on_given_sizes() -> None:
    built = zoo.model("g (float[N, 5] x) => (float y) { y = MatMul (x, w) }", w=zoo.ones(4, 3))
    assert len(impossible(bound(built, dims={"N": 2}))) == 1


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        ("float[N, D] x) => (float y) { y = MatMul (x, w)", {"w": (64, 8)}, {"D": 64}),
        ("float[N, C, H, W] x) => (float y) { y = Conv <group = 2> (x, w)", {"w": (4, 3, 1, 1)}, {"C": 6}),
        ("float[N, S, 8] x) => (float y) { y = Add (x, w)", {"w": (1, 77, 8)}, {"S": 77}),
        ("float[T, B, I] x) => (float y) { y = RNN <hidden_size = 4> (x, w, r)",
         {"w": (1, 4, 6), "r": (1, 4, 4)}, {"I": 6}),
        ("float[N, 2, S, S] x) => (float y) { f = Flatten (x) y = MatMul (f, w)", {"w": (98, 3)}, {"S": 7}),
        ("float[A, B] x, float[B, C] z) => (float y) { a = MatMul (x, z) y = MatMul (a, w) "
         "b = MatMul (x, v)", {"w": (5, 3), "v": (6, 2)}, {"C": 5, "B": 6}),
    ],
)  # fmt: skip
def test_open_sizes_that_weights_pin_are_deduced(
    text: str, weights: dict[str, tuple[int, ...]], expected: dict[str, int]
) -> None:
    built = zoo.model(f"g ({text} }}", **{name: zoo.ones(*shape) for name, shape in weights.items()})
    found = bound(built)
    assert {size.symbol: size.size for size in pinned(found)} == expected
    assert not set(default_dims(found)) & set(expected)
    notes = analyze(built).notes
    assert all(any(f"{name} is {size}: at" in note for note in notes) for name, size in expected.items())


def test_a_size_that_may_broadcast_may_be_given() -> None:
    built = zoo.model("g (float[N, S, 8] x) => (float y) { y = Add (x, w) }", w=zoo.ones(1, 77, 8))
    assert not impossible(bound(built, dims={"S": 1}))
    with pytest.raises(UnknownShape, match="sizes 5 and 77 on one axis; S has to be 77"):
        bound(built, dims={"S": 5})


@pytest.mark.parametrize(
    ("text", "weights", "expected"),
    [
        ("float[N, 1, H, W] x) => (float y) { f = Flatten (x) y = MatMul (f, w)", {"w": (784, 3)}, (28, 28)),
        ("float[N, 1, H, W] x) => (float y) { f = Flatten (x) y = MatMul (f, w)", {"w": (35, 3)}, (7, 5)),
    ],
)
def test_default_sizes_fit_flattened_maps(
    text: str, weights: dict[str, tuple[int, ...]], expected: tuple[int, int]
) -> None:
    built = zoo.model(f"g ({text} }}", **{name: zoo.ones(*shape) for name, shape in weights.items()})
    found = analyze(built)
    assert (found.defaults["H"], found.defaults["W"]) == expected
    assert not found.uncounted


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ({"H": 30}, r"with H = 30: its input has 30\*W features, its weight takes 784, at no size of W"),
        ({"H": 14, "W": 14}, "with H = 14, W = 14: its input has 196 features, its weight takes 784"),
    ],
)
def test_a_size_that_leaves_none_for_another_axis_is_refused(dims: dict[str, int], message: str) -> None:
    text = "g (float[N, 1, H, W] x) => (float y) { f = Flatten (x) y = MatMul (f, w) }"
    built = zoo.model(text, w=zoo.ones(784, 3))
    assert default_dims(bound(built, dims={"H": 14})) == {"N": 1}
    with pytest.raises(UnknownShape, match=message):
        bound(built, dims=dims)


def test_sizes_that_nothing_fits_are_an_error_and_no_default() -> None:
    text = "g (float[N, A] x) => (float y) { a = Concat <axis = 1> (x, x) y = MatMul (a, w) }"
    built = zoo.model(text, w=zoo.ones(11, 3))
    found = analyze(built)
    assert "takes 11, at no size of A" in found.uncounted[0].reason
    assert not any("fit" in note for note in found.notes)
    assert [finding.rule for finding in check(built).findings] == ["cannot-run"]


def test_an_axis_that_may_be_empty_is_not_refused() -> None:
    text = "g (float[N, A] x, float[N, B] z) => (float y) { a = Concat <axis = 1> (x, z) y = MatMul (a, w) }"
    built = zoo.model(text, w=zoo.ones(10, 3))
    assert not impossible(bound(built, dims={"A": 10}))
    with pytest.raises(UnknownShape, match=r"with A = 11.* at no size of B"):
        bound(built, dims={"A": 11})


def test_default_sizes_follow_a_size_that_they_have_to_equal() -> None:
    built = zoo.model(
        """
        g (float[B, S, D] q, float[B, T, E] k, float[B, T, F] v) => (float y) {
            y = com.microsoft.MultiHeadAttention <num_heads = 4> (q, k, v, b)
        }
        """,
        b=zoo.ones(192),
    )
    found = analyze(built)
    assert not found.uncounted
    assert (found.defaults["D"], found.defaults["E"], found.defaults["F"]) == (64, 64, 64)


def test_default_lengths_fit_a_strided_signal() -> None:
    nodes = "a = Conv <strides = [10]> (x, k) f = Flatten (a) y = MatMul (f, w)"
    text = f"g (float[N, 1, T] x) => (float y) {{ {nodes} }}"
    assert default_dims(bound(zoo.model(text, k=zoo.ones(4, 1, 20), w=zoo.ones(396, 3)))) == {
        "N": 1,
        "T": 1000,
    }


def test_branches_that_can_not_run_are_not_chosen() -> None:
    built = zoo.model(
        """
        g (float[2, 4] x, bool c) => (float y) {
            y = If (c) <
                then_branch = a () => (float p) { p = MatMul (x, v) },
                else_branch = b () => (float q) { q = MatMul (x, w) }
            >
        }
        """,
        v=zoo.ones(7, 300),
        w=zoo.ones(4, 3),
    )
    found = analyze(built)
    assert found.totals.macs == 24
    assert not impossible(bound(built))
