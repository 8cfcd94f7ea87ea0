"""Matrix products, with their quantized and fused forms, and the cost of dot products in general."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, counts


def dot_product_cost(op: ShapedNode, length: Number, *, bias: int | None = None, other: Number = 0) -> Cost:
    """Cost of a dot product of `length` terms per output element, and of a bias if that input is given."""
    biased = bias is not None and op.has(bias)
    return Cost(macs=op.elements * length, bias_adds=op.elements if biased else 0, other=other)


@counts("MatMulInteger16", "SparseToDenseMatMul", domain=MICROSOFT_DOMAIN)
@counts("MatMul", "MatMulInteger")
def matmul(op: ShapedNode) -> Cost:
    """(..., m, k) times (..., k, n)."""
    return dot_product_cost(op, op.shape()[-1])


@counts("QLinearMatMul")
def qlinear_matmul(op: ShapedNode) -> Cost:
    """MatMul of quantized tensors; each result is scaled and rounded."""
    return dot_product_cost(op, op.shape()[-1], other=2 * op.elements)


@counts("DynamicQuantizeMatMul", domain=MICROSOFT_DOMAIN)
def dynamic_quantize_matmul(op: ShapedNode) -> Cost:
    """The first operand is quantized on the fly (range, scale, round), the result scaled back."""
    return dot_product_cost(op, op.shape()[-1], bias=4, other=4 * op.elements_in + op.elements)


@counts("MatMulIntegerToFloat", domain=MICROSOFT_DOMAIN)
def matmul_integer_to_float(op: ShapedNode) -> Cost:
    """MatMul of integers, each result scaled."""
    return dot_product_cost(op, op.shape()[-1], bias=6, other=op.elements)


@counts("MatMulNBits", domain=MICROSOFT_DOMAIN)
def matmul_n_bits(op: ShapedNode) -> Cost:
    """MatMul with a weight packed in blocks of 2 to 8 bits: attributes K and N are its true sizes."""
    return dot_product_cost(op, op.integer("K"), bias=5)


@counts("MatMulBnb4", domain=MICROSOFT_DOMAIN)
def matmul_bnb4(op: ShapedNode) -> Cost:
    """MatMul with a weight of 4-bit numbers in blocks; attribute K is the summed axis."""
    return dot_product_cost(op, op.integer("K"))


@counts("MatMulFpQ4", domain=MICROSOFT_DOMAIN)
def matmul_fpq4(op: ShapedNode) -> Cost:
    """MatMul with a packed weight."""
    return dot_product_cost(op, op.shape()[-1])


@counts("MatMulNBitsMlp", domain=MICROSOFT_DOMAIN)
def matmul_n_bits_mlp(op: ShapedNode) -> Cost:
    """Two products of the same input, which is normalized first if a scale is given; one gates the other."""
    biases = op.has(5) + op.has(8)
    steps = 2 * op.elements + op.elements_in * (4 * op.has(2) + op.has(1))
    return Cost(macs=2 * op.elements * op.integer("K"), bias_adds=biases * op.elements, other=steps)


@counts("MatMulNBitsQkv", domain=MICROSOFT_DOMAIN)
def matmul_n_bits_qkv(op: ShapedNode) -> Cost:
    """Three products of the same normalized input."""
    rows = prod(op.shape()[:-1])
    query, keys = op.integer("Nq"), op.integer("Nkv")
    biases = query * op.has(5) + keys * op.has(8) + keys * op.has(11)
    macs = rows * op.integer("K") * (query + 2 * keys)
    return Cost(macs=macs, bias_adds=rows * biases, other=op.elements_in * (4 + op.has(1)))


@counts("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MICROSOFT_DOMAIN)
def fused_matmul(op: ShapedNode) -> Cost:
    """MatMul that may transpose an operand first; with transBatchA the first axis moves before the last."""
    first = op.shape()
    if op.integer("transA") and len(first) > 1:
        length = first[0] if op.integer("transBatchA") else first[-2]
    else:
        length = first[-1]
    return dot_product_cost(op, length, other=op.elements if op.text("activation") else 0)


@counts("MoE", domain=MICROSOFT_DOMAIN)
def experts(op: ShapedNode) -> Cost:
    """Each token goes through `k` experts of two or three products; weights (experts, in, out)."""
    return _experts_cost(op, (2, 4, 6), 1)


@counts("QMoE", domain=MICROSOFT_DOMAIN)
def packed_experts(op: ShapedNode) -> Cost:
    """MoE with several weights in each byte."""
    return _experts_cost(op, (2, 5, 8), 8 // (op.integer("expert_weight_bits") or 4))


def _experts_cost(op: ShapedNode, weight_inputs: tuple[int, ...], packed: int) -> Cost:
    chosen = prod(op.shape()[:-1]) * (op.integer("k") or 1)
    weights = [index for index in weight_inputs if op.has(index)]
    steps = chosen * op.shape(weights[0])[1]
    return Cost(macs=chosen * packed * sum(prod(op.shape(index)[1:]) for index in weights), other=steps)


@counts("Gemm")
def gemm(op: ShapedNode) -> Cost:
    """(m, k) times (k, n), plus C."""
    return dot_product_cost(op, _inner_size(op), bias=2)


@counts("FusedGemm", domain=MICROSOFT_DOMAIN)
def fused_gemm(op: ShapedNode) -> Cost:
    """Gemm and a non-linearity."""
    return dot_product_cost(op, _inner_size(op), bias=2, other=op.elements)


@counts("GemmFastGelu", domain=MICROSOFT_DOMAIN)
def gemm_gelu(op: ShapedNode) -> Cost:
    """(..., m, k) times (k, n), a bias and a non-linearity."""
    return dot_product_cost(op, op.shape()[-1], bias=2, other=op.elements)


@counts("GemmFloat8", domain=MICROSOFT_DOMAIN)
def gemm_float8(op: ShapedNode) -> Cost:
    """Gemm of 8-bit floats with a scale each."""
    return dot_product_cost(op, _inner_size(op), bias=2, other=op.elements)


@counts("QOrderedMatMul", domain=MICROSOFT_DOMAIN)
def ordered_matmul(op: ShapedNode) -> Cost:
    """MatMul of quantized tensors in an ordered layout."""
    return dot_product_cost(op, op.shape()[-1], bias=5, other=2 * op.elements)


@counts("QGemm", domain=MICROSOFT_DOMAIN)
def qgemm(op: ShapedNode) -> Cost:
    """Gemm of quantized tensors."""
    return dot_product_cost(op, _inner_size(op), bias=6, other=2 * op.elements)


def _inner_size(op: ShapedNode) -> Number:
    """Length of the axis that Gemm sums over; before opset 11 its first operand may have more axes."""
    first = op.shape()
    return first[0] if op.integer("transA") else prod(first[1:])
