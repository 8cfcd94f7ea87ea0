"""Call a module on an example in eval mode, and restore its state afterwards."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
    """Positional and keyword arguments with which to call `module` on `example`.

    example: one tensor or array; several, in the order of forward's parameters; or a mapping from their
    names. Arrays become tensors on the module's device, and floating arrays take the dtype of its weights.
    Raises BadData where the names or the number don't fit.
    """
    like = next((p for p in module.parameters() if p.is_floating_point()), None)
    arguments = _by_name(example)
    args = () if arguments is not None else tuple(example if isinstance(example, Sequence) else [example])
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **(arguments or {}))
    except TypeError as error:
        accepted = ", ".join(signature.parameters) or "nothing"
        raise BadData(
            f"the example doesn't fit {type(module).__name__}: {error}; it takes {accepted}"
        ) from None
    named = {key: _tensor(value, like) for key, value in bound.kwargs.items()}
    return tuple(_tensor(value, like) for value in bound.args), named


def _by_name(example: Example) -> dict[str, Any] | None:
    return dict(example) if isinstance(example, Mapping) else None


def _tensor(value: object, like: torch.Tensor | None) -> object:
    """An array as a tensor like the parameter `like`: device, and dtype for floats; others unchanged."""
    if isinstance(value, np.generic | np.ndarray):
        value = torch.tensor(value)
        if like is not None and value.is_floating_point():
            value = value.to(like.dtype)
    return value.to(like.device) if isinstance(value, torch.Tensor) and like is not None else value


def noise(module: nn.Module, shapes: Mapping[str, Sequence[int]], *, seed: int = 0) -> dict[str, Array]:
    """Make an example to run or export with: seeded normal float32 arrays, named as forward's parameters.

    shapes: input name -> sizes. Raises BadData for a name that forward doesn't take.
    """
    rng = np.random.default_rng(seed)
    accepted = inspect.signature(module.forward).parameters
    for name in shapes:
        if name not in accepted:
            raise BadData(f"{type(module).__name__} has no input {name!r}; it takes {', '.join(accepted)}")
    return {name: rng.standard_normal(tuple(shape), dtype=np.float32) for name, shape in shapes.items()}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Context in which `module` is in eval mode and no gradients are recorded.

    Afterwards the training flag of each submodule, the buffers and torch's random state are restored.
    """
    flags = {part: part.training for part in module.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_meta]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[]))
        stack.enter_context(torch.no_grad())
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
    """Call `module` in eval mode and return its outputs; its state is restored. BadData where it fails."""
    args, kwargs = call
    with evaluating(module):
        try:
            return module(*args, **kwargs)
        except Exception as error:
            raise BadData(f"{type(module).__name__} fails on the example: {in_one_line(error)}") from error


def named_outputs(outputs: object) -> dict[str, Any]:
    """The leaves of a forward's result by name: its keys where it is a mapping, else `output_0`, ...

    A single result is named `output`; None is left out.
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
        for index, part in enumerate(value):
            yield from _leaves(part, f"{path}.{index}" if path else f"output_{index}")
    elif value is not None:
        yield path or "output", value
