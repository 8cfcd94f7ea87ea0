"""Batch norm of a module, folded, frozen or measured anew in place.

What stands before a norm shows in one run: the norm takes the very tensor that a layer gave, and nothing else
does. The algebra is in `modelsurgeon.fold`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData, UnsupportedLayer
from modelsurgeon.layers.batchnorm import BatchNorm, behind
from modelsurgeon.layers.batchnorm_health import drift
from modelsurgeon.layers.channel_statistics import ChannelStatistics
from modelsurgeon.surgery.edits import Edit
from modelsurgeon.torch.call import bind, evaluating, forward, named_outputs
from modelsurgeon.torch.layers import HOOK_ATTRIBUTES
from modelsurgeon.torch.sites import sites
from modelsurgeon.torch.usage import FunctionReader

NORM_TYPES = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
Left = Callable[[str], str | None]  # a layer's name -> why the user wants it left alone


@dataclass(frozen=True, kw_only=True)
class NormPlace:
    """A batch norm: its first name, the module, and every parent that holds it with the name there."""

    name: str
    module: Any
    owners: Sequence[tuple[nn.Module, str]]

    def replace(self, new: nn.Module) -> None:
        """Put another module where the norm stood."""
        for parent, child in self.owners:
            parent.register_module(child, new.train(self.module.training))

    def read(self) -> BatchNorm:
        """Its numbers. Raises UnsupportedLayer with the reason to leave it alone."""
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
    """gain * x + offset for each channel; both are buffers, which no training moves."""

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


def fold(module: nn.Module, feeds: Batches, left: Left) -> list[Edit]:
    """Absorb every norm in eval mode into the layer that alone feeds it; an nn.Identity takes its place."""
    example = next(iter(feeds))
    layers = {site.module: site for site in sites(module, example=example)[0]}
    norms = norm_places(module)
    wiring = watch_wiring(module, example, list(layers), [place.module for place in norms])

    def work(place: NormPlace) -> Edit:
        if place.module.training:
            raise UnsupportedLayer("it is in training mode: call eval() on the module first")
        affine = place.read().affine
        site = layers[wiring.feeder(place.module)]
        site.replace([behind(site.layer, affine)])
        place.replace(nn.Identity())
        return Edit(layer=place.name, action="fold", details={"into": site.name})

    return _each(norms, "fold", left, work)


def freeze(module: nn.Module, _: Batches, left: Left) -> list[Edit]:
    """Put one gain and one offset per channel in the place of every norm that is in eval mode."""

    def work(place: NormPlace) -> Edit:
        if place.module.training:
            raise UnsupportedLayer("it is in training mode: call eval() on the module first")
        affine, like = place.read().affine, place.module.running_mean
        tensors = (torch.tensor(each).to(like.device, like.dtype) for each in (affine.gain, affine.offset))
        place.replace(FrozenNorm(*tensors))
        return Edit(layer=place.name, action="freeze", details={"channels": affine.gain.size})

    return _each(norm_places(module), "freeze", left, work)


def recalibrate(module: nn.Module, feeds: Batches, left: Left) -> list[Edit]:
    """Give every norm the statistics of its inputs over all samples, in the order of the calls.

    Raises BadData for noise.
    """
    if feeds.kind != "data":
        raise BadData("statistics can't be made from noise: give data")

    def work(place: NormPlace) -> Edit:
        before = place.read()
        truth = _population(module, place.module, feeds)
        moved, spread = drift(before, truth)
        for buffer, new in ((place.module.running_mean, truth.mean), (place.module.running_var, truth.var)):
            buffer.copy_(torch.tensor(new))
        details = {"mean_off": float(moved.max()), "variance_off": float(spread.max()), "values": truth.count}
        return Edit(layer=place.name, action="recalibrate", details=details)

    norms = norm_places(module)
    order = _order(module, next(iter(feeds)), [place.module for place in norms])
    return _each(sorted(norms, key=lambda place: order[place.module]), "recalibrate", left, work)


def norm_places(root: nn.Module) -> list[NormPlace]:
    """Every batch norm inside a module, once each."""
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


def _each(
    norms: Iterable[NormPlace], action: str, left: Left, work: Callable[[NormPlace], Edit]
) -> list[Edit]:
    def one(place: NormPlace) -> Edit:
        try:
            if reason := left(place.name):
                raise UnsupportedLayer(reason)
            return work(place)
        except UnsupportedLayer as reason_given:
            return Edit(layer=place.name, action=action, skipped=str(reason_given))

    return [one(place) for place in norms]


class Wiring(FunctionReader):
    """Which layer's output each norm takes, and which of those outputs anything else reads."""

    def __init__(self) -> None:
        """Nothing is seen yet."""
        super().__init__()
        self.fed: dict[nn.Module, list[nn.Module | None]] = {}
        self.calls: dict[nn.Module, int] = {}
        self.shared: set[nn.Module] = set()
        self.axes: dict[nn.Module, int] = {}
        self._made: dict[int, tuple[torch.Tensor, nn.Module]] = {}
        self._running: nn.Module | None = None

    def read(self, values: Iterable[object]) -> None:
        """Note that something else than a norm reads these values."""
        if self._running is None:
            self.shared.update(self._made[id(value)][1] for value in values if id(value) in self._made)

    def gave(self, part: nn.Module, _args: object, output: torch.Tensor) -> None:
        """A forward hook of each layer."""
        self.axes[part] = output.dim()
        self.calls[part] = self.calls.get(part, 0) + 1
        self._made[id(output)] = (output, part)

    def enter(self, norm: nn.Module, args: tuple[Any, ...]) -> None:
        """A forward pre-hook of each norm."""
        self._running = norm
        self.fed.setdefault(norm, []).append(self._made.get(id(args[0]), (None, None))[1])

    def leave(self, _norm: nn.Module, _args: object, _output: object) -> None:
        """A forward hook of each norm."""
        self._running = None

    def feeder(self, norm: nn.Module) -> nn.Module:
        """The one layer whose outputs go to this norm alone. Raises UnsupportedLayer where there is none."""
        parts = self.fed.get(norm, [])
        if not parts:
            raise UnsupportedLayer("the model never calls it on the example")
        part = parts[0]
        if part is None:
            raise UnsupportedLayer("no layer that can be replaced stands right before it")
        if len(parts) > 1 or self.calls[part] > 1:
            raise UnsupportedLayer("it or the layer before it is called more than once")
        if part in self.shared:
            raise UnsupportedLayer("what lies between it and the layer before it has other uses")
        if isinstance(part, nn.Linear) and self.axes[part] != 2:
            raise UnsupportedLayer("the Linear before it works on another axis than that of the channels")
        return part


