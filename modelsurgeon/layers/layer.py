"""`Layer`: a convolution, transposed convolution or fully connected layer of any framework.

A fully connected layer is a `Layer` whose kernel is `()`, so no code needs a second case for it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from numpy.typing import NDArray

from modelsurgeon.errors import BadArgument

Array = NDArray[Any]
Padding = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A convolution, transposed convolution or fully connected layer: weight and geometry in one value.

    weight: `(out, in / groups, *kernel)`, for transposed layers too; `kernel == ()` is fully connected.
    bias: `(out,)` or None. stride, dilation, output_padding: one number per kernel axis.
    padding: one `(begin, end)` pair per kernel axis: input elements added, or outputs cropped if transposed.
    `()` means the default on every axis: stride and dilation 1, no padding.
    Raises BadArgument where the shapes or the numbers of axes contradict each other.
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
        """Fill in default geometry. Raises BadArgument for shapes that contradict each other."""
        n = len(self.kernel)
        for name, neutral in (("stride", 1), ("padding", (0, 0)), ("dilation", 1), ("output_padding", 0)):
            value = tuple(getattr(self, name)) or (neutral,) * n
            if len(value) != n:
                raise BadArgument(f"{name} {value} has {len(value)} axes, the kernel {self.kernel} has {n}")
            object.__setattr__(self, name, value)
        if self.weight.ndim < 2:
            raise BadArgument(f"weight of shape {self.weight.shape}: (out, in / groups, *kernel) is needed")
        if self.groups < 1 or self.out_channels % self.groups:
            raise BadArgument(f"{self.out_channels} outputs don't divide into {self.groups} groups")
        if self.bias is not None and self.bias.shape != (self.out_channels,):
            raise BadArgument(f"bias of shape {self.bias.shape}: ({self.out_channels},) is needed")

    @property
    def kernel(self) -> tuple[int, ...]:
        """Taps of the kernel on each spatial axis; `()` for a fully connected layer."""
        return self.weight.shape[2:]

    @property
    def out_channels(self) -> int:
        """Number of output channels over all groups."""
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        """Number of input channels over all groups."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def params(self) -> int:
        """Number of params: elements of weight and bias."""
        return self.weight.size + (0 if self.bias is None else self.bias.size)

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel has one tap, as 1x1 convolutions and fully connected layers have."""
        return prod(self.kernel) == 1

    @property
    def is_depthwise(self) -> bool:
        """Whether every input channel has kernels of its own: as many groups as input channels, over one."""
        return self.groups == self.in_channels > 1

    @property
    def is_matrix(self) -> bool:
        """Whether it multiplies each position by one matrix: one tap, one group, not transposed."""
        return self.is_pointwise and self.groups == 1 and not self.transposed

    def out_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Spatial output size for a spatial input size, one number per kernel axis each.

        Below 1 where the input is too small for the kernel. Raises BadArgument where `size` has other axes.
        Source: ONNX operators Conv and ConvTranspose.
        """
        axes = zip(
            size, self.kernel, self.stride, self.padding, self.dilation, self.output_padding, strict=True
        )
        if self.transposed:
            return tuple((n - 1) * s + d * (k - 1) + 1 - sum(p) + o for n, k, s, p, d, o in axes)
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, _ in axes)

    def macs(self, size: Sequence[int] = (), positions: int = 1) -> int:
        """MACs (multiply-accumulates) for a spatial input size; padded taps are included, the bias is not.

        positions: number of inputs: the batch size, or the product of all leading axes of a fully connected
        layer. Raises BadArgument as `out_size` does, unless transposed.
        """
        where = size if self.transposed else self.out_size(size)
        return self.weight.size * prod(where) * positions

    def like(
        self, weight: Array, *, axes: Collection[int] = (), bias: Array | None = None, groups: int = 1
    ) -> Layer:
        """A factor of this layer: its geometry on the kernel axes in `axes`, neutral on all others.

        weight: `(out, in / groups, *kernel)`. Neutral is stride 1, dilation 1 and no padding; the factor is
        transposed where this layer is and `axes` isn't empty. All factors of a chain get their geometry here.
        Raises BadArgument as `Layer` does.
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
    """Number of params of a chain of layers."""
    return sum(layer.params for layer in chain)


def chain_macs(chain: Sequence[Layer], size: Sequence[int] = (), positions: int = 1) -> int:
    """MACs of a chain of layers; the input size of each is the output size of the one before it."""
    total = 0
    for layer in chain:
        total += layer.macs(size, positions)
        size = layer.out_size(size)
    return total
