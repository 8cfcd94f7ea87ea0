"""Inputs of the layers inside a module, of one module or of an original and its edited copy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from modelsurgeon.data import Feed
from modelsurgeon.layers import Array
from modelsurgeon.surgery.site import InputPair
from modelsurgeon.torch.call import bind, forward


class _LayerReached(BaseException):
    """Ends a forward pass when the layer has its input; no Exception, as a forward may catch those."""


def recorded_inputs(module: nn.Module, parts: Mapping[str, nn.Module], feed: Feed) -> list[tuple[str, Array]]:
    """Inputs of all calls of the parts, in the order of the calls, as (name, `rows`)."""
    recorded: list[tuple[str, Array]] = []
    with ExitStack() as stack:
        for name, part in parts.items():

            def record(part: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                recorded.append((name, rows(part, args[0])))

            stack.callback(part.register_forward_pre_hook(record).remove)
        forward(module, bind(module, feed))
    return recorded


def first_input(module: nn.Module, part: nn.Module, feed: Feed) -> Array:
    """Input of the part at its first call, as `rows`; the forward pass ends there."""
    found: list[Array] = []

    def record(part: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(rows(part, args[0]))
        raise _LayerReached

    handle = part.register_forward_pre_hook(record)
    try:
        forward(module, bind(module, feed))
    except _LayerReached:
        pass
    finally:
        handle.remove()
    return found[0]


def input_pairs(
    original: tuple[nn.Module, nn.Module], changed: tuple[nn.Module, nn.Module], feeds: Iterable[Feed]
) -> Iterator[InputPair]:
    """Inputs of a part in the original and the changed module, over all feeds; each is a (module, part)."""
    return (InputPair(first_input(*original, feed), first_input(*changed, feed)) for feed in feeds)


def call_order(module: nn.Module, parts: Mapping[str, nn.Module], feed: Feed) -> list[str]:
    """Names of the parts in the order of their calls; a part that is called twice is listed twice."""
    return [name for name, _ in recorded_inputs(module, parts, feed)]


def rows(part: nn.Module, x: torch.Tensor) -> Array:
    """A layer's input as `(n, channels, *space)`."""
    array: Array = np.asarray(x.detach().float().cpu().numpy())
    if isinstance(part, nn.Linear):
        return array.reshape(-1, array.shape[-1])
    axes = len(part.kernel_size)  # type: ignore[arg-type]
    return array if array.ndim == axes + 2 else array[None]
