"""BatchNormalization nodes: read, written back, frozen to a multiplication and an addition.

Source: ONNX operator specification, BatchNormalization of opset 1, 6, 7, 9, 14 and 15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.layers.batchnorm import BatchNorm
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.graph.constants import constant_array, why_unreadable
from modelsurgeon.onnx.graph.names import nodes_with_functions
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

PARAMETER_NAMES = ("scale", "shift", "mean", "var")


@dataclass(frozen=True, kw_only=True, eq=False)
class NormSite:
    """A batch norm of the main graph: its node, the name that `info` prints, and its parameters.

    momentum: the weight of the old running statistics in the update at every batch.
    """

    node: ir.Node
    name: str
    norm: BatchNorm
    training: bool
    momentum: float

    @property
    def x(self) -> ir.Value:
        """The value that is normalized."""
        value = self.node.inputs[0]
        assert value is not None, "checked by read_norm"  # noqa: S101
        return value


def edit_each_norm(context: PassContext, action: str, work: Callable[[NormSite], Edit]) -> list[Edit]:
    """Apply `work` to every batch norm: its edits in file order, or the reason why a norm was skipped."""
    return [_edit_norm(context, node, action, work) for node in norms(context.model)]


def _edit_norm(context: PassContext, node: ir.Node, action: str, work: Callable[[NormSite], Edit]) -> Edit:
    name = context.names[node]
    try:
        return work(read_norm(context, node))
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=action, skipped=str(reason))


def norms(model: ir.Model) -> Iterator[ir.Node]:
    """Every BatchNormalization, in subgraphs and functions too."""
    yield from [node for node in nodes_with_functions(model) if is_norm(node)]


def is_norm(node: ir.Node) -> bool:
    """Whether the node is a batch norm."""
    return node.op_type == "BatchNormalization" and node.domain in STANDARD_DOMAINS


def read_norm(context: PassContext, node: ir.Node) -> NormSite:
    """The batch norm of a node. Raises UnsupportedLayer with the reason to skip it."""
    if reason := context.skip_reason(context.names[node]):
        raise UnsupportedLayer(reason)
    if node.graph is not context.graph:
        raise UnsupportedLayer("it is in a subgraph or function, not in the main graph")
    if _float_attribute(node, "spatial", 1) == 0:
        raise UnsupportedLayer("its statistics are per position, not per channel (spatial = 0)")
    if len(node.inputs) < 5 or node.inputs[0] is None:
        raise UnsupportedLayer("an input of it is left out")
    parts = [_parameter_array(node, place, name) for place, name in enumerate(PARAMETER_NAMES, 1)]
    if len({part.shape for part in parts}) > 1 or parts[0].ndim != 1 or not parts[0].size:
        raise UnsupportedLayer(f"its statistics have the shapes {', '.join(str(p.shape) for p in parts)}")
    return NormSite(
        node=node,
        name=context.names[node],
        norm=BatchNorm(
            **dict(zip(PARAMETER_NAMES, parts, strict=True)), epsilon=_float_attribute(node, "epsilon", 1e-5)
        ),
        training=is_training(context.model, node),
        momentum=_float_attribute(node, "momentum", 0.9),
    )


def is_training(model: ir.Model, node: ir.Node) -> bool:
    """Whether the node normalizes by the statistics of each batch.

    Set by an attribute or, from opset 7 to 13, by further outputs for the statistics.
    """
    opset = node.version or model.opset_imports.get(node.domain, 1)
    if opset < 7:
        return _float_attribute(node, "is_test", 0) == 0
    if opset >= 14:
        return _float_attribute(node, "training_mode", 0) != 0
    return outputs_statistics(node)


def outputs_statistics(node: ir.Node) -> bool:
    """Whether outputs other than the first are used, which hold the running statistics."""
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def write_norm(context: PassContext, site: NormSite, norm: BatchNorm, **attributes: float) -> None:
    """Write a batch norm into the node: new initializers where values changed, in the old dtypes.

    attributes: further attributes to set, by name.
    """
    for place, part in enumerate(PARAMETER_NAMES, 1):
        new, old = getattr(norm, part), getattr(site.norm, part)
        if not np.array_equal(new, old, equal_nan=True):
            value = context.store(f"{site.name}.{part}", np.asarray(new).astype(old.dtype))
            site.node.replace_input_with(place, value)
    for name, number in {"epsilon": norm.epsilon, **attributes}.items():
        site.node.attributes.add(ir.AttrFloat32(name, number))


def end_training(context: PassContext, site: NormSite) -> None:
    """Make the node normalize by its stored statistics."""
    if context.model.opset_imports.get("", 1) < 7:
        site.node.attributes.add(ir.AttrInt64("is_test", 1))
    site.node.attributes.pop("training_mode", None)
    site.node.resize_outputs(1)


def freeze(context: PassContext, *, form: str = "mul-add", training: bool = False) -> list[Edit]:
    """Replace every batch norm by one gain and one offset per channel, which training doesn't change.

    form: "mul-add", a multiplication and an addition; or "batchnorm", the same operator with mean 0 and
    variance 1. training: also freeze norms in training mode, at their stored statistics.
    """

    def work(site: NormSite) -> Edit:
        if site.training and not training:
            raise UnsupportedLayer("it is in training mode: --training freezes it at its stored statistics")
        if outputs_statistics(site.node):
            raise UnsupportedLayer("its running statistics are used as outputs")
        (_as_mul_add if form == "mul-add" else _as_neutral_norm)(context, site)
        return Edit(layer=site.name, action="freeze", details={"form": form, "channels": site.norm.channels})

    return edit_each_norm(context, "freeze", work)


def _as_mul_add(context: PassContext, site: NormSite) -> None:
    ndim = context.ndim(site.x)
    if ndim is None or ndim < 2:
        raise UnsupportedLayer("the number of its input's axes isn't known: --form batchnorm needs no axes")
    affine, dtype = site.norm.affine, _data_dtype(context, site)
    gain, offset = (
        context.store(f"{site.name}.{name}", array.astype(dtype).reshape(-1, *(1,) * (ndim - 2)))
        for name, array in (("gain", affine.gain), ("offset", affine.offset))
    )
    site.node.resize_outputs(1)
    scaled = ir.node("Mul", [site.x, gain])
    context.replace(site.node, [scaled, ir.node("Add", [scaled.outputs[0], offset])])


def _as_neutral_norm(context: PassContext, site: NormSite) -> None:
    affine = site.norm.affine
    neutral = BatchNorm(
        scale=affine.gain,
        shift=affine.offset,
        mean=np.zeros_like(site.norm.mean),
        var=np.ones_like(site.norm.var),
        epsilon=0.0,
    )
    write_norm(context, site, neutral)
    end_training(context, site)


def _data_dtype(context: PassContext, site: NormSite) -> np.dtype[Any]:
    """The dtype of the data; that of the parameters may differ from opset 15 on."""
    found = context.inferred(site.x).dtype
    return site.norm.scale.dtype if found is None else np.dtype(found.numpy())


def _parameter_array(node: ir.Node, place: int, name: str) -> Array:
    value = node.inputs[place]
    array = constant_array(value)
    if array is not None:
        return array
    raise UnsupportedLayer(why_unreadable(value, name))


def _float_attribute(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
