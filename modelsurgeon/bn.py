"""Batch norm: inspect, fold, freeze, sanitize and recalibrate it.

Batch norm is `y = scale * (x - mean) / sqrt(var + epsilon) + shift` per channel (Ioffe and Szegedy, 2015,
arXiv:1502.03167). Every verb takes the keywords of `api.options.SurgeryOptions`. `fold`, `freeze` and
`recalibrate` edit an nn.Module in place; the others work on its export.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Unpack

from modelsurgeon.api import models, samples
from modelsurgeon.api.operation import Operation, freeze_inputs, operate, operate_in_place, pass_context
from modelsurgeon.api.options import SurgeryOptions, reject_unknown
from modelsurgeon.arguments import checked
from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers.batchnorm_health import NormFinding
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The findings for every batch norm, by name: empty where it is sound."""

    layers: Mapping[str, Sequence[NormFinding]]
    notes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The inspection as plain JSON data."""
        layers = [{"layer": name, "findings": [asdict(f) for f in fs]} for name, fs in self.layers.items()]
        return {"layers": layers, "notes": list(self.notes)}

    def tables(self) -> list[Table]:
        """A row per finding, and how many batch norms have none."""
        rows = [{"layer": name, **asdict(found)} for name, each in self.layers.items() for found in each]
        columns = [
            Column(key="layer", title="layer"),
            Column(key="rule", title="rule"),
            Column(key="message", title="finding", kind="prose"),
        ]
        sound = sum(not found for found in self.layers.values())
        note = f"{len(self.layers)} batch norms, {sound} of them without a finding"
        return [Table(title="Batch norm", columns=columns, rows=rows, notes=[note, *self.notes])]


@checked
def inspect(model: models.Model, **options: Unpack[SurgeryOptions]) -> Inspection:
    """Find what is wrong with every batch norm.

    Such as numbers that aren't finite, negative variance, channels that never vary, training mode; with
    `data`, also running statistics that are far from those of the norm's inputs. Raises BadModel, BadData,
    and BadPlan for a glob that matches no layer.
    """
    from modelsurgeon.onnx.passes.batchnorm.health import inspect as work

    reject_unknown("bn inspect", options, SurgeryOptions)
    original, frozen = freeze_inputs(models.graph(model, shapes=options.get("shapes")), options)
    notes = ["drift shows only on data: pass --data"]
    batches = None
    if options.get("data") is not None:
        batches, notes = samples.feeds(original, options["data"], skip_bad=options.get("skip_bad", False))
    notes = [*frozen, *notes]
    return Inspection(layers=work(pass_context(original, options, batches)), notes=notes)


@checked
def fold(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Absorb batch norm into the Conv, ConvTranspose, Gemm or MatMul before it, or else behind it.

    With `gain = scale / sqrt(var + epsilon)` per output channel, the layer before gets `weight * gain` and
    `(bias - mean) * gain + shift`. Exact up to rounding: raises ToleranceExceeded where the outputs move by
    more than 1e-5 (relative L2) and than the model's own noise. Norms in training mode, or whose neighbour
    can't absorb them, stay, each with the reason in its edit.
    """
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import fold as in_place

        return operate_in_place(model, "bn fold", in_place, options, exact=True)
    from modelsurgeon.onnx.passes.batchnorm.fold import fold as work

    return operate(model, "bn fold", work, options, exact=True)


@checked
def freeze(
    model: models.Model,
    *,
    form: Literal["mul-add", "batchnorm"] = "mul-add",
    training: bool = False,
    **options: Unpack[SurgeryOptions],
) -> Operation:
    """Turn every batch norm into one gain and one offset per channel, which training no longer changes.

    form: "mul-add", a multiplication and an addition, or "batchnorm", the operator with mean 0 and
    variance 1. training: also norms in training mode, which then normalize by their stored statistics: that
    changes the outputs. Exact otherwise; raises ToleranceExceeded as `fold` does, and UnsupportedLayer for
    `form` or `training` of an nn.Module.
    """
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import freeze as in_place

        if training or form != "mul-add":
            raise UnsupportedLayer(
                "a module has one form: leave `form` out, and call eval() in place of `training`"
            )
        return operate_in_place(model, "bn freeze", in_place, options, exact=True)
    from modelsurgeon.onnx.passes.batchnorm.nodes import freeze as work

    return operate(
        model,
        "bn freeze",
        lambda context: work(context, form=form, training=training),
        options,
        exact=not training,
        arguments={"form": form} | ({"training": True} if training else {}),
    )


@checked
def sanitize(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Repair broken batch norm: NaN and Inf, negative variance, dead statistics, training mode.

    With `data`, broken statistics are replaced by those of the norm's inputs, otherwise by neutral numbers
    (scale 1, shift 0, mean 0, variance 1). Raises BadData, and ToleranceExceeded for a given tolerance.
    """
    from modelsurgeon.onnx.passes.batchnorm.health import sanitize as work

    return operate(
        model,
        "bn sanitize",
        work,
        options,
        exact=False,
        learns=options.get("data") is not None,
        holds_out=False,
    )


@checked
def recalibrate(model: models.Model, **options: Unpack[SurgeryOptions]) -> Operation:
    """Recompute the running mean and variance of every batch norm over `data`, in the order of the model.

    Both are those of the population, over all samples and positions, and not moving averages. The comparison
    is on the same samples. Raises BadData without data and for samples that make no finite statistics, and
    ToleranceExceeded for a given tolerance.
    """
    if models.is_module(model):
        from modelsurgeon.torch.batchnorm import recalibrate as in_place

        return operate_in_place(
            model, "bn recalibrate", in_place, options, exact=False, learns=True, holds_out=False
        )
    from modelsurgeon.onnx.passes.batchnorm.statistics import recalibrate as work

    return operate(model, "bn recalibrate", work, options, exact=False, learns=True, holds_out=False)
