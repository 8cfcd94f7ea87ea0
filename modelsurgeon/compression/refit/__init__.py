"""Refit: factors of a plan fitted by least squares to the outputs of the original layers."""
