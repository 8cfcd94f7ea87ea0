"""`Layer`, one linear layer of any framework; batch norm, patches and matrices of convolutions."""

from modelsurgeon.layers.layer import Array, Layer, Padding, chain_macs, chain_params

__all__ = ["Array", "Layer", "Padding", "chain_macs", "chain_params"]
