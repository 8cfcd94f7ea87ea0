"""Small nets of the kinds whose exports compute sizes at run time, with their open axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

Tensors = tuple[torch.Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class DynamicNet:
    """A net, its inputs at given sizes, and the open axes of each input.

    sizes: three sizes at which the net runs, by symbol. exporters: those of torch that can export it.
    """

    make: Callable[[], nn.Module]
    inputs: Callable[..., Tensors]
    axes: Sequence[Mapping[int, str]]
    sizes: Sequence[Mapping[str, int]]
    exporters: Sequence[str] = ("dynamo", "torchscript")


class UNet(nn.Module):
    """Skips are padded to the size of the enlarged map."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, padding=1)
        self.low = nn.Conv2d(8, 16, 3, stride=2, padding=1)
        self.lowest = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.up = nn.Conv2d(32, 8, 3, padding=1)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.down(x).relu()
        b = self.low(a).relu()
        c = self.lowest(b).relu()
        c = functional.interpolate(c, scale_factor=2.0, mode="nearest")
        c = functional.pad(c, (0, b.shape[3] - c.shape[3], 0, b.shape[2] - c.shape[2]))
        d = self.up(torch.cat([b, c], 1)).relu()
        d = functional.interpolate(d, size=a.shape[2:], mode="bilinear", align_corners=False)
        return self.out(torch.cat([a, d], 1))


class Windows(nn.Module):
    """Attention in windows, as in Swin: maps are shifted and padded to multiples of the window."""

    def __init__(self, side: int = 4, width: int = 16, shift: int = 0) -> None:
        super().__init__()
        self.side, self.shift = side, shift
        self.stem = nn.Conv2d(3, width, 2, stride=2)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        if self.shift:
            x = torch.roll(x, (-self.shift, -self.shift), (1, 2))
        n, h, w, c = x.shape
        s = self.side
        x = functional.pad(x, (0, 0, 0, (s - w % s) % s, 0, (s - h % s) % s))
        rows, columns = x.shape[1] // s, x.shape[2] // s
        y = x.reshape(n, rows, s, columns, s, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, s * s, c)
        q, k, v = self.qkv(y).chunk(3, dim=-1)
        y = (q @ k.transpose(1, 2)).softmax(-1) @ v
        y = (
            y.reshape(n, rows, columns, s, s, c)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(n, rows * s, columns * s, c)
        )
        return self.out(y[:, :h, :w])


