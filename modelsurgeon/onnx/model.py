"""An ONNX model under surgery: its sites, its totals, and how it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon import data as samples
from modelsurgeon.data import Batches
from modelsurgeon.inspection.rows import Totals
from modelsurgeon.layers import Array
from modelsurgeon.onnx import run, shapes
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.layers.operators import holds_layer
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.onnx.layers.shared_inputs import SharedInputSite, shared_input_sites
from modelsurgeon.onnx.layers.sites import AbsorbedNorm, OnnxSite, ValueShapes, editable_copy, sites
from modelsurgeon.onnx.passes.batchnorm.absorb import absorbable_norms
from modelsurgeon.onnx.passes.channels.narrow import channel_producers, remove_channels
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.run import runnable_sizes, timing
from modelsurgeon.onnx.run.layer_latency import TIMED_THREADS, LayerTimer
from modelsurgeon.onnx.run.paired_runs import StageStart, addend, paired_inputs
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import (
    ChannelProducers,
    InputPair,
    InputPairs,
    LayerTiming,
    Run,
    in_model_order,
)

NOISE_SAMPLES = 8


class OnnxModel:
    """See `surgery.Patient`. The caller's model stays as it is: a copy of the graph is operated on.

    data, shapes, dims, batch: as for `compress`. runs: sizes must be such that the model runs at them.
    """

    def __init__(
        self,
        original: ir.Model,
        *,
        data: Any = None,  # noqa: ANN401 - see data.batches
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
        batch: int | None = None,
        provider: str = "cpu",
        runs: bool = True,
    ) -> None:
        """Copy the graph, fix the sizes to measure at, and find the layers."""
        self._original = original
        self._provider = provider
        self._batch = batch or 1
        self._given = None if data is None else samples.batches(data, run.inputs(original), batch=batch)
        self._frame = MeasuringSizes.of(original, self._given, shapes, dims, runs=runs)
        self._open()

    def _open(self) -> None:
        self._model = editable_copy(self._original)
        self.names = [name for node, name in layer_names(self._original).items() if holds_layer(node)]
        found, self.skipped = sites(self._model, self._frame.sizes)
        known = self._frame
        self.sites = [
            replace(site, producers=known.producers.get(site.name), norm=known.norms.get(site.name))
            for site in found
        ]

    def fresh_copy(self) -> OnnxModel:
        """The model as it was, on a table of its own."""
        fresh = copy(self)
        fresh._open()
        return fresh

    @property
    def shared_input_sites(self) -> list[SharedInputSite]:
        """Query, key and value, and what else is fed the same."""
        return shared_input_sites(self.sites)

    def reset(self) -> None:
        """Start from the original again; the caller's model was never touched."""
        self._open()

    def remove_channels(self, names: Sequence[str]) -> list[FactorizationEdit]:
        """See `onnx.narrow`."""
        cut = {name: feeding for name, feeding in self._frame.producers.items() if name in names}
        return remove_channels(
            PassContext(model=self._model, given=self._frame.shapes, dims=self._frame.dims), cut
        )

    @property
    def notes(self) -> list[str]:
        """Sizes that were assumed, and weights that can't be sites."""
        assumed = ", ".join(f"{name}={size}" for name, size in self._frame.assumed.items())
        sizes = [f"open sizes are taken as {assumed}; set them with --shape or --dim"] if assumed else []
        loops = [site.name for site in self.sites if site.nodes[0].op_type in RECURRENT]
        if self._given is not None and self._batch > 1:
            sizes.append(f"MACs and latency are those of {self._batch} samples at once, as asked for")
        return sizes + [f"{name}: only W is factorized, the operator has no room for two R" for name in loops]

    def total(self, resource: str) -> int:
        """MACs or params of the whole model."""
        return int(getattr(self._totals(), resource))

    def totals(self) -> dict[str, Any]:
        """All totals of the model as it stands."""
        return asdict(self._totals())

    def batches(self, seed: int) -> Batches:
        """The caller's samples, or seeded noise."""
        if self._given is not None:
            return self._given
        inputs = runnable_sizes.inputs(self._model, self._frame.measured, self._frame.assumed)
        return samples.noise(inputs, samples=NOISE_SAMPLES, seed=seed)

    def runner(self, *, reference: bool = False) -> Run:
        """The model in onnxruntime; `reference`: with optimizations off and one thread."""
        threads = 1 if reference else None
        return run.runner(self._model, provider=self._provider, optimize=not reference, threads=threads)

    def layer_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[str, Array]]:
        """The tensors that feed the named sites, from one run for each feed."""
        chosen = [site for site in self.sites if site.name in names]
        inside = [entry for site in chosen for entry in site.entries]
        given = {str(value.name) for value in self._model.graph.inputs}
        wanted = [entry for entry in dict.fromkeys(inside) if entry not in given]
        run_all = run.runner(self._model, outputs=wanted, provider=self._provider)
        for feed in feeds:
            seen = {**feed, **run_all(feed)}
            for site in chosen:
                yield from ((site.name, site.rows(seen[entry])) for entry in site.entries)

    def paired_inputs(
        self, names: Sequence[str], feeds: Batches
    ) -> Iterator[tuple[OnnxSite | SharedInputSite, InputPairs]]:
        """A stage of the graph at a time, see `onnx.lockstep`."""
        chosen = [site for site in in_model_order(self.sites, self.shared_input_sites) if site.name in names]
        starts = [_start(site) for site in chosen]
        stages = paired_inputs(editable_copy(self._original), self._model, starts, feeds, self._provider)
        for site, pairs in zip(chosen, stages, strict=True):
            yield site, partial(_rows, site, pairs)

    def layer_timer(self) -> LayerTiming:
        """Every layer and chain in a model of its own, see `onnx.stopwatch`."""
        return LayerTimer(self._provider)

    def latency(self, other: OnnxModel, data: Batches, *, repeats: int = 50) -> dict[str, Any]:
        """Milliseconds of both models, in turn on one thread, and how many times faster the other is."""
        feed = next(iter(data))
        models = self._model, other._model
        return timing.speedup(
            *models, feed, repeats=repeats, threads=TIMED_THREADS, provider=self._provider
        ).as_dict()

    def finish(self) -> ir.Model:
        """The edited model without the weights that nothing uses any more."""
        RemoveUnusedNodesPass()(self._model)
        return self._model

    def _totals(self) -> Totals:
        return analyze(self._model, shapes=self._frame.shapes, dims=self._frame.dims).totals


