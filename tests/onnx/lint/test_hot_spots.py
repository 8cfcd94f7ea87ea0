"""Rules about costly layers: a finding in a net with the problem, none in a net without it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests import zoo
from tests.onnx.lint.nets import chain, found


def test_one_layer_dominates_macs() -> None:
    [entry] = found(chain(4, 4, 4, 32, 32, 4, 4), "dominates-macs")
    assert entry.layer == "c4"
    assert entry.message.startswith("77.1 % of all MACs (9.44 M)")
    assert entry.evidence["macs"] == 32 * 32 * 9 * 32 * 32
    assert not found(chain(16, 16, 16, 16, 16, 16), "dominates-macs")


def test_dominates_macs_with_one_or_two_layers() -> None:
    assert [entry.layer for entry in found(chain(1, 32, 32), "dominates-macs")] == ["c2"]
    assert not found(chain(4, 32, 4), "dominates-macs")
    assert not found(chain(32, 32), "dominates-macs")


HEAVY = {
    "the input only": "float[5, 1, 8] x | h = LSTM <hidden_size = 64> (x, w, r) a = Squeeze (h)",
    "applied to it": 'float[64, 64] x | a = Einsum <equation = "ij,jk->ik"> (x, x)',
    "before it is quantized": """
        float[64, 64] x | q, s, z = DynamicQuantizeLinear (x)
        i = MatMulInteger (q, k) a = Cast <to = 1> (i)
    """,
}


@pytest.mark.parametrize("advice", HEAVY)
def test_advice_depends_on_the_operator(advice: str) -> None:
    port, nodes = HEAVY[advice].split("|")
    built = zoo.model(
        f"g ({port}) => (float y) {{ {nodes} y = MatMul (a, v) }}",
        w=zoo.ones(1, 256, 8),
        r=zoo.ones(1, 256, 64),
        k=np.ones((64, 64), np.int8),
        v=zoo.ones(64, 2),
    )
    [entry] = found(built, "dominates-macs")
    assert advice in entry.advice


def pyramid(features: int) -> ir.Model:
    """Three convolutions and a fully connected layer on a flattened map, or on a pooled one."""
    pool = "p = GlobalAveragePool (c)" if features == 8 else "p = Relu (c)"
    return zoo.model(
        f"""
        g (float[1, 3, 32, 32] x) => (float y) {{
            a = Conv (x, w1) b = Conv (a, w2) c = Conv (b, w3) {pool} f = Flatten (p) y = Gemm (f, w4)
        }}
        """,
        w1=zoo.ones(8, 3, 3, 3),
        w2=zoo.ones(8, 8, 3, 3),
        w3=zoo.ones(8, 8, 3, 3),
        w4=zoo.ones(features, 10),
    )


def test_dense_layer_dominates_params() -> None:
    [entry] = found(pyramid(8 * 26 * 26), "dominates-params")
    assert entry.layer == "y"
    assert "97.5 % of all params" in entry.message
    even = 5408 * 10 // 5418
    assert entry.evidence["break_even_rank"] == even
    assert f"--only y --method svd --rank {even // 2}" in entry.advice
    assert not found(pyramid(8), "dominates-params")


def test_params_at_the_break_even_rank() -> None:
    [entry] = found(pyramid(8 * 26 * 26), "dominates-params")
    rank = entry.evidence["break_even_rank"]
    assert rank * (5408 + 10) <= 5408 * 10 < (rank + 1) * (5408 + 10)


def test_memory_bound_layer() -> None:
    [bound] = found(pyramid(8 * 26 * 26), "memory-bound")
    assert bound.layer == "y"
    assert bound.message.startswith("0.45 FLOPs a byte: limited by reading 216 kB of weights")
    assert not found(pyramid(8), "memory-bound")


def test_memory_bound_uses_the_balance() -> None:
    assert not found(pyramid(8 * 26 * 26), "memory-bound", balance=0.4)


def test_uneven_neighbors() -> None:
    [entry] = found(chain(1, 1, 128, 128), "uneven")
    assert entry.layer == "c3"
    assert entry.message == "does 128 times the MACs of 'c2' before it"
    assert not found(chain(64, 64, 128, 128), "uneven")


def test_depthwise_layer_is_not_uneven() -> None:
    built = zoo.model(
        """
        g (float[1, 256, 32, 32] x) => (float y) {
            d = Conv <group = 256, pads = [1, 1, 1, 1]> (x, w1)
            y = Conv <pads = [1, 1, 1, 1]> (d, w2)
        }
        """,
        w1=zoo.ones(256, 1, 3, 3),
        w2=zoo.ones(256, 256, 3, 3),
    )
    assert not found(built, "uneven")


def test_branches_are_not_uneven() -> None:
    built = zoo.model(
        """
        g (float[1, 256, 16, 16] x) => (float y, float z) {
            a = Conv (x, w1) y = Conv (a, w2) z = Conv (a, w3)
        }
        """,
        w1=zoo.ones(128, 256, 3, 3),
        w2=zoo.ones(1, 128, 1, 1),
        w3=zoo.ones(128, 128, 1, 1),
    )
    assert not found(built, "uneven")


@pytest.mark.parametrize(("width", "count"), [(128, 1), (4, 0)])
def test_dominates_activations(width: int, count: int) -> None:
    widths = [4] * 13
    widths[6] = width
    entries = found(chain(*widths), "dominates-activations")
    assert len(entries) == count
    assert all("1×128×32×32" in entry.message for entry in entries)
