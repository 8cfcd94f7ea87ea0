"""Properties of every factorization, over every geometry."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.factorize import METHODS, Method, compose, relative_error
from modelsurgeon.layers import Layer, chain_macs, chain_params
from tests.conv import run, sizes
from tests.strategies import ROUNDING, dtypes, layers

FACTORIZATIONS = {name: method for name, method in METHODS.items() if method.alone}
every_factorization = pytest.mark.parametrize("method", FACTORIZATIONS.values(), ids=FACTORIZATIONS)
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 1e-9) -> bool:
    return a.shape == b.shape and float(np.linalg.norm(a - b)) <= tolerance * max(
        1.0, float(np.linalg.norm(b))
    )


def signal(layer: Layer, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(layer.in_channels, *sizes(layer)))


@every_method
@given(layer=layers())
def test_full_rank_is_exact(method: Method, layer: Layer) -> None:
    chain = method(layer, method.full_rank(layer))
    assert relative_error(layer, chain) < 1e-7
    x = signal(layer)
    assert close(run(chain, x), run([layer], x), 1e-7)


@every_method
@given(layer=layers(), rank=st.integers(1, 4))
def test_chain_equals_its_composed_layer(method: Method, layer: Layer, rank: int) -> None:
    chain = method(layer, rank)
    x = signal(layer)
    assert close(run(chain, x), run([compose(chain)], x))


@every_method
@given(layer=layers(), rank=st.integers(1, 4))
def test_geometry_is_kept(method: Method, layer: Layer, rank: int) -> None:
    whole = compose(method(layer, rank))
    assert whole.weight.shape == layer.weight.shape
    assert whole.groups == layer.groups
    assert whole.out_size(sizes(layer)) == layer.out_size(sizes(layer))
    assert (whole.stride, whole.padding) == (layer.stride, layer.padding)


@every_method
@settings(max_examples=40)
@given(layer=layers())
def test_error_falls_as_rank_grows(method: Method, layer: Layer) -> None:
    ranks = [1, 2, 4, 8, 1000]
    errors = [relative_error(layer, method(layer, rank)) for rank in ranks]
    # Alternating least squares stops near an optimum, not at it.
    slack = 0.03 if method.name.startswith("cp") else 1e-6
    assert all(later <= earlier + slack for earlier, later in pairwise(errors))
    assert errors[-1] < 1e-7


# Predicted for tucker2 is the error of the HOSVD, at most sqrt(2) times the best, which the iteration lowers;
# for cp the error after all sweeps from one start, which the best of several starts may lower.
PROMISES = {
    "svd": (1, 1e-6),
    "input-svd": (1, 1e-6),
    "spatial-svd": (1, 1e-6),
    "tucker2": (2**0.5, 1e-6),
    "cp": (np.inf, 0.03),
    "cp-separable": (np.inf, 0.03),
    "channels": (1, 1e-6),
}


@every_method
@settings(max_examples=40)
@given(layer=layers())
def test_predicted_error_is_the_measured_one(method: Method, layer: Layer) -> None:
    ranks = [method.clip(layer, r) for r in (1, 2, 3)]
    measured = [relative_error(layer, method(layer, r)) for r in ranks]
    factor, slack = PROMISES[method.name]
    for promised, found in zip(method.error(layer, ranks), measured, strict=True):
        assert found - slack <= promised
        assert factor == np.inf or promised <= factor * found + slack


@every_method
@pytest.mark.parametrize("rank", [32, 64, 128])
def test_predicted_error_is_close_on_trained_layers(method: Method, rank: int) -> None:
    from modelsurgeon.onnx.io.files import load
    from modelsurgeon.onnx.layers.sites import editable_copy, sites

    found, _ = sites(editable_copy(load(Path(__file__).parents[2] / "examples/digits/model.onnx")))
    layer = next(site.layer for site in found if site.layer.weight.shape == (96, 64, 3, 3))
    [promised] = method.error(layer, [method.clip(layer, rank)])
    allowed = 0.15 if method.name == "tucker2" else 0.05
    assert promised == pytest.approx(relative_error(layer, method(layer, rank)), rel=allowed)


@pytest.mark.parametrize("name", ["svd", "input-svd", "spatial-svd"])
@given(layer=layers(groups=st.just(1)), rank=st.integers(1, 3))
def test_error_is_the_tail_of_the_spectrum(name: str, layer: Layer, rank: int) -> None:
    from modelsurgeon.factorize import spatial_svd, svd

    cut = {"svd": svd.unfolded, "input-svd": svd.input_unfolded, "spatial-svd": spatial_svd.unfolded}
    matrix = cut[name](layer)
    sigma = np.linalg.svd(matrix, compute_uv=False)
    tail = np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma)
    assert relative_error(layer, METHODS[name](layer, rank)) == pytest.approx(tail, abs=1e-7)


@every_method
@given(layer=layers(), rank=st.integers(1, 4))
def test_sketch_has_the_shapes_of_the_chain(method: Method, layer: Layer, rank: int) -> None:
    sketch, chain = method.sketch(layer, rank), method(layer, rank)
    assert [s.weight.shape for s in sketch] == [c.weight.shape for c in chain]
    assert chain_params(sketch) == chain_params(chain)
    assert chain_macs(sketch, sizes(layer)) == chain_macs(chain, sizes(layer))


def closed_form(name: str, layer: Layer, r: int) -> int:
    """Number of weights, as in the papers. r: rank of each group, within bounds; not transposed."""
    out, into, *kernel = (layer.out_channels // layer.groups, *layer.weight.shape[1:])
    taps = int(np.prod(kernel))
    first = int(np.prod(kernel[: 2 if len(kernel) == 3 and into > out else 1]))
    forms = {
        "svd": r * (into * taps + out),
        "input-svd": r * (into + out * taps),
        "spatial-svd": r * (into * first + out * taps // first),
        "tucker2": into * r + r * r * taps + r * out,
        "cp": r * (into + taps + out) if taps > 1 else r * (into + out),
        "cp-separable": r * (into + sum(k for k in kernel if k > 1) + out),
        "channels": r * (into + out * taps),
    }
    return layer.groups * forms[name]


@every_method
@given(layer=layers(transposed=st.just(False)))
def test_params_follow_the_closed_form(method: Method, layer: Layer) -> None:
    bias = 0 if layer.bias is None else layer.bias.size
    assert chain_params(method.sketch(layer, 1)) == closed_form(method.name, layer, 1) + bias


def test_macs_of_a_strided_layer_count_each_factor_at_its_own_resolution() -> None:
    layer = Layer(weight=np.ones((8, 6, 3, 3)), stride=(2, 2), padding=((1, 1), (1, 1)))
    r, big, half = 2, 16, 8
    expected = {
        "svd": half * half * r * (6 * 9 + 8),
        "input-svd": r * (big * big * 6 + half * half * 9 * 8),
        "spatial-svd": half * big * r * 6 * 3 + half * half * r * 8 * 3,
        "tucker2": big * big * 6 * r + half * half * (r * r * 9 + r * 8),
        "cp": big * big * 6 * r + half * half * r * (9 + 8),
        "cp-separable": big * big * 6 * r + half * big * 3 * r + half * half * r * (3 + 8),
        "channels": r * (big * big * 6 + half * half * 9 * 8),
    }
    found = {name: chain_macs(method.sketch(layer, r), (big, big)) for name, method in METHODS.items()}
    assert found == expected


@every_method
@settings(max_examples=40)
@given(layer=layers(), dtype=dtypes, rank=st.sampled_from([1, 2, 1000]))
def test_dtype_is_kept_and_adds_only_rounding_error(
    method: Method, layer: Layer, dtype: np.dtype, rank: int
) -> None:
    narrow = replace(layer, weight=layer.weight.astype(dtype), bias=None)
    chain = method(narrow, rank)
    assert {link.weight.dtype for link in chain} == {dtype}
    wide = replace(narrow, weight=narrow.weight.astype(np.float64))
    exact = relative_error(wide, [replace(link, weight=link.weight.astype(np.float64)) for link in chain])
    [promised] = method.error(narrow, [rank])
    assert exact <= promised + PROMISES[method.name][1] + 20 * ROUNDING[dtype] + 1e-6


@every_method
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_extreme_weights(method: Method, scale: float) -> None:
    rng = np.random.default_rng(0)
    layer = Layer(weight=rng.normal(size=(6, 5, 3, 3)) * scale)
    chain = method(layer, 1000)
    assert all(np.isfinite(link.weight).all() for link in chain)
    assert relative_error(layer, chain) < 1e-6


@every_method
@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 4, 3, 3), (4, 0, 3, 3), (4, 4, 0, 3)])
def test_an_empty_weight_is_refused(method: Method, shape: tuple[int, ...]) -> None:
    for work in (lambda layer: method(layer, 1), lambda layer: method.error(layer, [1]), method.full_rank):
        with pytest.raises(UnsupportedLayer, match="is empty: nothing can be cut"):
            work(Layer(weight=np.zeros(shape)))


@every_factorization
@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1e4), ("float32", 1e30), ("float32", 1e-30)])
@pytest.mark.parametrize("shape", [(64, 1, 3, 3), (1, 64, 3, 3), (32, 32, 3, 3), (96, 40)])
def test_factors_stay_in_range_of_dtype(
    method: Method, dtype: str, scale: float, shape: tuple[int, ...]
) -> None:
    weight = (np.random.default_rng(0).normal(size=shape) * scale).astype(dtype)
    layer = Layer(weight=weight)
    chain = method(layer, 8)
    [promised] = method.error(layer, [8])
    assert relative_error(layer, chain) == pytest.approx(promised, rel=0.2, abs=2e-3)


@every_factorization
def test_rank_deficient_weights_are_exact_at_their_rank(method: Method) -> None:
    layer = Layer(weight=np.ones((6, 5, 3, 3), np.float32))
    assert relative_error(layer, method(layer, 1)) < (2e-2 if method.name.startswith("cp") else 1e-6)


@every_method
@settings(max_examples=20)
@given(layer=layers())
def test_same_layer_same_factors(method: Method, layer: Layer) -> None:
    once, again = method(layer, 2), method(layer, 2)
    assert all((a.weight == b.weight).all() for a, b in zip(once, again, strict=True))


@every_method
def test_nan_is_refused(method: Method) -> None:
    weight = np.ones((4, 4, 3, 3))
    weight[0, 0, 0, 0] = np.nan
    with pytest.raises(UnsupportedLayer, match="NaN or Inf"):
        method(Layer(weight=weight), 2)


@every_method
def test_rank_zero_is_refused(method: Method) -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        method(Layer(weight=np.ones((4, 4, 3, 3))), 0)


def test_only_tucker2_takes_two_ranks() -> None:
    layer = Layer(weight=np.random.default_rng(0).normal(size=(8, 6, 3, 3)))
    chain = METHODS["tucker2"](layer, (3, 2))
    assert [link.weight.shape for link in chain] == [(2, 6, 1, 1), (3, 2, 3, 3), (8, 3, 1, 1)]
    with pytest.raises(ValueError, match="svd takes one rank"):
        METHODS["svd"](layer, (3, 2))
