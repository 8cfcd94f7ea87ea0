"""The surgery verbs over ONNX graphs, one file each.

A pass is a function of a `PassContext`: it edits the graph in place and returns an `Edit` for every layer
that it applies to, with what was done or the reason why it was skipped. It neither loads nor compares models;
`modelsurgeon.api.operation` does that around every pass in the same way.
"""
