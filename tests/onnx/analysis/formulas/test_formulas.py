"""Formulas of models and layers equal the counts of an analysis at fixed sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from random import Random

import numpy as np
import onnx_ir as ir
import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, expressions, symbols
from tests import zoo

MODELS = os.environ.get("MODELSURGEON_MODELS")
PUBLIC = (
    sorted(path for path in Path(MODELS).rglob("*.onnx") if "backend" not in path.parts) if MODELS else []
)
FUNCTIONS = ("ceiling", "floor", "Max", "Min", "Mod", "Piecewise", "Eq", "Ne", "Not", "And", "Or", "ITE")
NAMES = {name: getattr(sympy, name) for name in FUNCTIONS}


def value(formula: str, sizes: Mapping[str, int]) -> int:
    """The formula's value at these sizes; names such as N, S and E are symbols, too."""
    symbols = {name: sympy.Symbol(name, integer=True, positive=True) for name in sizes}
    parsed = sympy.sympify(formula, locals=NAMES | symbols)
    return int(parsed.subs({symbols[name]: size for name, size in sizes.items()}))


def check(found: Analysis, fixed: Analysis, sizes: Mapping[str, int]) -> None:
    """Every formula of `found` evaluates to the count of `fixed`, the analysis at these sizes."""
    for key, formula in found.formulas.items():
        assert value(formula, sizes) == getattr(fixed.totals, key), key
    texts: dict[str, int] = {}
    for row, truth in zip(found.layers, fixed.layers, strict=True):
        for key, formula in row.formulas.items():
            if formula not in texts:
                texts[formula] = value(formula, sizes)
            assert texts[formula] == getattr(truth, key), (row.name, key)


sides = st.integers(4, 40)


@given(n=st.integers(1, 5), h=sides, w=sides)
def test_every_formula_holds_at_other_sizes(n: int, h: int, w: int) -> None:
    sizes = {"N": n, "H": h, "W": w}
    found = analyze(zoo.classifier())
    assert {row.name for row in found.layers if row.formulas} >= {"a", "n", "r", "p", "d", "e", "q", "y"}
    check(found, analyze(zoo.classifier(), dims=sizes), sizes)


def test_formula_and_growth_of_a_layer() -> None:
    text = "g (float[N, T, 8] x) => (float y) { t = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, t) }"
    found = analyze(zoo.model(text))
    assert found.layers[1].formulas["macs"] == found.formulas["macs"] == "8*N*T**2"
    assert found.growth == {
        "macs": "N * T^2",
        "flops": "N * T^2",
        "bias_adds": "1",
        "activation_bytes": "N * T^2",
    }
    assert found.as_dict()["growth"]["macs"] == "N * T^2"
    assert "formulas" not in found.as_dict()["layers"][0]
    assert "growth: MACs ~ N * T^2, activations ~ N * T^2" in found.tables()[0].notes


def test_a_model_without_open_sizes_has_no_formula() -> None:
    found = analyze(zoo.classifier(), dims={"N": 1, "H": 8, "W": 8}).as_dict()
    assert not {"formulas", "growth", "defaults"} & set(found)


def test_renamed_dimensions_are_noted() -> None:
    built = zoo.model("g (float[1, 4] x) => (float y) { y = MatMul (x, w) }", w=zoo.ones(4, 2))
    built.graph.inputs[0].shape = ir.Shape(["p2o.0", 4])
    found = analyze(built)
    assert found.formulas["macs"] == "8*p2o_0"
    assert found.notes == ["dimensions without a usable name: p2o.0 is called p2o_0"]
    assert analyze(built, shapes={"x": (2, 4)}).notes == []
    built.graph.inputs[0].shape = ir.Shape(["?", 4])
    assert analyze(built).notes == ["dimensions without a usable name: axis 0 of x is called x_0"]


def test_maps_that_are_shifted_and_then_padded_to_a_multiple() -> None:
    """The shapes are inferred twice, as a constant has to be folded."""
    found = analyze(
        zoo.model(
            """g (float[N, 6] x) => (float y)
            <int64[1] zero = {0}, int64[1] two = {2}, int64[1] four = {4}, int64[1] end = {99999999999},
             int64 axis = {0}, int64[3] ones = {4, 3, 8}>
            { a = Slice (x, two, end, zero) b = Slice (x, zero, two, zero) c = Concat <axis = 0> (a, b)
              shape = Shape <start = 0, end = 1> (x) less = Neg (shape) more = Mod (less, four)
              pads = Concat <axis = 0> (zero, zero, more, zero) d = Pad (c, pads)
              steps = CumSum (ones, axis) sides = Sub (steps, three) e = Reshape (d, sides)
              y = MatMul (e, w) }""",
            three=np.array([5, 5, 9]),
            w=zoo.ones(6, 5),
        )
    )
    assert found.formulas["macs"] == "120*ceiling(N/4)"


@pytest.mark.models
@pytest.mark.skipif(not PUBLIC, reason="MODELSURGEON_MODELS names no folder of public models")
@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: path.stem)
def test_formulas_of_public_models_hold_at_three_other_sizes(path: Path) -> None:
    draw = Random(path.stem)  # noqa: S311 - sizes, no secrets
    found = analyze(ir.load(path))
    for _ in range(3 if found.defaults else 0):
        sizes = {name: draw.randrange(2, 9) if size == 1 else 32 * draw.randrange(2, 9)
                 for name, size in found.defaults.items()}  # fmt: skip
        check(found, *runnable(path, found, sizes))


def runnable(path: Path, found: Analysis, sizes: dict[str, int]) -> tuple[Analysis, dict[str, int]]:
    """The analysis and its sizes; a size at which the model can't run is replaced by its default."""
    for kept in ({}, *({name: size} for name, size in found.defaults.items()), found.defaults):
        try:
            fixed = analyze(ir.load(path), dims=sizes | kept)
        except UnknownShape:
            continue
        if fixed.uncounted == found.uncounted:
            return fixed, sizes | kept
    raise AssertionError(f"{path} runs at none of {sizes}")


@pytest.mark.models
@pytest.mark.skipif(not PUBLIC, reason="MODELSURGEON_MODELS names no folder of public models")
def test_symbolic_shapes_of_the_test_models() -> None:
    """Shapes inferred with open sizes, evaluated at the true sizes, equal those inferred with fixed sizes."""
    known = 0
    for path in sorted(Path(str(MODELS)).rglob("backend/test/data/*/*/model.onnx")):
        fixed = bound(ir.load(path))
        if symbols(fixed):
            continue
        opened, sizes = ir.load(path), {}
        for place, port in enumerate(opened.graph.inputs):
            if port.shape is not None and port.name not in opened.graph.initializers:
                sizes |= {f"s{place}_{axis}": size for axis, size in enumerate(port.shape)}
                port.shape = ir.Shape([f"s{place}_{axis}" for axis in range(len(port.shape))])
        opened = bound(opened)
        shape_of = expressions(opened, sizes)
        pairs = zip(opened.graph.all_nodes(), fixed.graph.all_nodes(), strict=False)
        for node, truth in pairs:
            for one, other in zip(node.outputs, truth.outputs, strict=False):
                shape = shape_of(one)
                if shape is None or other.shape is None or not other.shape.is_static():
                    continue
                found = tuple(
                    size
                    if isinstance(size, int)
                    else size.subs({s: sizes[str(s)] for s in size.free_symbols})
                    for size in shape
                )
                assert found == tuple(other.shape.numpy()), (path, node.op_type, shape)
                known += 1
    assert known > 3000
