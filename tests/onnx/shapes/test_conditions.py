"""Conditions that follow from sizes: the branch that is taken, the note on it, and formulas at every size."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import sympy

from modelsurgeon.onnx.info import analyze
from tests import zoo

CONDITIONS = {
    "c = Greater (n, four)": ("N <= 4", 1),
    "c = Less (four, n)": ("N <= 4", 1),
    "c = GreaterOrEqual (n, four)": ("N < 4", 1),
    "c = Equal (n, four)": ("Ne(N, 4)", 1),
    "e = Equal (n, four) c = Not (e)": ("Ne(N, 4)", 0),
    "a = Greater (n, four) b = Less (n, nine) c = And (a, b)": ("(N >= 9) | (N <= 4)", 1),
    "a = Less (n, four) b = Greater (n, nine) c = Or (a, b)": ("(N > 9) | (N < 4)", 0),
    "d = Mul (n, four) c = Greater (d, nine)": ("4*N <= 9", 1),
    "d = Sub (n, four) c = Cast <to = 9> (d)": ("Ne(N - 4, 0)", 0),
    "d = Cast <to = 1> (n) f = Cast <to = 1> (four) c = Greater (d, f)": ("N <= 4", 1),
    "s = SplitToSequence (x) l = SequenceLength (s) c = Less (l, four)": ("N < 4", 0),
}


def chooser(lines: str) -> ir.Model:
    """An If of these lines' condition c, whose branches have different costs and results."""
    return zoo.model(
        f"""
        g (float[N, 4] x) => (float[?, 4] y) {{
            shape = Shape (x) zero = Constant <value = int64 {{0}}> ()
            four = Constant <value = int64 {{4}}> () nine = Constant <value = int64 {{9}}> ()
            n = Gather <axis = 0> (shape, zero)
            {lines}
            t = If (c) <
                then_branch = p () => (float[?, 4] u) {{ j = Concat <axis = 0> (x, w) u = MatMul (j, w) }},
                else_branch = q () => (float[?, 4] v) {{ i = MatMul (x, w) v = MatMul (i, w) }}
            >
            y = MatMul (t, w)
        }}
        """,
        w=zoo.ones(4, 4),
    )


@pytest.mark.parametrize(("lines", "where", "branch"), [(key, *value) for key, value in CONDITIONS.items()])
def test_the_branch_at_the_defaults_counts_and_formulas_hold(lines: str, where: str, branch: int) -> None:
    model = chooser(lines)
    found = analyze(model)
    taken, other = ("then_branch", "else_branch")[:: -1 if branch else 1]
    assert f"t: {taken} is counted, taken where {where}; else {other}" in found.notes
    symbol = sympy.Symbol("N", integer=True, positive=True)
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    for size in (1, 2, 3, 4, 5, 8, 9, 10):
        bound = analyze(model, dims={"N": size})
        [rows] = session.run(None, {"x": np.ones((size, 4), np.float32)})
        joined = len(rows) > size
        assert bound.totals.macs == (16 * 2 * (size + 4) if joined else 16 * 3 * size)
        assert bound.model["outputs"][0]["shape"] == list(rows.shape)
        assert "macs" in found.formulas
        for key in {"macs", "flops", "activation_bytes"} & found.formulas.keys():
            formula = sympy.sympify(found.formulas[key], locals={"N": symbol})
            assert formula.subs(symbol, size) == getattr(bound.totals, key)


def test_a_condition_of_data_takes_no_side() -> None:
    found = analyze(chooser("d = ReduceSum <keepdims = 0> (x) f = Cast <to = 1> (four) c = Greater (d, f)"))
    assert any("costs no more" in note for note in found.notes)


def test_a_condition_of_the_iteration_is_met_in_some_iterations() -> None:
    model = zoo.model(
        """
        g (float[2, 4] x) => (float[2, 4] y) {
            seven = Constant <value = int64 {7}> () two = Constant <value = int64 {2}> ()
            y = Loop (seven, , x) <
                body = b (int64 k, bool i, float[2, 4] s) => (bool o, float[2, 4] z) {
                    o = Identity (i)
                    c = Less (k, two)
                    z = If (c) <then_branch = p () => (float[2, 4] u) { u = MatMul (s, w) },
                                else_branch = q () => (float[2, 4] v) { v = Relu (s) }>
                }
            >
        }
        """,
        w=zoo.ones(4, 4),
    )
    found = analyze(model)
    assert found.totals.macs == 2 * 2 * 4 * 4
    assert {layer.name: layer.runs for layer in found.layers if layer.op in ("MatMul", "Relu")} == {
        "u": 2,
        "v": 5,
    }
