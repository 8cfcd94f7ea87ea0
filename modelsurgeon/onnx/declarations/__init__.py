"""What a written file says of itself: its inputs, its outputs, and the shapes of the values between."""

from modelsurgeon.onnx.declarations.restore import restore_declarations

__all__ = ["restore_declarations"]
