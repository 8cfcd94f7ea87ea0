"""modelsurgeon: static inspection and low-rank surgery of neural networks."""

__version__ = "0.1.0"
