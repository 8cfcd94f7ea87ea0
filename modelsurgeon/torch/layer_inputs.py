"""What layers inside a module are fed, in one module and in two side by side."""

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
    """The layer that was asked for has its input. No Exception: a forward may catch those."""


def observed(module: nn.Module, parts: Mapping[str, nn.Module], feed: Feed) -> list[tuple[str, Array]]:
    """What each call of the parts is fed, in the order of the calls, as `rows`."""
    seen: list[tuple[str, Array]] = []
    with ExitStack() as stack:
        for name, part in parts.items():

            def note(part: nn.Module, args: tuple[Any, ...], name: str = name) -> None:
                seen.append((name, rows(part, args[0])))

            stack.callback(part.register_forward_pre_hook(note).remove)
        forward(module, bind(module, feed))
    return seen


def entered(module: nn.Module, part: nn.Module, feed: Feed) -> Array:
    """What the part is fed at its first call; nothing behind it is run."""
    found: list[Array] = []

    def note(part: nn.Module, args: tuple[Any, ...]) -> None:
        found.append(rows(part, args[0]))
        raise _LayerReached

    handle = part.register_forward_pre_hook(note)
    try:
        forward(module, bind(module, feed))
    except _LayerReached:
        pass
    finally:
        handle.remove()
    return found[0]


def pairs(
    original: tuple[nn.Module, nn.Module], changed: tuple[nn.Module, nn.Module], feeds: Iterable[Feed]
) -> Iterator[InputPair]:
    """Over all feeds, what a part is fed in the original and in the changed module; each a (whole, part)."""
    return (InputPair(entered(*original, feed), entered(*changed, feed)) for feed in feeds)


def order(module: nn.Module, parts: Mapping[str, nn.Module], feed: Feed) -> list[str]:
    """The names of the parts in the order of their calls: one that is called twice stands there twice."""
    return [name for name, _ in observed(module, parts, feed)]


def rows(part: nn.Module, x: torch.Tensor) -> Array:
    """A layer's input as `(n, channels, *space)`."""
    array: Array = np.asarray(x.detach().float().cpu().numpy())
    if isinstance(part, nn.Linear):
        return array.reshape(-1, array.shape[-1])
    axes = len(part.kernel_size)  # type: ignore[arg-type]
    return array if array.ndim == axes + 2 else array[None]
