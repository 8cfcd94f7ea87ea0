"""Shapes and types of ai.onnx.ml are those of onnxruntime's runs, with fixed rows and with open ones."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from modelsurgeon.onnx.shapes import bound
from tests.onnx.shapes.rules.ran import Sweep, run

DOMAIN = "ai.onnx.ml"
Attributes = dict[str, Any]

TREE = {
    "nodes_falsenodeids": [2, 0, 0],
    "nodes_featureids": [0, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_nodeids": [0, 1, 2],
    "nodes_treeids": [0, 0, 0],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0],
}
KERNEL = {"kernel_type": "LINEAR", "kernel_params": [0.1, 0.0, 2.0]}


def leaves(labels: int) -> Attributes:
    """A classifier of one tree between this many labels."""
    votes = {"class_ids": [0, labels - 1], "class_nodeids": [1, 2], "class_treeids": [0, 0]}
    return {**TREE, **votes, "class_weights": [1.0, 0.2]}


def vectors(classes: int) -> Attributes:
    """A support vector classifier of this many classes, without probabilities."""
    pairs = classes * (classes - 1) // 2
    return {
        **KERNEL,
        "coefficients": [0.5] * (2 * classes * (classes - 1)),
        "support_vectors": [0.1] * (2 * classes * 4),
        "vectors_per_class": [2] * classes,
        "rho": [0.0] * pairs,
    }


def labels(count: int, *, texts: bool, name: str = "ints") -> Attributes:
    """Class labels."""
    return {"classlabels_strings": [*"abcdef"[:count]]} if texts else {f"classlabels_{name}": [*range(count)]}


# operator, version of the domain, attributes, element types of the inputs, outputs
NODES: list[tuple[str, int, Attributes, str, int]] = [
    ("Scaler", 1, {"scale": [1.0], "offset": [0.0]}, "f4", 1),
    ("Scaler", 1, {"scale": [1.0], "offset": [0.0]}, "i8", 1),
    ("Normalizer", 1, {"norm": "L2"}, "f4", 1),
    ("Imputer", 1, {"imputed_value_floats": [1.0], "replaced_value_float": 2.0}, "f4", 1),
    ("Imputer", 1, {"imputed_value_int64s": [1], "replaced_value_int64": 2}, "i8", 1),
    ("Binarizer", 1, {"threshold": 0.5}, "f4", 1),
    ("OneHotEncoder", 1, {"cats_int64s": [0, 1, 2]}, "i8", 1),
    ("OneHotEncoder", 1, {"cats_strings": ["0", "1"], "zeros": 1}, "O", 1),
    ("CategoryMapper", 1, {"cats_int64s": [0, 1], "cats_strings": ["a", "b"]}, "i8", 1),
    ("CategoryMapper", 1, {"cats_int64s": [0, 1], "cats_strings": ["a", "b"]}, "O", 1),
    ("LabelEncoder", 1, {"classes_strings": ["a", "b", "c"]}, "i8", 1),
    ("LabelEncoder", 1, {"classes_strings": ["a", "b", "c"]}, "O", 1),
    ("LabelEncoder", 2, {"keys_int64s": [0, 1], "values_floats": [0.5, 1.0]}, "i8", 1),
    ("LabelEncoder", 2, {"keys_strings": ["a"], "values_int64s": [7]}, "O", 1),
    ("LabelEncoder", 4, {"keys_int64s": [0, 1], "values_strings": ["a", "b"]}, "i8", 1),
    ("FeatureVectorizer", 1, {"inputdimensions": [4]}, "f4", 1),
    ("FeatureVectorizer", 1, {"inputdimensions": [4, 4]}, "f4 f4", 1),
    *(
        (
            "LinearRegressor",
            1,
            {"coefficients": [1.0] * 4 * n, "intercepts": [0.0] * n, "targets": n},
            "f4",
            1,
        )
        for n in (1, 3)
    ),
    *(
        (
            *("LinearClassifier", 1),
            {"coefficients": [1.0] * 4 * scores, "intercepts": [0.0] * scores, **labels(n, texts=texts)},
            *("f4", 2),
        )
        for (scores, n), texts in product([(1, 2), (2, 2), (3, 3)], [False, True])
    ),
    ("SVMRegressor", 1, {**KERNEL, "coefficients": [1.0] * 4, "rho": [0.0]}, "f4", 1),
    *(
        ("SVMClassifier", 1, {**vectors(n), **labels(n, texts=texts), **probabilities}, "f4", 2)
        for n, texts in product((2, 3, 4, 5), (False, True))
        for probabilities in ({}, {name: [0.1] * (n * (n - 1) // 2) for name in ("prob_a", "prob_b")})
    ),
    *(
        (
            *("SVMClassifier", 1),
            {**KERNEL, "coefficients": [0.5] * 4 * n, "rho": [0.0] * n, **labels(n, texts=False)},
            *("f4", 2),
        )
        for n in (2, 3)
    ),
    *(
        (
            *("TreeEnsembleClassifier", version),
            {**leaves(n), **labels(n, texts=texts, name="int64s")},
            *("f4", 2),
        )
        for version, n, texts in product((1, 3), (2, 3), (False, True))
    ),
    *(
        (
            *("TreeEnsembleRegressor", version),
            {
                **TREE,
                "n_targets": 3,
                "target_ids": [0, 2],
                "target_nodeids": [1, 2],
                "target_treeids": [0, 0],
                "target_weights": [1.0, 0.2],
            },
            *("f4", 1),
        )
        for version in (1, 3)
    ),
    (
        *("TreeEnsemble", 5),
        {
            "n_targets": 2,
            "nodes_featureids": [0],
            "nodes_splits": helper.make_tensor("splits", TensorProto.FLOAT, [1], [0.5]),
            "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [1], [0]),
            "nodes_truenodeids": [0],
            "nodes_falsenodeids": [1],
            "nodes_trueleafs": [1],
            "nodes_falseleafs": [1],
            "leaf_targetids": [0, 1],
            "leaf_weights": helper.make_tensor("weights", TensorProto.FLOAT, [2], [1.0, 2.0]),
            "tree_roots": [0],
        },
        *("f4", 1),
    ),
]
SHAPES = [(4,), (2, 4), (1, 4), (2, 3, 4)]


def node(
    op: str, version: int, attributes: Attributes, inputs: dict[str, np.ndarray], outputs: int, *rows: str
) -> onnx.ModelProto:
    """A model of one node; rows: a symbol for the first axis of each input."""
    made = helper.make_node(op, [*inputs], [f"y{i}" for i in range(outputs)], domain=DOMAIN, **attributes)
    values = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(array.dtype), [*rows, *array.shape[len(rows) :]]
        )
        for name, array in inputs.items()
    ]
    ends = [onnx.ValueInfoProto(name=name) for name in made.output]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, version)]
    graph = helper.make_graph([made], "g", values, ends)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_shapes_and_types() -> None:
    found, ran_operators = Sweep(), set()
    for (op, version, attributes, types, outputs), shape in product(NODES, SHAPES):
        inputs = {f"x{i}": np.zeros(shape, np.float32).astype(kind) for i, kind in enumerate(types.split())}
        if "O" in types:
            inputs = {name: array.astype(str).astype(object) for name, array in inputs.items()}
        ran = run(node(op, version, attributes, inputs, outputs), inputs)
        if ran is not None:
            ran_operators.add((op, version))
            found.compare(op, node(op, version, attributes, inputs, outputs), ran)
            if len(shape) > 1:
                found.compare(
                    op, node(op, version, attributes, inputs, outputs, "N"), ran, at={"N": shape[0]}
                )
    assert not found.wrong
    assert not found.unknown
    not_run = {(op, version) for op, version, *_ in NODES} - ran_operators
    assert not_run == set()


@pytest.mark.parametrize("indices", [(), (3,), (1, 3), (2, 3)])
@pytest.mark.parametrize("shape", SHAPES)
def test_extracted_features(shape: tuple[int, ...], indices: tuple[int, ...]) -> None:
    inputs = {"x": np.zeros(shape, np.float32), "i": np.zeros(indices, np.int64)}
    ran = run(node("ArrayFeatureExtractor", 1, {}, inputs, 1), inputs)
    assert ran is not None
    found = Sweep()
    found.compare("", node("ArrayFeatureExtractor", 1, {}, inputs, 1), ran)
    assert found.counts == {"agreed": 1}, found.wrong


def test_values_of_a_label_encoder_as_a_tensor() -> None:
    values = helper.make_tensor("values", TensorProto.INT16, [2], [5, 6])
    keys = helper.make_tensor("keys", TensorProto.INT64, [2], [0, 1])
    inputs = {"x": np.zeros((3, 2), np.int64)}
    model = node("LabelEncoder", 4, {"keys_tensor": keys, "values_tensor": values}, inputs, 1)
    end = bound(ir.from_proto(model)).graph.outputs[0]
    assert (str(end.shape), end.dtype) == ("[3,2]", ir.DataType.INT16)
