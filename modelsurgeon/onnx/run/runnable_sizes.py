"""Sizes at which a model runs, where it leaves them open and the user gives none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import onnx_ir as ir

from modelsurgeon.data import Input, noise
from modelsurgeon.errors import SurgeryError, Unavailable, UnknownShape
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.run import execute
from modelsurgeon.onnx.run.runnable_part import part, runnable_part
from modelsurgeon.onnx.shapes.default_sizes import default_size_candidates


def first_runnable_sizes(
    model: ir.Model,
    asked: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
) -> dict[str, int]:
    """Size of every open symbol of the inputs: the first usual sizes at which the model runs.

    asked, dims: shapes and symbols that are bound already. Where no part of the model can run here, the first
    usual sizes. Raises UnknownShape where it runs at none.
    """
    bound_model = shapes.bound(model, asked, dims)
    if not shapes.default_dims(bound_model):
        return {}
    if (run := _runner(model)) is None:
        return next(iter(default_size_candidates(bound_model)))
    problem: SurgeryError | None = None
    for sizes in default_size_candidates(bound_model):
        try:
            run(next(iter(noise(inputs(model, bound_model, sizes), samples=1, seed=seed))))
        except SurgeryError as error:
            problem = problem or error
        else:
            return sizes
    raise UnknownShape(f"the model runs at none of the usual sizes: give --shape or --data ({problem})")


def _runner(model: ir.Model) -> execute.Run | None:
    """A run of the model, or of its part in front of operators that can't run here; None without any."""
    with suppress(Unavailable):
        return execute.runner(model, optimize=False)
    with suppress(Unavailable):
        found = runnable_part(model, [str(value.name) for value in model.graph.outputs])
        return execute.runner(part(model, found.outputs), optimize=False)
    return None


def inputs(model: ir.Model, bound_model: ir.Model, sizes: Mapping[str, int]) -> list[Input]:
    """The model's inputs, their open sizes filled in. bound_model: the model with shapes bound."""
    found = {value.name: shapes.sizes(value, sizes) for value in shapes.data_inputs(bound_model)}
    return [
        Input(name=entry.name, dtype=entry.dtype, shape=found[entry.name] or entry.shape)
        for entry in execute.inputs(model)
    ]
