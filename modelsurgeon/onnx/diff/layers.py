"""The linear layers of two models that belong together, as `diff` aligns their nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.diff.compare import aligned_nodes
from modelsurgeon.onnx.diff.nodes import DiffNode, Digest


@dataclass(frozen=True, kw_only=True)
class AlignedLayers:
    """pairs: name of A's layer, its output, and that of B's layer or chain. only_a, only_b: the others."""

    pairs: Sequence[tuple[str, str, str]]
    only_a: Sequence[str]
    only_b: Sequence[str]


def aligned_layers(a: ir.Model, b: ir.Model) -> AlignedLayers:
    """The linear layers of the main graphs, aligned; outputs of a model are no inner tensors.

    A layer that was replaced by a chain is paired with the end of the chain.
    """
    digest = Digest(read=True)
    measured = [MeasuredModel.of(model, None, None) for model in (a, b)]
    nodes, pairs = aligned_nodes(measured, digest)
    inner = [_inner_tensors(model) for model in (a, b)]
    found: list[tuple[str, str, str]] = []
    alone: tuple[list[str], list[str]] = [], []
    for left, right in pairs:
        ends = [side[at[-1]] if at else None for side, at in zip(nodes, (left, right), strict=True)]
        linear = [_is_linear([side[i] for i in at]) for side, at in zip(nodes, (left, right), strict=True)]
        tensors = [_tensor(end, known) for end, known in zip(ends, inner, strict=True)]
        if all(linear) and all(tensors) and ends[0] is not None:
            found.append((ends[0].row.name, str(tensors[0]), str(tensors[1])))
            continue
        for side in (0, 1):
            end = ends[side]
            if linear[side] and end is not None and tensors[side]:
                alone[side].append(end.row.name)
    return AlignedLayers(pairs=found, only_a=alone[0], only_b=alone[1])


def _inner_tensors(model: ir.Model) -> set[str]:
    """Names of the tensors that the main graph makes and doesn't give away."""
    given = {value.name for value in model.graph.outputs}
    return {str(v.name) for node in model.graph for v in node.outputs if v.name and v.name not in given}


def _is_linear(nodes: Sequence[DiffNode]) -> bool:
    return bool(nodes) and all(each.node.op_type in LINEAR_OPERATORS for each in nodes)


def _tensor(end: DiffNode | None, known: set[str]) -> str | None:
    """The name of a node's output among the known ones."""
    name = None if end is None else str(end.node.outputs[0].name)
    return name if name in known else None
