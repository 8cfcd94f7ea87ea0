"""The front doors: load, save, info and compare for whatever a caller calls a model.

A model is a path to an .onnx file, an `onnx_ir.Model`, an `onnx.ModelProto` or an `nn.Module`.
All become the one graph type, `onnx_ir.Model`; torch is imported only for what is torch's.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from modelsurgeon.errors import BadModel, UnknownShape

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn

    from modelsurgeon.comparison.compare import Comparison
    from modelsurgeon.data import Array, Batches, Input
    from modelsurgeon.inspection.analysis import Analysis
    from modelsurgeon.inspection.difference import Difference
    from modelsurgeon.inspection.findings import Report
    from modelsurgeon.progress import Progress

    Model = str | Path | ir.Model | onnx.ModelProto | nn.Module

Shapes = Mapping[str, Sequence[int]]
Dims = Mapping[str, int]

EXPORTED = ".pt2"
NOISE_SAMPLES = 8

# package.module:factory; one letter before the colon is the drive of C:model, not a package.
SOURCE = re.compile(r"(?=[^:]{2})[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def load(
    source: str | Path,
    *,
    weights: str | Path | None = None,
    shapes: Shapes | None = None,
    example: str | Path | None = None,
    trust: bool = False,
) -> ir.Model:
    """The graph of an .onnx file, validated, its weights on disk until touched; or that of a PyTorch source.

    source: a path, or `package.module:factory`, which is imported and called without arguments: that runs
    its code. weights: a .safetensors or .pth file for it, read as data. shapes: what it is exported for, or
    example: an .npz with arrays named as its inputs. trust: load a .pt2 file, which may run code of whoever
    made it. Raises BadModel for what is no sound model, UnknownShape for a source without shapes, BadData.
    """
    if is_source(source):
        from modelsurgeon.torch.factory import load_module

        return _exported(load_module(str(source), weights, trust=trust), shapes, example)
    if weights is not None:
        raise BadModel(f"{source} is no PyTorch source package.module:factory: leave its weights out")
    from modelsurgeon.onnx.io.files import load as load_file

    return load_file(source)


def is_source(source: str | Path) -> bool:
    """Whether this is a .pt2 file, or `package.module:factory` and no file of that name."""
    if Path(source).suffix == EXPORTED:
        return True
    return SOURCE.fullmatch(str(source)) is not None and not Path(source).exists()


def weight_files(model: ir.Model) -> Iterator[Path]:
    """The files from which a loaded model reads its weights: to write to one would change the model.

    They are looked for when the first one is asked for.
    """
    import onnx_ir as ir

    from modelsurgeon.onnx.graph.traversal import exchange
    from modelsurgeon.onnx.io.lazy_tensors import StoredTensor

    found: dict[Path, None] = {}

    def note(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, StoredTensor):
            found[tensor.file.path] = None
        elif isinstance(tensor, ir.ExternalTensor):
            found[Path(tensor.path)] = None
        return tensor

    exchange(model, note)
    yield from found


def save(model: Model | Mapping[str, Any], path: str | Path, *, shapes: Shapes | None = None) -> None:
    """Write the model as .onnx, whole or not at all; beyond 2 GB its weights go into a file beside it.

    A state dict, as `steal` gives for one, is written as .safetensors or .pth.

    shapes: of an `nn.Module`'s inputs, by the names of forward's parameters.
    """
    if isinstance(model, Mapping):
        from modelsurgeon.torch.state_dict import save_state

        save_state(model, path)
        return
    from modelsurgeon.onnx.io.files import save as save_file

    save_file(graph(model, shapes=shapes), path)


def info(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    memory: bool = False,
    training: bool = False,
    weights: bool = False,
    data: Any = None,  # noqa: ANN401 - see data.batches
    samples: int | None = None,
    batch: int | None = None,
    provider: str = "cpu",
    spend: bool = False,
    watch: Progress | None = None,
) -> Analysis:
    """What the model is made of and what it costs; it is run only where there is data.

    shapes: input name -> sizes. dims: symbol -> size. Symbols that stay open make formulas, with their value
    at stated defaults beside them. memory: also tell which activations live when. training: also what it
    takes to train it. weights: read the weights, too, one at a time, and tell their ranges, channels and
    spectra. data: whatever `data.batches` takes; run the model on it, on at most so many samples, and tell
    the ranges of its activations. batch: samples a feed, where the model leaves that open. spend: a graph may
    be changed, as nobody needs it any more; that is quicker. watch: told how much is done. Raises BadModel,
    UnknownShape, BadData and Unavailable.
    """
    from modelsurgeon.onnx.info import analyze

    opened = graph(model, shapes=shapes)
    spent = _is_spent(model, spend=spend) and data is None and not weights
    found = analyze(opened, shapes=shapes, dims=dims, memory=memory, training=training, spend=spent)
    if weights:
        from modelsurgeon.onnx.analysis.weight_statistics import weigh_all

        measured = weigh_all(opened, shapes=shapes, dims={**(dims or {}), **found.defaults}, watch=watch)
        found = found.with_section("weights", measured)
    if data is not None:
        from modelsurgeon.onnx.analysis.activation_statistics import watch_all

        given, _ = feeds(opened, data, samples=samples, batch=batch)
        found = found.with_section("activations", watch_all(opened, given, provider=provider, watch=watch))
    return found


def check(
    model: Model,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    *,
    select: Sequence[str] = (),
    ignore: Sequence[str] = (),
    weights: bool = False,
    balance: float | None = None,
    spend: bool = False,
) -> Report:
    """What is wrong with the model or stands out in it, each with its rule, evidence and advice.

    shapes, dims: sizes that the model leaves open. select, ignore: ids of rules, all of docs/rules.md where
    none is selected; `rule:glob` ignores it for layers of such names. weights: whether to ask the rules that
    read weights. balance: FLOPs for each byte that the machine does, 10 where it isn't told. spend: a graph
    may be changed, as nobody needs it any more. Raises BadModel, UnknownShape, and ValueError for a rule that
    there isn't.
    """
    from modelsurgeon.onnx.check import check as check_graph
    from modelsurgeon.onnx.lint import BALANCE

    return check_graph(
        graph(model, shapes=shapes),
        shapes=shapes,
        dims=dims,
        select=select,
        ignore=ignore,
        weights=weights,
        balance=BALANCE if balance is None else balance,
        spend=_is_spent(model, spend=spend),
    )


def diff(
    a: Model, b: Model, *, shapes: Shapes | None = None, dims: Dims | None = None, weights: bool = True
) -> Difference:
    """What differs between two models, layer by layer, without running them.

    Layers are matched by name, then by what they are and where they stand. shapes, dims: as `info` takes
    them. weights: read them, to tell which are equal. Raises BadModel and UnknownShape.
    """
    from modelsurgeon.onnx.diff import diff as compare_graphs

    return compare_graphs(
        graph(a, shapes=shapes), graph(b, shapes=shapes), shapes=shapes, dims=dims, weights=weights
    )


def compare(
    a: Model,
    b: Model,
    data: Any = None,  # noqa: ANN401 - see data.batches
    *,
    samples: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    per_layer: bool = False,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    provider: str = "cpu",
) -> Comparison:
    """Whether two models give the same answers to the same samples, held against the noise of A itself.

    data: whatever `data.batches` takes; without it, seeded noise is drawn and the result says so.
    samples: at most so many of data, or how many are drawn. batch: samples a feed, where A leaves that open.
    tolerance: relative L2 up to which an output counts as the same. per_layer: also the outputs of the layers
    that both models have. shapes, dims: sizes that A leaves open. Raises BadModel, BadData, UnknownShape.
    """
    from modelsurgeon.comparison.compare import compare as compare_runs
    from modelsurgeon.onnx.run import runner

    ours, theirs = graph(a, shapes=shapes), graph(b, shapes=shapes)
    batches, notes = feeds(ours, data, samples=samples, batch=batch, seed=seed, shapes=shapes, dims=dims)
    outputs = _layer_outputs(ours, theirs) if per_layer else ()
    return compare_runs(
        runner(ours, provider=provider, outputs=outputs),
        runner(theirs, provider=provider, outputs=outputs),
        batches,
        rerun_a=runner(ours, provider=provider, outputs=outputs, optimize=False, threads=1),
        tolerance=tolerance,
        providers=(provider, provider),
        notes=notes,
    )


def feeds(
    model: ir.Model,
    data: Any,  # noqa: ANN401
    *,
    samples: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
) -> tuple[Batches, list[str]]:
    """What a model is fed to compare it with another, and what the reader should know of it.

    The arguments are those of `compare`. Raises BadData, UnknownShape.
    """
    from modelsurgeon.data import batches, noise
    from modelsurgeon.onnx import run
    from modelsurgeon.onnx.run import runnable_sizes
    from modelsurgeon.onnx.shapes import bound

    if data is not None:
        given = batches(data, run.inputs(model), batch=batch)
        return _first(given, samples), [given.note] if given.note else []
    assumed = runnable_sizes.workable(model, shapes, dims, seed=seed)
    inputs = runnable_sizes.inputs(model, bound(model, shapes, dims), assumed)
    drawn = noise(_batched(inputs, run.inputs(model), batch), samples=samples or NOISE_SAMPLES, seed=seed)
    sizes = ", ".join(f"{name} = {size}" for name, size in assumed.items() if not (batch and size == 1))
    told = ["the samples are seeded noise: a verdict on noise is not a verdict on data", drawn.note]
    return drawn, [note for note in (*told, f"open sizes are taken as {sizes}" if sizes else "") if note]


def _batched(inputs: Sequence[Input], declared: Sequence[Input], batch: int | None) -> list[Input]:
    """The inputs with `batch` along the first axis, where that is open and nobody has bound it."""
    return [
        replace(each, shape=(batch, *each.shape[1:]))
        if batch and each.shape and model.shape and each.shape[0] == 1 and model.shape[0] is None
        else each
        for each, model in zip(inputs, declared, strict=True)
    ]


def _first(feeds: Batches, samples: int | None) -> Batches:
    """As many feeds from the start as hold so many samples."""
    if samples is None or samples >= feeds.samples:
        return feeds
    count = ceil(samples * len(feeds) / feeds.samples)
    held = min(feeds.samples, count * ceil(feeds.samples / len(feeds)))
    return replace(feeds, count=count, samples=held, make=lambda: islice(feeds, count))


def _layer_outputs(a: ir.Model, b: ir.Model) -> list[str]:
    """The outputs of A's linear layers, in its main graph, that B computes too."""
    from modelsurgeon.onnx.graph.names import LINEAR

    computed = {value.name for node in b.graph for value in node.outputs}
    found = [str(node.outputs[0].name) for node in a.graph if node.op_type in LINEAR]
    return [name for name in found if name in computed]


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
        from modelsurgeon.onnx.io.files import from_proto

        return from_proto(model)
    found = type(model).__name__
    raise BadModel(f"{found} is no model: give a path, an onnx_ir.Model, an onnx.ModelProto or an nn.Module")


def _is_spent(model: Model, *, spend: bool) -> bool:
    """Whether the graph of a model is nobody's: given away, or read from a file for this call alone."""
    return spend or isinstance(model, str | Path)


def is_module(model: object) -> TypeGuard[nn.Module]:
    """Whether this is an `nn.Module`; asked without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _exported(module: nn.Module, shapes: Shapes | None, example: str | Path | None = None) -> ir.Model:
    from modelsurgeon.torch.call import noise
    from modelsurgeon.torch.export import export

    if example is not None:
        return export(module, _arrays(Path(example)))
    if not shapes:
        name = type(module).__name__
        raise UnknownShape(f"{name} fixes no input shapes: give the shape of every input, to export it")
    return export(module, noise(module, shapes))


def _arrays(path: Path) -> dict[str, Array]:
    """All arrays of an .npz file."""
    from modelsurgeon.data.readers import files

    names = files(path, ())[0].names
    source = files(path, list(names))[0]
    return {name: source.load(name) for name in names}
