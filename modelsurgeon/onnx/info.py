"""Analysis of an ONNX model: layers, costs, params and memory. No weight is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from modelsurgeon.inspection.analysis import Analysis, Section
from modelsurgeon.onnx.analysis.formulas import Formulas, formulas
from modelsurgeon.onnx.analysis.gaps import assumed_sizes, gaps, uncounted
from modelsurgeon.onnx.analysis.header import describe_model
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.analysis.memory import footprint
from modelsurgeon.onnx.analysis.rows import left_out_constants, totals, with_formulas
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
    """Cost, params and memory of every node, their totals, and bottlenecks.

    shapes: input name -> sizes. dims: symbol -> size. Dimensions that stay open get stated defaults, and the
    totals also formulas. memory, training: adds a section of this name, on live bytes at each node and on
    memory for training. spend: `model` may be changed in place, which saves a copy. Raises UnknownShape for
    bindings that don't fit the model.
    """
    measured = MeasuredModel.of(model, shapes, dims, spend=spend)
    sums, defaults = totals(measured.node_runs, measured.contents), measured.defaults
    sections: dict[str, Section] = {}
    if memory:
        contents = measured.contents
        sections["memory"] = footprint(
            measured.fully_bound,
            contents.constants,
            contents.bytes_of,
            measured.counter.names,
            measured.node_runs,
            contents.memory.peak,
        )
    if training:
        from modelsurgeon.onnx.analysis import training as backward

        sections["training"] = backward.training(measured)
    roots = measured.roots
    texts = formulas(measured, sums) if defaults else Formulas()
    return Analysis(
        model=describe_model(model, measured.symbolic),
        totals=sums,
        layers=with_formulas(measured.rows, texts.layers),
        uncounted=uncounted(roots, measured.counter),
        gaps=[
            *gaps(roots, measured.counter, measured.contents.memory),
            *assumed_sizes(measured.symbolic, defaults),
        ],
        constants=left_out_constants(measured.contents),
        bottlenecks=bottlenecks(measured),
        formulas=texts.totals,
        growth=texts.growth,
        defaults=defaults,
        notes=[*texts.notes, *measured.notes],
        sections=sections,
    )
