"""Factorizations: a pure function from one layer and a rank to a chain of layers.

`METHODS` is the one list of them; the command line's choices, the property tests and the docs loop over it.
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

# In the order of their accuracy at equal rank, which is also the order of their cost.
METHODS: dict[str, Method[Any]] = {
    method.name: method for method in (SVD, INPUT_SVD, SPATIAL_SVD, TUCKER2, CP, CP_SEPARABLE, CHANNELS)
}


def suited(layer: Layer, names: Sequence[str]) -> list[str]:
    """Those of the methods that give this layer a chain of their own; all of them where none does.

    Never one that pays only together with what feeds the layer.
    """
    one, alone = split_groups(layer)[0], [name for name in names if METHODS[name].alone]
    return [name for name in alone if METHODS[name].distinct(one)] or alone


__all__ = ["METHODS", "Method", "Rank", "compose", "norm_ratio", "relative_error", "suited"]
