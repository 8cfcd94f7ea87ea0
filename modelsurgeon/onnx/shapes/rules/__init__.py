"""Shape rules that onnx_shape_inference lacks, and corrections of its own."""

from functools import cache

from onnx_shape_inference import registry

from modelsurgeon.onnx.shapes.rules import contrib, control_flow, corrections, maps, old_opsets, sequences


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for rules in (old_opsets, contrib, corrections, maps, sequences, control_flow):
        rules.register()
