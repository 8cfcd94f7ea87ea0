"""Public nets that come as a module and a file of weights."""

from __future__ import annotations

from torch import nn


def efficientnet_lite0() -> nn.Module:
    """From the package efficientnet-lite-pytorch, which must be on the path."""
    from efficientnet_lite_pytorch import EfficientNet

    module: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return module
