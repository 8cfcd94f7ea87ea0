"""Record in one run how a module uses its layers: their calls, and other readers of their weights."""

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
    """Context in which `read` gets the tensor arguments of every torch function that is called."""

    def __torch_function__(
        self,
        func: Any,  # noqa: ANN401 (any function of torch)
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        """Pass the arguments to `read`, then call the function; torch calls this for attributes as well."""
        self.read(tensors_in([*args, *(kwargs or {}).values()]))
        return func(*args, **(kwargs or {}))

    def read(self, values: Iterable[object]) -> None:
        """Record the tensors that one function reads."""
        raise NotImplementedError


class UsageWatch(FunctionReader):
    """Records every call of `parts`, and every use of their weights by anything else.

    calls: part -> its calls, in order. reasons: part -> why no other module can take its place.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        """Start without records."""
        super().__init__()
        self.calls: dict[nn.Module, list[Call]] = {part: [] for part in parts}
        self.reasons: dict[nn.Module, str] = {}
        self._owners = {id(value): part for part in parts for value in part.parameters(recurse=False)}
        self._running: nn.Module | None = None

    def read(self, values: Iterable[object]) -> None:
        """Record the parts whose weights are among these values, read by something else than the part."""
        for value in values:
            part = self._owners.get(id(value))
            if part is not None and part is not self._running:
                self.reasons[part] = "its weight is read outside of its own forward, too"

    def enter(self, part: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record a call of a part: its forward pre-hook."""
        self._running = part
        first, *more = (*args, *kwargs.values())
        if more:
            self.reasons[part] = "it is called with more than its input, such as an output_size"
        self.calls[part].append(_call(part, tuple(first.shape)))

    def leave(self, _part: nn.Module, _args: tuple[Any, ...], _output: object) -> None:
        """Record that a part has returned: its forward hook."""
        self._running = None


def watch_usage(module: nn.Module, example: Example, parts: Sequence[nn.Module]) -> UsageWatch:
    """Run `module` on `example` once, in eval mode without gradients, and record how it uses `parts`.

    Raises BadData where the example doesn't fit or forward fails on it.
    """
    call = bind(module, example)
    usage = UsageWatch(parts)
    with ExitStack() as stack:
        for part in parts:
            stack.callback(part.register_forward_pre_hook(usage.enter, with_kwargs=True).remove)
            stack.callback(part.register_forward_hook(usage.leave).remove)
        stack.enter_context(usage)
        forward(module, call)
    for part, calls in usage.calls.items():
        if not calls:
            usage.reasons[part] = "the model never calls it on the example"
    return usage


def _call(part: nn.Module, shape: tuple[int, ...]) -> Call:
    axes = 0 if isinstance(part, nn.Linear) else len(part.kernel_size)  # type: ignore[arg-type]
    channels = len(shape) - axes - 1
    return shape[channels + 1 :], prod(shape[:channels])


def tensors_in(values: Iterable[Any]) -> Iterator[Any]:
    """All tensors among the values, also those inside lists and tuples."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from tensors_in(value)
        elif isinstance(value, torch.Tensor):
            yield value
