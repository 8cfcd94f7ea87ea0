"""Fully connected layers as convolutions, and back."""
