"""The parts of a graph that weights can be copied between: its layers and other nodes, read and written.

A part is a layer (Conv, ConvTranspose, Gemm, MatMul), in a common form, so that Gemm and MatMul or a
transposed weight make no difference; or any other node with stored floating-point tensors, by its operator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.matching.pairing import WeightedPart
from modelsurgeon.onnx.graph.constants import constant_array, stored_source
from modelsurgeon.onnx.graph.names import layer_names, nodes_with_functions
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import weight_input_index
from modelsurgeon.onnx.layers.sites import OnnxSite, sites
from modelsurgeon.onnx.passes.context import PassContext

BIAS_INPUT = 2  # the index of the bias among a node's inputs
# The constants of these operators are parameters, not weights.
PARAMETER_OPERATORS = frozenset({"Clip", "Constant", "Pad", "Resize", "Slice", "Upsample"})


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightedParts:
    """The parts of one model.

    weights: part name -> slot -> array; a slot is "weight", "bias" or the index of an input. layers, nodes:
    the parts by name. fixed: the name of a layer that can't be edited -> the reason.
    """

    parts: Sequence[WeightedPart]
    weights: Mapping[str, Mapping[str, Array]]
    layers: Mapping[str, OnnxSite]
    nodes: Mapping[str, ir.Node]
    fixed: Mapping[str, str]


def weighted_parts(model: ir.Model) -> WeightedParts:
    """The parts of an editable model."""
    found, skipped = sites(model)
    names = layer_names(model)
    # A recurrent node has more weights than its layer: it is read like any other node.
    layers = {site.name: site for site in found if site.nodes[0].op_type in LINEAR_OPERATORS}
    linear = {names[node] for node in nodes_with_functions(model) if node.op_type in LINEAR_OPERATORS}
    nodes = {names[node]: node for node in model.graph if names[node] not in layers}
    weights: dict[str, Mapping[str, Array]] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    for node in model.graph:
        name = names[node]
        if name in layers:
            layer = layers[name].layer
            weights[name] = {"weight": layer.weight} | ({} if layer.bias is None else {"bias": layer.bias})
            source = stored_source(node.inputs[weight_input_index(node)])
            aliases[name] = (str(source.name),) if source is not None else ()
        elif (node.op_type not in LINEAR_OPERATORS or node.domain) and (held := stored_weights(node)):
            weights[name] = held
            aliases[name] = tuple(str(node.inputs[int(place)].name) for place in held)  # type: ignore[union-attr]
    kinds = {names[node]: _kind(layers.get(names[node]), node) for node in model.graph}
    parts = [
        WeightedPart(
            name=name, kind=kinds[name], shapes={s: a.shape for s, a in held.items()}, aliases=aliases[name]
        )
        for name, held in weights.items()
    ]
    fixed = {edit.layer: str(edit.skipped) for edit in skipped if edit.layer in linear}
    return WeightedParts(parts=parts, weights=weights, layers=layers, nodes=nodes, fixed=fixed)


def stored_weights(node: ir.Node) -> dict[str, Array]:
    """Stored floating-point weights among a node's inputs, by the input's index as a string."""
    if node.op_type in PARAMETER_OPERATORS:
        return {}
    found = {
        str(place): constant_array(value) for place, value in enumerate(node.inputs) if value is not None
    }
    return {place: array for place, array in found.items() if array is not None and _is_weight(array)}


def _is_weight(array: Array) -> bool:
    return array.dtype.kind == "f" and array.size > 1


def _kind(site: OnnxSite | None, node: ir.Node) -> str:
    if site is None:
        return f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    layer = site.layer
    if not layer.kernel:
        return "fully connected layer"
    depthwise = layer.is_depthwise
    groups = "" if depthwise or layer.groups == 1 else f" of {layer.groups} groups"
    words = ["depthwise"] * depthwise + ["transposed"] * layer.transposed
    return " ".join([*words, f"{len(layer.kernel)}-d convolution{groups}"])


def write_layer(context: PassContext, site: OnnxSite, layer: Layer) -> None:
    """Write the weight and bias of `layer` into the nodes of a site, in the nodes' own layout."""
    first = site.nodes[0]
    if layer.bias is not None and first.op_type == "MatMul":
        site.replace([layer])
        return
    weight = operators.weight_as_stored(first, layer)
    transposed = first.op_type == "Gemm" and first.attributes.get_int("transB", 0) == 1
    stored = context.store(f"{site.name}.weight", weight.T if transposed else weight)
    biased = layer.bias is not None or len(first.inputs) > BIAS_INPUT
    bias = np.zeros(layer.out_channels, layer.weight.dtype) if layer.bias is None else layer.bias
    added = context.store(f"{site.name}.bias", bias) if biased else None
    for node in site.nodes:
        node.replace_input_with(weight_input_index(node), stored)
        if added is not None:
            node.resize_inputs(BIAS_INPUT + 1)
            node.replace_input_with(BIAS_INPUT, added)
        for factor in ("alpha", "beta"):
            node.attributes.pop(factor, None)
