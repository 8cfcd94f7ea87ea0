"""The outlook before a cut, on nets of low rank and on nets of flat spectra."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.compression.compressibility import BLOCKS, KERNELS, MATRICES, REST, block_layers
from modelsurgeon.compression.outlook import Outlook
from modelsurgeon.layers import Layer
from tests.zoo import model

Make = Callable[..., np.ndarray]
RNG = np.random.default_rng(0)


def noise(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)


def falling(out: int, into: int, *kernel: int) -> np.ndarray:
    """A weight with its energy in few directions, as in trained kernels."""
    left = RNG.normal(size=(out, into)) * 0.6 ** np.arange(into)
    right = RNG.normal(size=(into, into * int(np.prod(kernel))))
    return (left @ right).reshape(out, into, *kernel).astype(np.float32) / into


def separable(make: Make, *, excited: bool = False) -> ir.Model:
    """Two blocks of 1x1 -> depthwise -> 1x1 after a small stem."""
    excite = (
        "s = GlobalAveragePool (d) t = Conv (s, ws) u = Conv (t, wt) v = Mul (d, u)"
        if excited
        else "v = Relu (d)"
    )
    block = f"""p = Conv (a, w1)  b = Relu (p)  d = Conv <group = 256, pads = [1, 1, 1, 1]> (b, wd)  {excite}
            e = Conv (v, w2)"""
    return model(
        f"""g (float[1, 3, 16, 16] x) => (float[1, 64, 16, 16] y) {{
            a = Conv <pads = [1, 1, 1, 1]> (x, w0)
            {block}
            f = Conv (e, w3)  h = Conv <group = 256, pads = [1, 1, 1, 1]> (f, we)  y = Conv (h, w4)
        }}""",
        **({"ws": make(16, 256, 1, 1), "wt": make(256, 16, 1, 1)} if excited else {}),
        w0=make(64, 3, 3, 3),
        w1=make(256, 64, 1, 1),
        wd=noise(256, 1, 3, 3),
        w2=make(64, 256, 1, 1),
        w3=make(256, 64, 1, 1),
        we=noise(256, 1, 3, 3),
        w4=make(64, 256, 1, 1),
    )


def kernels(make: Make) -> ir.Model:
    return model(
        """g (float[N, 16, 12, 12] x) => (float[N, 10] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1)  b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1]> (b, w2)  d = Relu (c)
            e = Flatten (d)  y = Gemm <transB = 1> (e, w3)
        }""",
        w1=make(64, 16, 3, 3),
        w2=make(64, 64, 3, 3),
        w3=make(10, 64 * 144),
    )


def outlook_of(net: ir.Model, **how: Any) -> Outlook:  # noqa: ANN401 - as for `compress`
    outlook = ms.compress(net, **{"macs": 0.7, **how}, dry_run=True).outlook
    assert outlook is not None
    return outlook


@pytest.mark.parametrize("excited", [False, True])
def test_a_factorized_net_is_recognized_by_its_weights(excited: bool) -> None:
    found = outlook_of(separable(noise, excited=excited))
    assert found.compressibility.kinds[0].kind == BLOCKS and found.compressibility.kinds[0].share > 0.9
    assert found.net.startswith("this net is factorized already: 9")
    assert "(noise would lose 40 %): low rank can't pay here; with --data hidden channels" in found.net
    assert "as it is, the outputs will hardly hold; give --data" in found.cost


def test_low_rank_pays_in_blocks_of_low_rank() -> None:
    assert "low rank still pays" in outlook_of(separable(falling)).net


@pytest.mark.parametrize(
    ("make", "words"), [(noise, "only samples show it: give --data"), (falling, "low rank pays here")]
)
def test_other_nets_are_judged_by_error_curves(make: Make, words: str) -> None:
    found = outlook_of(kernels(make))
    assert {kind.kind for kind in found.compressibility.kinds} == {KERNELS, MATRICES}
    assert found.net.endswith(words)
    assert sum(kind.share for kind in found.compressibility.kinds) == pytest.approx(1)


def test_with_samples_outputs_are_judged() -> None:
    """The weights have flat spectra, but the inputs are of low rank."""
    causes = np.random.default_rng(1).normal(size=(3, 16, 1, 1))
    data = np.einsum("nchw,cidj->nihw", np.random.default_rng(2).normal(size=(24, 3, 12, 12)), causes)
    found = outlook_of(kernels(noise), data=data.astype(np.float32), only=["a"], macs=0.97)
    assert (
        found.compressibility.predicted is not None
        and found.net.endswith("low rank pays here")
        and "energy of their outputs" in found.net
    )
    assert (
        found.cost.startswith("this cut: a relative L2 of ") and "is predicted at the outputs" in found.cost
    )
    assert found.compressibility.kinds[-1].kind == REST and found.compressibility.kinds[-1].lost is None


def test_with_samples_a_factorized_net_has_channels_cut() -> None:
    data = np.random.default_rng(3).normal(size=(12, 3, 16, 16)).astype(np.float32)
    found = outlook_of(separable(noise), data=data, macs=0.9)
    assert found.net.startswith("this net is factorized already") and "energy of their outputs" in found.net
    assert "low rank can't pay here; hidden channels are left out instead" in found.net


def test_the_outlook_is_in_the_table_and_the_json() -> None:
    result = ms.compress(kernels(falling), macs=0.9, dry_run=True)
    table = result.tables()[-1]
    assert result.outlook is not None and table.title == "Outlook"
    assert list(table.notes) == [result.outlook.net, result.outlook.cost]
    assert result.as_dict()["outlook"] == result.outlook.as_dict()
    assert ms.compress(kernels(falling), macs=0.9, compare=False).outlook is None


def test_a_sweep_has_an_outlook() -> None:
    tables = ms.sweep(separable(noise), [0.9, 0.7], dry_run=True).tables()
    assert tables[-1].title == "Outlook" and len(tables[-1].notes) == 1


def test_a_depthwise_block_needs_two_1x1_layers() -> None:
    def conv(out: int, into: int, *kernel: int, groups: int = 1) -> Layer:
        return Layer(weight=np.ones((out, into // groups, *kernel), np.float32), groups=groups)

    wide, deep, back = conv(64, 16, 1, 1), conv(64, 64, 3, 3, groups=64), conv(16, 64, 1, 1)
    assert block_layers([("a", wide), ("b", deep), ("c", back)]) == {"a", "b", "c"}
    assert block_layers([("b", deep), ("c", back)]) == set()
    assert block_layers([("a", conv(64, 16, 3, 3)), ("b", deep), ("c", back)]) == set()
    assert block_layers([("a", wide), ("b", conv(64, 64, 3, 3, groups=8)), ("c", back)]) == set()
