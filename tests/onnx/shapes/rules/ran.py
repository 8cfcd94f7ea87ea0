"""What runs: outputs of a model in onnxruntime, and its inferred shapes compared with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto
from onnx.reference import ReferenceEvaluator

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.shapes import bound, sizes

Array = NDArray[np.generic]
Outputs = dict[str, object]

# onnxruntime has no numpy types for small floats: it returns their bytes.
BYTES_OF = {np.dtype(kind) for kind in vars(ml_dtypes).values() if isinstance(kind, type)}


def with_all_outputs(model: ModelProto) -> ModelProto:
    """A copy whose outputs are those of all nodes."""
    copy = ModelProto()
    copy.CopyFrom(model)
    named = {value.name for value in copy.graph.output}
    for name in dict.fromkeys(name for node in copy.graph.node for name in node.output if name):
        if name not in named:
            copy.graph.output.append(ValueInfoProto(name=name))
    return copy


def run(model: ModelProto, feed: Mapping[str, Array], *, reference: bool = False) -> Outputs | None:
    """All outputs of all nodes in onnxruntime, unoptimized; None if it doesn't run the model.

    reference: what onnxruntime doesn't run, onnx's reference implementation runs, if it can.
    """
    whole = with_all_outputs(model)
    ran = _attempt(_in_onnxruntime, whole, feed)
    return _attempt(_in_reference, whole, feed) if ran is None and reference else ran


def _attempt(
    runs: Callable[[ModelProto, dict[str, Array]], Outputs], model: ModelProto, feed: Mapping[str, Array]
) -> Outputs | None:
    try:
        return runs(model, dict(feed))
    except Exception:  # noqa: BLE001 - neither runtime has a common class of errors
        return None


def _in_onnxruntime(model: ModelProto, feed: dict[str, Array]) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in model.graph.output]
    return dict(zip(names, session.run(names, feed), strict=True))


def _in_reference(model: ModelProto, feed: dict[str, Array]) -> Outputs:
    names = [value.name for value in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(names, feed), strict=True))


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Counts of compared values by the state of their shape, and what was wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[object, ...]] = field(default_factory=list)

    def compare(
        self,
        name: str,
        model: ModelProto,
        ran: Mapping[str, object],
        *,
        dims: Mapping[str, int] | None = None,
        at: Mapping[str, int] | None = None,
    ) -> bool:
        """Compare the inferred shape and type of every value with those that ran; False if it was refused.

        dims: open sizes that are bound before inference. at: open sizes that are put into its formulas.
        Sizes that the product refuses, because they don't fit the model, are counted alone.
        """
        try:
            inferred = bound(ir.from_proto(model), dims=dims)
        except UnknownShape:
            self.counts["refused"] += 1
            return False
        for node in inferred.graph:
            for value in node.outputs:
                if isinstance(truth := ran.get(str(value.name)), np.ndarray | np.generic):
                    found = _state(value, np.asarray(truth), at or {})
                    self.counts[found] += 1
                    if found == "unknown":
                        self.unknown[node.op_type] += 1
                    elif found == "wrong":
                        shown = value.shape and [*map(str, value.shape)]
                        self.wrong.append(
                            (name, node.op_type, value.name, shown, value.dtype, truth.shape, truth.dtype)
                        )
        return True


def _state(value: ir.Value, truth: Array, at: Mapping[str, int]) -> str:
    """Whether a value's shape and type are agreed, unknown, or wrong in what is known of them."""
    if value.dtype is not None and not _same_type(value.dtype, truth.dtype):
        return "wrong"
    if value.shape is None:
        return "unknown"
    known = sizes(value, at)
    if known is not None:
        return "agreed" if known == truth.shape and value.dtype is not None else "wrong"
    fits = value.shape.rank() == truth.ndim and all(
        size == true for size, true in zip(value.shape, truth.shape, strict=True) if isinstance(size, int)
    )
    return "unknown" if fits else "wrong"


def _same_type(dtype: ir.DataType, ran: np.dtype[np.generic]) -> bool:
    """Whether a value of this type has that one in numpy."""
    if dtype == ir.DataType.STRING:
        return ran.kind in "OUT"
    declared = dtype.numpy()
    return declared == ran or (declared in BYTES_OF and ran.kind in "uiV")
