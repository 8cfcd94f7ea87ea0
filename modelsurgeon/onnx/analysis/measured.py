"""A bound model with what was told of its nodes: what `info` shows and `check` judges."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.analysis.memory import Memory
from modelsurgeon.onnx.analysis.node_runs import NodeRun, RunCounter
from modelsurgeon.onnx.analysis.rows import ModelContents, rows
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.shapes import Dims, bound, bound_to_defaults, default_dims, sizes
from modelsurgeon.onnx.shapes.bound_model import RENAMED_KEY
from modelsurgeon.onnx.shapes.inference import unknown


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """A model bound as far as the user did (`opened`), and all the way at stated defaults (`whole`).

    visits, rows: of every node of `whole`, in the same order. defaults: sizes of what the user left open.
    """

    opened: ir.Model
    whole: ir.Model
    defaults: Mapping[str, int]
    walk: RunCounter
    visits: Sequence[NodeRun]
    held: ModelContents
    rows: Sequence[LayerRow]

    @classmethod
    def of(
        cls,
        model: ir.Model,
        shapes: Mapping[str, Sequence[int]] | None,
        dims: Dims | None,
        *,
        spend: bool = False,
    ) -> MeasuredModel:
        """Bind, infer shapes and count. Raises UnknownShape for bindings that don't fit the model.

        spend: nobody needs `model` as it is any more; to measure it in place saves a copy.
        """
        opened = bound(model, shapes, dims, spend=spend)
        defaults = default_dims(opened)
        whole = bound_to_defaults(model, opened, shapes, {**(dims or {}), **defaults}) if defaults else opened
        walk = RunCounter(
            names=layer_names(whole),
            shape_of=cache(sizes),
            unknown=unknown(whole),
            functions=whole.functions,
        )
        visits = walk.visits(whole.graph)
        held = ModelContents.of(whole)
        return cls(
            opened=opened,
            whole=whole,
            defaults=defaults,
            walk=walk,
            visits=visits,
            held=held,
            rows=rows(walk, visits, held),
        )

    @property
    def notes(self) -> list[str]:
        """What had to be assumed, and what isn't known."""
        return [
            *_renamed(self.opened.meta.get(RENAMED_KEY, {}), self.defaults),
            *self.walk.notes,
            *_unknown_memory(self.held.memory),
            *_misfit(self.walk, self.visits, self.defaults),
        ]


def _renamed(names: Mapping[str, str], still_open: Collection[str]) -> list[str]:
    """Which symbols stand for names that no formula can hold."""
    told = [f"{old} is called {new}" for old, new in names.items() if new in still_open]
    return [f"dimensions without a usable name: {', '.join(told)}"] if told else []


def _unknown_memory(found: Memory) -> list[str]:
    if not found.unknown:
        return []
    first = ", ".join(found.unknown[:3])
    return [f"activations leave out {len(found.unknown)} values of unknown size ({first})"]


def _misfit(walk: RunCounter, visits: Sequence[NodeRun], defaults: Dims) -> list[str]:
    """Whether a default size is one that the model can't have been made for."""
    failed = [walk.unknown[visit.node] for visit in visits if visit.runs and visit.node in walk.unknown]
    if not failed or not defaults:
        return []
    return [f"the default sizes don't fit this model ({failed[0]}): bind {', '.join(defaults)}"]
