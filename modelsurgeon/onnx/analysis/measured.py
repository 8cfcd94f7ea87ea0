"""A bound model with the costs and rows of its nodes: the input of `info`, `check` and `diff`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import onnx_ir as ir

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.onnx.analysis.gaps import Root, roots
from modelsurgeon.onnx.analysis.memory import Memory
from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.rows import ModelContents, rows
from modelsurgeon.onnx.analysis.run_counter import RunCounter
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.traversal import bodies, nodes
from modelsurgeon.onnx.shapes import Dims, bound, bound_to_defaults, default_dims, expressions, sizes, symbols
from modelsurgeon.onnx.shapes.bound_model import RENAMED_KEY
from modelsurgeon.onnx.shapes.dimensions import Condition
from modelsurgeon.onnx.shapes.impossible import impossible, misfits
from modelsurgeon.onnx.shapes.inference import unknown
from modelsurgeon.onnx.shapes.loops import iterations
from modelsurgeon.onnx.shapes.pinned import FittedSizes, PinnedSize, fitted_sizes, pinned
from modelsurgeon.onnx.shapes.run_time.declared_shapes import declaration_notes
from modelsurgeon.onnx.shapes.run_time.sizes import run_time_size_notes
from modelsurgeon.report.formatting import show


@dataclass(frozen=True, kw_only=True)
class MeasuredModel:
    """A model with the user's bindings (`symbolic`), and with defaults for all open sizes (`fully_bound`).

    node_runs, rows: of every node of `fully_bound`, in the same order. defaults: sizes by name of what the
    user left open. fitted: what these sizes were chosen to fit. counter: counted the node runs. contents:
    constants, params and activations.
    """

    symbolic: ir.Model
    fully_bound: ir.Model
    defaults: Mapping[str, int]
    fitted: Sequence[FittedSizes]
    counter: RunCounter
    node_runs: Sequence[NodeRun]
    contents: ModelContents
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

        spend: `model` may be changed in place, which saves a copy.
        """
        symbolic = bound(model, shapes, dims, spend=spend)
        defaults, fitted = default_dims(symbolic), fitted_sizes(symbolic)
        fully_bound = (
            bound_to_defaults(model, symbolic, shapes, {**(dims or {}), **defaults}) if defaults else symbolic
        )
        numbers = iterations(fully_bound)
        counter = RunCounter(
            names=layer_names(fully_bound),
            shape_of=expressions(fully_bound, numbers) if numbers else cache(sizes),
            unknown=unknown(fully_bound),
            functions=fully_bound.functions,
            symbols=frozenset(numbers),
            conditions=_branch_conditions(symbolic) if defaults else {},
        )
        node_runs = counter.count(fully_bound.graph)
        contents = ModelContents.of(fully_bound)
        return cls(
            symbolic=symbolic,
            fully_bound=fully_bound,
            defaults=defaults,
            fitted=fitted,
            counter=counter,
            node_runs=node_runs,
            contents=contents,
            rows=rows(counter, node_runs, contents),
        )

    @property
    def roots(self) -> list[Root]:
        """The nodes for which totals leave something out."""
        return roots(self.fully_bound.graph, self.node_runs, self.counter, self.contents.memory)

    @property
    def notes(self) -> list[str]:
        """Notes on assumptions and on what isn't known."""
        return [
            *_renamed_symbols(
                self.symbolic.meta.get(RENAMED_KEY, {}),
                {*self.defaults, *(size.symbol for size in pinned(self.symbolic))},
            ),
            *_deduced_sizes(pinned(self.symbolic), nodes(self.fully_bound), self.counter.names),
            *declaration_notes(self.symbolic),
            *run_time_size_notes(self.symbolic, self.defaults),
            *self._fitted_defaults(),
            *self.counter.notes,
            *_untold_settings(self.contents),
            *_attribute_bytes(self.contents, self.counter),
            *_unknown_sizes(self.contents.memory),
            *self._misfit_defaults(),
            *_unused_params(self.contents.unused_params),
        ]

    def _fitted_defaults(self) -> list[str]:
        """A note on each requirement that the default sizes were chosen to fulfil."""
        in_order, failed = nodes(self.fully_bound), misfits(self.fully_bound)
        return [
            f"{', '.join(f'{name} = {self.defaults[name]}' for name in fitted.symbols)} fits "
            f"{self.counter.names[node]!r} ({node.op_type}): {fitted.reason}"
            for fitted in self.fitted
            if (node := in_order[fitted.position]) not in failed and set(fitted.symbols) <= set(self.defaults)
        ]

    def _misfit_defaults(self) -> list[str]:
        """A note where shape inference fails at the default sizes, but not where a node can't run at any."""
        never = impossible(self.fully_bound).keys() - misfits(self.fully_bound)
        ran = (run.node for run in self.node_runs if run.times)
        failed = [self.counter.unknown[node] for node in ran if node in self.counter.unknown.keys() - never]
        if not failed or not self.defaults:
            return []
        return [f"the default sizes don't fit this model ({failed[0]}): bind {', '.join(self.defaults)}"]


