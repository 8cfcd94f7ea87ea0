"""Factorizations: a pure function from one layer and a rank to a chain of layers.

`METHODS` is the one list of them; the command line's choices, the property tests and the docs loop over it.
"""

from typing import Any

from modelsurgeon.factorize.compose import compose, relative_error
from modelsurgeon.factorize.cp import CP
from modelsurgeon.factorize.method import Method, Rank
from modelsurgeon.factorize.spatial import SPATIAL_SVD
from modelsurgeon.factorize.svd import SVD
from modelsurgeon.factorize.tucker import TUCKER2

# In the order of their accuracy at equal rank, which is also the order of their cost.
METHODS: dict[str, Method[Any]] = {method.name: method for method in (SVD, SPATIAL_SVD, TUCKER2, CP)}

__all__ = ["METHODS", "Method", "Rank", "compose", "relative_error"]
