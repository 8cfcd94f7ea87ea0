"""Factorizations: pure functions from one layer and a rank to a chain of layers.

`METHODS` lists them by name; the command line's choices, the property tests and the docs loop over it.
"""

from collections.abc import Sequence
from typing import Any

from modelsurgeon.factorize.channel_selection import CHANNELS
from modelsurgeon.factorize.composition import compose, norm_ratio, relative_error
from modelsurgeon.factorize.cp import CP, CP_SEPARABLE
from modelsurgeon.factorize.method import Method, Rank, split_groups
from modelsurgeon.factorize.spatial_svd import SPATIAL_SVD
from modelsurgeon.factorize.svd import INPUT_SVD, SVD
from modelsurgeon.factorize.tucker2 import TUCKER2
from modelsurgeon.layers import Layer

# By falling accuracy and falling cost at equal rank.
METHODS: dict[str, Method[Any]] = {
    method.name: method for method in (SVD, INPUT_SVD, SPATIAL_SVD, TUCKER2, CP, CP_SEPARABLE, CHANNELS)
}


def suited(layer: Layer, names: Sequence[str]) -> list[str]:
    """The names of `METHODS` that suit a layer: no simpler method gives the same chain. All where none does.

    Methods that pay only where the layer's inputs can be removed (`Method.alone` is False) are left out.
    Raises KeyError for other names.
    """
    one, alone = split_groups(layer)[0], [name for name in names if METHODS[name].alone]
    return [name for name in alone if METHODS[name].distinct(one)] or alone


__all__ = ["METHODS", "Method", "Rank", "compose", "norm_ratio", "relative_error", "suited"]
