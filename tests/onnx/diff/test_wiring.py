"""Wiring in `diff`: models whose nodes read other values differ, and those that only look different don't."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from tests import zoo
from tests.onnx.diff.rewiring import (
    answers,
    equal,
    random_feed,
    randomized,
    renamed,
    rewired,
    swapped_outputs,
)

RESIDUAL = """
    g (float[2, 8] x, float[2, 8] z) => (float[2, 8] y, float[2, 8] v) {
        a = MatMul (x, w1)
        r = Relu (a)
        b = MatMul (r, w2)
        s = Add (b, x)
        d = Sub (s, z)
        h, i = Split <axis = 1> (d)
        c = Concat <axis = 1> (i, h)
        t = Tanh (c)
        q = Identity (t)
        m = Mul (q, r)
        k = Greater (m, z)
        u = Where (k, m, s)
        p = Div (u, a)
        y = Softmax (p)
        v = Max (u, d, c)
    }
"""
ATTENTION = """
    g (float[2, 5, 8] x, float[2, 5, 8] z) => (float[2, 5, 8] y) {
        q = MatMul (x, w1)
        k = MatMul (z, w2)
        v = MatMul (z, w3)
        t = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, t)
        p = Softmax (s)
        o = MatMul (p, v)
        n = Add (o, x)
        e = Sub (n, q)
        y = PRelu (e, o)
    }
"""
GRU = """
    g (float[4, 2, 8] x, float[1, 2, 8] s, float[1, 2, 8] t) => (float y, float last, float u) {
        y, last = GRU <hidden_size = 8> (x, w1, w2, , , s)
        n, cell, u = LSTM <hidden_size = 8> (x, w3, w4, , , s, t)
    }
"""
NESTED = """
    g (float[2, 4] x, float[2, 4] z, bool c, int64 n) => (float[2, 4] y, float[2, 4] v) {
        a = Relu (x)
        b = Neg (z)
        yes = Constant <value = bool {1}> ()
        y = Loop (n, yes, a) <
            body = l (int64 k, bool i, float[2, 4] s) => (bool o, float[2, 4] e) {
                o = Identity (i)
                d = Sub (s, b)
                f = Sub (d, z)
                e = If (c) <
                    then_branch = t () => (float[2, 4] g1) { g0 = Sub (d, f) g1 = Mul (g0, s) },
                    else_branch = f () => (float[2, 4] h1) { h0 = Div (f, a) h1 = Sub (h0, s) }
                >
            }
        >
        v = Scan <num_scan_inputs = 2, body = b (float[4] r, float[4] p) => (float[4] q) {
            w = Sub (r, p) q = Mul (w, r)
        }> (a, b)
    }
