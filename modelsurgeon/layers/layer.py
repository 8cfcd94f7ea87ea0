"""One linear layer, whatever framework it comes from.

A fully connected layer is a `Layer` whose kernel is `()`: it needs no second case anywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A convolution, transposed convolution or fully connected layer: weight and geometry in one value.

    weight: `(out, in / groups, *kernel)`, for transposed layers too; `kernel == ()` is fully connected.
    bias: `(out,)` or None. stride, dilation, output_padding: one number per kernel axis.
    padding: one `(begin, end)` pair per kernel axis. What is left out is neutral (stride 1, no padding).
    """

    weight: Array
    bias: Array | None = None
    stride: tuple[int, ...] = ()
    padding: Padding = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False
    output_padding: tuple[int, ...] = field(default=())

    def __post_init__(self) -> None:
        """Fill in neutral geometry and refuse shapes that contradict each other."""
        n = len(self.kernel)
        for name, neutral in (("stride", 1), ("padding", (0, 0)), ("dilation", 1), ("output_padding", 0)):
            value = tuple(getattr(self, name)) or (neutral,) * n
            if len(value) != n:
                raise ValueError(f"{name} {value} has {len(value)} axes, the kernel {self.kernel} has {n}")
            object.__setattr__(self, name, value)
        if self.weight.ndim < 2:
            raise ValueError(f"weight of shape {self.weight.shape}: (out, in / groups, *kernel) is needed")
        if self.groups < 1 or self.out_channels % self.groups:
            raise ValueError(f"{self.out_channels} outputs don't divide into {self.groups} groups")
        if self.bias is not None and self.bias.shape != (self.out_channels,):
            raise ValueError(f"bias of shape {self.bias.shape}: ({self.out_channels},) is needed")

    @property
    def kernel(self) -> tuple[int, ...]:
        """Spatial sizes of the kernel; `()` for a fully connected layer."""
        return self.weight.shape[2:]

    @property
    def out_channels(self) -> int:
        """Number of output channels."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Number of input channels over all groups."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def params(self) -> int:
        """Elements of weight and bias."""
        return self.weight.size + (0 if self.bias is None else self.bias.size)

    @property
    def is_pointwise(self) -> bool:
        """Whether it looks at one place at a time, as 1x1 convolutions and fully connected layers do."""
        return prod(self.kernel) == 1

    @property
    def is_matrix(self) -> bool:
        """Whether one matrix takes the channels of each place to those of one place."""
        return self.is_pointwise and self.groups == 1 and not self.transposed

    def out_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial output size for a spatial input size (ONNX operators Conv and ConvTranspose)."""
        axes = zip(
            size, self.kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True
        )
        if self.transposed:
            return tuple((n - 1) * s + d * (k - 1) + 1 - sum(p) + o for n, k, s, p, d, o in axes)
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in axes)

    def macs(self, size: Sequence[int] = (), positions: int = 1) -> int:
        """Multiply-accumulates for one spatial input size; padded taps count.

        positions: how often the layer is applied: batch size, or all leading axes of a fully connected one.
        """
        where = size if self.transposed else self.out_size(size)
        return self.weight.size * prod(where) * positions

    def like(
        self, weight: Array, *, axes: Collection[int] = (), bias: Array | None = None, groups: int = 1
    ) -> Layer:
        """A factor of this layer: it keeps the geometry of `axes` and is neutral on all others.

        The one place where geometry is handed on, so that no stride, padding or dilation is lost.
        """

        def keep(values: tuple[Any, ...], neutral: object) -> tuple[Any, ...]:
            return tuple(v if a in axes else neutral for a, v in enumerate(values))

        return replace(
            self,
            weight=weight,
            bias=bias,
            groups=groups,
            stride=keep(self.stride, 1),
            padding=keep(self.padding, (0, 0)),
            dilation=keep(self.dilation, 1),
            output_padding=keep(self.output_padding, 0),
            transposed=self.transposed and bool(axes),
        )


def chain_params(chain: Sequence[Layer]) -> int:
    """Params of layers in a row."""
    return sum(layer.params for layer in chain)


def chain_macs(chain: Sequence[Layer], size: Sequence[int] = (), positions: int = 1) -> int:
    """MACs of layers in a row, each at the size that the one before it leaves."""
    total = 0
    for layer in chain:
        total += layer.macs(size, positions)
        size = layer.out_size(size)
    return total
