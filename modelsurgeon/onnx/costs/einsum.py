"""Einsum, its operands multiplied from left to right."""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs.registry import Shape, ShapedNode, counts


@counts("Einsum")
def einsum(op: ShapedNode) -> Cost:
    """Operands are multiplied from left to right; an index that neither a later operand nor the
    result needs is summed at once.

    One product with a sum is a MAC, even where nothing is summed; sums over a single operand are additions.
    """
    terms, result = _operand_labels(op)
    size = _label_sizes(op, terms)
    macs: Number = 0
    other: Number = 0
    product = terms[0]
    for position, term in enumerate(terms[1:], start=1):
        needed = set(result).union(*terms[position + 1 :])
        for one, another in ((product, term), (term, product)):
            if set(one) - set(another) - needed:
                other += prod(size[label] for label in set(one))
        left = [label for label in set(product) if label in needed or label in term]
        right = [label for label in set(term) if label in needed or label in product]
        macs += prod(size[label] for label in {*left, *right})
        product = [label for label in {*left, *right} if label in needed]
    if len(terms) == 1 and set(product) - set(result):
        other = op.elements_in
    return Cost(macs=macs, other=other)


def _operand_labels(op: ShapedNode) -> tuple[list[list[str]], list[str]]:
    """Index labels of every operand and of the result; axes under an ellipsis get digits as labels."""
    left, arrow, right = op.text("equation").replace(" ", "").partition("->")
    written = left.split(",")
    shapes = [op.shape(index) for index in range(len(op.node.inputs))]
    if len(written) != len(shapes):
        raise ValueError(f"equation {op.text('equation')!r} is for {len(written)} operands")
    terms = [_term_labels(term, len(shape)) for term, shape in zip(written, shapes, strict=True)]
    if arrow:
        return terms, _term_labels(right, len(op.out()))
    letters = sorted({label for label in left if label.isalpha() and left.count(label) == 1})
    dots = max(([label for label in term if label.isdigit()] for term in terms), key=len)
    return terms, dots + letters


def _term_labels(term: str, rank: int) -> list[str]:
    """The labels of one term; axes under an ellipsis are numbered from the last one, as broadcasting does."""
    before, dots, after = term.partition("...")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise ValueError(f"term {term!r} doesn't fit {rank} axes")
    return [*before, *(str(number) for number in reversed(range(hidden))), *after]


def _label_sizes(op: ShapedNode, terms: list[list[str]]) -> dict[str, Number]:
    size: dict[str, Number] = {}
    for index, term in enumerate(terms):
        shape: Shape = op.shape(index)
        for label, length in zip(term, shape, strict=True):
            if label not in size or size[label] == 1:
                size[label] = length
    return size
