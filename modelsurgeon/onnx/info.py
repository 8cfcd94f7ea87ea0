"""What an ONNX model is made of and what it costs, told from its structure: no weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.analysis import Analysis, Section
from modelsurgeon.onnx.analysis.formulas import Formulas, formulas
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.memory import footprint
from modelsurgeon.onnx.analysis.rows import totals, uncounted, with_formulas
from modelsurgeon.onnx.check import bottlenecks
from modelsurgeon.onnx.shapes import Dims


def analyze(
    model: ir.Model,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Dims | None = None,
    memory: bool = False,
    training: bool = False,
    spend: bool = False,
) -> Analysis:
    """Every node's cost, params and memory, their sums, and what stands out.

    shapes: input name -> sizes. dims: symbol -> size. Dimensions that stay open get stated defaults, and the
    totals formulas beside them. memory, training: also what lives when, and what it takes to train, as
    sections of these names. spend: nobody needs `model` as it is any more: no copy is made of it. Raises
    UnknownShape for bindings that don't fit the model.
    """
    found = MeasuredModel.of(model, shapes, dims, spend=spend)
    sums, defaults = totals(found.visits, found.held), found.defaults
    sections: dict[str, Section] = {}
    if memory:
        held = found.held
        sections["memory"] = footprint(
            found.whole, held.fixed, held.bytes_of, found.walk.names, found.visits, held.memory.peak
        )
    if training:
        from modelsurgeon.onnx.analysis import training as backward

        sections["training"] = backward.training(found)
    told = formulas(found, sums) if defaults else Formulas()
    return Analysis(
        model=describe_model(model, found.opened),
        totals=sums,
        layers=with_formulas(found.rows, told.layers),
        uncounted=uncounted(found.visits),
        bottlenecks=bottlenecks(found),
        formulas=told.totals,
        growth=told.growth,
        defaults=defaults,
        notes=found.notes,
        sections=sections,
    )
