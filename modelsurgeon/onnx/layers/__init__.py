"""Nodes as layers, and layers as nodes: the port of ONNX."""
