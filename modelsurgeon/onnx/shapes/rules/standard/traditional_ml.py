"""Shape rules of traditional machine learning (ai.onnx.ml), of which onnx_shape_inference has only a few."""

from __future__ import annotations

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

from modelsurgeon.onnx.shapes.rules.parts import integers, same_as_first
from modelsurgeon.onnx.shapes.rules.registration import Rule, register_missing, replace_rule

ML_DOMAIN = "ai.onnx.ml"

Size = int | ir.SymbolicDim
FLOAT, INT64, STRING = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.STRING
# Attributes of values of LabelEncoder, each with the type of the output.
VALUE_TYPES = {"values_floats": FLOAT, "values_int64s": INT64, "values_strings": STRING}


def register() -> None:
    """Add the rules to the registry."""
    register_missing(ML_DOMAIN, "Imputer", same_as_first)
    for op in ("Scaler", "Normalizer"):
        register_missing(ML_DOMAIN, op, _same_as_first_in_float)
    for op, rule in MISSING.items():
        register_missing(ML_DOMAIN, op, rule)
    replace_rule("ArrayFeatureExtractor", _array_feature_extractor, domain=ML_DOMAIN)
    replace_rule("LabelEncoder", _label_encoder, domain=ML_DOMAIN)
    registry.register(ML_DOMAIN, "TreeEnsemble", since_version=1)(_tree_ensemble)


def _shape(node: ir.Node) -> ir.Shape | None:
    """Shape of the first input."""
    return node.inputs[0].shape if node.inputs and node.inputs[0] is not None else None


def _length(node: ir.Node, name: str) -> int:
    """Entries of an attribute that is a list, or a tensor; 0 where it is left out."""
    attr = node.attributes.get(name)
    if attr is None:
        return 0
    return int(attr.value.size) if attr.type == ir.AttributeType.TENSOR else len(attr.value)


def _samples(node: ir.Node) -> Size | None:
    """Rows of (samples, features); 1 where a single row comes without its first axis."""
    shape = _shape(node)
    return None if shape is None else 1 if shape.rank() < 2 else shape[0]


def _set_rows(ctx: ShapeInferenceContext, node: ir.Node, width: int, dtype: ir.DataType | None) -> None:
    """The first output is (samples, width)."""
    samples = _samples(node)
    ctx.set_shape_and_dtype(node.outputs[0], None if samples is None else ir.Shape([samples, width]), dtype)


def _set_classes(ctx: ShapeInferenceContext, node: ir.Node, scores: int) -> None:
    """The outputs of a classifier: labels (samples,) and scores (samples, scores)."""
    samples = _samples(node)
    shapes = (None, None) if samples is None else (ir.Shape([samples]), ir.Shape([samples, scores]))
    dtypes = (STRING if _length(node, "classlabels_strings") else INT64, FLOAT)
    for output, shape, dtype in zip(node.outputs, shapes, dtypes, strict=False):
        ctx.set_shape_and_dtype(output, shape, dtype)


def _labels(node: ir.Node) -> int:
    """Number of class labels, whatever their type."""
    return sum(
        _length(node, name) for name in ("classlabels_ints", "classlabels_int64s", "classlabels_strings")
    )


def _same_as_first_in_float(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The output has the shape of the input."""
    ctx.set_shape_and_dtype(node.outputs[0], _shape(node), FLOAT)


def _one_hot_encoder(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(...) -> (..., categories)."""
    shape = _shape(node)
    categories = _length(node, "cats_int64s") or _length(node, "cats_strings")
    ctx.set_shape_and_dtype(node.outputs[0], None if shape is None else ir.Shape([*shape, categories]), FLOAT)


def _category_mapper(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """Texts become integers, and integers texts."""
    first = node.inputs[0]
    known = first is not None and first.dtype is not None
    dtype = (INT64 if first.dtype == STRING else STRING) if known and first is not None else None
    ctx.set_shape_and_dtype(node.outputs[0], _shape(node), dtype)


def _label_encoder(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The type is that of the values; the library misses opset 1, where texts and integers change places."""
    if "classes_strings" in node.attributes:
        return _category_mapper(ctx, node)
    given = (dtype for name, dtype in VALUE_TYPES.items() if name in node.attributes)
    values = node.attributes.get_tensor("values_tensor", None)
    dtype = next(given, None) if values is None else values.dtype
    ctx.set_shape_and_dtype(node.outputs[0], _shape(node), dtype)
    return None


def _array_feature_extractor(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """(..., features), indices -> (..., indices); a vector becomes a row.

    The library takes the last axis of the indices, where all of them count, and forgets the row of a vector.
    """
    data, indices = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    shape = _shape(node)
    if data is None or shape is None or indices is None or indices.shape is None:
        return
    count: Size = 1
    for size in indices.shape:
        count = size * count
    dims = [1] if shape.rank() == 1 else list(shape)[:-1]
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([*dims, count]), data.dtype)


def _feature_vectorizer(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """The sizes of all inputs are attributes."""
    _set_rows(ctx, node, sum(integers(node, "inputdimensions")), FLOAT)


def _linear_regressor(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_rows(ctx, node, node.attributes.get_int("targets", 1), FLOAT)


def _svm_regressor(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_rows(ctx, node, 1, FLOAT)


def _tree_ensemble_regressor(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_rows(ctx, node, node.attributes.get_int("n_targets", 1), FLOAT)


def _tree_ensemble(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """As the regressor before opset 5, in the type of the input."""
    first = node.inputs[0]
    _set_rows(ctx, node, node.attributes.get_int("n_targets", 1), None if first is None else first.dtype)


def _tree_ensemble_classifier(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    _set_classes(ctx, node, _labels(node))


def _linear_classifier(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A score for each intercept; a single one between two labels gets its complement."""
    labels = _labels(node)
    scores = _length(node, "intercepts") or labels
    _set_classes(ctx, node, 2 if scores == 1 and labels == 2 else scores)


def _svm_classifier(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A score for each class, or for each pair of classes where support vectors give no probabilities."""
    classes = _length(node, "vectors_per_class")
    pairs = classes * (classes - 1) // 2
    if classes <= 2 or _length(node, "prob_a"):
        _set_classes(ctx, node, classes or _labels(node))
    else:
        _set_classes(ctx, node, pairs)


MISSING: dict[str, Rule] = {
    "CategoryMapper": _category_mapper,
    "FeatureVectorizer": _feature_vectorizer,
    "LinearClassifier": _linear_classifier,
    "LinearRegressor": _linear_regressor,
    "OneHotEncoder": _one_hot_encoder,
    "SVMClassifier": _svm_classifier,
    "SVMRegressor": _svm_regressor,
    "TreeEnsembleClassifier": _tree_ensemble_classifier,
    "TreeEnsembleRegressor": _tree_ensemble_regressor,
}
