"""The least-squares fit of a depthwise convolution to a max pooling, on samples.

For every channel separately, with the taps of a window in u (and a 1 for the bias) and its maximum in y:

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

RIDGE_SHARE = 1e-6  # of the mean diagonal, added to it: windows of constant channels give a singular matrix


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxFit:
    """The models that fits run: the edited one, with earlier poolings replaced, and the original."""

    context: PassContext
    original: ir.Model
    batches: Batches

    @classmethod
    def of(cls, context: PassContext) -> MaxFit:
        """Copy the model before its first edit. Raises BadData where there are no samples."""
        if context.batches is None:
            raise BadData("maxima are approximated on samples, and there are none: pass --data")
        return cls(context=context, original=context.model.clone(), batches=context.batches)

    def fit(self, node: ir.Node, pool: Pool) -> tuple[Layer, float]:
        """The layer nearest to the node's output in the original, and its relative error on the samples.

        Its input comes from the edited model, so it compensates for errors before it.
        """
        source = node.inputs[0]
        x, y = "" if source is None else str(source.name), str(node.outputs[0].name)
        provider = self.context.provider
        inside = [x] if source is not None and source.producer() is not None else []
        run_edited = runner(self.context.model, outputs=inside, provider=provider)
        run_original = runner(self.original, outputs=[y], provider=provider)
        taps = pool.taps + 1
        gram = np.zeros((pool.layer.groups, taps, taps))
        cross, energy = np.zeros((pool.layer.groups, taps)), 0.0
        for feed in self.batches:
            data, wanted = {**feed, **run_edited(feed)}[x], run_original(feed)[y]
            for sample, maxima in zip(data, wanted, strict=True):
                windows, target = (
                    _window_columns(pool.layer, sample),
                    maxima.reshape(len(maxima), -1).astype(float),
                )
                gram += windows @ windows.transpose(0, 2, 1)
                cross += (windows @ target[..., None])[..., 0]
                energy += float((target**2).sum())
        return _solve(pool.layer, gram, cross, energy)


def _window_columns(layer: Layer, sample: Array) -> Array:
    """Patches of a sample, `(channels, taps + 1, positions)`; the last row is 1, for the bias."""
    columns = im2col(layer, sample.astype(np.float64))
    return np.concatenate([columns, np.ones_like(columns[:, :1])], axis=1)


def _solve(layer: Layer, gram: Array, cross: Array, energy: float) -> tuple[Layer, float]:
    size = gram.shape[1]
    scale = np.trace(gram, axis1=1, axis2=2)[:, None, None] / size
    weights = np.linalg.solve(
        gram + (RIDGE_SHARE * scale + np.finfo(float).tiny) * np.eye(size), cross[..., None]
    )[..., 0]
    residual = energy - 2 * (weights * cross).sum() + np.einsum("ci,cij,cj->", weights, gram, weights)
    dtype = layer.weight.dtype
    fitted = replace(
        layer,
        weight=weights[:, :-1].reshape(layer.weight.shape).astype(dtype),
        bias=weights[:, -1].astype(dtype),
    )
    return fitted, float(np.sqrt(max(residual, 0.0) / energy)) if energy else 0.0
