"""An ONNX model that is edited: its sites, its totals, its inputs layer by layer, and its latency."""

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
from modelsurgeon.data.samples import NOISE_SAMPLES
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.inspection.rows import Totals
from modelsurgeon.layers import Array
from modelsurgeon.onnx import run, shapes
from modelsurgeon.onnx.finish import finish
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.randomness import random_operators
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
from modelsurgeon.onnx.run.noise_floor import other_execution
from modelsurgeon.onnx.run.paired_runs import StageStart, addend, paired_inputs
from modelsurgeon.onnx.run.scores import score_runner
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import (
    ChannelProducers,
    InputPair,
    InputPairs,
    LayerTiming,
    NodeCost,
    Run,
    in_model_order,
)


class OnnxModel:
    """A `surgery.site.EditableModel` of ONNX. A copy of the graph is edited, never the caller's model.

    data, shapes, dims, batch, skip_bad: as for `compress`. runs: whether the sizes must be such that the
    model runs. opened_with: notes on what was done to the graph before.
    """

    def __init__(
        self,
        original: ir.Model,
        *,
        data: Any = None,  # noqa: ANN401 - see data.batches
        shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
        batch: int | None = None,
        skip_bad: bool = False,
        provider: str = "cpu",
        runs: bool = True,
        opened_with: Sequence[str] = (),
    ) -> None:
        """Copy the graph, fix the sizes to measure at, and find the layers."""
        self._original = original
        self._opened_with = opened_with
        self._provider = provider
        self._batch = batch or 1
        self._data = (
            None
            if data is None
            else samples.batches(
                data, run.inputs(original, with_defaults=True), batch=batch, skip_bad=skip_bad
            )
        )
        self._measuring = MeasuringSizes.of(original, self._data, shapes, dims, runs=runs)
        self._start_over()

    def _start_over(self) -> None:
        self._model = editable_copy(self._original)
        self.names = [name for node, name in layer_names(self._original).items() if holds_layer(node)]
        found, self.skipped = sites(self._model, self._measuring.sizes)
        known = self._measuring
        self.sites = [
            replace(site, producers=known.producers.get(site.name), norm=known.norms.get(site.name))
            for site in found
        ]

    def fresh_copy(self) -> OnnxModel:
        """A second `OnnxModel` of the original, without the edits."""
        fresh = copy(self)
        fresh._start_over()
        return fresh

    @property
    def shared_input_sites(self) -> list[SharedInputSite]:
        """Sites of several layers with the same input, such as query, key and value."""
        return shared_input_sites(self.sites)

    def reset(self) -> None:
        """Undo all edits."""
        self._start_over()

    def remove_channels(self, names: Sequence[str]) -> list[FactorizationEdit]:
        """Remove the input channels that the named layers multiply by zeros alone; see `channels.narrow`."""
        producers = {name: made for name, made in self._measuring.producers.items() if name in names}
        return remove_channels(
            PassContext(model=self._model, given=self._measuring.shapes, dims=self._measuring.dims), producers
        )

    @property
    def notes(self) -> list[str]:
        """Notes for the report: sizes that were assumed, and weights that are never factorized."""
        assumed = ", ".join(f"{name}={size}" for name, size in self._measuring.assumed.items())
        sizes = [f"open sizes are taken as {assumed}; set them with --shape or --dim"] if assumed else []
        recurrent = [site.name for site in self.sites if site.nodes[0].op_type in RECURRENT]
        if self._data is not None and self._batch > 1:
            sizes.append(f"MACs and latency are those of {self._batch} samples at once, as asked for")
        return [*self._opened_with, *sizes] + [
            f"{name}: only W is factorized, the operator takes R as one matrix" for name in recurrent
        ]

    @property
    def random_operators(self) -> Sequence[str]:
        """Operators that may give other values at every run."""
        return random_operators(self._original)

    def total(self, resource: str) -> int:
        """MACs or params of the whole model; resource: "macs" or "params"."""
        return int(getattr(self._totals(), resource))

    def totals(self) -> dict[str, Any]:
        """All totals of the model with its edits, by name."""
        return asdict(self._totals())

    def node_costs(self) -> list[NodeCost]:
        """MACs and params of every node that has any."""
        return [NodeCost(row.name, row.op, row.macs or 0, row.params) for row in self._analysis().layers]

    def batches(self, seed: int) -> Batches:
        """The caller's samples, or seeded noise."""
        if self._data is not None:
            return self._data
        inputs = runnable_sizes.inputs(self._model, self._measuring.measured, self._measuring.assumed)
        return samples.noise(inputs, samples=NOISE_SAMPLES, seed=seed)

    def runner(self, *, reference: bool = False, scores: bool = False) -> Run:
        """A function that runs the model in onnxruntime. reference: without optimizations, on one thread.

        scores: the inputs of a final sigmoid or softmax in place of its outputs.
        """
        if scores:
            return score_runner(self._model, provider=self._provider)
        start = other_execution if reference else run.runner
        return start(self._model, provider=self._provider)

    def layer_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[str, Array]]:
        """Inputs of the named sites, as (site name, array), from one run for each feed."""
        chosen = [site for site in self.sites if site.name in names]
        site_inputs = [name for site in chosen for name in site.input_names]
        graph_inputs = {str(value.name) for value in self._model.graph.inputs}
        inner = [name for name in dict.fromkeys(site_inputs) if name not in graph_inputs]
        run_all = run.runner(self._model, outputs=inner, provider=self._provider)
        for feed in feeds:
            tensors = {**feed, **run_all(feed)}
            for site in chosen:
                yield from ((site.name, site.rows(tensors[name])) for name in site.input_names)

    def paired_inputs(
        self, names: Sequence[str], feeds: Batches
    ) -> Iterator[tuple[OnnxSite | SharedInputSite, InputPairs]]:
        """Named sites with their inputs in both models, stage by stage; see `run.paired_runs`."""
        chosen = [site for site in in_model_order(self.sites, self.shared_input_sites) if site.name in names]
        starts = [_stage_start(site) for site in chosen]
        stages = paired_inputs(editable_copy(self._original), self._model, starts, feeds, self._provider)
        for site, pairs in zip(chosen, stages, strict=True):
            yield site, partial(_pairs_as_rows, site, pairs)

    def layer_timer(self) -> LayerTiming:
        """A timer that runs every layer and chain in a model of its own; see `onnx.run.layer_latency`."""
        return LayerTimer(self._provider)

    def latency(self, other: OnnxModel, data: Batches, *, repeats: int = 50) -> dict[str, Any]:
        """Latencies of both models in milliseconds, run in turn on one thread, and the other's speedup."""
        feed = next(iter(data))
        models = self._model, other._model
        return timing.speedup(
            *models, feed, repeats=repeats, threads=TIMED_THREADS, provider=self._provider
        ).as_dict()

    def tidy(self) -> None:
        """Remove the nodes and weights that the edits left unused."""
        RemoveUnusedNodesPass()(self._model)

    def finish(self) -> ir.Model:
        """The edited model, ready to be written; see `onnx.finish`."""
        finish(self._model, self._original)
        return self._model

    def _totals(self) -> Totals:
        return self._analysis().totals

    def _analysis(self) -> Analysis:
        return analyze(self._model, shapes=self._measuring.shapes, dims=self._measuring.dims)


