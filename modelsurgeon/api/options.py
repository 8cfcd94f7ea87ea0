"""Options that several verbs share: their names, types and meaning, written once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

from modelsurgeon.arguments import Count, Seed, Size, Tolerance, parameters, suggestion
from modelsurgeon.errors import BadArgument
from modelsurgeon.progress import Progress

AUTO = "auto"  # the method: every layer gets the one that costs least damage


class SurgeryOptions(TypedDict, total=False):
    """Options of every surgery verb.

    data: samples to compare on, whatever `data.batches` takes; seeded normal noise without them.
    skip_bad: leave out samples with NaN or infinite values instead of raising BadData (False).
    only, skip: globs on layer names; layers that `only` doesn't match, or `skip` does, stay as they are.
    shapes: input name -> sizes; dims: symbol -> size, of what the model leaves open.
    seed: of the noise (0). compare: run both models and compare their outputs (True).
    tolerance: raise ToleranceExceeded where the relative L2 error of an output is larger (no limit).
    provider: where models run, "cpu" or "cuda" ("cpu").
    freeze_inputs: take inputs with a default out of the inputs, so that weights that are listed as inputs are
    constants and can be edited (False).
    """

    data: Any
    only: Sequence[str]
    skip: Sequence[str]
    shapes: Mapping[str, Sequence[Size]]
    dims: Mapping[str, Size]
    seed: Seed
    tolerance: Tolerance | None
    compare: bool
    provider: str
    skip_bad: bool
    freeze_inputs: bool


class CompressionOptions(TypedDict, total=False):
    """Options of `compress` and `sweep`; defaults in brackets.

    method: name of a method in `factorize.METHODS` for all layers, or "auto": of all methods the one that
    does the least damage to each layer ("auto").
    data: unlabelled samples, whatever `data.batches` takes (None). Three quarters of them calibrate: they
    show the inputs of every layer and how much its errors matter, and the factors are fitted to them. The
    last quarter is held out for the comparison. Without samples ranks follow from the weights alone, and
    models are compared on seeded noise; the result says so.
    refit: fit the factors to the samples by least squares (True).
    skip_bad: leave out samples with NaN or infinite values instead of raising BadData (False).
    only, skip: globs on layer names; layers that `only` doesn't match, or `skip` does, stay as they are.
    shapes: input name -> sizes; dims: symbol -> size, of what the model leaves open.
    batch: samples per feed, where the model leaves that open (1).
    seed: of noise and of randomized decompositions (0).
    tolerance: raise ToleranceExceeded where the relative L2 error of an output is larger (no limit).
    compare: run both models, compare their outputs and time them (True).
    dry_run: choose and predict only; the result has no model (False).
    block: ranks that are chosen are multiples of it, as runtimes lay channels out in blocks (16).
    provider: where models run, "cpu" or "cuda" ("cpu").
    device: where large matrices are factorized, "cpu" or "cuda", see `ms.device` ("cpu").
    freeze_inputs: take inputs with a default out of the inputs, so that weights that are listed as inputs are
    constants and can be cut (False).
    watch: called with what is done, how much of it, and of how much (None).
    """

    method: str
    data: Any
    refit: bool
    only: Sequence[str]
    skip: Sequence[str]
    shapes: Mapping[str, Sequence[Size]] | None
    dims: Mapping[str, Size] | None
    batch: Count | None
    seed: Seed
    tolerance: Tolerance | None
    compare: bool
    dry_run: bool
    block: Count
    provider: str
    device: str
    freeze_inputs: bool
    watch: Progress | None
    skip_bad: bool


def reject_unknown(verb: str, given: Mapping[str, Any], known: type) -> None:
    """Raise BadArgument for a keyword that is no key of the TypedDict `known`."""
    for name in given:
        if name not in known.__annotations__:
            raise BadArgument(f"{verb} takes no keyword {name!r}; {suggestion(name, known.__annotations__)}")


def keywords_of(function: Callable[..., Any]) -> list[str]:
    """Names of all parameters of a verb, those of its shared options included."""
    return list(parameters(function))
