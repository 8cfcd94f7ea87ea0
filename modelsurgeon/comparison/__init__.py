"""Comparison of two models by their outputs: error metrics and a verdict."""
