"""What is there twice, or for nothing: nodes and weights."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from hashlib import sha256

import numpy as np
import onnx_ir as ir

from modelsurgeon.onnx.graph.constant_folding import tensor_of
from modelsurgeon.onnx.graph.dataflow import RANDOM, inputs_and_captures, subgraphs
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import show

# Exporters repeat Shape, Gather and Cast on a few integers everywhere; that costs nothing.
DUPLICATE_SHARE = 0.001
DEAD_SHARE = 0.001  # of the bytes of all weights
SMALL_WEIGHT = 1024  # bytes; small weights are equal by chance or by design
SHORT_CONSTANT = 64  # elements; longer constants are compared by where they are stored, not read


@rule(
    "dead-node",
    "warning",
    summary="a node whose result nothing uses",
    advice="Leave it out, and what only it needs: `modelsurgeon extract MODEL -o OUT --outputs {outputs}`",
)
def dead_node(net: Net) -> Iterator[Hit]:
    """No output of the model depends on it: some runtimes compute it all the same.

    Told of the last node of each dead branch, with the nodes that work for it alone.
    """
    for graph in net.graphs:
        dead = _dead(graph)
        for node in dead:
            if net.fixed.issuperset(node.outputs) or any(list(value.uses()) for value in node.outputs):
                continue
            branch = [one for one in _above(node) if one in dead]
            flops = sum(net.row_of[one].flops or 0 for one in branch if one in net.row_of)
            with_it = f", nor that of {len(branch) - 1} nodes before it" if len(branch) > 1 else ""
            yield Hit(
                layer=_name(net, node),
                message=f"nothing uses its result{with_it}: {show(flops, 'count')} FLOPs for nothing",
                badness=flops,
                evidence={"nodes": len(branch), "flops": flops},
            )


@rule(
    "duplicate-node",
    "warning",
    summary="the same is computed twice",
    advice="Compute it once and use the result in both places.",
)
def duplicate_node(net: Net) -> Iterator[Hit]:
    """The same operator with the same attributes works on the same inputs, and isn't random.

    Told where the result has MACs, or a thousandth of the bytes of all activations.
    """
    for graph in net.graphs:
        for node, first in _duplicates(graph):
            row = net.row_of.get(node)
            if row is None or not row.runs or net.fixed.issuperset(node.outputs):
                continue
            earlier = _name(net, first)
            work = f"{show(row.flops, 'count')} FLOPs and " if row.flops else ""
            size = show(row.output_bytes, "bytes")
            if row.macs or row.output_bytes >= max(1, DUPLICATE_SHARE * net.activation_bytes):
                yield Hit(
                    layer=row.name,
                    message=f"computes what {earlier!r} has computed: {work}{size} twice",
                    badness=(row.flops or 0) + row.output_bytes,
                    evidence={"first": earlier, "flops": row.flops, "output_bytes": row.output_bytes},
                )


@rule(
    "dead-weight",
    "warning",
    summary="weights that no node uses",
    advice="A verb that writes the model leaves them out, such as "
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
    if sizes and sum(sizes.values()) >= DEAD_SHARE * stored:
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
    """Two weights of a kilobyte and more with the same bytes; weights that are all one number don't count.

    Compared by SHA-256; this rule reads weights.
    """
    first: dict[Hashable, str] = {}
    for value, tensor in _stored(net):
        if tensor.nbytes < SMALL_WEIGHT or tensor.dtype == ir.DataType.STRING:
            continue
        content = np.ascontiguousarray(tensor.numpy())
        if (content == content.flat[0]).all():
            continue
        digest = (tensor.dtype, tuple(tensor.shape.numpy()), sha256(content.tobytes()).digest())
        name = first.setdefault(digest, str(value.name))
        if name != value.name:
            yield Hit(
                layer=str(value.name),
                message=f"holds the same numbers as {name!r}: {show(tensor.nbytes, 'bytes')} twice",
                badness=tensor.nbytes,
                evidence={"first": name, "bytes": tensor.nbytes},
            )


def _dead(graph: ir.Graph) -> list[ir.Node]:
    """Nodes of one graph from which nothing leads to its outputs."""
    wanted, dead = set(graph.outputs), []
    for node in reversed(graph):
        if wanted.isdisjoint(node.outputs):
            dead.append(node)
        else:
            wanted.update(inputs_and_captures(node))
    return dead[::-1]


def _above(node: ir.Node) -> set[ir.Node]:
    """A node and all that its result depends on."""
    found, waiting = {node}, [node]
    while waiting:
        makers = {
            maker for value in inputs_and_captures(waiting.pop()) if (maker := value.producer()) is not None
        }
        waiting += makers - found
        found |= makers
    return found


def _duplicates(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Nodes that repeat an earlier one, each with that one (value numbering: Cocke and Schwartz, 1970)."""
    number: dict[ir.Value, Hashable] = {}
    seen: dict[Hashable, ir.Node] = {}
    for node in graph:
        key = _key(node, number)
        first = node if key is None else seen.setdefault(key, node)
        for value, same in zip(node.outputs, first.outputs, strict=True):
            number[value] = number.get(same, id(same))
        if first is not node:
            yield node, first


def _key(node: ir.Node, number: dict[ir.Value, Hashable]) -> Hashable | None:
    """What two nodes have in common if they compute the same; None for what is never the same."""
    if node.op_type in RANDOM or any(subgraphs(node)):
        return None
    inputs = tuple(None if value is None else number.get(value) or _content(value) for value in node.inputs)
    attributes = frozenset((name, _attribute(attr)) for name, attr in node.attributes.items())
    return node.op_identifier(), inputs, attributes, len(node.outputs)


def _attribute(attr: ir.Attr) -> Hashable:
    if attr.is_ref():
        return attr.ref_attr_name
    if attr.type == ir.AttributeType.TENSOR:
        return _tensor(attr.as_tensor())
    value = attr.value
    return tuple(value) if isinstance(value, list | tuple) else repr(value)


def _content(value: ir.Value) -> Hashable:
    """A short constant by what it holds, anything else by itself."""
    tensor = tensor_of(value)
    return id(value) if tensor is None or value.is_graph_input() else _tensor(tensor)


def _tensor(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.size > SHORT_CONSTANT or tensor.dtype == ir.DataType.STRING:
        return id(tensor)
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()


def _stored(net: Net) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Every stored tensor with the value that holds it."""
    values = [value for graph in net.graphs for value in graph.initializers.values()]
    values += [node.outputs[0] for graph in net.graphs for node in graph if node.op_type == "Constant"]
    for value in values:
        if (tensor := tensor_of(value)) is not None:
            yield value, tensor


def _name(net: Net, node: ir.Node) -> str:
    return net.row_of[node].name if node in net.row_of else node.op_type
