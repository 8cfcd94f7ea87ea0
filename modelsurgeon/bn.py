"""Batch norm under surgery: folded, frozen, mended, measured anew. Every verb takes `operate.How` besides.

`fold`, `freeze` and `recalibrate` edit an nn.Module in place; the others work on its export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Unpack

from modelsurgeon.api import models, samples
from modelsurgeon.api.operation import How, Operation, operate, operate_in_place, pass_context
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import NormFinding
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Every batch norm by name, and what is wrong or odd about it; nothing where it is sound."""

    layers: Mapping[str, Sequence[NormFinding]]
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The inspection as plain JSON data."""
        layers = [{"layer": name, "findings": [asdict(f) for f in fs]} for name, fs in self.layers.items()]
        return {"layers": layers, "notes": list(self.notes)}

    def tables(self) -> list[Table]:
        """A row per finding."""
        rows = [{"layer": name, **asdict(found)} for name, each in self.layers.items() for found in each]
        columns = [
            Column(key="layer", title="layer"),
            Column(key="rule", title="rule"),
            Column(key="message", title="finding", kind="prose"),
        ]
        sound = sum(not found for found in self.layers.values())
        told = f"{len(self.layers)} batch norms, {sound} of them without a finding"
        return [Table(title="Batch norm", columns=columns, rows=rows, notes=[told, *self.notes])]


def inspect(model: models.Model, **how: Unpack[How]) -> Inspection:
    """What is wrong or odd about every batch norm; with `data`, how far its statistics are from the truth."""
    from modelsurgeon.onnx.passes.batchnorm.health import inspect as work

    original, given = models.graph(model, shapes=how.get("shapes")), how.get("data") is not None
    batches = samples.feeds(original, how["data"])[0] if given else None
    notes = [] if given else ["drift shows only on data: pass --data"]
    return Inspection(layers=work(pass_context(original, how, batches)), notes=notes)


def fold(model: models.Model, **how: Unpack[How]) -> Operation:
    """Absorb batch norm into the Conv, ConvTranspose, Gemm or MatMul before it, or else behind it; exact."""
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import fold as in_place

        return operate_in_place(model, "bn fold", in_place, how, exact=True)
    from modelsurgeon.onnx.passes.batchnorm.fold import fold as work

    return operate(model, "bn fold", work, how, exact=True)


def freeze(
    model: models.Model,
    *,
    form: Literal["mul-add", "batchnorm"] = "mul-add",
    training: bool = False,
    **how: Unpack[How],
) -> Operation:
    """Turn batch norm into one gain and one offset per channel; exact.

    form: a multiplication and an addition, or the operator itself with mean 0 and variance 1. training: those
    in training mode too, whose stored statistics take over: that changes the answers.
    """
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import freeze as in_place

        if training or form != "mul-add":
            raise UnsupportedLayer(
                "a module has one form: leave `form` out, and call eval() in place of `training`"
            )
        return operate_in_place(model, "bn freeze", in_place, how, exact=True)
    from modelsurgeon.onnx.passes.batchnorm.nodes import freeze as work

    return operate(
        model,
        "bn freeze",
        lambda subject: work(subject, form=form, training=training),
        how,
        exact=not training,
        arguments={"form": form} | ({"training": True} if training else {}),
    )


def sanitize(model: models.Model, **how: Unpack[How]) -> Operation:
    """Repair what is broken: numbers that aren't finite, negative variance, training mode, dead statistics.

    With `data`, broken statistics become those that it shows, otherwise neutral ones.
    """
    from modelsurgeon.onnx.passes.batchnorm.health import sanitize as work

    return operate(model, "bn sanitize", work, how, exact=False, learns=how.get("data") is not None)


def recalibrate(model: models.Model, **how: Unpack[How]) -> Operation:
    """Recompute the running statistics over `data`, in order, as means over all samples. Raises BadData."""
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import recalibrate as in_place

        return operate_in_place(model, "bn recalibrate", in_place, how, exact=False, learns=True)
    from modelsurgeon.onnx.passes.batchnorm.statistics import recalibrate as work

    return operate(model, "bn recalibrate", work, how, exact=False, learns=True)
