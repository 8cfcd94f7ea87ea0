"""BatchNormalization nodes: read as numbers, written back, frozen to a multiplication and an addition.

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
from modelsurgeon.onnx.graph.constants import constant_array
from modelsurgeon.onnx.graph.names import nodes_of
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.edits import Edit

PARAMETER_NAMES = ("scale", "shift", "mean", "var")


@dataclass(frozen=True, kw_only=True, eq=False)
class NormSite:
    """A batch norm of the main graph: its node, the name that `info` prints, and its numbers.

    momentum: what the running statistics keep of themselves at every batch.
    """

    node: ir.Node
    name: str
    norm: BatchNorm
    training: bool
    momentum: float

    @property
    def x(self) -> ir.Value:
        """What is normalised."""
        value = self.node.inputs[0]
        assert value is not None, "read has seen to it"  # noqa: S101
        return value


def each(subject: PassContext, action: str, work: Callable[[NormSite], Edit]) -> list[Edit]:
    """What `work` makes of every batch norm, or the reason why one is left alone, in file order."""
    return [_one(subject, node, action, work) for node in norms(subject.model)]


def _one(subject: PassContext, node: ir.Node, action: str, work: Callable[[NormSite], Edit]) -> Edit:
    name = subject.names[node]
    try:
        return work(read(subject, node))
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=action, skipped=str(reason))


def norms(model: ir.Model) -> Iterator[ir.Node]:
    """Every BatchNormalization, in subgraphs and functions too."""
    yield from [node for node in nodes_of(model) if is_norm(node)]


def is_norm(node: ir.Node) -> bool:
    """Whether the node is a batch norm."""
    return node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx")


def read(subject: PassContext, node: ir.Node) -> NormSite:
    """The batch norm that a node applies. Raises UnsupportedLayer with the reason to leave it alone."""
    if reason := subject.left_out(subject.names[node]):
        raise UnsupportedLayer(reason)
    if node.graph is not subject.graph:
        raise UnsupportedLayer("it stands in a subgraph or function, not in the main graph")
    if _number(node, "spatial", 1) == 0:
        raise UnsupportedLayer("its statistics are per position, not per channel (spatial = 0)")
    if len(node.inputs) < 5 or node.inputs[0] is None:
        raise UnsupportedLayer("an input of it is left out")
    parts = [_part(node, place, name) for place, name in enumerate(PARAMETER_NAMES, 1)]
    if len({part.shape for part in parts}) > 1 or parts[0].ndim != 1 or not parts[0].size:
        raise UnsupportedLayer(f"its statistics have the shapes {', '.join(str(p.shape) for p in parts)}")
    return NormSite(
        node=node,
        name=subject.names[node],
        norm=BatchNorm(
            **dict(zip(PARAMETER_NAMES, parts, strict=True)), epsilon=_number(node, "epsilon", 1e-5)
        ),
        training=is_training(subject.model, node),
        momentum=_number(node, "momentum", 0.9),
    )


def is_training(model: ir.Model, node: ir.Node) -> bool:
    """Whether the node normalises by the statistics of each batch.

    By an attribute, or, from opset 7 to 13, by giving the statistics as further outputs.
    """
    opset = node.version or model.opset_imports.get(node.domain, 1)
    if opset < 7:
        return _number(node, "is_test", 0) == 0
    if opset >= 14:
        return _number(node, "training_mode", 0) != 0
    return gives_statistics(node)


def gives_statistics(node: ir.Node) -> bool:
    """Whether outputs beside the data are used, which tell the running statistics."""
    return any(value.uses() or value.is_graph_output() for value in node.outputs[1:])


def write(subject: PassContext, site: NormSite, norm: BatchNorm, **attributes: float) -> None:
    """Give the node these numbers, as weights of its own where they changed, in the dtypes that it had."""
    for place, part in enumerate(PARAMETER_NAMES, 1):
        new, old = getattr(norm, part), getattr(site.norm, part)
        if not np.array_equal(new, old, equal_nan=True):
            value = subject.store(f"{site.name}.{part}", np.asarray(new).astype(old.dtype))
            site.node.replace_input_with(place, value)
    for name, number in {"epsilon": norm.epsilon, **attributes}.items():
        site.node.attributes.add(ir.AttrFloat32(name, number))


def end_training(subject: PassContext, site: NormSite) -> None:
    """From now on the node normalises by its stored statistics."""
    if subject.model.opset_imports.get("", 1) < 7:
        site.node.attributes.add(ir.AttrInt64("is_test", 1))
    site.node.attributes.pop("training_mode", None)
    site.node.resize_outputs(1)


def freeze(subject: PassContext, *, form: str = "mul-add", training: bool = False) -> list[Edit]:
    """Turn every batch norm into one gain and one offset per channel, which no training moves any more.

    form: "mul-add", a multiplication and an addition; or "batchnorm", the same operator with mean 0 and
    variance 1. training: also those in training mode, whose stored statistics take over.
    """

    def work(site: NormSite) -> Edit:
        if site.training and not training:
            raise UnsupportedLayer("it is in training mode: --training freezes it at its stored statistics")
        if gives_statistics(site.node):
            raise UnsupportedLayer("its running statistics are used as outputs")
        (_as_mul_add if form == "mul-add" else _as_norm)(subject, site)
        return Edit(layer=site.name, action="freeze", details={"form": form, "channels": site.norm.channels})

    return each(subject, "freeze", work)


def _as_mul_add(subject: PassContext, site: NormSite) -> None:
    ndim = subject.ndim(site.x)
    if ndim is None or ndim < 2:
        raise UnsupportedLayer("the number of its input's axes isn't known: --form batchnorm needs no axes")
    affine, dtype = site.norm.affine, _dtype(subject, site)
    gain, offset = (
        subject.store(f"{site.name}.{name}", array.astype(dtype).reshape(-1, *(1,) * (ndim - 2)))
        for name, array in (("gain", affine.gain), ("offset", affine.offset))
    )
    site.node.resize_outputs(1)
    scaled = ir.node("Mul", [site.x, gain])
    subject.replace(site.node, [scaled, ir.node("Add", [scaled.outputs[0], offset])])


def _as_norm(subject: PassContext, site: NormSite) -> None:
    affine = site.norm.affine
    plain = BatchNorm(
        scale=affine.gain,
        shift=affine.offset,
        mean=np.zeros_like(site.norm.mean),
        var=np.ones_like(site.norm.var),
        epsilon=0.0,
    )
    write(subject, site, plain)
    end_training(subject, site)


def _dtype(subject: PassContext, site: NormSite) -> np.dtype[Any]:
    """Of the data: that of the parameters may differ from opset 15 on."""
    found = subject.inferred(site.x).dtype
    return site.norm.scale.dtype if found is None else np.dtype(found.numpy())


def _part(node: ir.Node, place: int, name: str) -> Array:
    value = node.inputs[place]
    array = constant_array(value)
    if array is not None:
        return array
    if value is not None and value.is_graph_input():
        raise UnsupportedLayer(f"its {name} is a graph input, which a caller may override")
    raise UnsupportedLayer(f"its {name} is computed at run time")


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
