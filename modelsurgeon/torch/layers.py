"""Convert torch modules to layers and back; reasons why a module is no such layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer, Padding

CONV_TYPES: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_TYPES: Mapping[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LAYER_TYPES = (nn.Linear, *CONV_TYPES.values(), *TRANSPOSED_TYPES.values())
RECURRENT_TYPES = (nn.RNNBase, nn.RNNCellBase)  # never replaced, but reported as skipped

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HOOK_ATTRIBUTES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def layer_of(module: nn.Module) -> Layer:
    """Read a Linear, Conv or ConvTranspose module as a layer; its arrays are copies.

    Half precision and bfloat16 are read as float32, which holds them exactly.
    Raises UnsupportedLayer where `unsupported_reason` gives a reason.
    """
    if (reason := unsupported_reason(module)) is not None:
        raise UnsupportedLayer(reason)
    plain: Any = module
    weight = _array(plain.weight)
    bias = None if plain.bias is None else _array(plain.bias)
    if isinstance(module, nn.Linear):
        return Layer(weight=weight, bias=bias)
    transposed = isinstance(module, tuple(TRANSPOSED_TYPES.values()))
    return Layer(
        weight=_swap_transposed_layout(weight, plain.groups) if transposed else weight,
        bias=bias,
        stride=plain.stride,
        padding=_padding(plain),
        dilation=plain.dilation,
        groups=plain.groups,
        transposed=transposed,
        output_padding=plain.output_padding,
    )


def module_of(layer: Layer, like: nn.Module | None = None) -> nn.Module:
    """Make a trainable module that computes `layer`: nn.Linear, nn.Conv*d or nn.ConvTranspose*d.

    like: a module from which dtype, device, `requires_grad` and training flag are copied.
    Raises UnsupportedLayer where torch has no such module: uneven padding, more than three kernel axes.
    """
    module = _empty_module(layer)
    weight = _torch_layout(layer.weight, layer.groups) if layer.transposed else layer.weight
    templates = dict(like.named_parameters(recurse=False)) if like is not None else {}
    module.weight = _parameter(weight, templates.get("weight"))
    if layer.bias is not None:
        module.bias = _parameter(layer.bias, templates.get("bias", templates.get("weight")))
    return module.train(like is None or like.training)  # type: ignore[no-any-return]


def unsupported_reason(module: nn.Module) -> str | None:
    """Reason why a module, taken by itself, can't be read as a layer; None where it can."""
    checks = (_recurrent_reason, _class_reason, _state_reason, _weight_reason, _padding_reason)
    return next((reason for check in checks if (reason := check(module)) is not None), None)


def _recurrent_reason(module: nn.Module) -> str | None:
    if not isinstance(module, RECURRENT_TYPES):
        return None
    return "its weights are multiplied inside torch's own loop: export the model and compress that"


def _class_reason(module: nn.Module) -> str | None:
    kind = next((kind for kind in LAYER_TYPES if isinstance(module, kind)), None)
    if is_parametrized(module):
        return "it is parametrized: its weight is computed anew at each use"
    if kind is None:
        return f"{type(module).__name__} is none of torch's Linear, Conv and ConvTranspose modules"
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return "it is lazy and has no weight yet: run the model once"
    if "forward" in vars(module):
        return "its forward was replaced on this module"
    if any(_redefines(module, kind, part) for part in ("forward", "_conv_forward")):
        return f"{type(module).__name__} is a subclass of {kind.__name__} with a forward of its own"
    return None


def _redefines(module: nn.Module, kind: type[nn.Module], part: str) -> bool:
    return getattr(type(module), part, None) is not getattr(kind, part, None)


def _state_reason(module: nn.Module) -> str | None:
    if module._parameters.get("weight") is None:
        return "its weight is computed anew at each use (weight norm, spectral norm or pruning)"
    if any(getattr(module, hooks) for hooks in HOOK_ATTRIBUTES):
        return "hooks are registered on it"
    if set(module._parameters) - {"weight", "bias"} or module._buffers or module._modules:
        return "it holds more than a weight and a bias"
    return None


def _weight_reason(module: nn.Module) -> str | None:
    for value in module.parameters(recurse=False):
        if type(value) is not nn.Parameter or type(value.data) is not torch.Tensor:
            return f"its weight is a {type(value.data).__name__}, no plain tensor"
        if value.is_meta:
            return "its weight is on the meta device, where tensors have no values"
        if value.dtype not in FLOAT_TYPES:
            return f"its weight is {str(value.dtype).removeprefix('torch.')}, no real floating-point number"
    return None


def _padding_reason(module: Any) -> str | None:  # noqa: ANN401 (attributes of seven classes)
    if isinstance(module, nn.Linear):
        return None
    if module.padding_mode != "zeros":
        return f"it pads with {module.padding_mode!r} values, not with zeros"
    if any(begin != end for begin, end in _padding(module)):
        return "padding 'same' of an even kernel is uneven"
    return None


def _padding(module: Any) -> Padding:  # noqa: ANN401
    if module.padding == "valid":
        return ()
    if module.padding == "same":
        totals = (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True))
        return tuple((n // 2, n - n // 2) for n in totals)
    return tuple((p, p) for p in module.padding)


def _array(value: torch.Tensor) -> Array:
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    array: Array = value.detach().to("cpu", wide, copy=True).contiguous().numpy()
    return array


def _swap_transposed_layout(weight: Array, groups: int) -> Array:
    """A ConvTranspose's weight, in torch (in, out / groups, *kernel), as (out, in / groups, *kernel)."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(-1, split.shape[1], *weight.shape[2:])


_torch_layout = _swap_transposed_layout  # exchanging the two axes within each group undoes itself


def _empty_module(layer: Layer) -> Any:  # noqa: ANN401
    """A module with the layer's geometry, its weights on the meta device: no memory, no random numbers."""
    axes, shape = len(layer.kernel), (layer.in_channels, layer.out_channels)
    bias = layer.bias is not None
    if not axes and layer.groups == 1:
        return nn.Linear(*shape, bias=bias, device="meta")
    if axes not in CONV_TYPES:
        raise UnsupportedLayer(f"torch has no module for kernel {layer.kernel} in {layer.groups} groups")
    if any(begin != end or begin < 0 for begin, end in layer.padding):
        raise UnsupportedLayer(
            f"padding {layer.padding} is uneven or negative: torch's modules pad both ends alike"
        )
    more = {"output_padding": layer.output_padding} if layer.transposed else {}
    return (TRANSPOSED_TYPES if layer.transposed else CONV_TYPES)[axes](
        *shape,
        layer.kernel,
        stride=layer.stride,
        padding=tuple(begin for begin, _ in layer.padding),
        dilation=layer.dilation,
        groups=layer.groups,
        bias=bias,
        device="meta",
        **more,
    )


def _parameter(array: Array, like: nn.Parameter | None) -> nn.Parameter:
    tensor = torch.tensor(array)
    if like is None:
        return nn.Parameter(tensor)
    return nn.Parameter(tensor.to(like.device, like.dtype), requires_grad=like.requires_grad)
