"""Batch norms that are one with the layer before them: what a chain takes up when it takes the layer's place.

A norm scales what a layer gives, so errors are measured behind it: there they are in the units in which the
rest of the net sees them. Where anybody else sees what stands between the two, they stay two.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import batchnorm
from modelsurgeon.onnx.graph.constants import constant_array, stored_source
from modelsurgeon.onnx.layers.operators import holds_layer
from modelsurgeon.onnx.layers.sites import AbsorbedNorm, OnnxSite
from modelsurgeon.onnx.passes.batchnorm.nodes import gives_statistics, is_norm, read
from modelsurgeon.onnx.passes.context import PassContext

BY_CHANNEL = ("Conv", "ConvTranspose", "Gemm")  # channels on the second axis, as a norm has them


def absorbable_norms(subject: PassContext, found: Sequence[OnnxSite]) -> dict[str, AbsorbedNorm]:
    """The norms that chains can take up, by the name of the layer before them."""
    last, made = _layers_before(subject.graph), {}
    for site in found:
        node, *others = site.nodes
        taker = None if others else _taker(node)
        if taker is not None and last.get(taker) is node:
            with suppress(UnsupportedLayer):
                made[site.name] = _norm(subject, site, taker)
    return made


def _layers_before(graph: ir.Graph) -> dict[ir.Node, ir.Node | None]:
    """For every batch norm the last layer before it in the file.

    Where that isn't the one that feeds it, another begins while what stands between the two is alive, and
    `lockstep` would look for that.
    """
    found: dict[ir.Node, ir.Node | None] = {}
    last = None
    for node in graph:
        if holds_layer(node):
            last = node
        elif is_norm(node):
            found[node] = last
    return found


def _taker(node: ir.Node) -> ir.Node | None:
    """The batch norm that is the only one to take what a layer gives."""
    given = node.outputs[0]
    if node.op_type not in BY_CHANNEL or given.is_graph_output() or len(given.uses()) != 1:
        return None
    [user] = given.consumers()
    return user if is_norm(user) else None


def _norm(subject: PassContext, site: OnnxSite, node: ir.Node) -> AbsorbedNorm:
    """Raises UnsupportedLayer where it isn't one gain and offset, or the layer can't take it up."""
    found = read(subject, node)
    if found.training or gives_statistics(node):
        raise UnsupportedLayer("it doesn't only scale")
    layer, affine = site.layer, found.norm.affine
    stored = {value for each in node.inputs[1:5] if (value := stored_source(each)) is not None}
    own = [constant_array(value) for value in stored if _serves(value, node)]
    return AbsorbedNorm(
        affine=affine,
        params=sum(array.size for array in own if array is not None),
        gained=batchnorm.behind(layer, affine).params - layer.params,
    )


def _serves(value: ir.Value, node: ir.Node) -> bool:
    """Whether a value serves that node alone, be it through Identity or Cast."""
    return not value.is_graph_output() and all(
        user is node or all(_serves(handed, node) for handed in user.outputs) for user in value.consumers()
    )
