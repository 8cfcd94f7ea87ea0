"""Paired runs of two graphs in stages: tensors between stages equal those of whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from modelsurgeon.data import batches
from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.onnx.run import inputs, runner, spool
from modelsurgeon.onnx.run.paired_runs import StageStart, paired_inputs
from tests.zoo import model

RNG = np.random.default_rng(2)


def weights(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32) / 3


@pytest.fixture
def residual() -> ir.Model:
    """A residual sum over two layers, a computed shape, and a graph output that nodes use."""
    return model(
        """g (float[N, 4, 6, 6] x, float[4] s) => (float[N, 5] y, float[N, 4, 6, 6] r) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1)
            r = Relu (a)
            b = Conv <pads = [1, 1, 1, 1]> (r, w2)
            h = Add (b, x)
            size = Shape (x)
            n = Slice (size, zero, one)
            m = GlobalAveragePool (h)
            shape = Concat <axis = 0> (n, minus)
            f = Reshape (m, shape)
            k = Mul (f, s)
            y = Gemm (k, w3)
        }""",
        w1=weights(4, 4, 3, 3),
        w2=weights(4, 4, 3, 3),
        w3=weights(4, 5),
        zero=np.array([0]),
        one=np.array([1]),
        minus=np.array([-1]),
    )


def fed(net: ir.Model, count: int = 5) -> object:
    feeds = [{"x": weights(2, 4, 6, 6), "s": weights(4)} for _ in range(count)]
    return batches(feeds, inputs(net))


STARTS = [StageStart("x", "a"), StageStart("r", "b", "x"), StageStart("k", "y")]


@pytest.mark.parametrize("held", [spool.MAX_HELD_BYTES, 0])
def test_stage_tensors_equal_those_of_whole_runs(
    residual: ir.Model, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "MAX_HELD_BYTES", held)  # at 0, every tensor is written to a file
    feeds = fed(residual)
    changed = editable_copy(residual)
    inside = runner(residual, outputs=["r", "k"])
    for (tensor, _, other), pairs in zip(
        STARTS, paired_inputs(residual, changed, STARTS, feeds), strict=True
    ):
        for _ in range(2):  # pairs can be iterated again
            for feed, (ours, theirs, added) in zip(feeds, pairs(), strict=True):
                whole = {**feed, **inside(feed)}
                np.testing.assert_allclose(ours, whole[tensor], atol=1e-5)
                np.testing.assert_allclose(theirs, whole[tensor], atol=1e-5)
                assert (added is None) == (other is None)
                for each in added or ():
                    np.testing.assert_array_equal(each, whole[str(other)])


def test_replaced_layers_change_the_inputs_of_later_ones(residual: ir.Model) -> None:
    feeds = fed(residual)
    editable = OnnxModel(residual, data=feeds)
    seen = []
    for site, pairs in editable.paired_inputs(["a", "b", "y"], feeds):
        seen.append(max(float(np.abs(x - now).max()) for x, now, _ in pairs()))
        layer = site.layer
        site.replace([layer.like(0.5 * layer.weight, axes=range(len(layer.kernel)), bias=layer.bias)])
    assert seen[0] == 0 and min(seen[1:]) > 0.01
    whole = runner(editable.finish(), outputs=["k"])
    again = OnnxModel(editable.finish(), data=feeds)
    for (_, x), feed in zip(again.layer_inputs([again.sites[-1].name], feeds), feeds, strict=True):
        np.testing.assert_allclose(x, whole(feed)["k"], atol=1e-5)


def residual_of(text: str, **constants: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The residual of layer `a` in a net whose layer `s` is doubled in the edited copy."""
    net = model(text, v=weights(4, 4), w=weights(4, 4), **constants)
    editable = OnnxModel(net, data={"x": weights(1, 4)})
    found = None
    for site, pairs in editable.paired_inputs([each.name for each in editable.sites], editable.batches(0)):
        if site.name == "a":
            [(_, _, found)] = pairs()
        elif site.name == "s":
            site.replace([site.layer.like(2 * site.layer.weight)])
    return found


@pytest.mark.parametrize(
    ("sum_up", "constants"),
    [("y = Add (a, s)", {}), ("c = Add (b, a) y = Add (s, c)", {"b": weights(4)})],
    ids=["straight", "behind a bias"],
)
def test_the_addend_of_a_layers_output_is_its_residual(sum_up: str, constants: dict[str, np.ndarray]) -> None:
    text = f"g (float[N, 4] x) => (float[N, 4] y) {{ s = MatMul (x, v) a = MatMul (x, w) {sum_up} }}"
    was, now = residual_of(text, **constants) or (0, 1)
    np.testing.assert_allclose(now, 2 * was, rtol=1e-5)


