"""LSTM, GRU and RNN: the product with the input is a site; the rest of the operator is unchanged."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from modelsurgeon.factorize import METHODS, compose
from modelsurgeon.onnx.io.files import load
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from modelsurgeon.surgery.plan import FULL_RANK
from tests.onnx.operated import operated, outputs, reasons, relative
from tests.zoo import model

RNG = np.random.default_rng(3)
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SEQUENCE, BATCH, INPUT, HIDDEN = 5, 2, 7, 4
MODELS = os.environ.get("MODELSURGEON_MODELS")


def numbers(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def recurrent(op: str = "LSTM", direction: str = "forward", *, extras: str = "", layout: int = 0) -> ir.Model:
    """One operator; `extras` are its optional inputs: biases (B), lengths (S), states (H), peepholes (P)."""
    d, g = (2 if direction == "bidirectional" else 1), GATES[op]
    weights = {"w": numbers(d, g * HIDDEN, INPUT), "r": numbers(d, g * HIDDEN, HIDDEN)}
    optional = {
        "b": numbers(d, 2 * g * HIDDEN) if "B" in extras else None,
        "s": np.array([5, 3], np.int32) if "S" in extras else None,
        "h": numbers(d, BATCH, HIDDEN) if "H" in extras else None,
    }
    if op == "LSTM":
        optional["c"] = numbers(d, BATCH, HIDDEN) if "H" in extras else None
        optional["p"] = numbers(d, 3 * HIDDEN) if "P" in extras else None
    names = ", ".join(name if array is not None else '""' for name, array in optional.items())
    size = f"{BATCH}, {SEQUENCE}" if layout else f"{SEQUENCE}, {BATCH}"
    outs = ["y", "y_h", "y_c"] if op == "LSTM" else ["y", "y_h"]
    attributes = f'hidden_size = {HIDDEN}, direction = "{direction}", layout = {layout}'
    text = f"""g (float[{size}, {INPUT}] x) => ({", ".join(f"float {out}" for out in outs)}) {{
        {", ".join(outs)} = {op} <{attributes}> (x, w, r, {names})
    }}"""
    given = {name: array for name, array in optional.items() if array is not None}
    return model(text.replace('""', ""), opset=14, **weights, **given)


def feed(layout: int = 0) -> np.ndarray:
    return numbers(*((BATCH, SEQUENCE) if layout else (SEQUENCE, BATCH)), INPUT)


@pytest.mark.parametrize("extras", ["", "B", "BSH", "H"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
def test_full_rank_keeps_the_outputs(op: str, direction: str, extras: str) -> None:
    built, x = recurrent(op, direction, extras=extras), feed()
    copy = operated(built, rank=FULL_RANK)
    assert [node.op_type for node in copy.graph] == ["MatMul", op]
    for one, two in zip(outputs(copy, x=x), outputs(built, x=x), strict=True):
        assert relative(one, two) < 1e-5


def test_peepholes_are_kept() -> None:
    built, x = recurrent(extras="BSHP"), feed()
    for one, two in zip(outputs(operated(built), x=x), outputs(built, x=x), strict=True):
        assert relative(one, two) < 1e-5


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout(op: str) -> None:
    built, x = recurrent(op, layout=1), feed(1)
    [site], _ = sites(editable_copy(built))
    assert site.calls == [((), SEQUENCE * BATCH)]
    runs = [ReferenceEvaluator(ir.to_proto(m)).run(None, {"x": x}) for m in (built, operated(built))]
    for one, two in zip(*runs, strict=True):
        assert relative(one, two) < 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_chain_gives_the_outputs_of_its_composed_weight(method: str) -> None:
    built, x = recurrent("GRU", "bidirectional", extras="B"), feed()
    [site], _ = sites(editable_copy(built))
    whole = compose(METHODS[method](site.layer, 3))
    expected = editable_copy(built)
    [other], _ = sites(expected)
    other.replace([whole])
    assert relative(outputs(expected, x=x)[0], outputs(built, x=x)[0]) > 1e-2
    assert relative(outputs(operated(built, method, 3), x=x)[0], outputs(expected, x=x)[0]) < 1e-5


@pytest.mark.parametrize("extras", ["", "B"])
def test_the_bias_of_a_chain_is_added_to_the_operator(extras: str) -> None:
    """A bias W s on the gates has the same effect as a shift of the input by s."""
    built, x = recurrent(extras=extras), feed()
    [site], _ = sites(editable_copy(built))
    shift = numbers(INPUT)
    chain = METHODS["svd"](site.layer, FULL_RANK)
    moved = editable_copy(built)
    [other], _ = sites(moved)
    other.replace([*chain[:-1], replace(chain[-1], bias=site.layer.weight @ shift)])
    assert relative(outputs(moved, x=x)[0], outputs(built, x=x + shift)[0]) < 1e-5


def test_a_shared_weight_is_factorized_once() -> None:
    built = model(
        """g (float[5, 2, 4] x) => (float z) {
            y, h = GRU <hidden_size = 4> (x, w, r)
            flat = Squeeze (y, one)
            z, k = GRU <hidden_size = 4> (flat, w, r)
        }""",
        w=numbers(1, 12, 4),
        r=numbers(1, 12, 4),
        one=np.array([1]),
    )
    copy = operated(built, rank=2)
    assert [n.op_type for n in copy.graph if n.op_type != "Squeeze"] == ["MatMul", "GRU"] * 2
    assert len({n.inputs[1] for n in copy.graph if n.op_type == "MatMul"}) == 1


LEFT_ALONE = {
    "W is a graph input": ("float[1, 4, 7] w", "w", "a graph input without a default: --freeze-inputs"),
    "W is computed": ("float[1, 4, 7] v", "Relu (v)", "computed at run time"),
}


@pytest.mark.parametrize(("given", "made", "reason"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_skipped_layers_have_a_reason(given: str, made: str, reason: str) -> None:
    step = "" if made == "w" else f"w = {made}"
    built = model(
        f"g (float[5, 2, 7] x, {given}) => (float y) {{ {step}\n y = RNN <hidden_size = 4> (x, w, r) }}",
        r=numbers(1, 4, 4),
    )
    assert [r for r in reasons(built) if reason in r]


def test_a_layer_with_a_computed_bias_is_skipped() -> None:
    built = model(
        "g (float[5, 2, 7] x, float[1, 8] b) => (float y) { y = RNN <hidden_size = 4> (x, w, r, b) }",
        w=numbers(1, 4, 7),
        r=numbers(1, 4, 4),
    )
    assert reasons(built) == [
        "its bias is a graph input without a default: --freeze-inputs fixes those that have one"
    ]


@pytest.mark.models
@pytest.mark.skipif(not MODELS, reason="MODELSURGEON_MODELS names no folder")
def test_a_public_lstm_is_exact_at_full_rank_and_a_quantized_one_is_skipped() -> None:
    [path] = Path(str(MODELS)).rglob("common.onnx")
    built = load(path)
    copy = editable_copy(built)
    site = next(site for site in sites(copy)[0] if site.nodes[0].op_type == "LSTM")
    site.replace(METHODS["svd"](site.layer, FULL_RANK))
    x = numbers(1, 1, 64, 160)
    assert relative(outputs(copy, input1=x)[0], outputs(built, input1=x)[0]) < 1e-5
    _, skipped = sites(editable_copy(load(path.with_name("common_old.onnx"))))
    assert "its weight is quantized: int8" in {edit.skipped for edit in skipped}
