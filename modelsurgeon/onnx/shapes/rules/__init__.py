"""Shape rules that onnx_shape_inference lacks, and corrections of its own."""

from functools import cache

from onnx_shape_inference import registry

from modelsurgeon.onnx.shapes.rules import (
    contrib,
    corrections,
    old_opsets,
    replacements,
    resize,
    signal,
    spatial,
    traditional_ml,
)


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for rules in (replacements, resize, signal, spatial, traditional_ml, old_opsets, contrib, corrections):
        rules.register()
