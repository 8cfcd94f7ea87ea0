"""Shape rules that onnx_shape_inference lacks, and corrections of its own."""

from functools import cache

from onnx_shape_inference import registry

from modelsurgeon.onnx.shapes.rules import contrib, corrections, data_dependent, old_opsets


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for rules in (old_opsets, contrib, corrections, data_dependent):
        rules.register()
