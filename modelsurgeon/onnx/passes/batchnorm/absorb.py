"""Batch norms that a chain absorbs when it replaces the layer before them.

A norm scales the outputs of a layer, so errors are measured after it: there they have the scale that the rest
of the net sees. A norm is not absorbed where anything else uses the value between the layer and the norm.
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
from modelsurgeon.onnx.passes.batchnorm.nodes import is_norm, outputs_statistics, read_norm
from modelsurgeon.onnx.passes.context import PassContext

BY_CHANNEL = ("Conv", "ConvTranspose", "Gemm")  # channels on the second axis, as for a norm


def absorbable_norms(context: PassContext, found: Sequence[OnnxSite]) -> dict[str, AbsorbedNorm]:
    """The norms that chains can absorb, by the name of the layer before them."""
    preceding, norms = _preceding_layers(context.graph), {}
    for site in found:
        node, *others = site.nodes
        norm = None if others else _sole_consumer_norm(node)
        if norm is not None and preceding.get(norm) is node:
            with suppress(UnsupportedLayer):
                norms[site.name] = _absorbed_norm(context, site, norm)
    return norms


def _preceding_layers(graph: ir.Graph) -> dict[ir.Node, ir.Node | None]:
    """For every batch norm the last layer before it in the file; None where there is none.

    Where that isn't the layer whose output it takes, another layer starts while that output is alive, and
    `onnx.run.paired_runs` would have to keep it.
    """
    found: dict[ir.Node, ir.Node | None] = {}
    last = None
    for node in graph:
        if holds_layer(node):
            last = node
        elif is_norm(node):
            found[node] = last
    return found


def _sole_consumer_norm(node: ir.Node) -> ir.Node | None:
    """The batch norm that is the only consumer of a layer's output; None where there is none."""
    output = node.outputs[0]
    if node.op_type not in BY_CHANNEL or output.is_graph_output() or len(output.uses()) != 1:
        return None
    [user] = output.consumers()
    return user if is_norm(user) else None


def _absorbed_norm(context: PassContext, site: OnnxSite, node: ir.Node) -> AbsorbedNorm:
    """The norm as an affine map. Raises UnsupportedLayer where it isn't one, or the layer can't absorb it."""
    found = read_norm(context, node)
    if found.training or outputs_statistics(node):
        raise UnsupportedLayer("it isn't only a gain and an offset")
    layer, affine = site.layer, found.norm.affine
    stored = {source for value in node.inputs[1:5] if (source := stored_source(value)) is not None}
    own = [constant_array(value) for value in stored if _used_only_by(value, node)]
    return AbsorbedNorm(
        affine=affine,
        params=sum(array.size for array in own if array is not None),
        gained=batchnorm.fold_output_affine(layer, affine).params - layer.params,
    )


def _used_only_by(value: ir.Value, node: ir.Node) -> bool:
    """Whether a value is used by that node alone, directly or through other nodes."""
    return not value.is_graph_output() and all(
        user is node or all(_used_only_by(output, node) for output in user.outputs)
        for user in value.consumers()
    )
