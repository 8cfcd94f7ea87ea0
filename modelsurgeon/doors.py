"""The front doors: load, save, info and compare for whatever a caller calls a model.

A model is a path to an .onnx file, an `onnx_ir.Model`, an `onnx.ModelProto` or an `nn.Module`.
All become the one graph type, `onnx_ir.Model`; torch is imported only for what is torch's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from modelsurgeon.errors import BadModel, UnknownShape

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn

    from modelsurgeon.onnx.analysis import Analysis

    Model = str | Path | ir.Model | onnx.ModelProto | nn.Module

Shapes = Mapping[str, Sequence[int]]
Dims = Mapping[str, int]

# package.module:factory; the drive letter of C:model is too short for a package.
SOURCE = re.compile(r"[^\W\d]\w+(\.[^\W\d]\w*)*:[^\W\d]\w*")


def load(source: str | Path, *, weights: str | Path | None = None, shapes: Shapes | None = None) -> ir.Model:
    """The graph of an .onnx file, validated, its weights on disk until touched; or that of a PyTorch source.

    source: a path, or `package.module:factory`, which is imported and called without arguments: that runs
    its code. weights: a .safetensors or .pth file for it, read as data. shapes: what it is exported for.
    Raises BadModel for what is no sound model, UnknownShape for a source without shapes.
    """
    if is_source(source):
        from modelsurgeon.torch.source import load_module

        return graph(load_module(str(source), weights), shapes=shapes)
    if weights is not None:
        raise BadModel(f"{source} is no PyTorch source package.module:factory: leave its weights out")
    from modelsurgeon.onnx.io import load as load_file

    return load_file(source)


def is_source(source: str | Path) -> bool:
    """Whether this is `package.module:factory`, and no file of that name."""
    return SOURCE.fullmatch(str(source)) is not None and not Path(source).exists()


def save(model: Model, path: str | Path, *, shapes: Shapes | None = None) -> None:
    """Write the model as .onnx, whole or not at all; beyond 2 GB its weights go into a file beside it.

    shapes: of an `nn.Module`'s inputs, by the names of forward's parameters.
    """
    from modelsurgeon.onnx.io import save as save_file

    save_file(graph(model, shapes=shapes), path)


def info(model: Model, shapes: Shapes | None = None, dims: Dims | None = None) -> Analysis:
    """What the model is made of and what it costs, without running it.

    shapes: input name -> sizes. dims: symbol -> size. Symbols that stay open make formulas, with their value
    at stated defaults beside them. Raises BadModel and UnknownShape.
    """
    from modelsurgeon.onnx.analysis import analyze

    return analyze(graph(model, shapes=shapes), shapes=shapes, dims=dims)


def graph(model: Model, *, shapes: Shapes | None = None) -> ir.Model:
    """The model as a graph; one that is a graph already is returned as it is."""
    if isinstance(model, str | Path):
        return load(model, shapes=shapes)
    if is_module(model):
        return _exported(model, shapes)
    import onnx
    import onnx_ir as ir

    if isinstance(model, ir.Model):
        return model
    if isinstance(model, onnx.ModelProto):
        return ir.from_proto(model)
    found = type(model).__name__
    raise BadModel(f"{found} is no model: give a path, an onnx_ir.Model, an onnx.ModelProto or an nn.Module")


def is_module(model: object) -> TypeGuard[nn.Module]:
    """Whether this is an `nn.Module`; asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _exported(module: nn.Module, shapes: Shapes | None) -> ir.Model:
    if not shapes:
        name = type(module).__name__
        raise UnknownShape(f"{name} fixes no input shapes: give the shape of every input, to export it")
    from modelsurgeon.torch.call import noise
    from modelsurgeon.torch.export import export

    return export(module, noise(module, shapes))
