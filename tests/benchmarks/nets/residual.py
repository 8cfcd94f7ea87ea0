"""The ResNet-20 for images of 32 x 32 (He et al., 2016), applied to digits of 8 x 8."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, a 1 x 1 convolution where the shape changes."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        stride = 1 if width_in == width_out else 2
        self.one = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.two = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(width_out) for _ in range(2)])
        self.short = nn.Conv2d(width_in, width_out, 1, stride, bias=False) if stride == 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norms[0](self.one(x)))
        return functional.relu(self.norms[1](self.two(inner)) + self.short(x))


class ResNet20(nn.Module):
    """Upsamples images `(N, 1, 8, 8)` to 32 x 32 and classifies them: logits `(N, 10)`."""

    def __init__(self) -> None:
        super().__init__()
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.blocks = nn.Sequential(*map(Block, widths, widths[1:]))
        self.head = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        large = functional.interpolate(image, scale_factor=4.0, mode="bilinear", align_corners=False)
        logits: Tensor = self.head(self.blocks(self.stem(large)).mean((2, 3)))
        return logits
