"""Classic machine learning: no MACs by definition; products are counted among the other operations.

And the operators whose cost isn't in their shapes: these say why, in place of a number.
"""

from __future__ import annotations

from math import prod

from modelsurgeon.inspection.cost import Cost, Number
from modelsurgeon.onnx.costs.registry import MICROSOFT, CostFunction, ShapedNode, Uncounted, counts, moves

LEARNING = "ai.onnx.ml"
TRAINING = "ai.onnx.preview.training"


@counts("LinearRegressor", "LinearClassifier", domain=LEARNING)
def linear_model(op: ShapedNode) -> Cost:
    """A product and a sum for each coefficient and sample."""
    return Cost(other=2 * _samples(op) * op.length("coefficients"))


@counts("SVMRegressor", "SVMClassifier", domain=LEARNING)
def support_vectors(op: ShapedNode) -> Cost:
    """A product and a sum for each number of each support vector, and each coefficient, and sample."""
    numbers = op.length("support_vectors") + op.length("coefficients")
    return Cost(other=2 * _samples(op) * numbers)


def _samples(op: ShapedNode) -> Number:
    """Rows of (samples, features); a single row may come without its first axis."""
    shape = op.shape()
    return prod(shape[:-1])


@counts("Scaler", domain=LEARNING)
def scaler(op: ShapedNode) -> Cost:
    """An offset and a scale for each element."""
    return Cost(other=2 * op.elements)


@counts("Normalizer", domain=LEARNING)
def normalizer(op: ShapedNode) -> Cost:
    """Power, sum, quotient."""
    return Cost(other=3 * op.elements)


@counts("Binarizer", "Imputer", domain=LEARNING)
def compared(op: ShapedNode) -> Cost:
    """One comparison for each element."""
    return Cost(other=op.elements)


OPTIMIZER_STEPS = {"Adagrad": 6, "Adam": 11, "Momentum": 5}


@counts(*OPTIMIZER_STEPS, domain=TRAINING)
def optimizer(op: ShapedNode) -> Cost:
    """A fixed number of steps for each element that is trained.

    Inputs: rate, step, then the weights, their gradients, and one state of each, or two (Adam).
    """
    groups = 4 if op.node.op_type == "Adam" else 3
    trained = range(2, 2 + (len(op.node.inputs) - 2) // groups)
    return Cost(other=OPTIMIZER_STEPS[op.node.op_type] * sum(prod(op.shape(place)) for place in trained))


@counts("CropAndResize", domain=MICROSOFT)
def crop_and_resize(op: ShapedNode) -> Cost:
    """A product and a sum for each of four taps."""
    return Cost(other=8 * op.elements)


def _uncounted(reason: str) -> CostFunction:
    def cost(_: ShapedNode) -> Uncounted:
        return Uncounted(reason=reason)

    return cost


counts(
    *("ArrayFeatureExtractor", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer"),
    *("LabelEncoder", "OneHotEncoder", "ZipMap"),
    domain=LEARNING,
)(moves)
counts("NonMaxSuppression")(_uncounted("its cost depends on how many boxes overlap"))
counts("MaxRoiPool")(_uncounted("its cost depends on the size of the regions"))
counts("ImageDecoder")(_uncounted("its cost depends on the picture"))
counts("Det")(_uncounted("its cost is that of a factorization, which is done in several ways"))
counts("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor", domain=LEARNING)(
    _uncounted("its cost depends on the way that each sample takes through the trees")
)
counts("Gradient", domain=TRAINING)(
    _uncounted("its cost is that of a backward pass, which the file doesn't tell")
)
counts("BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch", domain=MICROSOFT)(
    _uncounted("its cost depends on how many tokens are made")
)
text = _uncounted("its cost depends on the length of texts")
counts("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer")(text)
counts("Tokenizer", "MurmurHash3", domain=MICROSOFT)(text)
sorting = _uncounted("its cost is that of sorting, which depends on the data")
counts("Unique")(sorting)
counts("Unique", domain=MICROSOFT)(sorting)
