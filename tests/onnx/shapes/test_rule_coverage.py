"""Every operator that has a cost has a shape rule, in every version in which its definition changed."""

from __future__ import annotations

import onnx
from onnx_shape_inference import registry

from modelsurgeon.onnx.costs.registry import COSTS
from modelsurgeon.onnx.shapes.rules import register

# Operators without a rule, by domain, each with the reason.
WITHOUT_RULE = {
    "ai.onnx.ml": {"ZipMap": "no tensor comes out"},
    "ai.onnx.preview.training": {"Gradient": "its outputs are those of a backward pass, not in the file"},
    "com.microsoft": {
        "BeamSearch": "its outputs depend on how many tokens are generated",
        "GreedySearch": "its outputs depend on how many tokens are generated",
        "Sampling": "its outputs depend on how many tokens are generated",
        "WhisperBeamSearch": "its outputs depend on how many tokens are generated",
        "Tokenizer": "its output depends on the texts",
    },
}
# Those of onnxruntime whose rules aren't written yet.
NOT_YET = {
    *("ConvTransposeWithDynamicPads", "CropAndResize", "DequantizeWithOrder", "ExpandDims"),
    *("GatherBlockQuantized", "Irfft", "IsAllFinite", "MatMulFpQ4", "MurmurHash3", "NhwcMaxPool"),
    *("QuantizeWithOrder", "Rfft", "TorchEmbedding", "UnfoldTensor", "Unique"),
}


def versions(domain: str, op: str) -> set[int]:
    """Opset versions in which an operator's definition changed; 1 for one that onnx doesn't define."""
    return {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == (domain, op)
    } or {1}


def without_rule() -> dict[str, set[str]]:
    """The operators with a cost that have no shape rule in some version, by domain."""
    register()
    missing: dict[str, set[str]] = {}
    for domain, op in COSTS:
        if any(registry.get(domain, op, version=version) is None for version in versions(domain, op)):
            missing.setdefault(domain, set()).add(op)
    return missing


def test_every_operator_with_a_cost_has_a_shape_rule() -> None:
    missing = without_rule()
    missing["com.microsoft"] -= NOT_YET
    assert missing == {domain: set(reasons) for domain, reasons in WITHOUT_RULE.items()}


def test_every_operator_of_onnx_has_a_shape_rule() -> None:
    register()
    missing = {
        (schema.domain, schema.name)
        for schema in onnx.defs.get_all_schemas_with_history()
        if registry.get(schema.domain, schema.name, version=schema.since_version) is None
    }
    known = {(domain, op) for domain, reasons in WITHOUT_RULE.items() for op in reasons}
    assert missing <= known
