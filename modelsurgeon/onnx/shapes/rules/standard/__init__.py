"""Rules of the domains of the standard: corrected ones, missing ones, and those of old opsets."""

from modelsurgeon.onnx.shapes.rules.standard import (
    corrections,
    old_opsets,
    replacements,
    resize,
    signal,
    spatial,
    traditional_ml,
)


def register() -> None:
    """Add the rules to the registry."""
    for rules in (replacements, resize, signal, spatial, traditional_ml, old_opsets, corrections):
        rules.register()
