"""Pooling as strided convolution: exact where it is linear, and fitted to data where it isn't.

The mean over windows of k taps is a depthwise convolution with weights 1 / k. At a padded edge the mean
divides by the number of taps on the map (count_include_pad = 0); the convolution is then followed by a factor
k / taps for every position, which needs a map of fixed size.

Keeping every s-th position of a convolution is that convolution at s times the stride, so a subsampling (a
Slice with steps, a pooling with windows of one tap, a strided 1 x 1 convolution) is absorbed into the
convolution before it, also through nodes that work on every position separately:

    y[s * o] = sum over t of w[t] * x[(s * o) * stride + t - b]

A maximum is no convolution. On data it can be approximated by one: every channel gets the weights and the
bias that are nearest to its maxima in least squares. That changes the outputs, and is done only on request.
Source: Springenberg et al., Striving for simplicity: the all convolutional net (2015).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Layer
from modelsurgeon.onnx.layers.operators import attributes
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.pool2conv import pooling
from modelsurgeon.onnx.passes.pool2conv.max_fit import MaxFit
from modelsurgeon.onnx.passes.pool2conv.subsample import absorb_subsampling, is_subsampling
from modelsurgeon.surgery.edits import Edit

ACTION = "to convolution"
EXACT_ACTION, APPROXIMATE_ACTION = "exact", "approximate"
NO_CONVOLUTION_REASONS = {
    "GlobalAveragePool": "it takes maps of any size: a convolution would fix the size",
    "GlobalLpPool": "a norm is no convolution",
    "GlobalMaxPool": "a maximum is no convolution",
    "LpPool": "a norm is no convolution",
}
NO_FIT_REASON = "a maximum is no convolution; --approximate fits one to data"


def pool2conv(context: PassContext, *, approximate: bool = False) -> list[Edit]:
    """Turn poolings into convolutions, and absorb subsampling into the convolutions before it.

    approximate: also fit convolutions to max pooling, on the context's samples; BadData without samples.
    """
    maxima = MaxFit.of(context) if approximate else None
    context.names, context.measured  # noqa: B018 - both are cached before the first edit
    return [
        edit for node in list(context.graph) if (edit := _convert_node(context, node, maxima)) is not None
    ]


def _convert_node(context: PassContext, node: ir.Node, maxima: MaxFit | None) -> Edit | None:
    """Convert one node; its edit, or None where it neither pools nor subsamples."""
    subsamples = not node.domain and is_subsampling(node)
    if node.domain or not (subsamples or node.op_type in {"AveragePool", "MaxPool", *NO_CONVOLUTION_REASONS}):
        return None
    name = context.names[node]
    action = "into the convolution before" if subsamples else ACTION
    try:
        if reason := context.skip_reason(name) or NO_CONVOLUTION_REASONS.get(node.op_type):
            raise UnsupportedLayer(reason)
        if subsamples:
            return Edit(
                layer=name,
                action=action,
                details={"kind": EXACT_ACTION, "into": absorb_subsampling(context, node)},
            )
        if node.op_type == "AveragePool":
            _convert_mean(context, node, name)
            return Edit(layer=name, action=action, details={"kind": EXACT_ACTION})
        if maxima is None:
            raise UnsupportedLayer(NO_FIT_REASON)
        layer, error = maxima.fit(node, pooling.read(context, node))
        context.replace(node, [_conv_node(context, node, name, layer)])
        return Edit(layer=name, action=action, details={"kind": APPROXIMATE_ACTION, "error": error})
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=action, skipped=str(reason))


def _convert_mean(context: PassContext, node: ir.Node, name: str) -> None:
    pool = pooling.read(context, node)
    divided_by_all = node.attributes.get_int("count_include_pad", 0) or not any(map(any, pool.layer.padding))
    if divided_by_all and pool.overhangs:
        raise UnsupportedLayer(
            "runtimes differ in how they divide windows that reach over the edge (ceil_mode)"
        )
    taps = pool.real_taps()
    if not divided_by_all and taps is None:
        raise UnsupportedLayer("at its padded edge it divides by fewer taps, on a map whose size is open")
    layer = replace(pool.layer, weight=(pool.layer.weight / pool.taps).astype(pool.layer.weight.dtype))
    conv = _conv_node(context, node, name, layer)
    if divided_by_all or taps is None or (taps == pool.taps).all():
        context.replace(node, [conv])
        return
    factor = (pool.taps / taps).astype(layer.weight.dtype)
    edge = ir.node("Mul", [conv.outputs[0], context.store(f"{name}.edge", factor)], name=f"{name}.edge")
    context.replace(node, [conv, edge])


def _conv_node(context: PassContext, node: ir.Node, name: str, layer: Layer) -> ir.Node:
    inputs = [node.inputs[0], context.store(f"{name}.weight", np.asarray(layer.weight))]
    if layer.bias is not None:
        inputs.append(context.store(f"{name}.bias", layer.bias))
    return ir.node("Conv", inputs, attributes(layer), name=name)
