"""One linear layer, whatever framework it comes from, and the algebra of what stands beside it."""

from modelsurgeon.layers.layer import Array, Layer, Padding, chain_macs, chain_params

__all__ = ["Array", "Layer", "Padding", "chain_macs", "chain_params"]