def _start(site: OnnxSite | SharedInputSite) -> StageStart:
    node, *others = site.nodes
    alone = not others and node.op_type not in RECURRENT  # whose answers aren't those of their layer
    beside = addend(site.given) if alone and isinstance(site, OnnxSite) else None
    return StageStart(site.entries[0], str(node.outputs[0].name), beside)


def _rows(site: OnnxSite | SharedInputSite, pairs: InputPairs) -> Iterator[InputPair]:
    if len(site.entries) == 1:
        for was, now, beside in pairs():
            if beside is not None and all(each.ndim == was.ndim for each in beside):
                yield InputPair(site.rows(was), site.rows(now), (site.rows(beside[0]), site.rows(beside[1])))
            else:
                yield InputPair(site.rows(was), site.rows(now))


@dataclass(frozen=True, kw_only=True)
class MeasuringSizes:
    """The sizes at which a model is measured. measured: a copy with shapes inferred at all of them.

    sizes: those shapes by name. shapes, dims: what binds them. assumed: those of dims that nobody asked for.
    producers: by the name of the layer that they feed. norms: by that of the layer that they take from, where
    there are samples: without them inputs count as white, and the gains belong to real ones.
    """

    measured: ir.Model
    sizes: ValueShapes
    shapes: Mapping[str, Sequence[int]]
    dims: Mapping[str, int]
    assumed: Mapping[str, int]
    producers: Mapping[str, ChannelProducers]
    norms: Mapping[str, AbsorbedNorm]

    @classmethod
    def of(
        cls,
        model: ir.Model,
        given: Batches | None,
        asked: Mapping[str, Sequence[int]] | None,
        dims: Mapping[str, int] | None,
        *,
        runs: bool,
    ) -> MeasuringSizes:
        """The sizes asked for, else those of the first feed, else usual ones; where it `runs`, if it must."""
        if not asked and not dims and given is not None:
            asked = {name: array.shape for name, array in next(iter(given)).items()}
        if runs and given is None:
            assumed = runnable_sizes.first_runnable_sizes(model, asked, dims)
        else:
            assumed = shapes.default_dims(shapes.bound(model, asked, dims))
        bound = {**(dims or {}), **assumed}
        measured = shapes.bound(model, asked, bound)
        subject = PassContext(model=editable_copy(model), given=asked, dims=bound)
        sizes = ValueShapes.of(model, measured)
        found, _ = sites(subject.model, sizes)
        behind = absorbable_norms(subject, found)
        return cls(
            measured=measured,
            sizes=sizes,
            shapes=asked or {},
            dims=bound,
            assumed=assumed,
            producers=channel_producers(subject, found, behind),
            norms=behind if runs and given is not None else {},
        )
