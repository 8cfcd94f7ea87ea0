"""The port to onnx, onnx_ir and onnxruntime: no other package imports them."""
