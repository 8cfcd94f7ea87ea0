"""Running models: sessions, captured tensors, latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from modelsurgeon.data import Input
from modelsurgeon.errors import BadModel, Unavailable

Array = NDArray[Any]
Feed = Mapping[str, Array]
Run = Callable[[Feed], dict[str, Array]]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def session(
    model: ir.Model, *, provider: str = "cpu", optimize: bool = True, threads: int | None = None
) -> ort.InferenceSession:
    """An onnxruntime session of the model."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if PROVIDERS[provider] not in ort.get_available_providers():
        raise Unavailable(f"{provider} isn't available in this onnxruntime: install onnxruntime-gpu")
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=[PROVIDERS[provider]])


def runner(model: ir.Model, *, outputs: Sequence[str] = (), **how: Any) -> Run:
    """A function from inputs to outputs by name."""
    ready = session(model, **how)
    names = [*(output.name for output in ready.get_outputs())]

    def run(feed: Feed) -> dict[str, Array]:
        return dict(zip(names, ready.run(names, dict(feed)), strict=True))

    return run


def inputs(model: ir.Model) -> list[Input]:
    """What the model must be fed; an open dimension is None. Initializers that are inputs, too, are left out."""
    return [
        Input(name=str(value.name), dtype=_dtype(value), shape=_shape(value))
        for value in model.graph.inputs
        if value.name not in model.graph.initializers
    ]


def _dtype(value: ir.Value) -> np.dtype[Any]:
    if value.dtype is None:
        raise BadModel(f"input {value.name} has no element type")
    return np.dtype(value.dtype.numpy())


def _shape(value: ir.Value) -> tuple[int | None, ...]:
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape or ())
