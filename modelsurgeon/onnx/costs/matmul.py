"""Convolutions and products of matrices, with their quantised and fused forms."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs.registry import MICROSOFT, Operation, Shape, counts


def _dot(op: Operation, length: Number, *, bias: int | None = None, other: Number = 0) -> Cost:
    """Every output element is a dot product of `length` terms, and one bias if that input is given."""
    biased = bias is not None and op.has(bias)
    return Cost(macs=op.elements * length, bias_adds=op.elements if biased else 0, other=other)


@counts("Conv")
def conv(op: Operation) -> Cost:
    """Weight (out, in / groups, *kernel); padded taps count, as they are computed."""
    return _dot(op, prod(op.shape(1)[1:]), bias=2)


@counts("NhwcConv", domain=MICROSOFT)
def nhwc_conv(op: Operation) -> Cost:
    """Conv with the channels last; the weight is (out, *kernel, in / groups)."""
    return _dot(op, prod(op.shape(1)[1:]), bias=2)


@counts("FusedConv", "NhwcFusedConv", domain=MICROSOFT)
def fused_conv(op: Operation) -> Cost:
    """A convolution, an optional tensor that is added (input 3), and a non-linearity."""
    steps = op.has(3) + bool(op.text("activation"))
    return _dot(op, prod(op.shape(1)[1:]), bias=2, other=steps * op.elements)


@counts("ConvInteger")
def conv_integer(op: Operation) -> Cost:
    """Conv of integers; it has no bias."""
    return _dot(op, prod(op.shape(1)[1:]))


@counts("QLinearConv")
@counts("QLinearConv", domain=MICROSOFT)
def qlinear_conv(op: Operation) -> Cost:
    """Conv of quantised tensors; each result is scaled and rounded."""
    return _dot(op, prod(op.shape(3)[1:]), bias=8, other=2 * op.elements)


@counts("DeformConv")
def deform_conv(op: Operation) -> Cost:
    """Conv whose taps are interpolated between four neighbours: 4 products and 3 sums for each tap."""
    taps = prod(op.shape(1)[1:])
    sampled = op.out()[0] * prod(op.out()[2:]) * op.shape()[1] * prod(op.shape(1)[2:])
    return _dot(op, taps, bias=3, other=7 * sampled)


@counts("ConvTranspose")
def conv_transpose(op: Operation) -> Cost:
    """Weight (in, out / groups, *kernel): every input element is spread over prod(weight[1:]) places."""
    bias = op.elements if op.has(2) else 0
    return Cost(macs=op.elements_in * prod(op.shape(1)[1:]), bias_adds=bias)


@counts("ConvTransposeWithDynamicPads", domain=MICROSOFT)
def conv_transpose_dynamic(op: Operation) -> Cost:
    """ConvTranspose whose padding is an input."""
    return Cost(macs=op.elements_in * prod(op.shape(1)[1:]), bias_adds=op.elements if op.has(3) else 0)


@counts("CausalConvWithState")
@counts("CausalConvWithState", domain=MICROSOFT)
def causal_conv(op: Operation) -> Cost:
    """A convolution of each channel with the kernel (channels, 1, taps) over the past and the present."""
    return _dot(
        op, op.shape(1)[-1], bias=2, other=op.elements if op.text("activation", "none") != "none" else 0
    )


@counts("MatMulInteger16", "SparseToDenseMatMul", domain=MICROSOFT)
@counts("MatMul", "MatMulInteger")
def matmul(op: Operation) -> Cost:
    """(..., m, k) times (..., k, n)."""
    return _dot(op, op.shape()[-1])


@counts("QLinearMatMul")
def qlinear_matmul(op: Operation) -> Cost:
    """MatMul of quantised tensors; each result is scaled and rounded."""
    return _dot(op, op.shape()[-1], other=2 * op.elements)


@counts("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_quantize_matmul(op: Operation) -> Cost:
    """The first operand is quantised on the fly (range, scale, round), the result scaled back."""
    return _dot(op, op.shape()[-1], bias=4, other=4 * op.elements_in + op.elements)


@counts("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_integer_to_float(op: Operation) -> Cost:
    """MatMul of integers, each result scaled."""
    return _dot(op, op.shape()[-1], bias=6, other=op.elements)


@counts("MatMulNBits", domain=MICROSOFT)
def matmul_n_bits(op: Operation) -> Cost:
    """MatMul with a weight packed in blocks of 2 to 8 bits: attributes K and N are its true sizes."""
    return _dot(op, op.integer("K"), bias=5)


@counts("MatMulBnb4", domain=MICROSOFT)
def matmul_bnb4(op: Operation) -> Cost:
    """MatMul with a weight of 4-bit numbers in blocks."""
    return _dot(op, op.integer("K"))


@counts("MatMulFpQ4", domain=MICROSOFT)
def matmul_fpq4(op: Operation) -> Cost:
    """MatMul with a packed weight."""
    return _dot(op, op.shape()[-1])


@counts("MatMulNBitsMlp", domain=MICROSOFT)
def matmul_n_bits_mlp(op: Operation) -> Cost:
    """Two products of the same input, normalised before where a scale is given; one gates the other."""
    biases = op.has(5) + op.has(8)
    steps = 2 * op.elements + op.elements_in * (4 * op.has(2) + op.has(1))
    return Cost(macs=2 * op.elements * op.integer("K"), bias_adds=biases * op.elements, other=steps)


@counts("MatMulNBitsQkv", domain=MICROSOFT)
def matmul_n_bits_qkv(op: Operation) -> Cost:
    """Three products of the same normalised input."""
    rows = prod(op.shape()[:-1])
    query, keys = op.integer("Nq"), op.integer("Nkv")
    biases = query * op.has(5) + keys * op.has(8) + keys * op.has(11)
    macs = rows * op.integer("K") * (query + 2 * keys)
    return Cost(macs=macs, bias_adds=rows * biases, other=op.elements_in * (4 + op.has(1)))


@counts("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=MICROSOFT)
def fused_matmul(op: Operation) -> Cost:
    """MatMul that may transpose an operand first; with transBatchA the first axis stands before the last."""
    first = op.shape()
    if op.integer("transA") and len(first) > 1:
        length = first[0] if op.integer("transBatchA") else first[-2]
    else:
        length = first[-1]
    return _dot(op, length, other=op.elements if op.text("activation") else 0)


@counts("MoE", domain=MICROSOFT)
def experts(op: Operation) -> Cost:
    """Each token goes through `k` experts of two or three products: weights (experts, in, out)."""
    return _experts(op, (2, 4, 6), 1)


@counts("QMoE", domain=MICROSOFT)
def packed_experts(op: Operation) -> Cost:
    """As MoE, with several weights in each byte."""
    return _experts(op, (2, 5, 8), 8 // (op.integer("expert_weight_bits") or 4))


def _experts(op: Operation, places: tuple[int, ...], packed: int) -> Cost:
    chosen = prod(op.shape()[:-1]) * (op.integer("k") or 1)
    weights = [place for place in places if op.has(place)]
    steps = chosen * op.shape(weights[0])[1]
    return Cost(macs=chosen * packed * sum(prod(op.shape(place)[1:]) for place in weights), other=steps)


@counts("Gemm")
def gemm(op: Operation) -> Cost:
    """(m, k) times (k, n), plus C."""
    return _dot(op, _depth(op), bias=2)


@counts("FusedGemm", domain=MICROSOFT)
def fused_gemm(op: Operation) -> Cost:
    """Gemm and a non-linearity."""
    return _dot(op, _depth(op), bias=2, other=op.elements)


@counts("GemmFastGelu", domain=MICROSOFT)
def gemm_gelu(op: Operation) -> Cost:
    """(..., m, k) times (k, n), a bias and a non-linearity."""
    return _dot(op, op.shape()[-1], bias=2, other=op.elements)


@counts("GemmFloat8", domain=MICROSOFT)
def gemm_float8(op: Operation) -> Cost:
    """Gemm of 8-bit floats with a scale each."""
    return _dot(op, _depth(op), bias=2, other=op.elements)


@counts("QOrderedMatMul", domain=MICROSOFT)
def ordered_matmul(op: Operation) -> Cost:
    """MatMul of quantised tensors in a layout of their own."""
    return _dot(op, op.shape()[-1], bias=5, other=2 * op.elements)


@counts("QGemm", domain=MICROSOFT)
def qgemm(op: Operation) -> Cost:
    """Gemm of quantised tensors."""
    return _dot(op, _depth(op), bias=6, other=2 * op.elements)


def _depth(op: Operation) -> Number:
    """Length of the axis that Gemm sums over; before opset 11 its first operand may have more axes."""
    first = op.shape()
    return first[0] if op.integer("transA") else prod(first[1:])


@counts("Einsum")
def einsum(op: Operation) -> Cost:
    """Operands are multiplied from left to right; an index that nothing needs any more is summed at once.

    One product with a sum is a MAC, whether or not it ends a sum; sums over a single operand are additions.
    """
    terms, result = _labels(op)
    size = _label_sizes(op, terms)
    macs: Number = 0
    other: Number = 0
    held = terms[0]
    for position, term in enumerate(terms[1:], start=1):
        needed = set(result).union(*terms[position + 1 :])
        for mine, theirs in ((held, term), (term, held)):
            if set(mine) - set(theirs) - needed:
                other += prod(size[label] for label in set(mine))
        left = [label for label in set(held) if label in needed or label in term]
        right = [label for label in set(term) if label in needed or label in held]
        macs += prod(size[label] for label in {*left, *right})
        held = [label for label in {*left, *right} if label in needed]
    if len(terms) == 1 and set(held) - set(result):
        other = op.elements_in
    return Cost(macs=macs, other=other)


def _labels(op: Operation) -> tuple[list[list[str]], list[str]]:
    """Index labels of every operand and of the result; an ellipsis becomes labels of its own."""
    left, arrow, right = op.text("equation").replace(" ", "").partition("->")
    written = left.split(",")
    shapes = [op.shape(index) for index in range(len(op.node.inputs))]
    if len(written) != len(shapes):
        raise ValueError(f"equation {op.text('equation')!r} is for {len(written)} operands")
    terms = [_expanded(term, len(shape)) for term, shape in zip(written, shapes, strict=True)]
    if arrow:
        return terms, _expanded(right, len(op.out()))
    letters = sorted({label for label in left if label.isalpha() and left.count(label) == 1})
    dots = max(([label for label in term if label.isdigit()] for term in terms), key=len)
    return terms, dots + letters


def _expanded(term: str, rank: int) -> list[str]:
    """The labels of one term; axes under an ellipsis are numbered from the last one, as broadcasting does."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(f"term {term!r} doesn't fit {rank} axes")
    return [*before, *(str(number) for number in reversed(range(hidden))), *after]


def _label_sizes(op: Operation, terms: list[list[str]]) -> dict[str, Number]:
    size: dict[str, Number] = {}
    for index, term in enumerate(terms):
        shape: Shape = op.shape(index)
        for label, length in zip(term, shape, strict=True):
            if label not in size or size[label] == 1:
                size[label] = length
    return size
