"""Load weights from a file into a module, read as data, never as code; save a state dict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from modelsurgeon.errors import BadModel, Unavailable
from modelsurgeon.files import replacing
from modelsurgeon.plugins import in_one_line
from modelsurgeon.shared_settings import warnings_ignored

State = Mapping[str, Any]

WRAPPER_KEYS = (
    "state_dict",
    "model_state_dict",
    "model",
    "ema",
)  # keys of training checkpoints, tried in order
COUNTER_NAMES = ("n_averaged",)  # the number of updates of an averaged model: no weight to load
MAX_NAMES_SHOWN = 3


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a .safetensors, .pth, .pt, .bin or .ckpt file into `module`, whose tensors must match one to one.

    A state dict inside a checkpoint is found under `WRAPPER_KEYS`, and the prefixes of data parallelism
    (`module.`) and torch.compile (`_orig_mod.`) are dropped from its names. A weight that is tied to one in
    the file may be missing. Raises BadModel for names and shapes that don't fit, and for a file that is
    broken or holds more than data; Unavailable without safetensors.
    """
    path = Path(path)
    state = _with_expected_names(state_of(path), module.state_dict(keep_vars=True))
    _check_shapes(state, module, path)
    try:
        missing, unexpected = module.load_state_dict(state, strict=False)
    except Exception as error:
        raise BadModel(f"{path} doesn't fit {type(module).__name__}: {in_one_line(error)}") from error
    missing = _not_loaded_elsewhere(missing, state, module)
    for verb, names in (("misses", missing), ("has unexpected", unexpected)):
        if names:
            raise BadModel(
                f"{path} {verb} {_first_names(names)}: weights of exactly {type(module).__name__} are needed"
            )


def state_of(path: Path) -> State:
    """Read the state dict in a file, also from inside a checkpoint. Raises BadModel, Unavailable."""
    if not path.is_file():
        raise BadModel(f"{path}: no such file of weights")
    read = STATE_READERS.get(path.suffix)
    if read is None:
        raise BadModel(
            f"{path} is none of {', '.join(STATE_READERS)}: save module.state_dict() as one of them"
        )
    state: Any = read(path)
    while (inner := _inner_state(state)) is not None:
        state = inner
    if not isinstance(state, Mapping) or not any(isinstance(value, torch.Tensor) for value in state.values()):
        raise BadModel(f"{path} holds no state dict: save module.state_dict()")
    return state


def _inner_state(state: object) -> State | None:
    if not isinstance(state, Mapping):
        return None
    return next((state[key] for key in WRAPPER_KEYS if isinstance(state.get(key), Mapping)), None)


def _read_safetensors(path: Path) -> State:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise Unavailable("safetensors isn't installed: pip install 'modelsurgeon[torch]'") from None
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BadModel(f"{path} is no sound safetensors file: {in_one_line(error)}") from error
    return state


def _read_pickled(path: Path) -> State:
    try:
        with warnings_ignored(["TypedStorage is deprecated"]):
            state: State = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise BadModel(
            f"{path} holds more than tensors, and reading that would run code: save module.state_dict() alone"
        ) from error
    except Exception as error:
        raise BadModel(f"{path} is no file of weights that torch.save wrote: {in_one_line(error)}") from error
    return state


STATE_READERS: Mapping[str, Callable[[Path], State]] = {
    ".safetensors": _read_safetensors,
    ".pth": _read_pickled,
    ".pt": _read_pickled,
    ".bin": _read_pickled,
    ".ckpt": _read_pickled,
}


def save_state(state: State, path: str | Path) -> None:
    """Write a state dict as .safetensors, or with torch.save; a failed write leaves no partial file."""
    with replacing(path) as part:
        if Path(path).suffix != ".safetensors":
            torch.save(dict(state), part)
            return
        try:
            from safetensors.torch import save
        except ImportError:
            raise Unavailable("safetensors isn't installed: pip install 'modelsurgeon[torch]'") from None
        plain = {name: value.contiguous().clone() for name, value in state.items()}
        part.write_bytes(save(plain, metadata={"format": "pt"}))


def _with_expected_names(state: State, expected: State) -> dict[str, Any]:
    """The state under the names that the module expects: prefixes of wrappers and update counters dropped."""
    renamed = {_without_prefixes(name, expected): value for name, value in state.items()}
    return {name: value for name, value in renamed.items() if name in expected or name not in COUNTER_NAMES}


def _without_prefixes(name: str, expected: State) -> str:
    plain = name.replace("_orig_mod.", "")
    while plain not in expected and plain.startswith("module."):
        plain = plain.removeprefix("module.")
    return plain if plain in expected else name


def _check_shapes(state: State, module: nn.Module, path: Path) -> None:
    expected = module.state_dict()
    for name, value in state.items():
        wanted = expected.get(name)
        if isinstance(wanted, torch.Tensor) and not is_lazy(wanted) and wanted.shape != value.shape:
            raise BadModel(
                f"{path}: {name} is {tuple(value.shape)}, {type(module).__name__} needs {tuple(wanted.shape)}"
            )


def _not_loaded_elsewhere(missing: Iterable[str], state: State, module: nn.Module) -> list[str]:
    """Missing names, without those whose tensor was loaded under another name."""
    tensors = module.state_dict(keep_vars=True)
    loaded = {id(tensors[name]) for name in state if name in tensors}
    return [name for name in missing if id(tensors.get(name)) not in loaded]


def _first_names(names: Iterable[str]) -> str:
    """The first few names, and how many more."""
    names = sorted(names)
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more
