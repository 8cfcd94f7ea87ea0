"""Reading layers from ONNX nodes and writing chains in their place."""
