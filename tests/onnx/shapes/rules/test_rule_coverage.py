"""Every operator that has a cost has a shape rule, in every version in which its definition changed."""

from __future__ import annotations

import onnx
from onnx_shape_inference import registry

from modelsurgeon.onnx.costs.registry import COSTS
from modelsurgeon.onnx.shapes.rules import register

# Operators without a rule, each with the reason.
WITHOUT_RULE = {
    ("ai.onnx.preview.training", "Gradient"): "its outputs are those of a backward pass, not in the file",
}


def versions(domain: str, op: str) -> set[int]:
    """Opset versions in which an operator's definition changed; 1 for one that onnx doesn't define."""
    return {
        schema.since_version
        for schema in onnx.defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == (domain, op)
    } or {1}


def test_every_operator_with_a_cost_has_a_shape_rule() -> None:
    register()
    missing = {
        (domain, op)
        for (domain, op), cost in COSTS.items()
        if (cost.__module__ or "").startswith("modelsurgeon.")  # others are those of doctests and tests
        and any(registry.get(domain, op, version=version) is None for version in versions(domain, op))
    }
    assert missing == set(WITHOUT_RULE)


def test_every_operator_of_onnx_has_a_shape_rule() -> None:
    register()
    missing = {
        (schema.domain, schema.name)
        for schema in onnx.defs.get_all_schemas_with_history()
        if registry.get(schema.domain, schema.name, version=schema.since_version) is None
    }
    assert missing == set(WITHOUT_RULE)
