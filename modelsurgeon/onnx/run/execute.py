"""Models in onnxruntime: their inputs, their outputs and inner tensors on a feed, and their latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from modelsurgeon.data import Array, Input
from modelsurgeon.errors import BadData, BadModel
from modelsurgeon.onnx.graph.frozen_inputs import FIRST_IR_VERSION_WITHOUT_LISTING
from modelsurgeon.onnx.io.serialize import copy
from modelsurgeon.onnx.run.sessions import failing_as, session

Run = Callable[[Mapping[str, Array]], dict[str, Any]]

NO_FIT_ADVICE = (
    "the model can't run on these inputs",
    "give sizes that fit with --shape, or samples with --data",
)
# Types of outputs that onnxruntime has no NumPy type for.
UNREADABLE = frozenset(f"tensor({name})" for name in ("bfloat16", "float8e5m2", "int4", "uint4"))


def runner(
    model: ir.Model,
    *,
    outputs: Sequence[str] = (),
    provider: str = "cpu",
    optimize: bool = True,
    threads: int | None = None,
) -> Run:
    """Return a function from a feed to the model's outputs by name.

    outputs: tensors of the main graph to return as well, after the model's own. The others as for `session`.
    Raises BadModel for a tensor that the graph doesn't have; the function raises BadData where the model
    can't run on the feed.
    """
    opened = session(_with_outputs(model, outputs), provider=provider, optimize=optimize, threads=threads)
    needed = [value.name for value in opened.get_inputs()]
    accepted = {*needed, *(value.name for value in opened.get_overridable_initializers())}
    returned = [value.name for value in opened.get_outputs()]

    unreadable = [value for value in opened.get_outputs() if value.type in UNREADABLE]

    def run(feed: Mapping[str, Array]) -> dict[str, Any]:
        if missing := [name for name in needed if name not in feed]:
            raise BadData(f"the feed lacks {', '.join(missing)}: the model needs {', '.join(needed)}")
        if unreadable:
            raise BadData(
                f"{unreadable[0].name!r} is a {unreadable[0].type}, which onnxruntime can't hand out: let "
                "the model end in a Cast to float, or leave the comparison out (--no-compare)"
            )
        with failing_as(BadData, *NO_FIT_ADVICE):
            values = opened.run(returned, {name: array for name, array in feed.items() if name in accepted})
        return dict(zip(returned, values, strict=True))

    return run


def inputs(model: ir.Model, *, with_defaults: bool = False) -> list[Input]:
    """Inputs that must be fed; open dimensions are None.

    with_defaults: also those that have a default. Before IR version 4 a default can't be replaced.
    """
    defaults = model.graph.initializers
    with_defaults = with_defaults and model.ir_version >= FIRST_IR_VERSION_WITHOUT_LISTING
    return [
        Input(
            name=str(value.name),
            dtype=_dtype(value),
            shape=_shape(value),
            has_default=value.name in defaults,
            made_whole=_is_made_whole(value),
        )
        for value in model.graph.inputs
        if with_defaults or value.name not in defaults
    ]


def _is_made_whole(value: ir.Value) -> bool:
    """Whether every reader of a value casts it to integers."""
    casts = [use.node.attributes.get("to") for use in value.uses() if use.node.op_type == "Cast"]
    kinds = [ir.DataType(cast.as_int()) for cast in casts if cast is not None]
    return len(kinds) == len(value.uses()) > 0 and all(kind.is_integer() for kind in kinds)


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """A copy of the model with more outputs; the model itself where no new output is asked for."""
    known = {str(value.name) for value in model.graph.outputs}
    wanted = [name for name in dict.fromkeys(names) if name not in known]
    if not wanted:
        return model
    clone = copy(model)
    values = {value.name: value for node in clone.graph for value in node.outputs}
    for name in wanted:
        if name not in values:
            raise BadModel(f"there is no tensor {name!r} among those that the model's main graph makes")
        clone.graph.outputs.append(values[name])
    return clone


def _dtype(value: ir.Value) -> np.dtype[Any]:
    if not isinstance(value.type, ir.TensorType):
        raise BadModel(
            f"input {value.name!r} is no tensor: only models whose inputs are tensors are run, run nothing "
            "with --no-compare"
        )
    if value.type.dtype == ir.DataType.STRING:
        return np.dtype(object)
    return np.dtype(value.type.dtype.numpy())


def _shape(value: ir.Value) -> tuple[int | None, ...] | None:
    if value.shape is None:
        return None
    return tuple(dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape)
