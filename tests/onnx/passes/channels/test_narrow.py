"""Removal of hidden channels from a block: their producers, and the narrower graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.site import ChannelProducers
from tests.zoo import model

BLOCK = """g (float[N, 8, 6, 6] x) => (float[N, 5] y) {
    e = Conv (x, we, be)
    r = Relu (e)
    d = Conv <group = 64, pads = [1, 1, 1, 1]> (r, wd, bd)
    s = HardSwish (d)
    p = Conv (s, wp, bp)
    o = Add (p, x)
    f = GlobalAveragePool (o)
    g = Flatten (f)
    y = Gemm <transB = 1> (g, wf, bf)
}"""


def weights(causes: int = 64) -> dict[str, np.ndarray]:
    """Weights of `BLOCK`, whose 64 hidden channels are copies of `causes` different ones."""
    rng = np.random.default_rng(1)

    def weight(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(np.float32)

    few = np.arange(64) % causes
    return {
        "we": weight(causes, 8, 1, 1)[few],
        "wd": weight(causes, 1, 3, 3)[few],
        "wp": weight(8, 64, 1, 1),
        "be": weight(causes, 1)[few, 0],
        "bd": weight(causes, 1)[few, 0],
        "bp": weight(8, 1)[:, 0],
        "wf": weight(5, 8),
        "bf": weight(5, 1)[:, 0],
    }


@pytest.fixture(scope="module")
def net() -> ir.Model:
    return model(BLOCK, **weights())


def data(count: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 8, 6, 6)).astype(np.float32)


def makers(net: ir.Model) -> dict[str, ChannelProducers | None]:
    return {site.name: site.producers for site in OnnxModel(net).sites}


def test_producers_and_their_cost(net: ir.Model) -> None:
    found = makers(net)
    assert found["p"] == ChannelProducers(layers=("e", "d"), macs=36 * 8 + 36 * 9, params=9 + 10)
    assert [name for name, each in found.items() if each is not None] == ["p"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("=> (float[N, 5] y)", "=> (float[N, 5] y, float[N, 64, 6, 6] r)"),  # a graph output
        ("f = GlobalAveragePool (o)", "z = Conv (s, wp, bp) o2 = Add (o, z) f = GlobalAveragePool (o2)"),
        ("s = HardSwish (d)", "t = Softmax <axis = 1> (d) s = HardSwish (t)"),  # mixes channels
    ],
)
def test_channels_with_other_uses_stay(before: str, after: str) -> None:
    assert BLOCK.replace(before, after) != BLOCK
    found = makers(model(BLOCK.replace(before, after), **weights()))
    shared = "z = Conv" in after  # one layer is used twice: both uses take the same channels
    assert (found["p"] is None) is not shared


def test_narrower_graph_and_its_edits(net: ir.Model) -> None:
    result = ms.compress(net, plan={"p": {"method": "channels", "rank": 32}}, data=data())
    assert result.before is not None and result.after is not None
    assert result.after["macs"] == ms.info(result.model).totals.macs
    edits = {edit.layer: edit for edit in result.edits if edit.skipped is None}
    assert {name: edit.action for name, edit in edits.items()} == {
        "e": "narrow",
        "d": "narrow",
        "p": "factorize",
    }
    assert all(2 * (edit.macs_after or 0) == edit.macs_before for edit in edits.values())
    saved = sum((e.macs_before or 0) - (e.macs_after or 0) for e in edits.values())
    assert result.before["macs"] - result.after["macs"] == saved
    shapes = [v.shape.numpy() for v in result.model.graph.initializers.values() if v.shape is not None]
    assert (32, 8, 1, 1) in shapes and (32, 1, 3, 3) in shapes and (8, 32, 1, 1) in shapes


def test_duplicate_channels_are_removed_without_loss() -> None:
    double = model(BLOCK, **weights(causes=20))
    result = ms.compress(double, plan={"p": {"method": "channels", "rank": 20}}, data=data())
    assert result.comparison is not None and result.comparison.worst < 1e-3


def test_channels_method_is_chosen_if_best(net: ir.Model) -> None:
    result = ms.compress(net, macs=0.7, data=data(96))
    assert result.plan["p"].method == "channels"
    assert sorted(edit.layer for edit in result.edits) == ["d", "e", "p", "y"]  # one edit each
    assert result.after is not None and result.before is not None
    assert result.after["macs"] <= 0.7 * result.before["macs"]
    others = [name for name in ms.factorize.METHODS if name != "channels"]
    worsts = [ms.compress(net, macs=0.7, data=data(96), method=name) for name in others[:1]]
    assert result.comparison is not None
    assert all(r.comparison is not None and r.comparison.worst > result.comparison.worst for r in worsts)


def test_factorized_producer_becomes_narrower(net: ir.Model) -> None:
    plan = {"e": {"method": "svd", "rank": 6}, "p": {"method": "channels", "rank": 32}}
    result = ms.compress(net, plan=plan, data=data())
    assert result.after is not None
    assert result.after["macs"] == ms.info(result.model).totals.macs == 36 * (6 * 8 + 32 * (6 + 9 + 8)) + 40


def test_hidden_units_of_gemm_layers() -> None:
    rng = np.random.default_rng(0)
    mlp = model(
        "g (float[N, 16] x) => (float[N, 6] y) { h = Gemm (x, w1, b1) a = Relu (h) y = Gemm (a, w2, b2) }",
        w1=rng.normal(size=(16, 64)).astype(np.float32),
        b1=rng.normal(size=64).astype(np.float32),
        w2=rng.normal(size=(64, 6)).astype(np.float32),
        b2=rng.normal(size=6).astype(np.float32),
    )
    samples = rng.normal(size=(64, 16)).astype(np.float32)
    result = ms.compress(mlp, plan={"y": {"method": "channels", "rank": 48}}, data=samples)
    assert result.after is not None and result.after["params"] == 48 * (16 + 1 + 6) + 6


@pytest.mark.parametrize(
    "gelu",
    [
        "a = Gelu (s)",
        "d = Div (s, r) e = Erf (d) o = Add (e, one) m = Mul (s, o) a = Mul (m, half)",
        "t = Sigmoid (s) a = Mul (s, t)",
    ],
)
def test_hidden_units_of_a_transformer_mlp(gelu: str) -> None:
    rng = np.random.default_rng(0)
    mlp = model(
        f"""g (float[N, T, 16] x) => (float[N, T, 16] z) {{
            n = LayerNormalization (x, scale)
            h = MatMul (n, w1)
            s = Add (h, b1)
            {gelu}
            y = MatMul (a, w2)
            p = Add (y, b2)
            z = Add (p, x)
        }}""",
        opset=20,
        scale=np.ones(16, np.float32),
        r=np.float32(2**0.5),
        one=np.float32(1),
        half=np.float32(0.5),
        w1=rng.normal(size=(16, 64)).astype(np.float32),
        b1=rng.normal(size=64).astype(np.float32),
        w2=rng.normal(size=(64, 16)).astype(np.float32),
        b2=rng.normal(size=16).astype(np.float32),
    )
    samples = rng.normal(size=(64, 5, 16)).astype(np.float32)
    known = makers(mlp)["y"]
    assert known is not None and (known.layers, known.params) == (("h",), 16)
    result = ms.compress(mlp, plan={"y": {"method": "channels", "rank": 48}}, data=samples)
    weights = {v.shape.numpy() for v in result.model.graph.initializers.values() if v.shape is not None}
    assert {(16, 48), (48,), (48, 16)} <= weights
    assert result.comparison is not None and result.comparison.worst < 0.4
