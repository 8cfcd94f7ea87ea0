"""Two models compared: types, names, layers, and models that can't be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from tests import zoo

W = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
DATA = np.random.default_rng(1).normal(size=(6, 8)).astype(np.float32)


def dense(kind: str = "float", entry: str = "x", out: str = "y") -> ir.Model:
    weight = W.astype({"float": np.float32, "float16": np.float16, "double": np.float64}[kind])
    text = f"g ({kind}[N, 8] {entry}) => ({kind}[N, 5] {out}) {{ {out} = MatMul ({entry}, w) }}"
    return zoo.model(text, w=weight)


@pytest.mark.parametrize("pair", [("float", "float16"), ("float16", "float"), ("float", "double")])
def test_each_model_is_fed_in_its_own_type(pair: tuple[str, str]) -> None:
    a, b = map(dense, pair)
    found = ms.compare(a, b, DATA, tolerance=1e-2)
    assert found.verdict == "within-tolerance"
    assert found.worst < 1e-3
    expected = pair == ("float", "float16")
    assert (
        any("input x of B is float16: the float32 samples are rounded" in n for n in found.notes) is expected
    )


def test_values_that_b_cannot_hold_are_refused_with_its_name() -> None:
    with pytest.raises(ms.BadData, match=r"^B: x has values that float16 can't hold"):
        ms.compare(dense(), dense("float16"), DATA * 1e6)


@pytest.mark.parametrize(
    ("a", "b", "fed"), [("int64", "int32", True), ("int32", "int64", True), ("int64", "uint8", False)]
)
def test_integers_are_converted_only_without_loss(a: str, b: str, fed: bool) -> None:
    def model(kind: str) -> ir.Model:
        return zoo.model(f"g ({kind}[N] x) => (float[N] y) {{ y = Cast <to = 1> (x) }}")

    data = np.array([1, 2, 300])
    if fed:
        assert ms.compare(model(a), model(b), data).verdict == "identical"
    else:
        with pytest.raises(ms.BadData, match=r"^B: x has values that uint8 can't hold"):
            ms.compare(model(a), model(b), data)


@pytest.mark.parametrize("kind", ["int64", "bool"])
def test_floats_are_no_feed_for_integers(kind: str) -> None:
    other = zoo.model(f"g ({kind}[N, 8] x) => (float[N, 8] y) {{ y = Cast <to = 1> (x) }}")
    with pytest.raises(ms.BadData, match=rf"^B: input x is {kind} and x of A is float32"):
        ms.compare(dense(), other, DATA)


def test_other_input_names_pair_by_position_if_asked() -> None:
    other = dense(entry="input", out="z")
    with pytest.raises(ms.BadData, match=r"^B: it takes the input input, and A takes x: .*--by-position"):
        ms.compare(dense(), other, DATA)
    found = ms.compare(dense(), other, DATA, by_position=True)
    assert found.verdict == "identical"
    assert found.notes[:2] == ("output z of B is compared with y of A", "input input of B is fed x of A")


def with_weight(kind: str) -> ir.Model:
    """A model whose weight is an input: one that has a default, or none; or no input at all."""
    entries = "float[N, 8] x" if kind == "constant" else "float[N, 8] x, float[8, 5] w"
    inits = {} if kind == "required" else {"w": W}
    return zoo.model(f"g ({entries}) => (float[N, 5] y) {{ y = MatMul (x, w) }}", **inits)


def test_defaults_that_the_data_replace_are_fed_to_both() -> None:
    named, plain = {"x": DATA, "w": np.stack([W * 2] * 6)}, {"x": DATA}
    default = with_weight("default")
    other = zoo.model("g (float[N, 8] x, float[8, 5] w) => (float[N, 5] y) { y = MatMul (x, w) }", w=W * 3)
    assert ms.compare(default, other, plain).verdict == "different"
    assert ms.compare(default, other, named).verdict == "identical"
    assert ms.compare(default, with_weight("required"), named).verdict == "identical"
    assert ms.compare(with_weight("required"), default, named).verdict == "identical"
    assert ms.compare(default, with_weight("constant"), plain).verdict is not None
    with pytest.raises(ms.BadData, match=r"^B: the data replace the default of w in A"):
        ms.compare(default, with_weight("constant"), named)
    with pytest.raises(ms.BadData, match=r"^B: it takes the input w"):
        ms.compare(default, with_weight("required"), plain)
    assert ms.info(default, data=named).sections["activations"]
    assert ms.clean(default, data=named).comparison.verdict == "identical"  # type: ignore[union-attr]


def test_positions_never_pair_inputs_across_ranks() -> None:
    other = zoo.model("g (float[N, 8, 1] z) => (float[N, 8, 1] y) { y = Relu (z) }")
    with pytest.raises(ms.BadData, match=r"^B: input z has shape \[\?, 8, 1\] and x of A \[\?, 8\]"):
        ms.compare(dense(), other, DATA, by_position=True)


def test_every_message_names_the_model_and_its_path(tmp_path: Path) -> None:
    fixed = zoo.model("g (float[2, 8] x) => (float[2, 8] y) { y = Relu (x) }")
    ms.save(fixed, tmp_path / "fixed.onnx")
    ms.save(dense(), tmp_path / "a.onnx")
    with pytest.raises(ms.BadData, match=r"^B \(.*fixed\.onnx\): x takes \[2, 8\] and A is fed \[1, 8\]"):
        ms.compare(tmp_path / "a.onnx", tmp_path / "fixed.onnx", DATA)
    with pytest.raises(ms.BadData, match=r"^A \(.*a\.onnx\): "):
        ms.compare(tmp_path / "a.onnx", tmp_path / "a.onnx", DATA[:, :3])


@pytest.mark.parametrize(
    ("nodes", "name"),
    [
        ("y = Dropout <seed = 1> (x, half, true)", "Dropout 'y'"),
        ("y = Dropout (x, half, true)", "Dropout 'y'"),
        ("r = RandomNormalLike (x) y = Add (x, r)", "RandomNormalLike 'r'"),
        ("r = RandomNormal <shape = [8]> () y = Add (x, r)", "RandomNormal 'r'"),
        ("r = RandomUniform <shape = [8], seed = 1.0> () y = Add (x, r)", "RandomUniform 'r'"),
        ("p = Sigmoid (x) y = Bernoulli (p)", "Bernoulli 'y'"),
        ("i = Multinomial <sample_size = 9> (x) y = Cast <to = 1> (i)", "Multinomial 'i'"),
        ("r = RandomNormalLike (x) s = Mul (r, tiny) y = Add (x, s)", "RandomNormalLike 'r'"),
    ],
)
def test_random_models_are_not_deterministic(nodes: str, name: str) -> None:
    model = zoo.model(
        f"g (float[4, 8] x) => (float[4, K] y) {{ {nodes} }}",
        half=np.float32(0.5),
        true=np.bool_(True),
        tiny=np.float32(1e-4),
    )
    found = ms.compare(model, model, DATA[:4], tolerance=1e9)
    assert found.verdict is None
    assert "A is not deterministic: output 'y'" in found.reason
    assert f"random operators: {name}" in found.reason
    with pytest.raises(ms.NoVerdict, match="not deterministic"):
        ms.prune(model, data=DATA[:4])


def test_dropout_in_inference_is_deterministic() -> None:
    model = zoo.model("g (float[4, 8] x) => (float[4, 8] y) { y = Dropout (x) }")
    assert ms.compare(model, model).verdict == "identical"


def two_layers(middle: str, **weights: Any) -> ir.Model:  # noqa: ANN401 - arrays
    return zoo.model(f"g (float[N, 8] x) => (float[N, 3] y) {{ {middle} y = Softmax (z) }}", **weights)


def test_layers_align_as_in_diff_and_have_no_part_in_the_verdict() -> None:
    rng = np.random.default_rng(2)
    v = rng.normal(size=(5, 3)).astype(np.float32)
    whole = two_layers("h = MatMul (x, w) r = Relu (h) z = MatMul (r, v)", w=W, v=v)
    order = np.arange(5)[::-1]
    other = two_layers(
        "h_new = MatMul (x, w) r = Relu (h_new) z = MatMul (r, v)", w=W[:, order].copy(), v=v[order].copy()
    )
    found = ms.compare(whole, other, DATA, per_layer=True)
    assert found.verdict in ("within-noise", "within-tolerance")
    errors = {metrics.name: metrics.error for metrics in found.outputs}
    assert list(errors) == ["y", "h", "z"]
    assert errors["h"] > 0.1
    assert errors["z"] < 1e-5
    assert found.worst == errors["y"]
    assert any("2 of 2 layers of A have a counterpart in B" in note for note in found.notes)


def test_layers_without_a_counterpart_are_named() -> None:
    v = np.ones((8, 3), np.float32)
    whole = two_layers("z = MatMul (x, v)", v=v)
    split = two_layers("h = MatMul (x, p) r = Relu (h) z = MatMul (r, v)", p=np.eye(8, dtype=np.float32), v=v)
    found = ms.compare(split, whole, np.abs(DATA), per_layer=True)
    assert any("1 of 2 layers of A have a counterpart in B" in note for note in found.notes)
    assert any(note.startswith("only in A: h") for note in found.notes)


def test_a_compressed_model_passes_with_its_layers() -> None:
    rng = np.random.default_rng(3)
    low = (rng.normal(size=(64, 4)) @ rng.normal(size=(4, 64))).astype(np.float32)
    net = zoo.model(
        "g (float[N, 64] x) => (float[N, 8] y) { h = MatMul (x, w) r = Relu (h) y = MatMul (r, v) }",
        w=low,
        v=rng.normal(size=(64, 8)).astype(np.float32),
    )
    data = rng.normal(size=(40, 64)).astype(np.float32)
    small = ms.compress(net, rank=4, data=data, block=1, only=["h"]).model
    found = ms.compare(net, small, data, per_layer=True, tolerance=1e-3)
    assert found.verdict != "different"
    assert [metrics.layer for metrics in found.outputs] == ["", "h"]


@pytest.mark.parametrize(
    "body", ["y = RandomNormalLike (x)", "h = Sigmoid (x) y = Bernoulli (h)", "y = Dropout (x, r, t)"]
)
def test_a_random_b_is_named_as_such(body: str) -> None:
    plain = zoo.model("g (float[N, 8] x) => (float[N, 8] y) { y = Relu (x) }")
    noisy = zoo.model(
        f"g (float[N, 8] x) => (float[N, 8] y) {{ {body} }}", r=np.float32(0.5), t=np.array(True)
    )
    found = ms.compare(plain, noisy, DATA)
    assert found.verdict is None
    assert found.reason.startswith("B is not deterministic: output 'y' differs by")
    assert "random operators: " in found.reason
    assert ms.compare(noisy, plain, DATA).reason.startswith("A is not deterministic")


def test_a_random_operator_that_changes_nothing_is_no_reason() -> None:
    plain = zoo.model("g (float[N, 8] x) => (float[N, 8] y) { y = Relu (x) }")
    still = zoo.model(
        "g (float[N, 8] x) => (float[N, 8] y) { r = RandomNormalLike (x) z = Mul (r, o) y = Relu (x) }",
        o=np.float32(0),
    )
    assert ms.compare(plain, still, DATA).verdict == "identical"


@pytest.mark.parametrize(
    ("kind", "number"), [("bfloat16", 16), ("float8e5m2", 19), ("uint4", 21), ("int4", 22)]
)
def test_outputs_that_onnxruntime_has_no_array_for_are_named(kind: str, number: int) -> None:
    model = zoo.model(
        f"g (float[N, 8] x) => ({kind}[N, 8] y) {{ y = Cast <to = {number}> (x) }}", opset=21, version=10
    )
    with pytest.raises(ms.BadData, match=rf"^A: 'y' is a tensor\({kind}\), which onnxruntime can't hand out"):
        ms.compare(model, model, DATA)
