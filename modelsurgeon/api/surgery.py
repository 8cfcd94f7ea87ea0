"""The surgery verbs as a library has them; every one takes what `operate.How` names besides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

from modelsurgeon.api import models
from modelsurgeon.api.operation import How, Operation, operate
from modelsurgeon.errors import BadData, BadPlan
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

if TYPE_CHECKING:
    from modelsurgeon.onnx.io.history import HistoryRecord


def extract(
    model: models.Model, outputs: Sequence[str], inputs: Sequence[str] = (), **how: Unpack[How]
) -> Operation:
    """Keep what leads to these tensors, from these on: auxiliary branches, losses and dropout go.

    outputs, inputs: names of tensors in the main graph; all the model's inputs where none are named.
    Raises BadPlan for names that don't fit, ToleranceExceeded where an output isn't what it was.
    """
    from modelsurgeon.onnx.passes.extract import extract as work

    arguments = {"outputs": list(outputs)} | ({"inputs": list(inputs)} if inputs else {})
    return operate(
        model,
        "extract",
        lambda subject: work(subject, outputs, inputs),
        how,
        exact=True,
        arguments=arguments,
    )


def equalize(model: models.Model, **how: Unpack[How]) -> Operation:
    """Scale channels between layers so that ranges are alike, for float16 and 8-bit integers.

    The answers stay the same up to rounding. Raises ToleranceExceeded where they don't.
    """
    from modelsurgeon.onnx.passes.channels.equalize import equalize as work

    return operate(model, "equalize", work, how, exact=True)


def fc2conv(
    model: models.Model, *, reverse: bool = False, im2col: bool = False, **how: Unpack[How]
) -> Operation:
    """Turn fully connected layers into convolutions, so that a classifier takes larger inputs.

    Its outputs become maps of scores, of one position at the size it had. reverse: convolutions that see one
    position become fully connected. im2col: with reverse, all other convolutions become matrix products, too.
    Raises ToleranceExceeded where the answers aren't what they were.
    """
    from modelsurgeon.onnx.passes.fc2conv.conv2fc import conv2fc
    from modelsurgeon.onnx.passes.fc2conv.fc2conv import fc2conv as work

    if im2col and not reverse:
        raise BadPlan("im2col (--im2col) makes matrices of convolutions: it goes with reverse (--reverse)")
    flags = {"reverse": reverse, "im2col": im2col}
    return operate(
        model,
        "fc2conv",
        (lambda subject: conv2fc(subject, im2col=im2col)) if reverse else work,
        how,
        exact=True,
        arguments={name: True for name, flag in flags.items() if flag},
        vectors=True,
    )


def prune(model: models.Model, **how: Unpack[How]) -> Operation:
    """Remove dead channels, duplicates and those that nothing takes; exact.

    A channel goes where that changes no answer, whatever the model is fed. Raises ToleranceExceeded where the
    answers aren't what they were.
    """
    from modelsurgeon.onnx.passes.channels.prune import prune as work

    return operate(model, "prune", work, how, exact=True)


def pool2conv(model: models.Model, *, approximate: bool = False, **how: Unpack[How]) -> Operation:
    """Turn poolings into strided convolutions, and let convolutions do the subsampling behind them.

    approximate: fit a convolution to every max pooling, too, on `data`; each edit says what is exact. Raises
    BadData where that has no data, ToleranceExceeded where exact edits change answers.
    """
    from modelsurgeon.onnx.passes.pool2conv.pool2conv import pool2conv as work

    if approximate and how.get("data") is None:
        raise BadData("maxima are approximated on samples, and there are none: pass --data")
    return operate(
        model,
        "pool2conv",
        lambda subject: work(subject, approximate=approximate),
        how,
        exact=not approximate,
        arguments={"approximate": True} if approximate else {},
        learns=approximate,
    )


@dataclass(frozen=True, kw_only=True)
class History:
    """What was done to a model, oldest first."""

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


def history(model: models.Model) -> History:
    """The line that every verb left in the model, oldest first."""
    from modelsurgeon.onnx.io.history import records

    return History(records=records(models.graph(model)))


def _describe_arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in arguments.items())
