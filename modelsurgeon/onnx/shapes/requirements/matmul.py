"""Matrix products: sizes that are contracted, biases, and Einsum."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    Size,
    SizedNode,
    Sizes,
    axes_count,
    broadcasts,
    equal,
    impossible,
    product,
    requires,
    spreads,
)


@requires("MatMul", "MatMulInteger")
@requires("DynamicQuantizeMatMul", "MatMulIntegerToFloat", domain=MICROSOFT_DOMAIN)
def matmul(op: SizedNode) -> Iterator[Requirement]:
    """The last axis of A is contracted with the last but one of B."""
    yield from _product(op, 0, 1)
    weight, bias_index = op.sizes(1), {"DynamicQuantizeMatMul": 4, "MatMulIntegerToFloat": 6}
    bias = op.sizes(bias_index.get(op.node.op_type, 99))
    if weight and bias is not None:
        yield axes_count(bias, 1, "its bias")
        if len(bias) == 1:
            yield equal(bias[0], weight[-1], f"its bias has {bias[0]} values for {weight[-1]} features")


@requires("QLinearMatMul")
def qlinear_matmul(op: SizedNode) -> Iterator[Requirement]:
    """MatMul of quantized tensors: B is input 3."""
    yield from _product(op, 0, 3)
    weight = op.sizes(3)
    for index in (1, 2, 6, 7):
        sizes = op.sizes(index)
        if sizes is not None and index > 5:
            yield equal(product(sizes), 1, "a scale or zero point of its output has one value")
    for index in (4, 5):
        sizes = op.sizes(index)
        if sizes and weight and product(sizes) != 1:
            yield equal(
                sizes[-1], weight[-1], f"a scale of B has {sizes[-1]} values for {weight[-1]} columns"
            )


@requires("FusedMatMul", "TransposeMatMul", domain=MICROSOFT_DOMAIN)
def fused_matmul(op: SizedNode) -> Iterator[Requirement]:
    """MatMul with transposed operands."""
    if op.integer("transBatchA") or op.integer("transBatchB"):
        return
    yield from _product(op, 0, 1, bool(op.integer("transA")), bool(op.integer("transB")))


@requires("Gemm")
@requires("FusedGemm", domain=MICROSOFT_DOMAIN)
def gemm(op: SizedNode) -> Iterator[Requirement]:
    """A (M, K) and B (K, N), each maybe transposed; C broadcasts to (M, N)."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    for sizes, name in zip(shapes, ("A", "B"), strict=True):
        yield axes_count(sizes, 2, f"its input {name}")
    if any(len(sizes) != 2 for sizes in shapes):
        return
    rows, inner = shapes[0][::-1] if op.integer("transA") else shapes[0]
    taken, columns = shapes[1][::-1] if op.integer("transB") else shapes[1]
    yield equal(inner, taken, _contraction(inner, taken))
    added = op.sizes(2)
    if added is not None and not op.node.attributes.get("broadcast"):
        if len(added) > 2:
            yield impossible(f"its input C has {len(added)} axes, more than 2")
        for left, right in zip(added[::-1], (columns, rows), strict=False):
            yield spreads(left, right, f"its input C has size {left} where its result has {right}")


@requires("QGemm", domain=MICROSOFT_DOMAIN)
def quantized_gemm(op: SizedNode) -> Iterator[Requirement]:
    """Gemm of quantized tensors: B is input 3, C input 6."""
    shapes = op.known(0, 3)
    if shapes is None or any(len(sizes) != 2 for sizes in shapes):
        return
    inner = shapes[0][0 if op.integer("transA") else 1]
    taken, columns = shapes[1][::-1] if op.integer("transB") else shapes[1]
    yield equal(inner, taken, _contraction(inner, taken))
    if added := op.sizes(6):
        yield spreads(added[-1], columns, f"its input C has {added[-1]} values for {columns} columns")


@requires("MatMulNBits", "MatMulBnb4", domain=MICROSOFT_DOMAIN)
def packed_matmul(op: SizedNode) -> Iterator[Requirement]:
    """A (..., K) and a packed weight (N, blocks, bytes) of K x N."""
    data, inner = op.sizes(), op.integer("K")
    if data is None or not inner:
        return
    if not data:
        yield impossible("its input A is a scalar")
        return
    yield equal(data[-1], inner, _contraction(data[-1], inner))
    if op.node.op_type == "MatMulBnb4":
        return
    columns, block, bits = op.integer("N"), op.integer("block_size", 1), op.integer("bits", 4)
    weight, scales = op.sizes(1), op.sizes(2)
    blocks = -(-inner // block)
    if weight is not None:
        wanted = columns * blocks * (-(-block * bits // 8))
        yield equal(product(weight), wanted, f"its weight has {product(weight)} bytes, not {wanted}")
    if scales is not None:
        wanted = columns * blocks
        yield equal(product(scales), wanted, f"it has {product(scales)} scales, not {wanted}")
    bias = op.sizes(5)
    if bias is not None and len(bias) == 1:
        yield equal(bias[0], columns, f"its bias has {bias[0]} values for {columns} features")


@requires("Einsum")
def einsum(op: SizedNode) -> Iterator[Requirement]:
    """Axes of one letter have one size, or 1."""
    terms = op.text("equation").replace(" ", "").partition("->")[0].split(",")
    count = len(op.node.inputs)
    yield equal(len(terms), count, f"its equation has {len(terms)} operands, the node {count} inputs")
    found: dict[str, Size] = {}
    ellipses: list[Sizes] = []
    for index, term in enumerate(terms[:count]):
        sizes = op.sizes(index)
        if sizes is None:
            continue
        letters = term.replace("...", "")
        before, dots, after = term.partition("...")
        if len(letters) > len(sizes) or (not dots and len(letters) != len(sizes)):
            yield impossible(f"operand {index} of its equation has {len(letters)} letters, not {len(sizes)}")
            continue
        middle = len(sizes) - len(after)
        if dots:
            ellipses.append(sizes[len(before) : middle])
        for letter, size in zip(before + after, (*sizes[: len(before)], *sizes[middle:]), strict=True):
            known = found.setdefault(letter, size)
            yield broadcasts(known, size, f"{letter!r} of its equation has sizes {known} and {size}")
            if known == 1:
                found[letter] = size
    for first, second in pairwise(ellipses):
        for left, right in zip(first[::-1], second[::-1], strict=False):
            yield broadcasts(left, right, f"the ellipsis of its equation has sizes {left} and {right}")


def _product(
    op: SizedNode, first: int, second: int, trans_a: bool = False, trans_b: bool = False
) -> Iterator[Requirement]:
    shapes = op.known(first, second)
    if shapes is None:
        return
    left, right = shapes
    if not left or not right:
        yield impossible("one of its matrices is a scalar")
        return
    if trans_a and len(left) > 1:
        left = (*left[:-2], left[-1], left[-2])
    if trans_b and len(right) > 1:
        right = (*right[:-2], right[-1], right[-2])
    taken = right[-2] if len(right) > 1 else right[0]
    yield equal(left[-1], taken, _contraction(left[-1], taken))
    for one, other in zip(left[-3::-1], right[-3::-1], strict=False):
        yield broadcasts(one, other, f"its stacks of matrices have sizes {one} and {other}")


def _contraction(given: Size, taken: Size) -> str:
    return f"its input has {given} features, its weight takes {taken}"
