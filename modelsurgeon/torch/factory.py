"""Make a module from `package.module:factory`, and load its weights from a file."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from modelsurgeon.errors import BadModel
from modelsurgeon.files import PT2_SUFFIX
from modelsurgeon.plugins import import_user_module, in_one_line
from modelsurgeon.torch.state_dict import load_weights


def load_module(source: str, weights: str | Path | None = None, *, trust: bool = False) -> nn.Module:
    """Make the module of `package.module:factory`, in eval mode, with weights from a file if given.

    The package is imported, from the current folder too as with `python -m`, and the factory is called
    without arguments: this runs the user's code. It may also be a class, or an nn.Module itself.
    weights: see `state_dict.load_weights`; a file of weights is read as data.
    trust: also load a .pt2 file, which can run code of whoever made it; without it, that is refused.
    Raises BadModel, with a message of one line, for any error on the way.
    """
    module = _load_exported(Path(source), trust) if source.endswith(PT2_SUFFIX) else _from_factory(source)
    if weights is not None:
        load_weights(module, weights)
    for part in module.modules():  # not module.eval(): an exported program refuses that
        part.training = False
    return module


def _load_exported(path: Path, trust: bool) -> nn.Module:
    if not trust:
        raise BadModel(
            f"{path}: loading a {PT2_SUFFIX} file can run code of whoever made it: allow it with --trust"
        )
    if not path.is_file():
        raise BadModel(f"{path}: no such file")
    try:
        return torch.export.load(path).module()
    except Exception as error:
        raise BadModel(f"{path} is no sound {PT2_SUFFIX} file: {in_one_line(error)}") from error


def _from_factory(source: str) -> nn.Module:
    package, _, name = source.partition(":")
    if not package or not name:
        raise BadModel(f"{source!r} is no PyTorch source: write package.module:factory")
    factory = _attribute(import_user_module(package), name)
    module = factory if isinstance(factory, nn.Module) else _call_factory(factory, source)
    if not isinstance(module, nn.Module):
        raise BadModel(f"{source} returns {type(module).__name__}: an nn.Module is needed")
    return module


def _attribute(package: ModuleType, name: str) -> object:
    try:
        return attrgetter(name)(package)
    except AttributeError:
        raise BadModel(f"{package.__name__} has no {name!r}: name a function that makes the module") from None


def _call_factory(factory: object, source: str) -> object:
    if not callable(factory):
        raise BadModel(f"{source} is {type(factory).__name__}: a function that makes the module is needed")
    make: Callable[[], object] = factory
    try:
        return make()
    except (Exception, SystemExit) as error:
        raise BadModel(f"{source} fails when called without arguments: {_error_line(error)}") from error


def _error_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {in_one_line(error)}"
