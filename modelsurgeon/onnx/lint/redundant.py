"""Rules about unused and duplicate nodes and weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from hashlib import sha256

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.dataflow import inputs_and_captures
from modelsurgeon.onnx.graph.duplicates import duplicates
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import show

# Of the bytes of all activations: exporters repeat Shape, Gather and Cast on a few integers, which is free.
MIN_DUPLICATE_SHARE = 0.001
MIN_DEAD_SHARE = 0.001  # of the bytes of all weights
MIN_WEIGHT_BYTES = 1024  # smaller weights are equal by chance or by design


@rule(
    "dead-node",
    "warning",
    summary="a node whose output nothing uses",
    advice="Remove it and what only it needs: `modelsurgeon extract MODEL -o OUT --outputs {outputs}`, or "
    "`modelsurgeon clean MODEL -o OUT`",
)
def dead_node(net: Net) -> Iterator[Hit]:
    """No output of the model depends on the node, yet some runtimes compute it.

    The finding is at the last node of each unused part, and counts the nodes that only it needs.
    """
    for graph in net.graphs:
        dead = _dead_nodes(graph)
        for node in dead:
            if net.constants.issuperset(node.outputs) or any(list(value.uses()) for value in node.outputs):
                continue
            branch = [ancestor for ancestor in _with_ancestors(node) if ancestor in dead]
            flops = sum(net.row_of[ancestor].flops or 0 for ancestor in branch if ancestor in net.row_of)
            others_text = f", nor that of {len(branch) - 1} nodes before it" if len(branch) > 1 else ""
            yield Hit(
                layer=_name(net, node),
                message=f"nothing uses its result{others_text}: {show(flops, 'count')} FLOPs for nothing",
                badness=flops,
                evidence={"nodes": len(branch), "flops": flops},
            )


@rule(
    "duplicate-node",
    "warning",
    summary="two nodes compute the same",
    advice="Compute it once and use the output in both places: `modelsurgeon clean MODEL -o OUT`",
)
def duplicate_node(net: Net) -> Iterator[Hit]:
    """Two nodes have the same operator, attributes and inputs, and aren't random, as active dropout is.

    Only where the node has MACs, or its output a thousandth of the bytes of all activations.
    """
    for graph in net.graphs:
        for node, first in duplicates(graph, net.model.opset_imports):
            row = net.row_of.get(node)
            if row is None or not row.runs or net.constants.issuperset(node.outputs):
                continue
            earlier = _name(net, first)
            flops_text = f"{show(row.flops, 'count')} FLOPs and " if row.flops else ""
            size = show(row.output_bytes, "bytes")
            if row.macs or row.output_bytes >= max(1, MIN_DUPLICATE_SHARE * net.activation_bytes):
                yield Hit(
                    layer=row.name,
                    message=f"computes what {earlier!r} has computed: {flops_text}{size} twice",
                    badness=(row.flops or 0) + row.output_bytes,
                    evidence={"first": earlier, "flops": row.flops, "output_bytes": row.output_bytes},
                )


@rule(
    "dead-weight",
    "warning",
    summary="weights that no node uses",
    advice="Write the model with a verb that leaves them out, such as "
    "`modelsurgeon extract MODEL -o OUT --outputs {outputs}`",
)
def dead_weight(net: Net) -> Iterator[Hit]:
    """Initializers that no node reads, with a thousandth of all stored bytes: they make the file larger."""
    sizes = {
        str(value.name): value.const_value.nbytes
        for graph in net.graphs
        for value in graph.initializers.values()
        if value.const_value is not None and not list(value.uses()) and not value.is_graph_output()
    }
    stored = sum(row.param_bytes for row in net.rows) + sum(sizes.values())
    if sizes and sum(sizes.values()) >= MIN_DEAD_SHARE * stored:
        largest = max(sizes, key=lambda name: sizes[name])
        total = show(sum(sizes.values()), "bytes")
        others = f" and {len(sizes) - 1} others are" if len(sizes) > 1 else " is"
        yield Hit(
            layer=largest,
            message=f"{largest!r}{others} used by no node: {total} for nothing",
            evidence={"weights": len(sizes), "bytes": sum(sizes.values())},
        )


@rule(
    "duplicate-weight",
    "note",
    summary="the same weight is stored twice",
    advice="Store it once and let both layers use it.",
    weights=True,
)
def duplicate_weight(net: Net) -> Iterator[Hit]:
    """Two weights of a kilobyte or more have the same bytes; constant-valued weights don't count.

    Weights are compared by SHA-256; this rule reads weights.
    """
    first_names: dict[Hashable, str] = {}
    for value, tensor in _stored_tensors(net):
        if tensor.nbytes < MIN_WEIGHT_BYTES or tensor.dtype == ir.DataType.STRING:
            continue
        content = np.ascontiguousarray(tensor.numpy())
        if (content == content.flat[0]).all():
            continue
        digest = (tensor.dtype, tuple(tensor.shape.numpy()), sha256(content.tobytes()).digest())
        name = first_names.setdefault(digest, str(value.name))
        if name != value.name:
            yield Hit(
                layer=str(value.name),
                message=f"holds the same numbers as {name!r}: {show(tensor.nbytes, 'bytes')} twice",
                badness=tensor.nbytes,
                evidence={"first": name, "bytes": tensor.nbytes},
            )


def _dead_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Nodes of a graph that none of its outputs depends on."""
    needed, dead = set(graph.outputs), []
    for node in reversed(graph):
        if needed.isdisjoint(node.outputs):
            dead.append(node)
        else:
            needed.update(inputs_and_captures(node))
    return dead[::-1]


def _with_ancestors(node: ir.Node) -> set[ir.Node]:
    """A node and all nodes that its outputs depend on."""
    found, pending = {node}, [node]
    while pending:
        producers = {
            producer
            for value in inputs_and_captures(pending.pop())
            if (producer := value.producer()) is not None
        }
        pending += producers - found
        found |= producers
    return found


def _stored_tensors(net: Net) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Every initializer and Constant, with its tensor."""
    values = [value for graph in net.graphs for value in graph.initializers.values()]
    values += [node.outputs[0] for graph in net.graphs for node in graph if node.op_type == "Constant"]
    for value in values:
        if (tensor := constant_tensor(value)) is not None:
            yield value, tensor


def _name(net: Net, node: ir.Node) -> str:
    return net.row_of[node].name if node in net.row_of else node.op_type
