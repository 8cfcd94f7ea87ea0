"""Pooling as strided convolution: exactly where it is linear, and fitted to data where it isn't.

The mean over windows of k taps is a convolution of every channel by itself with weights 1 / k. At a padded
edge the mean divides by the taps on the map alone (count_include_pad = 0); the convolution is then followed
by a factor k / taps for every position, which needs a map of fixed size.

Keeping every s-th position of a convolution is that convolution at s times the stride, so a subsampling (a
Slice with steps, a pooling with windows of one tap, a strided 1 x 1 convolution) goes into the convolution
before it, also through what works on every position alike:

    y[s * o] = sum over t of w[t] * x[(s * o) * stride + t - b]

A maximum is no convolution. On data it can be approximated by one: every channel gets the weights and the
bias that are nearest to its maxima in least squares. That changes the answers, and is done on request alone.
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
from modelsurgeon.onnx.passes.pool2conv.subsample import absorb, keeps
from modelsurgeon.surgery.edits import Edit

ACTION = "to convolution"
EXACT_ACTION, APPROXIMATE_ACTION = "exact", "approximate"
NO_FORM_REASONS = {
    "GlobalAveragePool": "it takes maps of any size: a convolution would fix the size",
    "GlobalLpPool": "a norm is no convolution",
    "GlobalMaxPool": "a maximum is no convolution",
    "LpPool": "a norm is no convolution",
}
NO_MAXIMUM = "a maximum is no convolution; --approximate fits one to data"


def pool2conv(subject: PassContext, *, approximate: bool = False) -> list[Edit]:
    """Turn poolings into convolutions, and let convolutions do the subsampling behind them.

    approximate: fit convolutions to maxima, on the subject's samples.
    """
    maxima = MaxFit.of(subject) if approximate else None
    subject.names, subject.measured  # noqa: B018 - both are asked for before the first edit
    return [edit for node in list(subject.graph) if (edit := _edited(subject, node, maxima)) is not None]


def _edited(subject: PassContext, node: ir.Node, maxima: MaxFit | None) -> Edit | None:
    """What becomes of a node; None where it neither pools nor subsamples."""
    subsamples = not node.domain and keeps(node)
    if node.domain or not (subsamples or node.op_type in {"AveragePool", "MaxPool", *NO_FORM_REASONS}):
        return None
    name = subject.names[node]
    action = "into the convolution before" if subsamples else ACTION
    try:
        if reason := subject.left_out(name) or NO_FORM_REASONS.get(node.op_type):
            raise UnsupportedLayer(reason)
        if subsamples:
            return Edit(
                layer=name, action=action, details={"kind": EXACT_ACTION, "into": absorb(subject, node)}
            )
        if node.op_type == "AveragePool":
            _mean(subject, node, name)
            return Edit(layer=name, action=action, details={"kind": EXACT_ACTION})
        if maxima is None:
            raise UnsupportedLayer(NO_MAXIMUM)
        layer, error = maxima.fit(node, pooling.read(subject, node))
        subject.replace(node, [_conv(subject, node, name, layer)])
        return Edit(layer=name, action=action, details={"kind": APPROXIMATE_ACTION, "error": error})
    except UnsupportedLayer as reason:
        return Edit(layer=name, action=action, skipped=str(reason))


def _mean(subject: PassContext, node: ir.Node, name: str) -> None:
    pool = pooling.read(subject, node)
    divided_by_all = node.attributes.get_int("count_include_pad", 0) or not any(map(any, pool.layer.padding))
    if divided_by_all and pool.hangs:
        raise UnsupportedLayer(
            "by what its windows that hang over the edge (ceil_mode) divide is up to runtimes"
        )
    taps = pool.real_taps()
    if not divided_by_all and taps is None:
        raise UnsupportedLayer("at its padded edge it divides by fewer taps, on a map whose size is open")
    layer = replace(pool.layer, weight=(pool.layer.weight / pool.taps).astype(pool.layer.weight.dtype))
    conv = _conv(subject, node, name, layer)
    if divided_by_all or taps is None or (taps == pool.taps).all():
        subject.replace(node, [conv])
        return
    factor = (pool.taps / taps).astype(layer.weight.dtype)
    edge = ir.node("Mul", [conv.outputs[0], subject.store(f"{name}.edge", factor)], name=f"{name}.edge")
    subject.replace(node, [conv, edge])


def _conv(subject: PassContext, node: ir.Node, name: str, layer: Layer) -> ir.Node:
    inputs = [node.inputs[0], subject.store(f"{name}.weight", np.asarray(layer.weight))]
    if layer.bias is not None:
        inputs.append(subject.store(f"{name}.bias", layer.bias))
    return ir.node("Conv", inputs, attributes(layer), name=name)