def _branch_conditions(symbolic: ir.Model) -> dict[str, Condition]:
    """Conditions of Ifs that follow from open sizes, by name of the If."""
    if not bodies(symbolic):
        return {}
    from modelsurgeon.onnx.shapes.conditions import branch_condition

    ifs = [node for node in nodes(symbolic) if node.op_type == "If" and not node.domain]
    names, known = layer_names(symbolic), {*symbols(symbolic), *iterations(symbolic)}
    found = {names[node]: condition for node in ifs if (condition := branch_condition(node)) is not None}
    return {
        name: condition
        for name, condition in found.items()
        if condition.free_symbols and {str(symbol) for symbol in condition.free_symbols} <= known
    }


def _renamed_symbols(names: Mapping[str, str], shown: Collection[str]) -> list[str]:
    """A note on dimensions whose names can't be used in formulas, with their new names."""
    renamed = [f"{old} is called {new}" for old, new in names.items() if new in shown]
    return [f"dimensions without a usable name: {', '.join(renamed)}"] if renamed else []


def _untold_settings(contents: ModelContents) -> list[str]:
    if not contents.untold:
        return []
    return [
        f"{contents.untold} of the params may only steer operators: weights and settings alike are in "
        "Constant nodes of this file"
    ]


def _attribute_bytes(contents: ModelContents, counter: RunCounter) -> list[str]:
    """A note on numbers in attributes, such as those of trees, which are no params."""
    if not contents.attribute_bytes:
        return []
    largest = max(contents.attribute_bytes, key=lambda node: contents.attribute_bytes[node])
    whole = show(sum(contents.attribute_bytes.values()), "bytes")
    return [
        f"numbers in attributes take {whole}, most of them in {largest.op_type} {counter.names[largest]!r}; "
        "they are no params"
    ]


def _deduced_sizes(
    sizes: Sequence[PinnedSize], in_order: Sequence[ir.Node], names: Mapping[ir.Node, str]
) -> list[str]:
    """A note on each size that the model leaves no choice for. in_order: all nodes, in file order."""
    pairs = [(size, in_order[size.position]) for size in sizes]
    return [
        f"{size.symbol} is {size.size}: at {names[node]!r} ({node.op_type}) {size.reason}"
        for size, node in pairs
    ]


def _unknown_sizes(memory: Memory) -> list[str]:
    if not memory.unknown:
        return []
    first = ", ".join(memory.unknown[:3])
    return [f"activations leave out {len(memory.unknown)} values of unknown size ({first})"]


def _unused_params(unused: Mapping[str, tuple[int, int]]) -> list[str]:
    """A note on parameters of the exported module that its outputs don't depend on."""
    if not unused:
        return []
    first, elements = ", ".join(list(unused)[:3]), sum(count for count, _ in unused.values())
    more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
    return [f"params include {show(elements, 'count')} that no layer uses ({first}{more})"]
