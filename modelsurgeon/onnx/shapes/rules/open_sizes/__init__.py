"""Sizes of open axes: their arithmetic, tensors that contain them, and rules that hold at every size."""
