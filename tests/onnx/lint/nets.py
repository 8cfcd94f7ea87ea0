"""Models for the tests of lint rules, and the findings of one rule."""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir
from numpy.typing import ArrayLike

from modelsurgeon.inspection.findings import Finding
from modelsurgeon.onnx.check import check
from tests import zoo


def found(model: ir.Model, rule: str, **options: object) -> list[Finding]:
    """Findings of one rule."""
    return list(check(model, select=[rule], **options).findings)


def chain(*widths: int, kernel: int = 3, size: int = 32) -> ir.Model:
    """A chain of convolutions of these widths, each with a Relu; the map keeps its size."""
    names = ["x", *(f"c{number}" for number in range(1, len(widths)))]
    pads = [kernel // 2] * 4
    nodes = [
        f"{new} = Conv <pads = {pads}> ({'x' if old == 'x' else f'r_{old}'}, w{new}) r_{new} = Relu ({new})"
        for old, new in pairwise(names)
    ]
    weights = {
        f"w{name}": zoo.ones(out, channels, kernel, kernel)
        for name, (channels, out) in zip(names[1:], pairwise(widths), strict=True)
    }
    text = f"g (float[1, {widths[0]}, {size}, {size}] x) => (float r_{names[-1]}) {{ {' '.join(nodes)} }}"
    return zoo.model(text, **weights)


def one(op: str, shape: str, out: str = "float y", **weights: ArrayLike) -> ir.Model:
    """A model of one or a few nodes, from `x` to `y`."""
    return zoo.model(f"g (float[{shape}] x) => ({out}) {{ {op} }}", **weights)
