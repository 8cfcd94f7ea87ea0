"""Costs of operators, compared with runs on ones, where each output is its number of products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx.defs
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

import modelsurgeon as ms
from modelsurgeon.inspection.cost import Cost
from modelsurgeon.layers import Layer
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs import ShapedNode, Uncounted, cost_of, counts, is_free, moves
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, sizes
from tests import conv, zoo
from tests.strategies import layers

CONTROL = {"If", "Loop", "Scan", "SequenceMap"}

Size = tuple[int, ...]


def operation(
    op: str, *inputs: Size | None, domain: str = "", outputs: int = 1, **attributes: object
) -> ShapedNode:
    """One node with inputs of these shapes, its output shapes inferred."""
    values = [
        None if size is None else ir.val(f"x{place}", ir.DataType.FLOAT, size)
        for place, size in enumerate(inputs)
    ]
    node = ir.node(op, values, attributes, domain=domain, num_outputs=outputs)
    for place, value in enumerate(node.outputs):
        value.name = f"y{place}"
    given = [value for value in values if value is not None]
    graph = ir.Graph(given, node.outputs, nodes=[node], opset_imports={"": 21, MICROSOFT_DOMAIN: 1})
    [known] = bound(ir.Model(graph, ir_version=10)).graph
    return ShapedNode(node=known, shape_of=sizes)


def cost(op: str, *inputs: Size | None, **how: object) -> Cost:
    """The cost of one node, which must be counted."""
    found = cost_of(operation(op, *inputs, **how))
    assert isinstance(found, Cost), found
    return found


def run_on_ones(op: str, *inputs: Size, **attributes: object) -> float:
    """Sum of the outputs of a node whose inputs are all 1: the number of its products."""
    names = [f"x{place}" for place in range(len(inputs))]
    proto = onnx.helper.make_node(op, names, ["y"], **attributes)
    feed = {name: np.ones(size) for name, size in zip(names, inputs, strict=True)}
    [out] = ReferenceEvaluator(proto, opsets={"": 21}).run(None, feed)
    return float(np.sum(out))


@given(layer=layers(ndim=st.integers(1, 3)), size=st.lists(st.integers(6, 8), min_size=3, max_size=3))
def test_convolutions_count_every_tap(layer: Layer, size: list[int]) -> None:
    """Padding counts as ones; a transposed convolution is counted before cropping."""
    size = size[: len(layer.kernel)]
    begin, end = zip(*layer.padding, strict=True)
    geometry = {"strides": layer.stride, "dilations": layer.dilation, "group": layer.groups}
    whole, weight, extra = size, layer.weight.shape, {}
    if layer.transposed:
        weight = (layer.in_channels, layer.out_channels // layer.groups, *layer.kernel)
        extra = {"output_padding": layer.output_padding}
    else:
        whole = [n + b + e for n, b, e in zip(size, begin, end, strict=True)]
    op = "ConvTranspose" if layer.transposed else "Conv"
    found = cost(op, (2, layer.in_channels, *size), weight, pads=(*begin, *end), **geometry, **extra)
    bare = replace(layer, weight=np.ones_like(layer.weight), bias=None, padding=(), output_padding=())
    assert found.macs == 2 * conv.run([bare], np.ones((layer.in_channels, *whole))).sum()
    assert found.macs == layer.macs(size, positions=2)
    assert found.bias_adds == found.other == 0


@pytest.mark.parametrize(("op", "weight"), [("Conv", (4, 3, 3, 3)), ("ConvTranspose", (3, 4, 3, 3))])
def test_a_bias_is_added_to_every_output(op: str, weight: Size) -> None:
    with_bias = cost(op, (2, 3, 8, 8), weight, (4,))
    assert with_bias.bias_adds == prod(operation(op, (2, 3, 8, 8), weight).out())
    assert with_bias.macs == cost(op, (2, 3, 8, 8), weight).macs


def test_automatic_padding_counts_too() -> None:
    assert cost("Conv", (1, 1, 8), (1, 1, 3), auto_pad="SAME_UPPER").macs == 8 * 3


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Gemm", ((5, 4), (4, 3)), {}),
        ("Gemm", ((4, 5), (3, 4)), {"transA": 1, "transB": 1}),
        ("MatMul", ((4,), (4,)), {}),
        ("MatMul", ((4,), (4, 3)), {}),
        ("MatMul", ((2, 4), (4,)), {}),
        ("MatMul", ((2, 5, 4), (4, 3)), {}),
        ("MatMul", ((7, 1, 5, 4), (2, 4, 3)), {}),
        ("Einsum", ((2, 3), (3, 4)), {"equation": "ij,jk->ik"}),
        ("Einsum", ((2, 3), (3, 4)), {"equation": "ij,jk"}),
        ("Einsum", ((5, 2, 3), (5, 4, 3)), {"equation": "bik,bjk->bij"}),
        ("Einsum", ((2, 3), (2, 3)), {"equation": "ij,ij->"}),
        ("Einsum", ((2, 3), (4,)), {"equation": "ij,k->ijk"}),
        ("Einsum", ((6, 2, 3), (3, 4)), {"equation": "...ij,jk->...ik"}),
        ("Einsum", ((6, 2, 3), (6, 4, 3)), {"equation": " b i d , b j d -> b i j "}),
    ],
)
def test_products_count_every_term(op: str, inputs: tuple[Size, ...], attributes: dict[str, object]) -> None:
    found = cost(op, *inputs, **attributes)
    assert found.macs == run_on_ones(op, *inputs, **attributes)
    assert found.bias_adds == found.other == 0


def test_einsum_of_many_operands_counts_left_to_right() -> None:
    found = cost("Einsum", (2, 3), (3, 4), (4, 5), equation="ij,jk,kl->il")
    assert found.macs == 2 * 3 * 4 + 2 * 4 * 5


def test_einsum_sums_unshared_indices_first() -> None:
    found = cost("Einsum", (2, 3), (2, 5), equation="ij,ik->i")
    assert found == Cost(macs=2, other=2 * 3 + 2 * 5)


def test_einsum_of_one_operand_has_no_product() -> None:
    assert cost("Einsum", (2, 3), equation="ij->ji") == Cost()
    assert cost("Einsum", (2, 3), equation="ij->i") == Cost(other=6)


@pytest.mark.parametrize("equation", ["ij,jk,kl->il", "ijk,jk->i", "..."])
def test_an_equation_that_does_not_fit_is_uncounted(equation: str) -> None:
    found = cost_of(operation("Einsum", (2, 3), (3, 4), equation=equation))
    assert isinstance(found, Uncounted)


def test_gemm_adds_its_bias() -> None:
    assert cost("Gemm", (5, 4), (4, 3), (3,)).bias_adds == 15


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("op", "gates", "units"), [("LSTM", 4, 9), ("GRU", 3, 8), ("RNN", 1, 1)])
def test_recurrent_gates(op: str, gates: int, units: int, direction: str) -> None:
    ways = 2 if direction == "bidirectional" else 1
    x, w, r = (7, 2, 5), (ways, gates * 3, 5), (ways, gates * 3, 3)
    how = {"direction": direction, "hidden_size": 3}
    bare = cost(op, x, w, r, **how)
    steps = 7 * 2 * ways
    assert bare == Cost(macs=steps * gates * 3 * (5 + 3), other=steps * units * 3)
    biased = cost(op, x, w, r, (ways, 2 * gates * 3), **how)
    assert biased.macs == bare.macs
    assert biased.other == bare.other + steps * 2 * gates * 3
    assert cost(op, x, w, r, direction=direction) == bare


def test_a_recurrent_layer_with_the_batch_first() -> None:
    first = cost("GRU", (2, 7, 5), (1, 9, 5), (1, 9, 3), hidden_size=3, layout=1)
    assert first == cost("GRU", (7, 2, 5), (1, 9, 5), (1, 9, 3), hidden_size=3)


def test_peepholes_are_not_macs() -> None:
    x, w, r = (7, 2, 5), (1, 12, 5), (1, 12, 3)
    plain = cost("LSTM", x, w, r, hidden_size=3)
    peeping = cost("LSTM", x, w, r, None, None, None, None, (1, 9), hidden_size=3)
    assert peeping == replace(plain, other=plain.other + 7 * 2 * 6 * 3)


@pytest.mark.parametrize("past", [0, 4])
@pytest.mark.parametrize("heads_first", [True, False])
def test_attention_counts_every_key(past: int, heads_first: bool) -> None:
    """Scores and values: 3 heads of sizes 4 and 5, 6 queries, 7 keys plus past keys."""
    shapes = [(2, 3, 6, 4), (2, 3, 7, 4), (2, 3, 7, 5)]
    how: dict[str, object] = {}
    if not heads_first:
        shapes = [(b, length, h * size) for b, h, length, size in shapes]
        how = {"q_num_heads": 3, "kv_num_heads": 3}
    extra = [None, (2, 3, past, 4), (2, 3, past, 5)] if past else []
    op = operation("Attention", *shapes, *extra, **how)
    op.node.outputs[0].shape = ir.Shape((2, 3, 6, 5) if heads_first else (2, 6, 15))
    found = cost_of(op)
    pairs = 2 * 3 * 6 * (7 + past)
    assert found == Cost(macs=pairs * (4 + 5), other=6 * pairs)


def test_contrib_attention_includes_projections() -> None:
    how = {"domain": MICROSOFT_DOMAIN, "num_heads": 2}
    found = cost("Attention", (3, 5, 8), (8, 24), (24,), **how)
    assert found.macs == 3 * 5 * 8 * 24 + 2 * (3 * 2 * 5 * 5 * 4)
    assert found.bias_adds == 3 * 5 * 24


CONTRIB: dict[str, tuple[str, Mapping[str, object]]] = {
    "FusedConv": ("Conv", {"activation": "Relu"}),
    "FusedGemm": ("Gemm", {}),
    "FusedMatMul": ("MatMul", {}),
    "DynamicQuantizeMatMul": ("MatMul", {}),
    "MatMulIntegerToFloat": ("MatMul", {}),
}


@pytest.mark.parametrize("op", CONTRIB)
def test_contrib_forms_have_the_macs_of_the_standard_one(op: str) -> None:
    standard, attributes = CONTRIB[op]
    shapes = ((2, 3, 8, 8), (4, 3, 3, 3)) if standard == "Conv" else ((5, 4), (4, 3))
    assert cost(op, *shapes, domain=MICROSOFT_DOMAIN, **attributes).macs == cost(standard, *shapes).macs


def test_a_transposed_operand_of_a_fused_product() -> None:
    assert cost("FusedMatMul", (4, 5), (4, 3), domain=MICROSOFT_DOMAIN, transA=1).macs == 5 * 4 * 3


@pytest.mark.parametrize(
    ("op", "shapes", "macs"),
    [
        ("ConvInteger", ((2, 3, 8, 8), (4, 3, 3, 3)), 2 * 4 * 36 * 27),
        ("QLinearConv", ((2, 3, 8, 8), (), (), (4, 3, 3, 3), (), (), (), ()), 2 * 4 * 36 * 27),
        ("MatMulInteger", ((5, 4), (4, 3)), 60),
        ("QLinearMatMul", ((5, 4), (), (), (4, 3), (), (), (), ()), 60),
    ],
)
def test_quantized_forms(op: str, shapes: tuple[Size, ...], macs: int) -> None:
    assert cost(op, *shapes).macs == macs


def test_packed_weights_have_their_true_sizes() -> None:
    op = operation(
        "MatMulNBits",
        (2, 5, 64),
        (10, 2, 16),
        (20,),
        domain=MICROSOFT_DOMAIN,
        K=64,
        N=10,
        bits=4,
        block_size=32,
    )
    op.node.outputs[0].shape = ir.Shape((2, 5, 10))
    assert getattr(cost_of(op), "macs", None) == 2 * 5 * 64 * 10


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "other"),
    [
        ("Relu", ((2, 3),), {}, 6),
        ("Add", ((2, 3), (3,)), {}, 6),
        ("Sum", ((2, 3), (3,), (2, 1)), {}, 12),
        ("Mean", ((2, 3), (3,)), {}, 12),
        ("Max", ((2, 3),), {}, 0),
        ("Where", ((2, 1), (3,), (3,)), {}, 6),
        ("BatchNormalization", ((2, 3, 4), (3,), (3,), (3,), (3,)), {}, 48),
        ("LayerNormalization", ((2, 3), (3,)), {}, 42),
        ("LRN", ((1, 4, 2, 2),), {"size": 3}, 16 * 8),
        ("Softmax", ((2, 3),), {}, 30),
        ("MaxPool", ((1, 2, 4, 4),), {"kernel_shape": [3, 3]}, 2 * 4 * 9),
        ("AveragePool", ((1, 2, 4, 4),), {"kernel_shape": [2, 2], "strides": [2, 2]}, 2 * 4 * 4),
        ("LpPool", ((1, 2, 4, 4),), {"kernel_shape": [2, 2], "strides": [2, 2]}, 2 * 2 * 4 * 4),
        ("GlobalAveragePool", ((1, 2, 4, 4),), {}, 32),
        ("ReduceSum", ((2, 3),), {}, 6),
        ("ReduceL2", ((2, 3),), {}, 12),
        ("ReduceLogSumExp", ((2, 3),), {}, 18),
        ("QuantizeLinear", ((2, 3), ()), {}, 12),
    ],
)
def test_other_operators_have_no_macs(
    op: str, inputs: tuple[Size, ...], attributes: dict[str, object], other: int
) -> None:
    assert cost(op, *inputs, **attributes) == Cost(other=other)


@pytest.mark.parametrize(("mode", "each"), [("nearest", 0), ("linear", 2 * 4), ("cubic", 2 * 16)])
def test_resizing_counts_taps_of_the_axes_that_change(mode: str, each: int) -> None:
    built = zoo.model(
        f'g (float[1, 2, 3, 3] x) => (float y) {{ y = Resize <mode = "{mode}"> (x, , s) }}',
        s=np.array([1, 1, 2, 2], np.float32),
    )
    [node] = bound(built).graph
    assert cost_of(ShapedNode(node=node, shape_of=sizes)) == Cost(other=each * 2 * 36)


def test_an_unknown_mode_is_uncounted() -> None:
    odd = operation("GridSample", (1, 2, 3, 3), (1, 3, 3, 2), mode="magic")
    assert cost_of(odd) == Uncounted(reason="interpolation 'magic' is not understood")


def test_a_scatter_that_adds_counts_additions() -> None:
    shapes = ((5, 3), (2, 3), (2, 3))
    assert cost("ScatterElements", *shapes) == Cost()
    assert cost("ScatterElements", *shapes, reduction="add") == Cost(other=6)


def test_an_unknown_shape_is_uncounted() -> None:
    assert cost_of(operation("Relu", None)) == Uncounted(reason="the shape of output 0 is unknown")


def test_inputs_that_do_not_fit_are_uncounted() -> None:
    assert cost_of(operation("LSTM", (2, 3), (1, 8, 3))) == Uncounted(
        reason="its inputs don't fit the operator: their shapes are 2×3, 1×8×3"
    )


def test_an_unknown_operator_is_uncounted() -> None:
    odd = operation("Magic", (2, 3), domain="somewhere")
    assert cost_of(odd) == Uncounted(
        reason="no cost is defined for this operator: define one with modelsurgeon.counts"
    )
    assert not is_free(odd.node)


def test_moving_data_is_free() -> None:
    assert is_free(operation("Transpose", (2, 3)).node)
    assert not is_free(operation("Relu", (2, 3)).node)
    assert cost("Transpose", (2, 3)) == Cost()


def test_the_long_name_of_the_standard_domain() -> None:
    assert cost_of(operation("Transpose", (2, 3), domain="ai.onnx")) == Cost()


def test_a_second_cost_of_an_operator_raises() -> None:
    with pytest.raises(ValueError, match=r"cost of ai\.onnx::Conv is already defined"):
        counts("Conv")(moves)


def test_every_standard_operator_has_a_cost_function() -> None:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    missing = set()
    for name in known - CONTROL:
        found = cost_of(ShapedNode(node=ir.node(name, []), shape_of=lambda _: None))
        if getattr(found, "reason", "").startswith("no cost"):
            missing.add(name)
    assert not missing


@given(sizes_of=st.lists(st.integers(1, 5), min_size=3, max_size=5), runs=st.integers(0, 4))
def test_costs_add_up(sizes_of: list[int], runs: int) -> None:
    parts = [cost("Relu", (size, size)) for size in sizes_of]
    total = sum(parts, Cost()) * runs
    assert total.flops == runs * sum(part.flops for part in parts)


def test_flops_are_two_for_a_mac_and_one_for_the_rest() -> None:
    assert Cost(macs=5, bias_adds=3, other=2).flops == 15


def test_users_register_costs_with_one_function() -> None:
    @ms.counts("Mine", domain="tests.costs")
    def mine(op: ShapedNode) -> Cost:
        """Reads a constant, and a shape."""
        steps = op.constant(1)
        return ms.Cost(macs=op.elements_in * (steps or (0,))[0])

    text = "g (float[N, 4] x) => (float[N, 4] y) { n = Constant <value = int64 {%d}> () y = own.Mine (x, n) }"
    for number in (3, 5):
        built = zoo.model(text % number)
        built.graph[-1].domain = "tests.costs"
        found = analyze(built)
        assert found.formulas["macs"] == f"{4 * number}*N"
