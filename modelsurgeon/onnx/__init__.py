"""The one door to onnx, onnx_ir and onnxruntime."""
