"""Load and save models, and turn whatever a caller calls a model into the one graph type.

A model is a path to an .onnx file, an `onnx_ir.Model`, an `onnx.ModelProto` or an `nn.Module`.
All become an `onnx_ir.Model`; torch is imported only where a PyTorch model is given.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from modelsurgeon.arguments import Size, checked
from modelsurgeon.errors import BadModel, UnknownShape
from modelsurgeon.files import PT2_SUFFIX

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn

    from modelsurgeon.data import Array

    Model = str | Path | ir.Model | onnx.ModelProto | nn.Module

Shapes = Mapping[str, Sequence[Size]]
Dims = Mapping[str, Size]

# package.module:factory; one letter before the colon is the drive of C:model, not a package.
FACTORY_PATTERN = re.compile(r"(?=[^:]{2})[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


@checked
def load(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    shapes: Shapes | None = None,
    example: str | Path | None = None,
    trust: bool = False,
) -> ir.Model:
    """The graph of an .onnx file, validated, or the export of a PyTorch source.

    Weights of a file stay on disk until they are read. source: a path, or `package.module:factory`, which is
    imported and called without arguments: that runs its code. weights: a .safetensors or .pth file for the
    factory's module, read as data. shapes: input name -> sizes that it is exported for, or example: an .npz
    with arrays named as its inputs. trust: load a .pt2 file, which may run code of whoever made it. Raises
    BadModel for a file that is no sound model, UnknownShape for a PyTorch source without shapes, BadData.
    """
    if is_source(source):
        from modelsurgeon.torch.factory import load_module

        return _export(load_module(str(source), weights, trust=trust), shapes, example)
    if weights is not None:
        raise BadModel(f"{source} is no PyTorch source package.module:factory: leave its weights out")
    from modelsurgeon.onnx.io.files import load as load_file

    return load_file(source)


def is_source(source: str | Path) -> bool:
    """Whether this is a .pt2 file, or `package.module:factory` and no file of that name."""
    if Path(source).suffix == PT2_SUFFIX:
        return True
    return FACTORY_PATTERN.fullmatch(str(source)) is not None and not Path(source).exists()


def weight_files(model: ir.Model) -> Iterator[Path]:
    """The files that a loaded model reads its weights from: writing to one would change the model.

    The search begins when the first one is asked for.
    """
    import onnx_ir as ir

    from modelsurgeon.onnx.graph.traversal import replace_tensors
    from modelsurgeon.onnx.io.lazy_tensors import StoredTensor

    found: dict[Path, None] = {}

    def note(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, StoredTensor):
            found[tensor.file.path] = None
        elif isinstance(tensor, ir.ExternalTensor):
            found[Path(tensor.path)] = None
        return tensor

    replace_tensors(model, note)
    yield from found


@checked
def save(model: Model | Mapping[str, Any], path: str | Path, *, shapes: Shapes | None = None) -> None:
    """Write the model as .onnx, whole or not at all; beyond 2 GB weights go into a second file next to it.

    A state dict, such as `steal` returns, is written as .safetensors or .pth. shapes: of an `nn.Module`'s
    inputs, by the names of forward's parameters. Raises Unwritable.
    """
    if isinstance(model, Mapping):
        from modelsurgeon.torch.state_dict import save_state

        save_state(model, path)
        return
    from modelsurgeon.onnx.io.files import save as save_file

    save_file(graph(model, shapes=shapes), path)


def graph(model: Model, *, shapes: Shapes | None = None) -> ir.Model:
    """The model as a graph; one that is a graph already is returned as it is."""
    if isinstance(model, str | Path):
        return load(model, shapes=shapes)
    if is_module(model):
        return _export(model, shapes)
    import onnx
    import onnx_ir as ir

    if isinstance(model, ir.Model):
        return model
    if isinstance(model, onnx.ModelProto):
        from modelsurgeon.onnx.io.files import from_proto

        return from_proto(model)
    found = type(model).__name__
    raise BadModel(f"{found} is no model: give a path, an onnx_ir.Model, an onnx.ModelProto or an nn.Module")


def is_module(model: object) -> TypeGuard[nn.Module]:
    """Whether this is an `nn.Module`; asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _export(module: nn.Module, shapes: Shapes | None, example: str | Path | None = None) -> ir.Model:
    from modelsurgeon.onnx.io import pickling as pickling  # the export can be pickled, too
    from modelsurgeon.torch.call import noise
    from modelsurgeon.torch.export import export

    if example is not None:
        return export(module, _read_arrays(Path(example)))
    if not shapes:
        name = type(module).__name__
        raise UnknownShape(f"{name} fixes no input shapes: give the shape of every input, to export it")
    return export(module, noise(module, shapes))


def _read_arrays(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file."""
    from modelsurgeon.data.readers import from_files

    names = from_files(path, ())[0].names
    source = from_files(path, list(names))[0]
    return {name: source.load(name) for name in names}
