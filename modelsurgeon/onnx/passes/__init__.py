"""The surgery verbs over ONNX graphs, one file each.

A pass is a function over a `Subject` that edits its graph in place and returns an `Edit` for every layer that
it could be about: what was done there, or why nothing was. It neither loads, runs nor compares models;
`modelsurgeon.operate` does that around every pass in the same way.
"""
