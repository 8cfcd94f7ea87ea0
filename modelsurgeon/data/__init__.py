"""What models are fed: read from files or taken from the caller, cut into feeds, one batch at a time."""

from modelsurgeon.data.samples import Array, Batches, Feed, Input, batches, noise, read, split

__all__ = ["Array", "Batches", "Feed", "Input", "batches", "noise", "read", "split"]
