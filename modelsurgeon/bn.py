"""Batch norm under surgery: folded, frozen, mended, measured anew. Every verb takes `operate.How` besides."""

from __future__ import annotations

from typing import Literal, Unpack

from modelsurgeon import doors
from modelsurgeon.operate import How, Operation, operate


def fold(model: doors.Model, **how: Unpack[How]) -> Operation:
    """Absorb batch norm into the Conv, ConvTranspose, Gemm or MatMul before it, or else behind it; exact."""
    from modelsurgeon.onnx.passes.batchnorm_fold import fold as work

    return operate(model, "bn fold", work, how, exact=True)


def freeze(
    model: doors.Model,
    *,
    form: Literal["mul-add", "batchnorm"] = "mul-add",
    training: bool = False,
    **how: Unpack[How],
) -> Operation:
    """Turn batch norm into one gain and one offset per channel; exact.

    form: a multiplication and an addition, or the operator itself with mean 0 and variance 1. training: those
    in training mode too, whose stored statistics take over: that changes the answers.
    """
    from modelsurgeon.onnx.passes.batchnorm import freeze as work

    return operate(
        model,
        "bn freeze",
        lambda subject: work(subject, form=form, training=training),
        how,
        exact=not training,
        arguments={"form": form} | ({"training": True} if training else {}),
    )
