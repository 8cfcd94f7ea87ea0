"""Traditional machine learning (ai.onnx.ml): no MACs; products count as other operations.

Also the operators whose cost doesn't follow from shapes: they are uncounted, with the reason.
"""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN
from modelsurgeon.onnx.costs.registry import (
    CostFunction,
    ShapedNode,
    Uncounted,
    counts,
    moves,
)

ML_DOMAIN = "ai.onnx.ml"
TRAINING_DOMAIN = "ai.onnx.preview.training"


@counts("LinearRegressor", "LinearClassifier", domain=ML_DOMAIN)
def linear_model(op: ShapedNode) -> Cost:
    """A product and a sum for each coefficient and sample."""
    return Cost(other=2 * _samples(op) * op.length("coefficients"))


@counts("SVMRegressor", "SVMClassifier", domain=ML_DOMAIN)
def support_vectors(op: ShapedNode) -> Cost:
    """A product and a sum for each sample and each number of the support vectors and coefficients."""
    numbers = op.length("support_vectors") + op.length("coefficients")
    return Cost(other=2 * _samples(op) * numbers)


def _samples(op: ShapedNode) -> Number:
    """Rows of (samples, features); a single row may come without its first axis."""
    shape = op.shape()
    return prod(shape[:-1])


@counts("Scaler", domain=ML_DOMAIN)
def scaler(op: ShapedNode) -> Cost:
    """An offset and a scale for each element."""
    return Cost(other=2 * op.elements)


@counts("Normalizer", domain=ML_DOMAIN)
def normalizer(op: ShapedNode) -> Cost:
    """Power, sum and quotient of each element."""
    return Cost(other=3 * op.elements)


@counts("Binarizer", "Imputer", domain=ML_DOMAIN)
def one_comparison(op: ShapedNode) -> Cost:
    """One comparison for each element."""
    return Cost(other=op.elements)


OPTIMIZER_STEPS = {"Adagrad": 6, "Adam": 11, "Momentum": 5}


@counts(*OPTIMIZER_STEPS, domain=TRAINING_DOMAIN)
def optimizer(op: ShapedNode) -> Cost:
    """A fixed number of operations for each weight that is trained.

    Inputs: learning rate, step, then the weights, their gradients, and one state for each weight (Adam: two).
    """
    groups = 4 if op.node.op_type == "Adam" else 3
    trained = range(2, 2 + (len(op.node.inputs) - 2) // groups)
    return Cost(other=OPTIMIZER_STEPS[op.node.op_type] * sum(prod(op.shape(index)) for index in trained))


@counts("CropAndResize", domain=MICROSOFT_DOMAIN)
def crop_and_resize(op: ShapedNode) -> Cost:
    """A product and a sum for each of four taps."""
    return Cost(other=8 * op.elements)


@counts("CDist", domain=MICROSOFT_DOMAIN)
def distances(op: ShapedNode) -> Cost:
    """A difference, a square and a sum for each feature of each pair, and a root unless it is left out."""
    root = op.text("metric", "sqeuclidean") == "euclidean"
    return Cost(other=op.elements * (3 * op.shape()[1] + root))


@counts("DynamicTimeWarping", domain=MICROSOFT_DOMAIN)
def time_warping(op: ShapedNode) -> Cost:
    """Two comparisons and a sum for each element of the table of costs."""
    return Cost(other=3 * op.elements_in)


def _uncounted_because(reason: str, *, macs: bool = False) -> CostFunction:
    """A cost that isn't known. macs: whether the operator may have MACs."""

    def cost(_: ShapedNode) -> Uncounted:
        return Uncounted(reason=reason, macs=macs)

    return cost


counts(
    *("ArrayFeatureExtractor", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer"),
    *("LabelEncoder", "OneHotEncoder", "ZipMap"),
    domain=ML_DOMAIN,
)(moves)
counts("NonMaxSuppression")(_uncounted_because("its cost depends on how many boxes overlap"))
counts("MaxRoiPool")(_uncounted_because("its cost depends on the size of the regions"))
counts("ImageDecoder")(_uncounted_because("its cost depends on the image"))
counts("Det")(_uncounted_because("its cost depends on the factorization that the runtime uses"))
counts("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", domain=ML_DOMAIN)(
    _uncounted_because("its cost depends on the path of each sample through the trees")
)
counts("Gradient", domain=TRAINING_DOMAIN)(
    _uncounted_because("its cost is that of a backward pass, which isn't in the file", macs=True)
)
counts("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", domain=MICROSOFT_DOMAIN)(
    _uncounted_because("its cost depends on how many tokens are generated", macs=True)
)
counts("BifurcationDetector", "NGramRepeatBlock", domain=MICROSOFT_DOMAIN)(
    _uncounted_because("its cost is that of comparing tokens, which depends on the data")
)
counts("NGramHashMapping", "VarlenNGramHashMapping", domain=MICROSOFT_DOMAIN)(
    _uncounted_because("its cost is that of hashing integers, which isn't defined here")
)
depends_on_texts = _uncounted_because("its cost depends on the length of texts")
counts("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer")(
    depends_on_texts
)
counts("Tokenizer", "MurmurHash3", domain=MICROSOFT_DOMAIN)(depends_on_texts)
depends_on_sorting = _uncounted_because("its cost is that of sorting, which depends on the data")
counts("Unique")(depends_on_sorting)
counts("Unique", domain=MICROSOFT_DOMAIN)(depends_on_sorting)
