"""Fold, freeze or recalibrate the batch norms of a module in place.

The layer before a norm is found in one run: the norm's input is the very tensor that the layer returned, and
nothing else reads it. The algebra is in `modelsurgeon.layers.batchnorm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData, UnsupportedLayer
from modelsurgeon.layers.batchnorm import BatchNorm, fold_output_affine
from modelsurgeon.layers.batchnorm_health import drift
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.surgery.edits import Edit
from modelsurgeon.torch.call import bind, evaluating, forward, named_outputs
from modelsurgeon.torch.layers import HOOK_ATTRIBUTES
from modelsurgeon.torch.sites import sites
from modelsurgeon.torch.usage import FunctionReader

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
DTYPES = {torch.float16: np.float16, torch.float64: np.float64}
ExclusionReason = Callable[[str], str | None]  # a layer's name -> why the user wants it skipped, or None


@dataclass(frozen=True, kw_only=True)
class NormPlace:
    """A batch norm. name: the first of its names. owners: every parent that holds it, and the name there."""

    name: str
    module: Any
    owners: Sequence[tuple[nn.Module, str]]

    def replace(self, new: nn.Module) -> None:
        """Replace the norm by another module, under all its parents."""
        for parent, child in self.owners:
            parent.register_module(child, new.train(self.module.training))

    def read(self) -> BatchNorm:
        """Parameters and statistics of the norm. Raises UnsupportedLayer with the reason to skip it."""
        norm = self.module
        if type(norm) not in NORM_TYPES or "forward" in vars(norm):
            raise UnsupportedLayer(f"{type(norm).__name__} has a forward of its own")
        if any(getattr(norm, hooks) for hooks in HOOK_ATTRIBUTES):
            raise UnsupportedLayer("hooks are registered on it")
        if norm.running_mean is None:
            raise UnsupportedLayer("it keeps no running statistics (track_running_stats=False)")
        ones, zeros = torch.ones_like(norm.running_var), torch.zeros_like(norm.running_mean)
        scale, shift = (ones, zeros) if norm.weight is None else (norm.weight, norm.bias)
        parts = {"scale": scale, "shift": shift, "mean": norm.running_mean, "var": norm.running_var}
        arrays: dict[str, Any] = {key: value.detach().cpu().double().numpy() for key, value in parts.items()}
        return BatchNorm(**arrays, epsilon=norm.eps)


class FrozenNorm(nn.Module):
    """gain * x + offset for each channel; both are buffers, which training doesn't change."""

    def __init__(self, gain: torch.Tensor, offset: torch.Tensor) -> None:
        """gain, offset: `(channels,)`."""
        super().__init__()
        self.register_buffer("gain", gain)
        self.register_buffer("offset", offset)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: `(samples, channels, *spatial)`."""
        shape = (-1, *(1,) * (x.ndim - 2))
        gain, offset = self.get_buffer("gain"), self.get_buffer("offset")
        return x * gain.view(shape) + offset.view(shape)


def fold(module: nn.Module, feeds: Batches, exclusion: ExclusionReason) -> list[Edit]:
    """Fold every norm in eval mode into the layer whose output it alone reads; an nn.Identity replaces it."""
    example = next(iter(feeds))
    layers = {site.module: site for site in sites(module, example=example)[0]}
    norms = norm_places(module)
    wiring = watch_wiring(module, example, list(layers), [place.module for place in norms])

    def fold_one(place: NormPlace) -> Edit:
        if place.module.training:
            raise UnsupportedLayer("it is in training mode: call eval() on the module first")
        affine = place.read().affine
        site = layers[wiring.layer_before(place.module)]
        site.replace([fold_output_affine(site.layer, affine)])
        place.replace(nn.Identity())
        return Edit(layer=place.name, action="fold", details={"into": site.name})

    return _edit_each(norms, "fold", exclusion, fold_one)


def freeze(module: nn.Module, _: Batches, exclusion: ExclusionReason) -> list[Edit]:
    """Replace every norm in eval mode by a `FrozenNorm`: one gain and one offset per channel."""

    def freeze_one(place: NormPlace) -> Edit:
        if place.module.training:
            raise UnsupportedLayer("it is in training mode: call eval() on the module first")
        affine, like = place.read().affine, place.module.running_mean
        tensors = (torch.tensor(array).to(like.device, like.dtype) for array in (affine.gain, affine.offset))
        place.replace(FrozenNorm(*tensors))
        return Edit(layer=place.name, action="freeze", details={"channels": affine.gain.size})

    return _edit_each(norm_places(module), "freeze", exclusion, freeze_one)


def recalibrate(module: nn.Module, feeds: Batches, exclusion: ExclusionReason) -> list[Edit]:
    """Set every norm's running statistics to those of its inputs over all samples, in the order of the calls.

    Raises BadData for noise.
    """
    if feeds.kind != "data":
        raise BadData("statistics can't be made from noise: give data")

    def recalibrate_one(place: NormPlace) -> Edit:
        before = place.read()
        truth = _input_statistics(module, place.module, feeds)
        stored = place.module.running_var.dtype  # the range of bfloat16 is that of float32
        dtype = np.dtype(DTYPES.get(stored, np.float32))
        if truth is None or (reason := truth.unusable_reason(dtype)):
            raise UnsupportedLayer(reason if truth else "the model never calls it on the samples")
        moved, spread = drift(before, truth)
        for buffer, new in ((place.module.running_mean, truth.mean), (place.module.running_var, truth.var)):
            buffer.copy_(torch.tensor(new))
        details = {"mean_off": float(moved.max()), "variance_off": float(spread.max()), "values": truth.count}
        return Edit(layer=place.name, action="recalibrate", details=details)

    norms = norm_places(module)
    order = _call_order(module, next(iter(feeds)), [place.module for place in norms])
    return _edit_each(
        sorted(norms, key=lambda place: order[place.module]), "recalibrate", exclusion, recalibrate_one
    )


def norm_places(root: nn.Module) -> list[NormPlace]:
    """Every batch norm inside a module, each once."""
    modules = dict(root.named_modules(remove_duplicate=False))
    found: dict[nn.Module, NormPlace] = {}
    for path, part in modules.items():
        if path and isinstance(part, NORM_TYPES):
            parent, _, child = path.rpartition(".")
            place = found.setdefault(part, NormPlace(name=path, module=part, owners=[]))
            found[part] = NormPlace(
                name=place.name, module=part, owners=[*place.owners, (modules[parent], child)]
            )
    return list(found.values())


def _edit_each(
    norms: Iterable[NormPlace], action: str, exclusion: ExclusionReason, edit: Callable[[NormPlace], Edit]
) -> list[Edit]:
    def edit_or_skip(place: NormPlace) -> Edit:
        try:
            if reason := exclusion(place.name):
                raise UnsupportedLayer(reason)
            return edit(place)
        except UnsupportedLayer as error:
            return Edit(layer=place.name, action=action, skipped=str(error))

    return [edit_or_skip(place) for place in norms]


class Wiring(FunctionReader):
    """Hooks that record which layer's output each norm reads, and which of those outputs have other readers.

    sources: norm -> the layer that made its input, or None, for each of its calls. calls: layer -> number of
    its calls. shared: layers whose output has other readers. axes: layer -> number of axes of its output.
    """

    def __init__(self) -> None:
        """Start without records."""
        super().__init__()
        self.sources: dict[nn.Module, list[nn.Module | None]] = {}
        self.calls: dict[nn.Module, int] = {}
        self.shared: set[nn.Module] = set()
        self.axes: dict[nn.Module, int] = {}
        self._outputs: dict[int, tuple[torch.Tensor, nn.Module]] = {}
        self._running: nn.Module | None = None

    def read(self, values: Iterable[object]) -> None:
        """Record the layers whose outputs are read by anything other than a norm."""
        if self._running is None:
            self.shared.update(self._outputs[id(value)][1] for value in values if id(value) in self._outputs)

    def after_layer(self, layer: nn.Module, _args: object, output: torch.Tensor) -> None:
        """Record a layer's output: its forward hook."""
        self.axes[layer] = output.dim()
        self.calls[layer] = self.calls.get(layer, 0) + 1
        self._outputs[id(output)] = (output, layer)

    def before_norm(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """Record the layer that made a norm's input: the norm's forward pre-hook."""
        self._running = norm
        self.sources.setdefault(norm, []).append(self._outputs.get(id(args[0]), (None, None))[1])

    def after_norm(self, _norm: nn.Module, _args: object, _output: object) -> None:
        """Record that the norm has returned: its forward hook."""
        self._running = None

    def layer_before(self, norm: nn.Module) -> nn.Module:
        """The one layer whose outputs this norm alone reads. Raises UnsupportedLayer where there is none."""
        layers = self.sources.get(norm, [])
        if not layers:
            raise UnsupportedLayer("the model never calls it on the example")
        layer = layers[0]
        if layer is None:
            raise UnsupportedLayer("no layer that can be replaced is right before it")
        if len(layers) > 1 or self.calls[layer] > 1:
            raise UnsupportedLayer("it or the layer before it is called more than once")
        if layer in self.shared:
            raise UnsupportedLayer("a value between it and the layer before it has other uses")
        if isinstance(layer, nn.Linear) and self.axes[layer] != 2:
            raise UnsupportedLayer("the Linear before it works on another axis than that of the channels")
        return layer


def watch_wiring(
    module: nn.Module, example: Mapping[str, Any], layers: Iterable[nn.Module], norms: Iterable[nn.Module]
) -> Wiring:
    """Run the module once, in eval mode, and record what its norms read. Raises BadData where that fails."""
    call, wiring = bind(module, example), Wiring()
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(wiring.after_layer).remove)
        for norm in norms:
            stack.callback(norm.register_forward_pre_hook(wiring.before_norm).remove)
            stack.callback(norm.register_forward_hook(wiring.after_norm).remove)
        with wiring:
            outputs = forward(module, call)
    wiring.read(named_outputs(outputs).values())
    return wiring


def _call_order(
    module: nn.Module, example: Mapping[str, Any], norms: Sequence[nn.Module]
) -> dict[nn.Module, int]:
    """Norm -> position of its first call; norms that are never called come last."""
    called = list(watch_wiring(module, example, [], norms).sources)
    return {norm: called.index(norm) if norm in called else len(called) for norm in norms}


class _NormReached(Exception):
    """Ends a forward pass at the norm whose input is measured."""


def _input_statistics(module: nn.Module, norm: nn.Module, feeds: Batches) -> ChannelStatistics | None:
    """Statistics of one norm's inputs over all feeds; None where it is never called."""
    found: list[ChannelStatistics] = []

    def add_input(_: nn.Module, args: tuple[Any, ...]) -> None:
        new = ChannelStatistics.of(args[0].detach().cpu().double().numpy())
        found[:] = [found[0].with_more(new) if found else new]
        raise _NormReached

    with ExitStack() as stack:
        stack.callback(norm.register_forward_pre_hook(add_input).remove)
        for feed in feeds:
            args, kwargs = bind(module, feed)
            try:
                with evaluating(module):
                    module(*args, **kwargs)
            except _NormReached:
                continue
    return found[0] if found else None
