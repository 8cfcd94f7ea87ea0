"""Shape rules that onnx_shape_inference lacks, and corrections of its own."""

from functools import cache

from onnx_shape_inference import registry

from modelsurgeon.onnx.shapes.rules import contents, contrib, corrections, old_opsets, open_axes


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for rules in (old_opsets, contrib, corrections, open_axes, contents):
        rules.register()
