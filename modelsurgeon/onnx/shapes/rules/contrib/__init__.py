"""Shape rules of onnxruntime's own operators, in place of those of onnx_shape_inference that are wrong."""

from modelsurgeon.onnx.shapes.rules.contrib import attention, data, nchwc, similar, windows


def register() -> None:
    """Add the rules to the registry."""
    for rules in (similar, attention, data, windows, nchwc):
        rules.register()
