"""ONNX files: validated when they are read, written whole or not at all."""
