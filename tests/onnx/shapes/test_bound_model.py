"""Shapes: open dimensions get names, bindings are checked, uncertain sizes are unknown."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.onnx.graph.traversal import nodes
from modelsurgeon.onnx.shapes import bound, data_inputs, default_dims, expressions, sizes, symbols
from modelsurgeon.onnx.shapes.inference import unknown
from tests import zoo


def relu(*dims: int | str | None, name: str = "x") -> ir.Model:
    """One Relu on an input with these dimensions."""
    built = zoo.model("g (float[1] x) => (float y) { y = Relu (x) }")
    built.graph.inputs[0].shape = ir.Shape(dims)
    built.graph.inputs[0].name = name
    return built


def shape(model: ir.Model, name: str) -> ir.Shape | None:
    values = [*model.graph.inputs, *(value for node in model.graph.all_nodes() for value in node.outputs)]
    return next(value.shape for value in values if value.name == name)


@pytest.mark.parametrize(
    ("dims", "named"),
    [
        (("N", 3), ["N", 3]),
        ((None, -1, "?", ""), ["x_0", "x_1", "x_2", "x_3"]),
        (("p2o.Dynamic.0", "unk__1"), ["p2o_Dynamic_0", "unk__1"]),
        (("a.b", "a_b", "a.b"), ["a_b_2", "a_b", "a_b_2"]),
        (("\u957f", "\u957f"), ["size", "size"]),
        (("batch size", "batch size"), ["batch_size", "batch_size"]),
        (("-1", "7"), ["x_0", "x_1"]),
        (("1x", "a:0"), ["_1x", "a_0"]),
        (("new + past", "2*N"), ["new + past", "2*N"]),
        (("a**b", "N*", "floor(N)", "f(N)"), ["a_b", "N_2", "N", "f_N"]),
        ((0, 5), [0, 5]),
    ],
)
def test_open_dimensions_have_well_formed_names(dims: tuple[str, ...], named: list[int | str]) -> None:
    found = shape(bound(relu(*dims)), "y")
    assert found is not None
    assert list(map(str, found)) == list(map(str, named))


def test_a_renamed_dimension_has_both_names() -> None:
    for name in ("p2o.Dynamic.0", "p2o_Dynamic_0"):
        assert sizes(bound(relu("p2o.Dynamic.0", 3), dims={name: 5}).graph.outputs[0]) == (5, 3)


def test_names_of_open_dimensions_are_unique() -> None:
    assert symbols(bound(relu("x_1", None, name="x"))) == ["x_1", "x_1_2"]
    assert symbols(bound(relu(None, name="in:0"))) == ["in_0_0"]


def test_the_model_is_unchanged() -> None:
    built = zoo.classifier()
    before = ir.to_proto(built).SerializeToString()
    bound(built, {"x": (2, 3, 32, 32)})
    assert ir.to_proto(built).SerializeToString() == before


def test_tensors_are_shared_with_the_model() -> None:
    built = zoo.classifier()
    assert bound(built).graph.initializers["w1"].const_value is built.graph.initializers["w1"].const_value


def test_shapes_and_symbols_bind() -> None:
    by_shape = bound(zoo.classifier(), {"x": (2, 3, 30, 40)})
    by_name = bound(zoo.classifier(), dims={"N": 2, "H": 30, "W": 40})
    for model in (by_shape, by_name):
        assert sizes(model.graph.outputs[0]) == (2, 10)
        assert shape(model, "a") == ir.Shape([2, 8, 15, 20])
        assert default_dims(model) == {}


def test_a_symbol_bound_by_one_input_is_bound_in_the_others() -> None:
    built = zoo.model("g (float[N, 2] x, float[K, N] z) => (float y) { y = MatMul (z, x) }")
    assert sizes(bound(built, {"x": (5, 2)}).graph.inputs[1], {"K": 3}) == (3, 5)


@pytest.mark.parametrize(
    ("shapes", "dims", "problem"),
    [
        ({"nosuch": (1,)}, {}, "no input 'nosuch'; its inputs are: x"),
        ({"x": (1, 3, 8)}, {}, "[1, 3, 8] doesn't fit it"),
        ({"x": (1, 4, 8, 8)}, {}, "fixed in the model; [1, 4, 8, 8] was asked for"),
        ({"x": (1, 3, 8, -8)}, {}, "[1, 3, 8, -8] doesn't fit it"),
        ({}, {"N": -3}, "N is bound to -3: no size is negative"),
        ({}, {"M": 3}, "no input has a dimension 'M'; open dimensions are: N, H, W"),
        ({"x": (1, 3, 8, 8)}, {"N": 2}, "N is bound to 2, but input 'x' has 1 there"),
    ],
)
def test_bindings_that_do_not_fit_are_refused(
    shapes: dict[str, tuple[int, ...]], dims: dict[str, int], problem: str
) -> None:
    with pytest.raises(UnknownShape, match=re.escape(problem)):
        bound(zoo.classifier(), shapes, dims)


def test_a_symbol_cannot_have_two_sizes() -> None:
    built = zoo.model("g (float[N] x, float[N] z) => (float y) { y = Add (x, z) }")
    with pytest.raises(UnknownShape, match="N is bound to 3, but input 'z' has 4 there"):
        bound(built, {"x": (3,), "z": (4,)})


def test_a_sum_of_symbols_is_the_sum_of_their_sizes() -> None:
    built = zoo.model(
        "g (float[past] x, float[new] z, float[1] w) => (float y) { y = Concat <axis = 0> (x, z) }"
    )
    built.graph.inputs[2].shape = ir.Shape(["past + new"])
    assert sizes(bound(built, dims={"past": 3, "new": 4}).graph.inputs[2]) == (7,)
    with pytest.raises(UnknownShape, match=r"past \+ new is 7, but input 'w' has 8 there"):
        bound(built, {"x": (3,), "z": (4,), "w": (8,)})


def test_two_symbols_on_one_axis_broadcast_to_the_larger() -> None:
    built = zoo.model("g (float[N, 2] x, float[M, 1] z) => (float y) { y = Add (x, z) }")
    for n, m in ((1, 5), (5, 1), (5, 5)):
        assert sizes(bound(built).graph.outputs[0], {"N": n, "M": m}) == (5, 2)


@given(size=st.integers(3, 30), kernel=st.integers(1, 4), stride=st.integers(1, 5), ceil=st.integers(0, 1))
def test_pools_of_open_axes(size: int, kernel: int, stride: int, ceil: int) -> None:
    pad = kernel // 2
    window = f"kernel_shape = [{kernel}], strides = [{stride}], pads = [{pad}, {pad}]"
    node = f"MaxPool <{window}, ceil_mode = {ceil}>"
    built = zoo.model(f"g (float[1, 1, W] x) => (float y) {{ y = {node} (x) }}", opset=22)
    fixed = sizes(bound(built, dims={"W": size}).graph.outputs[0])
    assert sizes(bound(built).graph.outputs[0], {"W": size}) == fixed


def test_a_graph_out_of_order_is_refused() -> None:
    built = zoo.model("g (float[2] x) => (float y) { a = Relu (x) y = Relu (a) }")
    first, second = built.graph
    built.graph.remove(second)
    built.graph.insert_before(first, second)
    with pytest.raises(BadModel, match="no node before them makes"):
        bound(built)


def test_stale_shapes_are_discarded() -> None:
    built = zoo.model("g (float[2, 3] x) => (float[9, 9] y) { h = Relu (x) y = Relu (h) }")
    assert sizes(bound(built).graph.outputs[0]) == (2, 3)


def test_initializers_listed_as_inputs_are_not_data() -> None:
    built = zoo.model("g (float[1, 2] x, float[2, 3] w) => (float y) { y = MatMul (x, w) }", w=zoo.ones(2, 3))
    assert [value.name for value in data_inputs(built)] == ["x"]
    assert sizes(bound(built).graph.outputs[0]) == (1, 3)


@pytest.mark.parametrize(
    ("dims", "defaults"),
    [
        (("N", 3, "H", "W"), {"N": 1, "H": 224, "W": 224}),
        (("N", "H", "W", 3), {"N": 1, "H": 224, "W": 224}),
        (("N", "C", "H", "W"), {"N": 1, "C": 128, "H": 224, "W": 224}),
        (("N", "T", 64), {"N": 1, "T": 128}),
        (("a + b", 2), {"a": 1, "b": 1}),
        ((4, 5), {}),
    ],
)
def test_defaults(dims: tuple[int | str, ...], defaults: dict[str, int]) -> None:
    assert default_dims(bound(relu(*dims))) == defaults


def test_partly_unknown_sizes_are_none() -> None:
    model = bound(zoo.classifier())
    [a, *_] = model.graph
    assert sizes(a.outputs[0]) is None
    assert sizes(a.outputs[0], {"N": 1, "H": 7}) is None
    assert sizes(a.outputs[0], {"N": 1, "H": 7, "W": 8}) == (1, 8, 4, 4)
    assert sizes(None) is None


def test_expressions_only_use_given_symbols() -> None:
    model = bound(zoo.classifier())
    last = model.graph.outputs[0]
    assert expressions(model, {"N"})(last) is not None
    assert expressions(model, ())(last) is None


def test_every_call_of_a_function_has_its_own_shapes() -> None:
    model = bound(zoo.functions())
    assert [sizes(value) for value in model.graph.outputs] == [(2, 4), (6, 4)]
    assert not model.functions


def test_a_node_that_cannot_run_does_not_end_inference() -> None:
    built = zoo.model("g (float[2, 3] x) => (float y, float z) { y = MatMul (x, x) z = Relu (x) }")
    found = bound(built)
    bad, good = found.graph
    assert "3" in unknown(found)[bad]
    assert sizes(bad.outputs[0]) is None
    assert sizes(good.outputs[0]) == (2, 3)
    assert [node.domain for node in (bad, good)] == ["", ""]


def test_paddings_computed_by_nodes_are_inferred() -> None:
    assert str(shape(bound(zoo.padded()), "y")) == "[N,10]"


def test_the_branch_of_a_constant_condition_gives_the_shape() -> None:
    built = zoo.model(
        """
        g (float[2, 3] x) => (float y) {
            s = Shape (x)
            two = Constant <value = int64[2] {2, 3}> ()
            e = Equal (s, two)
            i = Cast <to = 7> (e)
            one = ReduceMin <keepdims = 0> (i)
            c = Cast <to = 9> (one)
            y = If (c) <
                then_branch = t () => (float a) { a = Flatten (x) },
                else_branch = f () => (float b) { b = ReduceSum (x) }
            >
        }
        """
    )
    assert sizes(bound(built).graph.outputs[0]) == (2, 3)


def test_a_tensor_that_grows_in_a_loop_has_no_size() -> None:
    grows = "u = Concat <axis = 0> (s, s) z = Relu (u)"
    model = bound(zoo.loop(body=grows))
    assert sizes(model.graph.outputs[0]) is None
    assert sizes(data_inputs(model)[0]) == (2, 4)
    assert sizes(bound(zoo.loop()).graph.outputs[0]) == (2, 4)


def test_a_rank_that_changes_in_a_loop_is_reported() -> None:
    model = bound(zoo.loop(body="t = Constant <value = int64[1] {0}> () z = Unsqueeze (s, t)"))
    [node] = [node for node in model.graph if node.op_type == "Loop"]
    assert "'s' changes from one iteration" in unknown(model)[node]


@pytest.mark.parametrize(
    "text",
    [
        "g (float[6] x, int64[2] n) => (float y, float z) { y, z = Split (x, n) }",
        "g (float[1, 6, 1] x, int64[1] n) => (float y) { y = Squeeze (x, n) }",
        "g (float[6] x, int64[1] n) => (float y) { y = Reshape (x, n) }",
    ],
)
def test_data_dependent_sizes_are_unknown(text: str) -> None:
    assert all(sizes(value) is None for value in bound(zoo.model(text)).graph.outputs)


@given(
    size=st.integers(1, 9),
    start=st.integers(-9, 9),
    end=st.sampled_from([-3, -1, 1, 4, 20, 10**9, 2**31 - 1, 2**63 - 1]),
    opset=st.sampled_from([9, 17]),
)
def test_slices_of_open_axes(size: int, start: int, end: int, opset: int) -> None:
    """A known size is correct, whether the axis is open or bound."""
    node = f"Slice <starts = [{start}], ends = [{end}]> (x)" if opset < 10 else "Slice (x, s, e)"
    text = f"g (float[N] x) => (float y) {{ y = {node} }}"
    ends = {} if opset < 10 else {"s": np.array([start]), "e": np.array([end])}
    built = zoo.model(text, opset=opset, **ends)
    [truth] = ReferenceEvaluator(ir.to_proto(built)).run(None, {"x": np.zeros(size, np.float32)})
    assert sizes(bound(built, dims={"N": size}).graph.outputs[0]) == truth.shape
    if 0 <= start <= size and (end >= 0 or size + end >= start):
        assert sizes(bound(built).graph.outputs[0], {"N": size}) in (truth.shape, None)


@pytest.mark.parametrize(
    ("text", "opset", "expected"),
    [
        ("g (float[2, 3] x, float[3] z) => (float y) { y = Add <broadcast = 1> (x, z) }", 6, (2, 3)),
        ("g (float[2, 3] x, float[2, 3] z) => (float y) { y = Greater (x, z) }", 6, (2, 3)),
        ("g (float[2, 3] x) => (float y) { y = Reshape <shape = [0, -1, 1]> (x) }", 4, (2, 3, 1)),
        ("g (float[2, 3] x) => (float y) { y = Concat (x, x) }", 3, (2, 6)),
        ("g (float[2, 9] x) => (float y, int64 i) { y, i = TopK <k = 4> (x) }", 9, (2, 4)),
        (
            "g (float[2, 9] x) => (float y) { y = Slice <axes = [1], starts = [1], ends = [-2]> (x) }",
            9,
            (2, 6),
        ),
        ("g (float[2, 3] x, float[3, 4] w, float[2, 4] c) => (float y) { y = Gemm (x, w, c) }", 6, (2, 4)),
    ],
)
def test_operators_of_old_opsets(text: str, opset: int, expected: tuple[int, ...]) -> None:
    assert sizes(bound(zoo.model(text, opset=opset)).graph.outputs[0]) == expected


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ('FusedConv <kernel_shape = [3, 3], activation = "Relu"> (x, k)', (2, 4, 6, 6)),
        ("FusedGemm (a, b, s)", (4, 3)),
        ("DynamicQuantizeMatMul (a, b, s)", (4, 3)),
        ("MatMulIntegerToFloat (a, b, s, s)", (4, 3)),
        ("DequantizeLinear (a, s)", (4, 5)),
    ],
)
def test_contrib_operators(node: str, expected: tuple[int, ...]) -> None:
    built = zoo.model(
        "g (float[2, 3, 8, 8] x, float[4, 3, 3, 3] k, float[4, 5] a, float[5, 3] b, float s) => (float y)"
        f" {{ y = com.microsoft.{node} }}"
    )
    assert sizes(bound(built).graph.outputs[0]) == expected


def test_a_quantized_lstm() -> None:
    built = zoo.model(
        """
        g (float[7, 2, 4] x, uint8[2, 4, 12] w, uint8[2, 3, 12] r) => (float y, float h, float c) {
            y, h, c = com.microsoft.DynamicQuantizeLSTM
                <direction = "bidirectional", hidden_size = 3> (x, w, r)
        }
        """
    )
    assert [sizes(value) for value in bound(built).graph.outputs] == [(7, 2, 2, 3), (2, 2, 3), (2, 2, 3)]


def test_stated_shapes_of_unknown_operators_are_used() -> None:
    text = "g (float[N, 4] x) => (float y) <float[N, 6] h, float[M, 6] odd> { %s y = MatMul (h, w) }"
    known = zoo.model(text % "h = somewhere.Magic (x)", w=zoo.ones(6, 3))
    assert sizes(bound(known, dims={"N": 5}).graph.outputs[0]) == (5, 3)
    assert sizes(bound(known).graph.outputs[0], {"N": 5}) == (5, 3)
    other = zoo.model(text % "odd = somewhere.Magic (x) h = Relu (odd)", w=zoo.ones(6, 3))
    assert sizes(bound(other, dims={"N": 5}).graph.outputs[0]) is None


def test_a_copy_of_a_bound_model_lists_its_own_nodes() -> None:
    found = bound(zoo.model("g (float[N, 3] x) => (float[N, 3] y) { t = Relu (x) y = Sin (t) }"))
    assert list(nodes(found)) == list(found.graph.all_nodes())
    copy = found.clone()
    copy.graph.remove(list(copy.graph)[1:], safe=False)
    assert [node.op_type for node in nodes(copy)] == ["Relu"]


def test_default_sizes_leave_no_tensor_empty() -> None:
    pools = " ".join(
        f"{new} = MaxPool <strides = [2, 2], kernel_shape = [3, 3]> ({old})" for old, new in pairwise("xabcd")
    )
    text = f"g (float[N, 3, H, W] x) => (float y) {{ {pools} y = Squeeze (d, axis) }}"
    read = bound(zoo.model(text, axis=np.array([2])))
    assert default_dims(read) == {"N": 1, "H": 32, "W": 320}
    sound = bound(zoo.model("g (float[N, 1, T] x) => (float y) { y = Conv (x, w) }", w=zoo.ones(4, 1, 400)))
    assert default_dims(sound) == {"N": 1, "T": 512}


def test_default_sizes_are_kept_when_no_others_fit() -> None:
    text = "g (float[N, 3, H, W] x) => (float y) { d = Concat <axis = 2> (x, x) y = Squeeze (d, axis) }"
    assert default_dims(bound(zoo.model(text, axis=np.array([2])))) == {"N": 1, "H": 224, "W": 224}