def watch_wiring(
    module: nn.Module, example: Mapping[str, Any], layers: Iterable[nn.Module], norms: Iterable[nn.Module]
) -> Wiring:
    """Run the module once, in eval mode, and tell what feeds its norms. Raises BadData where that fails."""
    call, seen = bind(module, example), Wiring()
    with ExitStack() as stack:
        for part in layers:
            stack.callback(part.register_forward_hook(seen.gave).remove)
        for norm in norms:
            stack.callback(norm.register_forward_pre_hook(seen.enter).remove)
            stack.callback(norm.register_forward_hook(seen.leave).remove)
        with seen:
            outputs = forward(module, call)
    seen.read(named_outputs(outputs).values())
    return seen


def _order(module: nn.Module, example: Mapping[str, Any], norms: Sequence[nn.Module]) -> dict[nn.Module, int]:
    """Norm -> when it is called first; those that never are come last."""
    called = list(watch_wiring(module, example, [], norms).fed)
    return {norm: called.index(norm) if norm in called else len(called) for norm in norms}


class _Enough(Exception):
    """Ends a forward when the norm that is measured has been reached."""


def _population(module: nn.Module, norm: nn.Module, feeds: Batches) -> ChannelStatistics:
    """Statistics of what one norm takes. Raises UnsupportedLayer where it is never called."""
    found: list[ChannelStatistics] = []

    def note(_: nn.Module, args: tuple[Any, ...]) -> None:
        new = ChannelStatistics.of(args[0].detach().cpu().double().numpy())
        found[:] = [found[0].with_more(new) if found else new]
        raise _Enough

    with ExitStack() as stack:
        stack.callback(norm.register_forward_pre_hook(note).remove)
        for feed in feeds:
            args, kwargs = bind(module, feed)
            try:
                with evaluating(module):
                    module(*args, **kwargs)
            except _Enough:
                continue
    if not found or found[0].count < 2:
        raise UnsupportedLayer("the samples give it fewer than two values per channel")
    return found[0]
