"""A torch module as a `Layer`, a `Layer` as a torch module, and why a module is no such layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer, Padding

CONV: Mapping[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: Mapping[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
LAYER_TYPES = (nn.Linear, *CONV.values(), *TRANSPOSED.values())
RECURRENT_TYPES = (nn.RNNBase, nn.RNNCellBase)  # no layers of ours, but a user will ask about them

FLOAT_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
HOOK_ATTRIBUTES = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def layer_of(module: nn.Module) -> Layer:
    """The layer that a plain Linear, Conv or ConvTranspose module is; its arrays are copies.

    Half precision and bfloat16 are read as float32, which holds them exactly.
    Raises UnsupportedLayer where `why_not` gives a reason.
    """
    if (reason := why_not(module)) is not None:
        raise UnsupportedLayer(reason)
    plain: Any = module
    weight = _array(plain.weight)
    bias = None if plain.bias is None else _array(plain.bias)
    if isinstance(module, nn.Linear):
        return Layer(weight=weight, bias=bias)
    transposed = isinstance(module, tuple(TRANSPOSED.values()))
    return Layer(
        weight=_canonical(weight, plain.groups) if transposed else weight,
        bias=bias,
        stride=plain.stride,
        padding=_padding(plain),
        dilation=plain.dilation,
        groups=plain.groups,
        transposed=transposed,
        output_padding=plain.output_padding,
    )


def module_of(layer: Layer, like: nn.Module | None = None) -> nn.Module:
    """An ordinary, trainable module that computes `layer`: nn.Linear, nn.Conv*d or nn.ConvTranspose*d.

    like: a module whose dtype, device, `requires_grad` and training flag the new one takes over.
    Raises UnsupportedLayer for what torch has no module for: uneven padding, more than three kernel axes.
    """
    module = _empty(layer)
    weight = _torch_order(layer.weight, layer.groups) if layer.transposed else layer.weight
    model = dict(like.named_parameters(recurse=False)) if like is not None else {}
    module.weight = _parameter(weight, model.get("weight"))
    if layer.bias is not None:
        module.bias = _parameter(layer.bias, model.get("bias", model.get("weight")))
    return module.train(like is None or like.training)  # type: ignore[no-any-return]


def why_not(module: nn.Module) -> str | None:
    """Why this module can't be read as a layer, whatever stands around it; None where it can."""
    checks = (_recurrent, _odd_class, _odd_state, _odd_weight, _odd_padding)
    return next((reason for check in checks if (reason := check(module)) is not None), None)


def _recurrent(module: nn.Module) -> str | None:
    if not isinstance(module, RECURRENT_TYPES):
        return None
    return "its weights are multiplied inside torch's own loop: export the model and compress that"


def _odd_class(module: nn.Module) -> str | None:
    kind = next((kind for kind in LAYER_TYPES if isinstance(module, kind)), None)
    if is_parametrized(module):
        return "it is parametrized: its weight is computed anew at each use"
    if kind is None:
        return f"{type(module).__name__} is none of torch's Linear, Conv and ConvTranspose modules"
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return "it is lazy and has no weight yet: run the model once"
    if "forward" in vars(module):
        return "its forward was replaced on this very module"
    if any(_redefines(module, kind, part) for part in ("forward", "_conv_forward")):
        return f"{type(module).__name__} is a subclass of {kind.__name__} with a forward of its own"
    return None


def _redefines(module: nn.Module, kind: type[nn.Module], part: str) -> bool:
    return getattr(type(module), part, None) is not getattr(kind, part, None)


def _odd_state(module: nn.Module) -> str | None:
    if module._parameters.get("weight") is None:
        return "its weight is computed anew at each use (weight norm, spectral norm or pruning)"
    if any(getattr(module, hooks) for hooks in HOOK_ATTRIBUTES):
        return "hooks are registered on it"
    if set(module._parameters) - {"weight", "bias"} or module._buffers or module._modules:
        return "it holds more than a weight and a bias"
    return None


def _odd_weight(module: nn.Module) -> str | None:
    for value in module.parameters(recurse=False):
        if type(value) is not nn.Parameter or type(value.data) is not torch.Tensor:
            return f"its weight is a {type(value.data).__name__}, no plain tensor"
        if value.is_meta:
            return "its weight is on the meta device, where tensors have no values"
        if value.dtype not in FLOAT_TYPES:
            return f"its weight is {str(value.dtype).removeprefix('torch.')}, no real floating-point number"
    return None


def _odd_padding(module: Any) -> str | None:  # noqa: ANN401 (attributes of seven classes)
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
        reach = (d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True))
        return tuple((n // 2, n - n // 2) for n in reach)
    return tuple((p, p) for p in module.padding)


def _array(value: torch.Tensor) -> Array:
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    array: Array = value.detach().to("cpu", wide, copy=True).contiguous().numpy()
    return array


def _canonical(weight: Array, groups: int) -> Array:
    """(in, out / groups, *kernel), as torch keeps a ConvTranspose's weight -> (out, in / groups, *kernel)."""
    split = weight.reshape(groups, -1, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(-1, split.shape[1], *weight.shape[2:])


_torch_order = _canonical  # exchanging the two axes within each group undoes itself


def _empty(layer: Layer) -> Any:  # noqa: ANN401
    """The module with its geometry and no memory for weights, drawing no random numbers."""
    axes, shape = len(layer.kernel), (layer.in_channels, layer.out_channels)
    bias = layer.bias is not None
    if not axes and layer.groups == 1:
        return nn.Linear(*shape, bias=bias, device="meta")
    if axes not in CONV:
        raise UnsupportedLayer(f"torch has no module for kernel {layer.kernel} in {layer.groups} groups")
    if any(begin != end or begin < 0 for begin, end in layer.padding):
        raise UnsupportedLayer(
            f"padding {layer.padding} is uneven or negative: torch's modules pad both ends alike"
        )
    more = {"output_padding": layer.output_padding} if layer.transposed else {}
    return (TRANSPOSED if layer.transposed else CONV)[axes](
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
