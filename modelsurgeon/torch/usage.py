"""How a module uses the layers inside it, seen in one run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from math import prod
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from modelsurgeon.surgery.site import Call
from modelsurgeon.torch.call import Example, bind, forward


class FunctionReader(TorchFunctionMode):
    """While it is entered, `read` is told what every function of torch is given."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 (any function of torch)
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Called by torch in place of each of its functions, and of each attribute of a tensor."""
        self.read(flat([*args, *(kwargs or {}).values()]))
        return func(*args, **(kwargs or {}))

    def read(self, values: Iterable[object]) -> None:
        """See the values that one function is given."""
        raise NotImplementedError


class UsageWatch(FunctionReader):
    """Notes every call of `parts`, and every use of their weights by anything else.

    calls: part -> its calls, in order. reasons: part -> why no other module can take its place.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        """Nothing is seen yet."""
        super().__init__()
        self.calls: dict[nn.Module, list[Call]] = {part: [] for part in parts}
        self.reasons: dict[nn.Module, str] = {}
        self._owners = {id(value): part for part in parts for value in part.parameters(recurse=False)}
        self._running: nn.Module | None = None

    def read(self, values: Iterable[object]) -> None:
        """Note whose weights are among these values, if they aren't read by their owner."""
        for value in values:
            part = self._owners.get(id(value))
            if part is not None and part is not self._running:
                self.reasons[part] = "its weight is read outside of its own forward, too"

    def enter(self, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of each part."""
        self._running = part
        first, *more = (*args, *kwargs.values())
        if more:
            self.reasons[part] = "it is called with more than its input, such as an output_size"
        self.calls[part].append(_call(part, tuple(first.shape)))

    def leave(self, _part: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        """A forward hook of each part."""
        self._running = None


def watch_usage(module: nn.Module, example: Example, parts: Sequence[nn.Module]) -> UsageWatch:
    """Run `module` on `example` once, in eval mode without gradients, and tell how it used `parts`.

    Raises BadData where the example doesn't fit or forward fails on it.
    """
    call = bind(module, example)
    seen = UsageWatch(parts)
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part.register_forward_pre_hook(seen.enter, with_kwargs=True).remove)
            stack.callback(part.register_forward_hook(seen.leave).remove)
        stack.enter_context(seen)
        forward(module, call)
    for part, calls in seen.calls.items():
        if not calls:
            seen.reasons[part] = "the model never calls it on the example"
    return seen


def _call(part: nn.Module, shape: tuple[int, ...]) -> Call:
    axes = 0 if isinstance(part, nn.Linear) else len(part.kernel_size)  # type: ignore[arg-type]
    channels = len(shape) - axes - 1
    return shape[channels + 1 :], prod(shape[:channels])


def flat(values: Iterable[Any]) -> Iterator[Any]:
    """All tensors among the values, lists and tuples opened."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from flat(value)
        elif isinstance(value, torch.Tensor):
            yield value