class Unfold(nn.Module):
    """Patches as columns, a layer on each, and back."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(27, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        columns = functional.unfold(x, (3, 3), padding=1, stride=2)
        return self.mix(columns.transpose(1, 2))


class Causal(nn.Module):
    """One layer of a language model with a cache of keys and values."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.tokens = nn.Embedding(50, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, 50)

    def forward(self, ids: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> Tensors:
        x = self.tokens(ids)
        n, t, c = x.shape
        q, k, v = (
            part.reshape(n, t, self.heads, c // self.heads).transpose(1, 2)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        k, v = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        past = keys.shape[2]
        allowed = torch.arange(past + t)[None, :] <= torch.arange(t)[:, None] + past
        scores = (q @ k.transpose(2, 3) / 3).masked_fill(~allowed, -1e9)
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, c)
        return self.out(y), k, v


class Recurrent(nn.Module):
    """A recurrent layer over features of a convolution."""

    def __init__(self, layer: type[nn.RNNBase]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(6, 8, 5, stride=2, padding=1)
        self.layer = layer(8, 12, batch_first=True, bidirectional=True)
        self.out = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.layer(self.conv(x).relu().transpose(1, 2))
        return self.out(y)


class Waves(nn.Module):
    """A front end of strided convolutions on a waveform, and pooling with ceil_mode."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv1d(1, 8, 10, stride=5, bias=False),
            nn.GELU(),
            nn.Conv1d(8, 8, 3, stride=2),
            nn.GroupNorm(2, 8),
            nn.MaxPool1d(3, stride=2, padding=1, ceil_mode=True),
            nn.Conv1d(8, 12, 3, stride=2, dilation=2, padding=2),
        )
        self.out = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.layers(x[:, None, :]).transpose(1, 2))


class Detector(nn.Module):
    """Two maps with the grid of their positions, joined into one list of boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=4, padding=1)
        self.next = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.heads = nn.ModuleList([nn.Conv2d(8, 3 * 7, 1), nn.Conv2d(8, 3 * 7, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found, y = [], self.stem(x).relu()
        for place, head in enumerate(self.heads):
            z = head(y)
            n, _, h, w = z.shape
            z = z.reshape(n, 3, 7, h, w).permute(0, 1, 3, 4, 2)
            rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
            grid = torch.stack([columns, rows], -1).reshape(1, 1, h, w, 2).to(z.dtype)
            boxes = torch.cat([(z[..., :2].sigmoid() + grid) * 4 * (place + 1), z[..., 2:]], -1)
            found.append(boxes.reshape(n, -1, 7))
            y = self.next(y).relu()
        return torch.cat(found, 1)


class Patches(nn.Module):
    """A vision transformer whose learnt positions are resized to the image."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, 4, stride=4)
        self.positions = nn.Parameter(torch.zeros(1, width, 7, 7))
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.attend = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x)
        y = y + functional.interpolate(self.positions, size=y.shape[2:], mode="bicubic", align_corners=False)
        y = y.flatten(2).transpose(1, 2)
        y = torch.cat([self.first.expand(y.shape[0], -1, -1), y], 1)
        q, k, v = (part[:, None] for part in self.attend(y).chunk(3, dim=-1))
        return self.out(functional.scaled_dot_product_attention(q, k, v)[:, 0, 0])


class Shuffle(nn.Module):
    """Space to depth and back, group norm, adaptive pooling and a gate on channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(4, 8)
        self.mix = nn.Conv2d(32, 32, 3, padding=1)
        self.gate = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.first(x)).relu()
        y = y * self.gate(functional.adaptive_avg_pool2d(y, 1).flatten(1)).sigmoid()[:, :, None, None]
        return functional.pixel_shuffle(self.mix(functional.pixel_unshuffle(y, 2)), 2)


class Encoder(nn.Module):
    """Attention by einsum with a mask of padding, and a mean over the positions that aren't masked."""

    def __init__(self, width: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.tokens, self.places = nn.Embedding(40, width), nn.Embedding(160, width)
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, 6)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        n, t = ids.shape
        x = self.tokens(ids) + self.places(torch.arange(t))[None]
        q, k, v = (layer(x).view(n, t, self.heads, self.size) for layer in (self.q, self.k, self.v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -1e9)
        x = self.norm(x + torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).reshape(n, t, -1))
        weight = mask[:, :, None].to(x.dtype)
        return self.out((x * weight).sum(1) / weight.sum(1).clamp(min=1))


class Relative(nn.Module):
    """A table of relative positions: slices whose bounds depend on the length."""

    def __init__(self, width: int = 16, most: int = 64) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(2 * most - 1, width))
        self.most, self.qkv = most, nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        t = x.shape[1]
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        near = self.table[self.most - t : self.most + t - 1]
        scores = q @ k.transpose(1, 2)
        moved = functional.pad(q @ near.t(), (0, 1)).flatten(1)
        moved = functional.pad(moved, (0, t - 1))[:, : (t + 1) * (2 * t - 1)]
        moved = moved.reshape(-1, t + 1, 2 * t - 1)[:, :t, t - 1 :]
        return (scores + moved).softmax(-1) @ v


def image(N: int, H: int, W: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return (torch.ones(N, 3, H, W),)


IMAGE_AXES = ({0: "N", 2: "H", 3: "W"},)


def frames(N: int, T: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return (torch.ones(N, 6, T),)


def rows(N: int, T: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return (torch.ones(N, T, 16),)


def wave(N: int, T: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return (torch.ones(N, T),)


def cached(N: int, T: int, P: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return torch.ones(N, T, dtype=torch.int64), torch.ones(N, 4, P, 8), torch.ones(N, 4, P, 8)


def masked(N: int, T: int) -> Tensors:  # noqa: N803 - the symbols of the axes
    return torch.ones(N, T, dtype=torch.int64), torch.ones(N, T, dtype=torch.int64)


ODD = ({"N": 1, "H": 24, "W": 40}, {"N": 2, "H": 37, "W": 22}, {"N": 3, "H": 65, "W": 51})
EVEN = ({"N": 1, "H": 24, "W": 40}, {"N": 2, "H": 36, "W": 22}, {"N": 3, "H": 64, "W": 50})
LENGTHS = ({"N": 1, "T": 12}, {"N": 2, "T": 31}, {"N": 3, "T": 50})

NETS: dict[str, DynamicNet] = {
    "unet": DynamicNet(make=UNet, inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "windows": DynamicNet(make=Windows, inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "shifted": DynamicNet(make=lambda: Windows(shift=2), inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "unfold": DynamicNet(make=Unfold, inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "causal": DynamicNet(
        make=Causal,
        inputs=cached,
        axes=({0: "N", 1: "T"}, {0: "N", 2: "P"}, {0: "N", 2: "P"}),
        sizes=({"N": 1, "T": 7, "P": 3}, {"N": 2, "T": 2, "P": 20}, {"N": 3, "T": 12, "P": 5}),
    ),
    "lstm": DynamicNet(
        make=lambda: Recurrent(nn.LSTM),
        inputs=frames,
        axes=({0: "N", 2: "T"},),
        sizes=LENGTHS,
    ),
    "gru": DynamicNet(
        make=lambda: Recurrent(nn.GRU),
        inputs=frames,
        axes=({0: "N", 2: "T"},),
        sizes=LENGTHS,
        exporters=("torchscript",),
    ),
    "waves": DynamicNet(
        make=Waves,
        inputs=wave,
        axes=({0: "N", 1: "T"},),
        sizes=({"N": 1, "T": 400}, {"N": 2, "T": 333}, {"N": 3, "T": 1021}),
    ),
    "detector": DynamicNet(make=Detector, inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "patches": DynamicNet(make=Patches, inputs=image, axes=IMAGE_AXES, sizes=ODD),
    "shuffle": DynamicNet(make=Shuffle, inputs=image, axes=IMAGE_AXES, sizes=EVEN),
    "encoder": DynamicNet(
        make=Encoder, inputs=masked, axes=({0: "N", 1: "T"}, {0: "N", 1: "T"}), sizes=LENGTHS
    ),
    "relative": DynamicNet(make=Relative, inputs=rows, axes=({0: "N", 1: "T"},), sizes=LENGTHS),
}