def _stage_start(site: OnnxSite | SharedInputSite) -> StageStart:
    node, *others = site.nodes
    alone = not others and node.op_type not in RECURRENT  # their outputs aren't those of the layer
    residual = addend(site.output) if alone and isinstance(site, OnnxSite) else None
    return StageStart(site.input_names[0], str(node.outputs[0].name), residual)


def _pairs_as_rows(site: OnnxSite | SharedInputSite, pairs: InputPairs) -> Iterator[InputPair]:
    if len(site.input_names) == 1:
        for original, current, added in pairs():
            if added is not None and all(array.ndim == original.ndim for array in added):
                yield InputPair(
                    site.rows(original), site.rows(current), (site.rows(added[0]), site.rows(added[1]))
                )
            else:
                yield InputPair(site.rows(original), site.rows(current))


@dataclass(frozen=True, kw_only=True)
class MeasuringSizes:
    """The sizes at which a model is measured. measured: a copy of the model with shapes inferred at them.

    sizes: shapes of the values by name. shapes, dims: the sizes of inputs and symbols that fix them. assumed:
    those of dims that the user didn't give. producers: by the name of the layer whose input they make. norms:
    by the name of the layer before them; empty without samples: inputs are then assumed to be white, which
    the gains of a norm, made for real inputs, don't fit.
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
        data: Batches | None,
        asked: Mapping[str, Sequence[int]] | None,
        dims: Mapping[str, int] | None,
        *,
        runs: bool,
    ) -> MeasuringSizes:
        """The sizes asked for, else those of the first feed, else usual ones; runs: the model runs there."""
        if not asked and not dims and data is not None:
            first = next(iter(data))
            asked = {each.name: first[each.name].shape for each in run.inputs(model)}
        if runs and data is None:
            assumed = runnable_sizes.first_runnable_sizes(model, asked, dims)
        else:
            assumed = shapes.default_dims(shapes.bound(model, asked, dims))
        bound = {**(dims or {}), **assumed}
        measured = shapes.bound(model, asked, bound)
        context = PassContext(model=editable_copy(model), given=asked, dims=bound)
        sizes = ValueShapes.of(model, measured)
        found, _ = sites(context.model, sizes)
        norms = absorbable_norms(context, found)
        return cls(
            measured=measured,
            sizes=sizes,
            shapes=asked or {},
            dims=bound,
            assumed=assumed,
            producers=channel_producers(context, found, norms),
            norms=norms if runs and data is not None else {},
        )