"""


def nets() -> dict[str, ir.Model]:
    eight = {f"w{number}": zoo.ones(8, 8) for number in (1, 2, 3)}
    gates = {"w1": zoo.ones(1, 24, 8), "w2": zoo.ones(1, 24, 8), "w3": zoo.ones(1, 32, 8)}
    return {
        "residual": zoo.model(RESIDUAL, w1=zoo.ones(8, 8), w2=zoo.ones(8, 8)),
        "attention": zoo.model(ATTENTION, **eight),
        "recurrent": zoo.model(GRU, **gates, w4=zoo.ones(1, 32, 8)),
        "nested": zoo.model(NESTED),
        "branches": zoo.branches(),
        "loop": zoo.loop("n"),
        "scan": zoo.scan(),
        "quantized": zoo.quantized(),
        "functions": zoo.functions(),
    }


@pytest.mark.parametrize("name", nets())
def test_what_answers_differently_is_not_identical(name: str) -> None:
    """onnxruntime is the oracle: each rewired model runs on the same random inputs as the original."""
    rng = np.random.default_rng(len(name))
    model = randomized(nets()[name], rng)
    feeds = [random_feed(model, rng) for _ in range(2)]
    truth = [answers(model, feed) for feed in feeds]
    assert None not in truth
    for other in rewired(model, rng, 60):
        answered = [answers(other, feed) for feed in feeds]
        if None in answered:
            continue
        same = all(equal(a, b) for a, b in zip(truth, answered, strict=True))
        found = ms.diff(model, other)
        assert same or not found.identical, ir.to_proto(other).graph
        assert same or not ms.diff(other, model, weights=False).identical
        assert same or not ms.diff(renamed(model, rng), other).identical


@pytest.mark.parametrize("name", nets())
def test_other_names_and_another_order_are_no_difference(name: str) -> None:
    rng = np.random.default_rng(len(name))
    model = randomized(nets()[name], rng)
    for _ in range(4):
        other = renamed(model, rng)
        found = ms.diff(model, other)
        assert found.identical, found.as_dict()
        assert set(found.counts) <= {"same", "renamed"}


def net(nodes: str, *, inputs: str = "float[2, 4] a, float[2, 4] b", outputs: str = "float y") -> ir.Model:
    return zoo.model(f"g ({inputs}) => ({outputs}) {{ {nodes} }}", w=zoo.ones(4, 4), n=zoo.ones(2, 4))


def what(before: ir.Model, after: ir.Model) -> list[str]:
    """All changes of layers and model, as sentences."""
    found = ms.diff(before, after)
    return [*found.model, *(text for change in found.shown for text in change.what)]


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        ("y = Sub (a, b)", "y = Sub (b, a)", "inputs 0 and 1 have changed places"),
        ("y = Concat <axis = 0> (a, b)", "y = Concat <axis = 0> (b, a)",
         "inputs 0 and 1 have changed places"),
        ("y = MatMul (a, w)", "y = MatMul (b, w)", "input 0 reads graph input 'a' → graph input 'b'"),
        ("r = Relu (a) t = Tanh (r) y = Add (t, r)", "r = Relu (a) t = Tanh (r) y = Add (t, a)",
         "input 1 reads 'r' → graph input 'a'"),
        ("h, i = Split <axis = 1> (a) y = Neg (h)", "h, i = Split <axis = 1> (a) y = Neg (i)",
         "input 0 reads 'h' → output 1 of 'h'"),
        ("y = Clip (a, n)", "y = Clip (a, , n)", "input 1 2×4 → none"),
        ("y = Sub (a, w)", "y = Sub (w, a)", "input 0 is a constant now"),
        ("y = Add (a, w)", "y = Add (a, b)", "input 1 is no constant any more"),
    ],
)  # fmt: skip
def test_a_rewired_node_says_what_it_reads(before: str, after: str, text: str) -> None:
    inputs = "float[4, 4] a, float[4, 4] b"
    assert text in what(net(before, inputs=inputs), net(after, inputs=inputs))


@pytest.mark.parametrize("op", ["Add", "Mul", "Max", "Sum"])
def test_operands_of_a_commutative_operator_may_change_places(op: str) -> None:
    row = "float[4] a, float[2, 4] b"
    assert ms.diff(net(f"y = {op} (a, b)", inputs=row), net(f"y = {op} (b, a)", inputs=row)).identical
    assert ms.diff(net(f"y = {op} (a, n)"), net(f"y = {op} (n, a)")).identical
    assert not ms.diff(net(f"y = {op} (a, n)"), net(f"y = {op} (n, b)")).identical


def test_three_summands_are_ordered() -> None:
    """Rounding depends on the order of a sum."""
    assert not ms.diff(net("y = Sum (a, b, n)"), net("y = Sum (n, b, a)")).identical


def test_crossed_outputs() -> None:
    built = net("y = Relu (a) v = Neg (a)", outputs="float[2, 4] y, float[2, 4] v")
    assert "output 'y' reads Relu 'y' → Neg 'y'" in what(built, swapped_outputs(built))
    named = net("y = Relu (a) v = Neg (a)", outputs="float[2, 4] y, float[2, 4] v")
    for node in named.graph:
        node.name = node.op_type
    assert what(named, swapped_outputs(named)) == [
        "output 'y' reads 'Relu' → 'Neg'",
        "output 'v' reads 'Neg' → 'Relu'",
    ]


def test_outputs_of_a_branch() -> None:
    text = "y = If (c) <then_branch = t () => (float[2, 4] p) {{ p = Neg (a) q = Abs (a) r = Add ({}) }}," \
        "else_branch = e () => (float[2, 4] s) {{ s = Relu (b) }}>"  # fmt: skip
    inputs = "float[2, 4] a, float[2, 4] b, bool c"
    before, after = (net(text.format("p, q"), inputs=inputs) for _ in range(2))
    branch = after.graph[0].attributes["then_branch"].as_graph()
    branch.outputs[0] = branch[1].outputs[0]
    assert what(before, after) == ["then_branch output 0 reads 'p' → 'q'"]
    assert what(before, net(text.format("p, a"), inputs=inputs)) == ["input 1 reads 'q' → graph input 'a'"]


def test_identity_is_transparent() -> None:
    before = net("r = Relu (a) y = Sub (r, b)")
    assert what(before, net("r = Relu (a) i = Identity (r) y = Sub (i, b)")) == ["output 2×4"]
    assert what(net("r = Relu (a) i = Identity (r) y = Sub (i, b)"), before) == ["output 2×4"]
    cast = net("r = Relu (a) i = Cast <to = 1> (r) y = Sub (i, b)")
    assert [change.kind for change in ms.diff(before, cast).shown] == ["added"]


def test_what_reads_an_inserted_node_is_compared_with_the_nodes_before_it() -> None:
    before = net("r = Relu (a) t = Tanh (b) y = Sub (r, t)")
    assert what(before, net("r = Relu (a) t = Tanh (b) e = Exp (r) y = Sub (e, t)")) == ["output 2×4"]
    assert what(before, net("r = Relu (a) t = Tanh (b) e = Exp (t) y = Sub (e, t)")) == [
        "output 2×4",
        "input 0 reads 'r' → 'e'",
    ]


def test_strings_are_compared() -> None:
    text = (
        'g (string[2] a) => (bool[2] y) {{ s = Constant <value_strings = ["{}", "q"]> () y = Equal (a, s) }}'
    )
    before, after = (zoo.model(text.format(word), opset=19) for word in ("p", "r"))
    assert ms.diff(before, before).identical
    assert not ms.diff(before, after).identical


def test_two_draws_are_not_one() -> None:
    nodes = "r = RandomNormalLike (a) s = RandomNormalLike (a) y = Sub ({})"
    assert not ms.diff(net(nodes.format("r, s")), net(nodes.format("r, r"))).identical


def test_a_function_that_is_not_inlined_is_compared() -> None:
    text = 'g (float[2] x) => (float y) {{ y = local.f (x) }} <domain: "local", opset_import: ["" : 12]> ' \
        "f (a) => (c) {{ c = {} (a) }}"  # fmt: skip
    before, after = (zoo.model(text.format(op)) for op in ("Relu", "Neg"))
    assert ms.diff(before, before).identical
    assert not ms.diff(before, after).identical


def test_names_alone_are_no_difference() -> None:
    found = ms.diff(net("r = Relu (a) y = Neg (r)"), net("q = Relu (a) y = Neg (q)"))
    assert found.identical
    assert "no difference in 2 nodes but the names of 1" in found.tables()[0].notes


TWINS = (
    "r = Relu (a) t = Relu (a) e = Neg (r) f = Neg (t) "
    "p = Sub ({}, f) q = Sub ({}, e) y = Concat <axis = 0> (p, q)"
)


def test_another_twin_is_another_source() -> None:
    """The answers stay equal, but one of two nodes that compute the same is read no more, or once more."""
    before = net(TWINS.format("e", "f"))
    rng = np.random.default_rng(0)
    assert all(ms.diff(before, renamed(before, rng)).identical for _ in range(8))
    assert what(before, net(TWINS.format("e", "e"))) == ["input 0 reads 'f' → 'e'"]


SOFTMAX = "<domain: 'local', opset_import: ['' : {}]> f (p) => (r) {{ r = Softmax (p) }}".replace("'", '"')


def test_an_operator_of_another_opset_is_another_operator() -> None:
    """Softmax of opset 12 works on all axes from the second on, that of opset 13 on the last one."""
    text = "g (float[2, 3, 4] x) => (float y) {{ y = local.f (x) }} {}"
    before, after = (zoo.model(text.format(SOFTMAX.format(number))) for number in (12, 17))
    assert what(before, after) == ["Softmax of opset 12 → Softmax"]
    assert not ms.diff(after, before).identical


def test_opsets_that_no_node_uses_are_no_difference() -> None:
    before, other, standard = (net("y = Relu (a)") for _ in range(3))
    other.opset_imports["unused"] = 3
    standard.opset_imports["ai.onnx"] = standard.opset_imports.pop("")
    assert ms.diff(before, other).identical
    assert ms.diff(before, standard).identical


def test_a_weight_that_a_caller_may_override_is_no_fixed_one() -> None:
    before, after, old = (net("y = Sub (a, n)") for _ in range(3))
    for model in (after, old):
        model.graph.inputs.append(model.graph.initializers["n"])
    old.ir_version = 3
    assert what(before, after) == ["inputs with defaults: none → n"]
    assert ms.diff(before, old).identical


def test_sizes_known_at_run_time_are_equal_under_any_name() -> None:
    text = "{0} = NonZero (a) {1} = NonZero (b) y = Cast <to = 1> ({0}) z = Cast <to = 1> ({1})"
    before, after = (net(text.format(*names), outputs="float y, float z") for names in ("pq", "qr"))
    assert ms.diff(before, after).identical
    crossed = "p = NonZero (a) q = NonZero (b) y = Cast <to = 1> (q) z = Cast <to = 1> (p)"
    assert not ms.diff(before, net(crossed, outputs="float y, float z")).identical


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("y = Relu (a)", "r = Relu (a) y = Identity (r)"),
        ("y = Relu (a)", "i = Identity (a) y = Relu (i)"),
        ("y = Sub (a, n)", "i = Identity (n) y = Sub (a, i)"),
        ("r = Relu (a) t = Tanh (b) y = Sub (r, t)",
         "q = Relu (a) i = Identity (q) t = Tanh (b) y = Sub (i, t)"),
        ("c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float p) {p = Relu (a)},"
         "else_branch = e () => (float q) {q = Neg (b)}>",
         "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float p) "
         "{r = Relu (a) p = Identity (r)}, else_branch = e () => (float q) {q = Neg (b)}>"),
    ],
)  # fmt: skip
def test_an_inserted_identity_is_the_only_difference(before: str, after: str) -> None:
    models = (net(before), net(after))
    for kind, (one, other) in (("added", models), ("removed", models[::-1])):
        shown = [change for change in ms.diff(one, other).shown if change.kind != "renamed"]
        assert [(change.kind, change.what) for change in shown] == [(kind, ["output 2×4"])]


def test_unread_weights_that_may_have_changed_places_are_noted() -> None:
    text = "g (float[4, 4] x) => (float y) {{ a = MatMul (x, {}) y = MatMul (a, {}) }}"
    weights = {"u": zoo.ones(4, 4), "v": 2 * zoo.ones(4, 4)}
    before, after = (zoo.model(text.format(*names), **weights) for names in ("uv", "vu"))
    assert not ms.diff(before, after).identical
    note = "weights may have changed places, which shows where they are read: 'u' → 'v' in 'a' and 1 more"
    assert note in ms.diff(before, after, weights=False).notes
    assert len(ms.diff(before, before, weights=False).notes) == 1


MODELS = os.environ.get("MODELSURGEON_MODELS")
CASES = sorted(Path(MODELS).rglob("*.onnx")) if MODELS else []


@pytest.mark.models
@pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with models")
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.name)
def test_real_models(path: Path) -> None:
    """Rewired ones that answer differently differ; renamed and reordered ones don't."""
    rng = np.random.default_rng(0)
    model = ms.load(path)
    assert ms.diff(model, renamed(model, rng)).identical
    feed = random_feed(model, rng)
    truth = answers(model, feed)
    for other in rewired(model, rng, 3) if truth is not None else ():
        answered = answers(other, feed)
        if answered is not None and not equal(truth, answered):
            assert not ms.diff(model, other).identical
