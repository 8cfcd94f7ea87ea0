"""Weights from one graph into another."""
