"""Calling a module on an example without leaving a trace in it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import nn

from modelsurgeon.errors import BadData
from modelsurgeon.layers import Array
from modelsurgeon.plugins import in_one_line

Value = torch.Tensor | Array
Example = Mapping[str, Any] | Sequence[Any] | Value
Call = tuple[tuple[Any, ...], dict[str, Any]]


def bind(module: nn.Module, example: Example) -> Call:
    """Positional and named arguments with which `example` calls `module`.

    example: one tensor or array; several, in the order of forward's parameters; or a mapping from their
    names. Arrays become tensors on the module's device, and floating arrays take the dtype of its weights.
    Raises BadData where the names or the number don't fit.
    """
    place = next((p for p in module.parameters() if p.is_floating_point()), None)
    arguments = _named(example)
    args = () if arguments is not None else tuple(example if isinstance(example, Sequence) else [example])
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **(arguments or {}))
    except TypeError as error:
        takes = ", ".join(signature.parameters) or "nothing"
        raise BadData(f"the example doesn't fit {type(module).__name__}: {error}; it takes {takes}") from None
    named = {key: _tensor(value, place) for key, value in bound.kwargs.items()}
    return tuple(_tensor(value, place) for value in bound.args), named


def _named(example: Example) -> dict[str, Any] | None:
    return dict(example) if isinstance(example, Mapping) else None


def _tensor(value: object, place: torch.Tensor | None) -> object:
    """An array as a tensor beside the parameter `place`; anything else as it is."""
    if isinstance(value, np.generic | np.ndarray):
        value = torch.tensor(value)
        if place is not None and value.is_floating_point():
            value = value.to(place.dtype)
    return value.to(place.device) if isinstance(value, torch.Tensor) and place is not None else value


def noise(module: nn.Module, shapes: Mapping[str, Sequence[int]], *, seed: int = 0) -> dict[str, Array]:
    """An example to run or export with: seeded normal float32 arrays, named as forward's parameters.

    shapes: input name -> sizes. Raises BadData for a name that forward doesn't take.
    """
    draw = np.random.default_rng(seed)
    takes = inspect.signature(module.forward).parameters
    for name in shapes:
        if name not in takes:
            raise BadData(f"{type(module).__name__} has no input {name!r}; it takes {', '.join(takes)}")
    return {name: draw.standard_normal(tuple(shape), dtype=np.float32) for name, shape in shapes.items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """In here `module` is in eval mode and makes no gradients; afterwards it is as it was.

    Restored are the training flag of each part, the buffers, and torch's random state.
    """
    flags = {part: part.training for part in module.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_meta]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
        # What a user's forward prints is not our result.
        stack.enter_context(redirect_stdout(sys.stderr))
        try:
            for part in flags:
                part.training = False
            yield
        finally:
            for part, flag in flags.items():
                part.training = flag
            for buffer, before in buffers:
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def forward(module: nn.Module, call: Call) -> object:
    """What `module` returns for `call` in eval mode, without a trace left in it; BadData where it fails."""
    args, kwargs = call
    with evaluating(module):
        try:
            return module(*args, **kwargs)
        except Exception as error:
            raise BadData(f"{type(module).__name__} fails on the example: {in_one_line(error)}") from error


def named_outputs(outputs: object) -> dict[str, Any]:
    """The leaves of what a forward returns, by name: its keys where it is a mapping, else `output_0`, ...

    A single result is called `output`; None is left out.
    """
    found = dict(_leaves(outputs, ""))
    if len(found) == 1 and not isinstance(outputs, Mapping):
        return {"output": next(iter(found.values()))}
    return found


def _leaves(value: object, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for place, part in enumerate(value):
            yield from _leaves(part, f"{path}.{place}" if path else f"output_{place}")
    elif value is not None:
        yield path or "output", value