def test_the_addend_after_an_absorbed_norm_is_the_residual() -> None:
    """The last layer of a residual block has a residual despite a BatchNormalization before the sum."""
    parts = {name: np.ones(4, np.float32) for name in ("scale", "shift", "mean", "var")}
    net = model(
        """g (float[N, 4, 6, 6] x) => (float[N, 4, 6, 6] y) {
            s = Conv (x, v)
            a = Conv (x, w)
            n = BatchNormalization (a, scale, shift, mean, var)
            y = Add (n, s)
        }""",
        v=weights(4, 4, 1, 1),
        w=weights(4, 4, 1, 1),
        **parts,
    )
    editable = OnnxModel(net, data={"x": weights(1, 4, 6, 6)})
    residuals = {
        site.name: next(pairs()).residual
        for site, pairs in editable.paired_inputs(["s", "a"], editable.batches(0))
    }
    assert residuals["s"] is None and residuals["a"] is not None


def test_a_residual_may_be_used_behind_later_layers() -> None:
    text = """g (float[N, 4] x) => (float[N, 4] y) {
        s = MatMul (x, v)  a = MatMul (x, w)  h = Add (a, s)  b = MatMul (h, u)  t = Mul (b, s)
        y = MatMul (t, u2)
    }"""
    was, now = residual_of(text, u=weights(4, 4), u2=weights(4, 4)) or (0, 1)
    np.testing.assert_allclose(now, 2 * was, rtol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        # the other addend is computed later
        "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul (x, w) s = MatMul (x, v) y = Add (a, s) }",
        # its output has another use
        "g (float[N, 4] x) => (float[N, 4] y) "
        "{ s = MatMul (x, v) a = MatMul (x, w) r = Relu (a) c = Add (a, s) y = Add (r, c) }",
        "g (float[N, 4] x) => (float[N, 4] y) "
        "{ s = MatMul (x, v) a = MatMul (x, w) c = Add (a, s) r = Relu (a) y = Add (r, c) }",
        # its output is a graph output
        "g (float[N, 4] x) => (float[N, 4] y, float[N, 4] a) "
        "{ s = MatMul (x, v) a = MatMul (x, w) y = Add (a, s) }",
        # a non-linearity precedes the sum
        "g (float[N, 4] x) => (float[N, 4] y) "
        "{ s = MatMul (x, v) a = MatMul (x, w) r = Relu (a) y = Add (r, s) }",
        "g (float[N, 4] x) => (float[N, 4] y) { s = MatMul (x, v) a = MatMul (x, w) y = Mul (a, s) }",
    ],
    ids=["made later", "used twice", "used after the sum", "an output", "not straight", "no sum"],
)
def test_other_layers_have_no_residual(text: str) -> None:
    assert residual_of(text) is None


def test_a_layer_that_is_applied_twice_has_no_pairs() -> None:
    net = model(
        "g (float[N, 4] x) => (float[N, 4] y) { a = MatMul (x, w) r = Relu (a) y = MatMul (r, w) }",
        w=weights(4, 4),
    )
    editable = OnnxModel(net, data={"x": weights(6, 4)})
    [(site, pairs)] = editable.paired_inputs([editable.sites[0].name], editable.batches(0))
    assert len(site.nodes) == 2 and list(pairs()) == []
    seen = [x for _, x in editable.layer_inputs([site.name], editable.batches(0))]
    assert len(seen) == 2 * 6


def test_a_weight_on_the_left_is_fed_columns() -> None:
    net = model("g (float[2, 4, 3] x) => (float[2, 5, 3] y) { y = MatMul (w, x) }", w=weights(5, 4))
    x = weights(2, 4, 3)
    editable = OnnxModel(net, data={"x": x})
    [(_, rows)] = editable.layer_inputs(["y"], editable.batches(0))
    np.testing.assert_array_equal(rows, x.transpose(0, 2, 1).reshape(6, 4))


def test_the_spools_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "MAX_HELD_BYTES", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with spool.Spool() as kept:
        kept.put(0, {"a/b": np.arange(3)})
        kept.put(0, {"a/b": np.arange(4), "": np.array(2.5)})
        assert list(tmp_path.iterdir())
        assert kept.get(0)["a/b"].tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.iterdir())
