"""Normalization and the softmax family: no MACs, a fixed number of operations for each element."""

from __future__ import annotations

from collections.abc import Callable

from modelsurgeon.inspection.cost import Cost
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import ShapedNode, counts

# mean, difference, square, its mean, quotient, scale, shift
LAYER_NORM_STEPS = 7


def _steps_per_element(number: int) -> Callable[[ShapedNode], Cost]:
    def cost(op: ShapedNode) -> Cost:
        return Cost(other=number * op.elements_in)

    return cost


@counts("BatchNormalization")
def batch_norm(op: ShapedNode) -> Cost:
    """At inference, a scale and a shift; in training mode, the statistics too."""
    return Cost(other=(LAYER_NORM_STEPS if op.integer("training_mode") else 2) * op.elements_in)


@counts("LRN")
def lrn(op: ShapedNode) -> Cost:
    """Square, sum over `size` neighbours, scale, bias, power, quotient."""
    return Cost(other=(op.integer("size") + 5) * op.elements_in)


layer_norm = _steps_per_element(LAYER_NORM_STEPS)
counts("InstanceNormalization", "LayerNormalization", "GroupNormalization")(layer_norm)
counts("LayerNormalization", "GroupNorm", domain=MICROSOFT_DOMAIN)(layer_norm)
# a residual is added first
counts("SkipLayerNormalization", "SkipGroupNorm", domain=MICROSOFT_DOMAIN)(
    _steps_per_element(LAYER_NORM_STEPS + 1)
)


@counts("EmbedLayerNormalization", "QEmbedLayerNormalization", domain=MICROSOFT_DOMAIN)
def embed_norm(op: ShapedNode) -> Cost:
    """Two or three embeddings are added and normalized; the input is indices, the output is wider."""
    return Cost(other=(LAYER_NORM_STEPS + 1 + op.has(1)) * op.elements)


counts("BiasSoftmax", domain=MICROSOFT_DOMAIN)(_steps_per_element(6))
counts("MeanVarianceNormalization")(_steps_per_element(LAYER_NORM_STEPS - 2))
# square, its mean, quotient, scale
rms_norm = _steps_per_element(4)
counts("RMSNormalization", "SimplifiedLayerNormalization")(rms_norm)
counts("SimplifiedLayerNormalization", domain=MICROSOFT_DOMAIN)(rms_norm)
counts("SkipSimplifiedLayerNormalization", domain=MICROSOFT_DOMAIN)(_steps_per_element(5))
counts("BranchwiseRMSNorm", domain=MICROSOFT_DOMAIN)(rms_norm)
# the non-linearity of the gate, and the product with it
counts("GatedRMSNorm", domain=MICROSOFT_DOMAIN)(_steps_per_element(6))


@counts("EngramGate", domain=MICROSOFT_DOMAIN)
def engram_gate(op: ShapedNode) -> Cost:
    """Keys and queries are normalized, multiplied and summed; the gate scales values, maybe normalized."""
    return Cost(other=(4 + 4 + 2 + 1 + 4 * op.knows_out(1)) * op.elements)


# power, sum, quotient
counts("LpNormalization")(_steps_per_element(3))

# maximum, difference, exponential, sum, quotient (or difference)
softmax = _steps_per_element(5)
counts("Softmax", "LogSoftmax")(softmax)
counts("QLinearSoftmax", domain=MICROSOFT_DOMAIN)(softmax)
counts("SoftmaxCrossEntropyLoss")(_steps_per_element(6))
counts("NegativeLogLikelihoodLoss")(_steps_per_element(1))
