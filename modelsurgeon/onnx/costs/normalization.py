"""Normalisation and the softmax family: no MACs, a fixed number of steps for each element."""

from __future__ import annotations

from collections.abc import Callable

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.onnx.costs.registry import MICROSOFT, ShapedNode, counts

# mean, difference, square, its mean, quotient, scale, shift
LAYER_NORM = 7


def _steps(number: int) -> Callable[[ShapedNode], Cost]:
    def cost(op: ShapedNode) -> Cost:
        return Cost(other=number * op.elements_in)

    return cost


@counts("BatchNormalization")
def batch_norm(op: ShapedNode) -> Cost:
    """At inference, a scale and a shift; in training mode, the statistics too."""
    return Cost(other=(LAYER_NORM if op.integer("training_mode") else 2) * op.elements_in)


@counts("LRN")
def lrn(op: ShapedNode) -> Cost:
    """Square, sum over `size` neighbours, scale, bias, power, quotient."""
    return Cost(other=(op.integer("size") + 5) * op.elements_in)


norm = _steps(LAYER_NORM)
counts("InstanceNormalization", "LayerNormalization", "GroupNormalization")(norm)
counts("LayerNormalization", "GroupNorm", domain=MICROSOFT)(norm)
# a residual is added first
counts("SkipLayerNormalization", "SkipGroupNorm", domain=MICROSOFT)(_steps(LAYER_NORM + 1))


@counts("EmbedLayerNormalization", "QEmbedLayerNormalization", domain=MICROSOFT)
def embed_norm(op: ShapedNode) -> Cost:
    """Two or three embeddings are added and normalised; the input is indices, the output is wider."""
    return Cost(other=(LAYER_NORM + 1 + op.has(1)) * op.elements)


counts("BiasSoftmax", domain=MICROSOFT)(_steps(6))
counts("MeanVarianceNormalization")(_steps(LAYER_NORM - 2))
# square, its mean, quotient, scale
rms_norm = _steps(4)
counts("RMSNormalization", "SimplifiedLayerNormalization")(rms_norm)
counts("SimplifiedLayerNormalization", domain=MICROSOFT)(rms_norm)
counts("SkipSimplifiedLayerNormalization", domain=MICROSOFT)(_steps(5))
# power, sum, quotient
counts("LpNormalization")(_steps(3))

# maximum, difference, exponential, sum, quotient (or difference)
softmax = _steps(5)
counts("Softmax", "LogSoftmax")(softmax)
counts("QLinearSoftmax", domain=MICROSOFT)(softmax)
counts("SoftmaxCrossEntropyLoss")(_steps(6))
counts("NegativeLogLikelihoodLoss")(_steps(1))
