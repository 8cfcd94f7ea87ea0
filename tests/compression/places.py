"""A site without a model."""

from __future__ import annotations

from collections.abc import Sequence

from modelsurgeon.layers import Layer
from modelsurgeon.surgery.site import Call, ChannelProducers

CALL = ((12, 12), 1)


class Place:
    """A site without a model."""

    name = "a"
    extra_params = 0
    producers: ChannelProducers | None = None
    members: Sequence[str] = ()
    calls: Sequence[Call] = [CALL]

    def __init__(self, layer: Layer) -> None:
        self.layer = layer

    def replace(self, chain: Sequence[Layer]) -> None:
        self.layer = chain[0]
