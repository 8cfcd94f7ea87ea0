"""Reading and editing ONNX graphs: traversal, names, attributes, constants, dataflow."""
