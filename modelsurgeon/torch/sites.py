"""The linear layers of a torch module as sites, and their replacement by chains.

A module that is registered under several names is one layer: it is named by the first of them, and replaced
under all. A layer that can't be replaced without changing the model is skipped, with the reason in an edit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from modelsurgeon.layers import Layer
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Call
from modelsurgeon.torch.call import Example
from modelsurgeon.torch.layers import LAYER_TYPES, RECURRENT_TYPES, layer_of, module_of, unsupported_reason
from modelsurgeon.torch.usage import watch_usage

PROBE_SIZES = ((), (128,), (224, 224), (128, 128, 128))  # by number of kernel axes, without an example
KIND_NAMES = frozenset(kind.__name__ for kind in LAYER_TYPES)
# Their own forwards pass the weights of the modules inside them to one fused function.
OWNERS_READING_WEIGHTS = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


@dataclass(frozen=True, kw_only=True)
class TorchSite:
    """A `surgery.site.Site` of torch: a module that computes a linear layer.

    module: the original module; it doesn't change when a chain replaces it.
    owners: every parent that holds it, and the name there. calls: as in `surgery.site.Site`.
    """

    name: str
    module: nn.Module
    owners: Sequence[tuple[nn.Module, str]]
    calls: Sequence[Call]

    @property
    def layer(self) -> Layer:
        """The layer of the original module; its arrays are copies."""
        return layer_of(self.module)

    @property
    def extra_params(self) -> int:
        """0: the site is the module alone."""
        return 0

    @property
    def producers(self) -> None:
        """None: a module doesn't show which layers make its input."""
        return

    @property
    def members(self) -> Sequence[str]:
        """Empty: the site is one layer."""
        return ()

    def replace(self, chain: Sequence[Layer]) -> None:
        """Replace the module by an nn.Sequential of the chain's modules; a chain of one is that module.

        They are trainable, and copy dtype, device, `requires_grad` and the training flag. An optimizer that
        holds the old parameters has to be created anew.
        """
        modules = [module_of(layer, self.module) for layer in chain]
        new = modules[0] if len(modules) == 1 else nn.Sequential(*modules).train(self.module.training)
        for parent, child in self.owners:
            parent.register_module(child, new)


@dataclass(frozen=True, kw_only=True)
class _LayerPlace:
    paths: list[str]
    owners: list[tuple[nn.Module, str]]


def sites(
    module: nn.Module, *, example: Example | None = None
) -> tuple[list[TorchSite], list[FactorizationEdit]]:
    """Sites of the layers that can be replaced, and skipped edits, with the reason, of the others.

    example: arguments of forward, see `call.bind`. It is run once, in eval mode without gradients, to record
    how often and at which sizes each layer is used; weights, buffers and modes don't change. Without it
    every layer is assumed to be called once, at `PROBE_SIZES`. Raises BadData where the example doesn't fit.
    """
    places = _places(module)
    reasons = _skip_reasons(module, places)
    parts = [part for part in places if part not in reasons]
    calls: Mapping[nn.Module, Sequence[Call]] = {part: [_default_call(part)] for part in parts}
    if example is not None:
        usage = watch_usage(module, example, parts)
        calls, reasons = usage.calls, reasons | usage.reasons
    found = [
        TorchSite(name=place.paths[0], module=part, owners=place.owners, calls=calls[part])
        for part, place in places.items()
        if part not in reasons
    ]
    names = {part: place.paths[0] or type(part).__name__ for part, place in places.items()}
    return found, [
        FactorizationEdit(layer=names[part], skipped=reasons[part]) for part in places if part in reasons
    ]


def _places(root: nn.Module) -> dict[nn.Module, _LayerPlace]:
    """Paths and parents of every module that is a layer by its class, or was converted from one."""
    modules = dict(root.named_modules(remove_duplicate=False))
    places: dict[nn.Module, _LayerPlace] = {}
    for path, part in modules.items():
        if isinstance(part, (*LAYER_TYPES, *RECURRENT_TYPES)) or _made_from_layer(part):
            place = places.setdefault(part, _LayerPlace(paths=[], owners=[]))
            parent, _, child = path.rpartition(".")
            place.paths.append(path)
            if path:
                place.owners.append((modules[parent], child))
    return places


def _made_from_layer(part: nn.Module) -> bool:
    """Whether a module was scripted or quantized from a layer: another class, but of the same name."""
    scripted = part.original_name if isinstance(part, torch.jit.ScriptModule) else None
    quantized = "quantized" in type(part).__module__ and type(part).__name__ in KIND_NAMES
    return quantized or scripted in KIND_NAMES


def _skip_reasons(root: nn.Module, places: Mapping[nn.Module, _LayerPlace]) -> dict[nn.Module, str]:
    holders = _holders(root)
    checks: Sequence[Callable[[nn.Module], str | None]] = (
        lambda part: None if places[part].owners else "it is the whole model: put it into an nn.Sequential",
        unsupported_reason,
        lambda part: _tied_reason(part, holders),
        lambda part: _owner_reason(places[part]),
    )
    found = {part: next(filter(None, (check(part) for check in checks)), None) for part in places}
    return {part: reason for part, reason in found.items() if reason is not None}


def _holders(root: nn.Module) -> dict[int, list[str]]:
    """Parameter, by identity -> paths of the distinct modules that hold it."""
    holders: dict[int, list[str]] = {}
    for path, part in root.named_modules():
        for value in part.parameters(recurse=False):
            holders.setdefault(id(value), []).append(path)
    return holders


def _tied_reason(part: nn.Module, holders: Mapping[int, Sequence[str]]) -> str | None:
    for value in part.parameters(recurse=False):
        if len(paths := holders[id(value)]) > 1:
            return f"its weight or bias belongs to several modules: {', '.join(paths)}"
    return None


def _owner_reason(place: _LayerPlace) -> str | None:
    reader = next((parent for parent, _ in place.owners if isinstance(parent, OWNERS_READING_WEIGHTS)), None)
    return None if reader is None else f"{type(reader).__name__} reads its weight by itself"


def _default_call(part: nn.Module) -> Call:
    return PROBE_SIZES[0 if isinstance(part, nn.Linear) else len(part.kernel_size)], 1  # type: ignore[arg-type]
