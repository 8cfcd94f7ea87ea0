"""The convolution nearest to a max pooling on samples, in least squares.

For every channel by itself, with the taps of a window in u (and a 1 for the bias) and its maximum in y:

    w = (sum of u u^T)^-1 (sum of u y),  error^2 = (sum of y^2 - w^T sum of u y) / sum of y^2
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.data import Batches
from modelsurgeon.errors import BadData
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.conv_matrix import im2col
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.pool2conv.pooling import Pool
from modelsurgeon.onnx.run import runner

RIDGE = 1e-6  # of the mean diagonal: windows of constant channels say nothing of single taps


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxFit:
    """What fits are made on: the model as it stands, with what went before it replaced, and as it was."""

    subject: PassContext
    original: ir.Model
    batches: Batches

    @classmethod
    def of(cls, subject: PassContext) -> MaxFit:
        """Remember the model before its first edit. Raises BadData where there are no samples."""
        if subject.batches is None:
            raise BadData("maxima are approximated on samples, and there are none: pass --data")
        return cls(subject=subject, original=subject.model.clone(), batches=subject.batches)

    def fit(self, node: ir.Node, pool: Pool) -> tuple[Layer, float]:
        """The layer nearest to what the node gave in the original, and its relative error on the samples.

        What it is fed comes from the model as it stands, so it makes up for errors before it.
        """
        source = node.inputs[0]
        x, y = "" if source is None else str(source.name), str(node.outputs[0].name)
        provider = self.subject.provider
        inside = [x] if source is not None and source.producer() is not None else []
        now = runner(self.subject.model, outputs=inside, provider=provider)
        then = runner(self.original, outputs=[y], provider=provider)
        taps = pool.taps + 1
        gram = np.zeros((pool.layer.groups, taps, taps))
        cross, energy = np.zeros((pool.layer.groups, taps)), 0.0
        for feed in self.batches:
            data, wanted = {**feed, **now(feed)}[x], then(feed)[y]
            for sample, maxima in zip(data, wanted, strict=True):
                windows, target = _windows(pool.layer, sample), maxima.reshape(len(maxima), -1).astype(float)
                gram += windows @ windows.transpose(0, 2, 1)
                cross += (windows @ target[..., None])[..., 0]
                energy += float((target**2).sum())
        return _solved(pool.layer, gram, cross, energy)


def _windows(layer: Layer, sample: Array) -> Array:
    """(channels, taps and a 1, positions)."""
    columns = im2col(layer, sample.astype(np.float64))
    return np.concatenate([columns, np.ones_like(columns[:, :1])], axis=1)


def _solved(layer: Layer, gram: Array, cross: Array, energy: float) -> tuple[Layer, float]:
    size = gram.shape[1]
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None] / size
    weights = np.linalg.solve(gram + (RIDGE * scale + np.finfo(float).tiny) * np.eye(size), cross[..., None])[
        ..., 0
    ]
    missed = energy - 2 * (weights * cross).sum() + np.einsum("ci,cij,cj->", weights, gram, weights)
    dtype = layer.weight.dtype
    fitted = replace(
        layer,
        weight=weights[:, :-1].reshape(layer.weight.shape).astype(dtype),
        bias=weights[:, -1].astype(dtype),
    )
    return fitted, float(np.sqrt(max(missed, 0.0) / energy)) if energy else 0.0
