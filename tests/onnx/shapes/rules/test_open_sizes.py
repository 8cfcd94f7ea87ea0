"""Arithmetic of open sizes equals that of numbers, and contents of tensors are followed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import onnx_ir as ir
import pytest
import sympy

from modelsurgeon.errors import BadData, UnknownShape
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.rules.open_sizes import arithmetic
from tests import zoo
from tests.onnx.analysis.formulas.test_formulas import value
from tests.onnx.operated import outputs
from tests.onnx.shapes.rules.ran import run

Sizes = tuple[int, ...]

N = sympy.Symbol("N", positive=True, integer=True)
BOUNDS = (-(2**63), -9, -3, -1, 0, 1, 4, 9, 2**63 - 1)


def at(entry: arithmetic.Entry, size: int) -> int:
    return int(sympy.sympify(entry).subs(N, size))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_slices_have_the_sizes_of_numpy(step: int) -> None:
    for start, end in product(BOUNDS, BOUNDS):
        count = arithmetic.slice_size(N, start, end, step)
        for size in range(1, 12):
            assert at(count, size) == len(range(size)[start:end:step]), (start, end, size)
            assert arithmetic.slice_size(size, start, end, step) == at(count, size)


@pytest.mark.parametrize("step", [-1, -2])
def test_slices_backwards_have_the_sizes_of_numpy(step: int) -> None:
    """But for a start before the first element, which is taken as the first, and the largest integer as end,
    which stands for all that is before the start.
    """
    for start, end in product(BOUNDS, (2**31 - 1, *BOUNDS)):
        count = arithmetic.slice_size(N, start, end, step)
        for size in range(1, 12):
            stop = None if end in (2**31 - 1, 2**63 - 1) else end
            assert at(count, size) == len(range(size)[max(start, -size) : stop : step]), (start, end, size)


@pytest.mark.parametrize(
    ("function", "truth"),
    [
        (arithmetic.truncated_quotient, lambda a, b: int(a / b)),
        (arithmetic.floored_quotient, lambda a, b: a // b),
        (arithmetic.raised_quotient, lambda a, b: -(-a // b)),
        (arithmetic.remainder, lambda a, b: a % b),
        (arithmetic.truncated_remainder, lambda a, b: int(np.fmod(a, b))),
        (arithmetic.smallest, min),
        (arithmetic.largest, max),
    ],
)
def test_arithmetic_of_expressions_equals_that_of_numbers(
    function: Callable[[arithmetic.Entry, int], arithmetic.Entry], truth: Callable[[int, int], int]
) -> None:
    rounded = 4 * arithmetic.floored_quotient(N, 4), 4 * arithmetic.raised_quotient(N, 4)
    for expression in (N, N - 5, 3 - N, 2 * N + 1, *rounded, -rounded[0]):
        for other in (1, 2, 3, 5):
            found = function(expression, other)
            for size in range(1, 15):
                assert at(found, size) == truth(at(expression, size), other), (expression, other, size)
    for multiple in (*rounded, -rounded[1], rounded[0] + 1):
        found = function(multiple, 4), arithmetic.smallest(multiple, N)
        for size in range(1, 15):
            assert at(found[0], size) == truth(at(multiple, size), 4)
            assert at(found[1], size) == min(at(multiple, size), size)


def test_what_is_missing_to_a_multiple_cancels() -> None:
    missing = arithmetic.remainder(4 - arithmetic.remainder(N, 4), 4)
    assert str(N + missing) == "4*ceiling(N/4)"
    assert arithmetic.smallest(N + missing, N) == N


@pytest.mark.parametrize(("factor", "followed"), [(0.5, True), (0.7, True), (0.1, True), (1.0000001, False)])
def test_factors_that_are_not_exact_in_binary(factor: float, followed: bool) -> None:
    found = arithmetic.float_product(N, sympy.Rational(float(np.float32(factor))))
    assert (found is not None) == followed
    for size in range(1, 200) if followed else ():
        assert at(sympy.floor(found), size) == int(np.float32(size) * np.float32(factor))


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        ("q = Div (n, two)", "floor(L/2)"),
        ("m = Mod (n, two) q = Add (n, m)", "2*L - 2*floor(L/2)"),
        ("f = Cast <to = 1> (n) h = Mul (f, half) c = Ceil (h) q = Cast <to = 7> (c)", "ceiling(L/2)"),
        ("c = Greater (n, two) q = Where (c, two, n)", "Piecewise((2, L > 2), (L, True))"),
        ("m = Max (n, two) k = Concat <axis = 0> (m, two) q = ReduceProd <keepdims = 1> (k)", "2*Max(2, L)"),
        ("e = Equal (n, minus) q = Where (e, two, n)", "L"),
        (
            "k = Concat <axis = 0> (n, two, n) r = Slice (k, one, three) s = ReduceSum (r) q = Mul (s, two)",
            "2*L + 4",
        ),
    ],
)
def test_contents_are_followed(computed: str, expected: str) -> None:
    text = f"""
        g (float[N, L, 8] x) => (float y) {{
            n = Shape <start = 1, end = 2> (x) two = Constant <value = int64[1] {{2}}> ()
            one = Constant <value = int64[1] {{1}}> () three = Constant <value = int64[1] {{3}}> ()
            minus = Constant <value = int64[1] {{-1}}> () half = Constant <value = float[1] {{0.5}}> ()
            {computed}
            y = ConstantOfShape (q)
        }}
    """
    model = bound(zoo.model(text))
    assert str(list(model.graph)[-1].outputs[0].shape) == f"[{expected}]"


CONDITION = """
g (float[N, L, 8] x) => (float y) {
    n = Shape <start = 1, end = 2> (x) two = Constant <value = int64[1] {2}> ()
    zero = Constant <value = int64[1] {0}> () m = Mod (n, two) e = Equal (m, zero) c = Squeeze (e)
    y = If (c) <
        then_branch = t () => (float a) { a = MatMul (x, w) },
        else_branch = f () => (float b) { h = MatMul (x, w) b = MatMul (h, w) }
    >
}
"""


def test_an_if_that_depends_on_a_remainder() -> None:
    built = zoo.model(CONDITION, w=zoo.ones(8, 8))
    found = analyze(built)
    for length in (1, 2, 5, 8):
        sizes = {"N": 3, "L": length}
        fixed = analyze(built, dims=sizes).totals
        assert {key: value(text, sizes) for key, text in found.formulas.items()} == {
            key: getattr(fixed, key) for key in ("macs", "flops", "bias_adds", "activation_bytes")
        }


UNDECIDED = """
g (float[N, L, 8] x, bool c) => (float y) {
    y = If (c) <
        then_branch = t () => (float a) {
            p = Transpose <perm = [0, 2, 1]> (x) s = MatMul (x, p) a = MatMul (s, x)
        },
        else_branch = f () => (float b) { h = MatMul (x, u) b = MatMul (h, v) }
    >
}
"""


def test_no_formula_where_another_branch_costs_more_at_other_sizes() -> None:
    found = analyze(zoo.model(UNDECIDED, u=zoo.ones(8, 64), v=zoo.ones(64, 8)))
    assert "macs" not in found.formulas
    assert any("macs" in note and "the other branch costs more" in note for note in found.notes)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("z = somewhere.Magic (x) y = MatMul (z, w)", "(Magic)"),
        (
            "s = Shape (x) f = Cast <to = 1> (s) r = Sqrt (f) i = Cast <to = 7> (r) y = Expand (o, i)",
            "(Sqrt)",
        ),
        ("s, t = Split (x, k) y = MatMul (s, w)", "(Split)"),
    ],
)
def test_the_note_names_the_first_node_that_stopped_a_formula(body: str, reason: str) -> None:
    found = analyze(
        zoo.model(
            f"g (float[N, 4] x, int64[2] k) => (float y) {{ {body} }}", w=zoo.ones(4, 3), o=zoo.ones(1, 1)
        )
    )
    keys = {"macs", "flops", "bias_adds", "activation_bytes"} - set(found.formulas)
    notes = [note for note in found.notes if "no formula" in note or "lower bounds" in note]
    assert keys and any(reason in note for note in notes), found.notes


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("window", ["kernel_shape = [4], strides = [2]", "kernel_shape = [5], pads = [1, 0]"])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_maps_smaller_than_the_window_of_a_pool(op: str, window: str, size: int) -> None:
    """onnxruntime pools what is there, makes an empty map, or fails where more is missing."""
    built = zoo.model(f"g (float[1, 2, L] x) => (float y) {{ y = {op} <{window}> (x) }}")
    try:
        ran = outputs(built, x=np.ones((1, 2, size), np.float32))[0].shape
    except BadData:
        with pytest.raises(UnknownShape, match="can't run"):
            analyze(built, dims={"L": size})
    else:
        assert analyze(built, dims={"L": size}).layers[0].output_shapes == (ran,)


@pytest.mark.parametrize(
    ("call", "maps", "runs"),
    [
        ("Compress <axis = 0> (x, kept)", "float[N, 2] x", {1: (1, 2), 3: (2, 2), 4: (3, 2), 9: (4, 2)}),
        ("Compress (x, kept)", "float[N, 2] x", {1: (1,), 2: (3,), 9: (4,)}),
        *(
            (f'ConvTranspose <auto_pad = "{side}", strides = [3]> (x, w)', "float[1, 1, N] x", runs)
            for side in ("SAME_UPPER", "SAME_LOWER")
            for runs in ({1: (1, 1, 2), 5: (1, 1, 14)},)
        ),
    ],
)  # fmt: skip
def test_entries_and_maps_have_the_sizes_that_run(call: str, maps: str, runs: dict[int, Sizes]) -> None:
    kept = np.array([1, 0, 1, 1, 0, 1], bool)
    model = zoo.model(f"g ({maps}) => (float y) {{ y = {call} }}", kept=kept, w=zoo.ones(1, 1, 2))
    for size, expected in runs.items():
        assert sizes(bound(model, dims={"N": size}).graph.outputs[0]) == expected
        assert sizes(bound(model).graph.outputs[0], {"N": size}) == expected
        shape = [axis if isinstance(axis, int) else size for axis in model.graph.inputs[0].shape or ()]
        ran = run(ir.to_proto(model), {"x": np.zeros(shape, np.float32)})
        assert ran is not None
        assert np.asarray(ran["y"]).shape == expected
