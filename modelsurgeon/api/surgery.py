"""The surgery verbs on graphs; each takes the keywords of `api.options.SurgeryOptions` too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

from modelsurgeon.api import models
from modelsurgeon.api.operation import Operation, operate
from modelsurgeon.api.options import SurgeryOptions
from modelsurgeon.arguments import checked
from modelsurgeon.errors import BadData, BadPlan
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from modelsurgeon.onnx.io.history import HistoryRecord


@checked
def extract(
    model: models.Model, outputs: Sequence[str], inputs: Sequence[str] = (), **options: Unpack[SurgeryOptions]
) -> Operation:
    """Keep the nodes that lead from `inputs` to `outputs`: auxiliary branches, losses and dropout go.

    outputs, inputs: names of tensors in the main graph; all the model's inputs where none are named. Raises
    BadPlan for a name that is no tensor and for inputs that don't suffice, ToleranceExceeded where an output
    changes.
    """
    from modelsurgeon.onnx.passes.extract import extract as work

    arguments = {"outputs": list(outputs)} | ({"inputs": list(inputs)} if inputs else {})
    return operate(
        model,
        "extract",
        lambda context: work(context, outputs, inputs),
        options,
        exact=True,
        arguments=arguments,
        cut=True,
    )


@checked
def clean(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Remove nodes that change nothing: no-ops, those that undo others, repeated and unused ones.

    Every output keeps its name and its numbers. Raises ToleranceExceeded where outputs change.
    """
    from modelsurgeon.onnx.passes.clean import clean as work

    return operate(model, "clean", work, options, exact=True)


@checked
def equalize(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Rescale channels between layers so that their weight ranges are alike, for float16 and 8-bit integers.

    Cross-layer equalization (Nagel et al., 2019, arXiv:1906.04721) through operators with f(k x) = k f(x) for
    k > 0. Outputs stay the same up to rounding; raises ToleranceExceeded where they don't.
    """
    from modelsurgeon.onnx.passes.channels.equalize import equalize as work

    return operate(model, "equalize", work, options, exact=True)


@checked
def fc2conv(
    model: models.Model, *, reverse: bool = False, im2col: bool = False, **options: Unpack[SurgeryOptions]
) -> Operation:
    """Turn fully connected layers into convolutions, so that a classifier accepts larger inputs.

    Outputs `(n, classes)` become maps `(n, classes, *space)`, with one position at the original input size.
    reverse: convolutions that see one position become fully connected. im2col: with reverse, all other
    convolutions become matrix products of unfolded patches. Raises BadPlan for im2col without reverse, and
    ToleranceExceeded where outputs change at the original size.
    """
    from modelsurgeon.onnx.passes.fc2conv.conv2fc import conv2fc
    from modelsurgeon.onnx.passes.fc2conv.fc2conv import fc2conv as work

    if im2col and not reverse:
        raise BadPlan("im2col (--im2col) makes matrices of convolutions: it goes with reverse (--reverse)")
    flags = {"reverse": reverse, "im2col": im2col}
    return operate(
        model,
        "fc2conv",
        (lambda context: conv2fc(context, im2col=im2col)) if reverse else work,
        options,
        exact=True,
        arguments={name: True for name, flag in flags.items() if flag},
        vectors=True,
    )


@checked
def prune(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Remove dead channels, duplicates and those that nothing reads.

    A channel is removed only where that changes no output, whatever the input. Raises ToleranceExceeded where
    outputs change.
    """
    from modelsurgeon.onnx.passes.channels.prune import prune as work

    return operate(model, "prune", work, options, exact=True)


@checked
def pool2conv(
    model: models.Model, *, approximate: bool = False, **options: Unpack[SurgeryOptions]
) -> Operation:
    """Turn poolings into strided convolutions, and merge subsampling into the convolution before it.

    Average pooling is exactly a depthwise convolution. approximate: also fit a convolution to every max
    pooling by least squares on `data`; each edit says what is exact. Raises BadData for approximate without
    data, ToleranceExceeded where exact edits change outputs.
    """
    from modelsurgeon.onnx.passes.pool2conv.pool2conv import pool2conv as work

    if approximate and options.get("data") is None:
        raise BadData("maxima are approximated on samples, and there are none: pass --data")
    return operate(
        model,
        "pool2conv",
        lambda context: work(context, approximate=approximate),
        options,
        exact=not approximate,
        arguments={"approximate": True} if approximate else {},
        learns=approximate,
    )


@dataclass(frozen=True, kw_only=True)
class History:
    """The operations that were done to a model, oldest first."""

    records: Sequence[HistoryRecord]

    def as_dict(self) -> list[dict[str, Any]]:
        """The lines as plain JSON data."""
        return [asdict(record) for record in self.records]

    def tables(self) -> list[Table]:
        """A row per operation."""
        columns = [
            Column(key="verb", title="verb"),
            Column(key="arguments", title="arguments", kind="prose"),
            Column(key="version", title="version"),
            Column(key="input_sha256", title="SHA-256 of its input"),
            Column(key="verdict", title="verdict"),
        ]
        rows = [line | {"arguments": _describe_arguments(line["arguments"])} for line in self.as_dict()]
        return [Table(title="History", columns=columns, rows=rows, notes=[] if rows else ["none"])]


@checked
def history(model: models.Model) -> History:
    """The record that every verb leaves in the model's metadata, oldest first. Raises BadModel."""
    from modelsurgeon.onnx.io.history import records

    return History(records=records(models.graph(model)))


def _describe_arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in arguments.items())
