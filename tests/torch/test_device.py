"""Factorizations on torch's arrays, mostly on the CPU, agree with numpy's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.linalg import norm

import modelsurgeon as ms
from modelsurgeon import linalg
from modelsurgeon.factorize import METHODS, relative_error
from modelsurgeon.layers import Array
from modelsurgeon.linalg.backend import HOST, backend_for
from modelsurgeon.torch.device import TorchBackend, on
from tests.strategies import layers

torch = pytest.importorskip("torch")
EVERYTHING = TorchBackend("cpu", least=0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with linalg.single_blas_thread(1):
        yield
    torch.set_num_threads(threads)


def approximation(matrix: Array, rank: int) -> Array:
    part = linalg.svd(matrix, rank)
    return (part.left * part.sigma) @ part.right


SHAPES = {"tall": (300, 40), "wide": (40, 300), "single precision": (280, 300), "iterated": (1030, 1100)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_and_numpy_agree(shape: tuple[int, int], dtype: str) -> None:
    rng = np.random.default_rng(0)
    k = min(shape)
    scale = 0.98 ** np.arange(k)
    matrix = ((rng.normal(size=(shape[0], k)) * scale) @ rng.normal(size=(k, shape[1]))).astype(dtype)
    here = approximation(matrix, 16)
    with linalg.use_backend(EVERYTHING):
        assert norm(approximation(matrix, 16) - here) <= 1e-4 * norm(here)
        values = linalg.singular_values(matrix)
    assert norm(values - linalg.singular_values(matrix)) <= 1e-6 * values[0]


@pytest.mark.parametrize("name", METHODS)
@given(layer=layers(), rank=st.integers(1, 4))
def test_every_method_has_equal_error(name: str, layer: ms.Layer, rank: int) -> None:
    here = relative_error(layer, METHODS[name](layer, rank))
    with linalg.use_backend(EVERYTHING):
        there = relative_error(layer, METHODS[name](layer, rank))
    assert abs(here - there) <= 1e-5


def test_device_is_for_large_matrices_within_the_block() -> None:
    torch.set_float32_matmul_precision("high")
    with on("cpu"):
        assert backend_for(np.zeros((8, 8))) is HOST
        assert isinstance(backend_for(np.zeros((1024, 1024))), TorchBackend)
        assert torch.get_float32_matmul_precision() == "highest"
    assert backend_for(np.zeros((1024, 1024))) is HOST
    assert torch.get_float32_matmul_precision() == "high"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_an_unavailable_device_is_refused() -> None:
    with (
        pytest.raises(ms.Unavailable, match=r"work on cuda here .*use --device cpu"),
        ms.device("cuda"),
    ):
        pass
    with pytest.raises(ms.Unavailable, match="no device 'tpu': use cpu or cuda"), ms.device("tpu"):
        pass
    with pytest.raises(ms.Unavailable, match="can't work on cuda here"):
        ms.compress("nothing.onnx", rank=4, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_and_numpy_agree() -> None:
    matrix = np.random.default_rng(0).standard_normal((2048, 3000), dtype=np.float32)
    here = approximation(matrix, 300)
    with ms.device("cuda"):
        assert norm(approximation(matrix, 300) - here) <= 1e-3 * norm(here)
