"""Factorizations: a pure function from one layer and a rank to a chain of layers."""
