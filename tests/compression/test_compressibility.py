"""The numbers behind an outlook: where the MACs are, and what low rank loses at half of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from modelsurgeon.compression.compressibility import (
    KERNELS,
    MATRICES,
    REST,
    Compressibility,
    block_layers,
    compressibility,
)
from modelsurgeon.compression.select import Candidate
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.edits import FactorizationEdit
from tests.compression.places import Place


def place(name: str, *kernel: int) -> Place:
    site = Place(Layer(weight=np.ones((4, 4, *kernel))))
    site.name = name
    return site


def options(whole: int, *cuts: tuple[int, float], method: str = "svd") -> list[Candidate]:
    dense = Candidate(macs=whole, params=1)
    return [dense, *(Candidate(method=method, rank=1, macs=m, params=1, error=e) for m, e in cuts)]


def found(
    *layers: Sequence[Candidate], errors: Sequence[float] = (), predicted: float | None = None
) -> Compressibility:
    """Of a model of 1000 MACs with these kernels of 3 x 3."""
    sites = [place(f"l{n}", 3, 3) for n, _ in enumerate(layers)]
    edits = [FactorizationEdit(layer=f"l{n}", method="svd", rank=1, error=e) for n, e in enumerate(errors)]
    return compressibility(sites, {f"l{n}": each for n, each in enumerate(layers)}, 1000, edits, predicted)


CURVE = ((600, 0.1), (400, 0.4), (200, 0.5))  # at half of 800 MACs, .16 of the energy are lost


def test_the_loss_is_the_least_squared_error_at_half_of_the_macs() -> None:
    kernels, rest = found(options(800, *CURVE)).kinds
    assert (kernels.kind, kernels.layers, kernels.share, kernels.incompressible) == (KERNELS, 1, 0.8, 0.0)
    assert kernels.lost == kernels.loss == pytest.approx(0.16)
    assert (rest.kind, rest.share, rest.lost) == (REST, pytest.approx(0.2), None)


def test_channels_that_are_left_out_are_no_low_rank() -> None:
    both = [*options(800, *CURVE), *options(800, (100, 0.01), method="channels")[1:]]
    assert found(both).kinds[0].lost == pytest.approx(0.16)


def test_losses_are_weighted_by_macs() -> None:
    first, second = options(200, (100, 0.5)), options(600, (300, 0.1))
    kernels = found(first, second).kinds[0]
    assert kernels.lost == pytest.approx((200 * 0.25 + 600 * 0.01) / 800)


def test_layers_of_which_no_rank_leaves_half_count_as_lost() -> None:
    of = found(options(200, (100, 0.4)), options(600, (301, 0.1)))
    assert of.kinds[0].incompressible == pytest.approx(0.75)
    assert of.kinds[0].lost == pytest.approx(0.16)
    assert (of.loss, of.kinds[0].loss) == pytest.approx((0.79, 0.79))


@pytest.mark.parametrize(
    ("error", "predicted", "verdict"),
    [
        (0.35, None, "compressible"),  # .1225 of the weight's energy
        (0.35, 0.2, "lossy"),  # the same of the outputs' energy
        (0.3, 0.2, "compressible"),
        (0.4, None, "uncertain"),
        (0.6, None, "uncertain"),
    ],
)
def test_outputs_may_lose_less_than_weights(error: float, predicted: float | None, verdict: str) -> None:
    assert found(options(800, (400, error)), predicted=predicted).verdict == verdict


def test_kept_energies_multiply() -> None:
    of = found(options(400, (200, 0.1)), options(400, (200, 0.1)), errors=(0.6, 0.8))
    assert of.kept_energy == pytest.approx((1 - 0.36) * (1 - 0.64))
    assert of.cut_weights == 2


def test_pointwise_layers_are_matrices() -> None:
    of = compressibility([place("a", 1, 1)], {"a": options(1000, (500, 0.5))}, 1000, [], None)
    assert [kind.kind for kind in of.kinds] == [MATRICES]


@pytest.mark.parametrize(("between", "belongs"), [(0, True), (2, True), (3, False)])
def test_layers_of_a_block_are_near(between: int, belongs: bool) -> None:
    wide, back = Layer(weight=np.ones((8, 4, 1, 1))), Layer(weight=np.ones((4, 8, 1, 1)))
    deep = Layer(weight=np.ones((8, 1, 3, 3)), groups=8)
    other = [(f"o{n}", Layer(weight=np.ones((5, 5, 1, 1)))) for n in range(between)]
    for before, after in ((other, []), ([], other)):
        layers = [("a", wide), *before, ("b", deep), *after, ("c", back)]
        assert block_layers(layers) == ({"a", "b", "c"} if belongs else set())
