"""Pooling and subsampling as strided convolutions."""
