"""Matching of the layers of two models, and heads for another number of classes."""
