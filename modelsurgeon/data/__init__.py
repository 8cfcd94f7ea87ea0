"""Input data of models: samples from files, from the caller or from noise, as batches."""

from modelsurgeon.data.samples import Array, Batches, Feed, Input, batches, noise, read, split

__all__ = ["Array", "Batches", "Feed", "Input", "batches", "noise", "read", "split"]
