"""Rules about nodes that change nothing, alone or together with the nodes before them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.edit import why_not_replaceable
from modelsurgeon.onnx.graph.no_ops import (
    CANCELLING,
    NO_OPERATORS,
    Shape,
    ValueTypes,
    unchanged_input,
    undone_value,
)
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import show

MIN_SHARE = 0.001  # of the bytes of all activations: on small tensors such nodes cost nothing
MIN_IDLE_NODES = 10  # exporters leave a few in every net
MIN_IDLE_SHARE = 0.05  # of all nodes
CLEAN_ADVICE = "`modelsurgeon clean MODEL -o OUT` removes it."


@rule("no-op", "note", summary="a node returns its input unchanged", advice=CLEAN_ADVICE)
def no_op(net: Net) -> Iterator[Hit]:
    """An Identity, a Cast to the type that its input has, a Reshape to the same shape, an addition of zero.

    Also a Transpose that keeps the order of the axes, a Pad of nothing, a Slice of everything, a product with
    one. Only where the output has a thousandth of the bytes of all activations; an Identity that names an
    output is usual.
    """
    types = value_types(net)
    for node, row in net.nodes(*sorted({*NO_OPERATORS} - {"Dropout"})):  # `dropout-left` has these
        value = unchanged_input(node, types)
        if value is not None and _notable(net, node, value, row.output_bytes):
            yield Hit(
                layer=row.name,
                message=f"its output is its input: {show(row.output_bytes, 'bytes')} for nothing",
                badness=row.output_bytes,
                evidence={"output_bytes": row.output_bytes},
            )


@rule("cancels", "note", summary="a node undoes the node before it", advice=CLEAN_ADVICE)
def cancels(net: Net) -> Iterator[Hit]:
    """Two Transposes whose axes are in order again, or a Cast back from a type that holds every number.

    Also reshapes back to an earlier shape. A Cast to fewer bits and back rounds, so it isn't reported.
    """
    types = value_types(net)
    for node, row in net.nodes(*sorted(CANCELLING)):
        value = undone_value(node, types)
        if value is None or unchanged_input(node, types) is not None:
            continue
        first = node.inputs[0].producer() if node.inputs[0] is not None else None
        if first is None or unchanged_input(first, types) is not None:
            continue
        if _notable(net, node, value, row.output_bytes):
            before = net.row_of[first].name if first in net.row_of else first.op_type
            yield Hit(
                layer=row.name,
                message=f"undoes {before!r} before it: {show(row.output_bytes, 'bytes')} for nothing",
                badness=row.output_bytes,
                evidence={"first": before, "output_bytes": row.output_bytes},
            )


@rule(
    "idle-nodes",
    "note",
    summary="many nodes of the model change nothing",
    advice="`modelsurgeon clean MODEL -o OUT` removes them; the outputs stay the same.",
)
def idle_nodes(net: Net) -> Iterator[Hit]:
    """Ten nodes or more, and a twentieth of all, that `clean` removes, however small their outputs are.

    They return their input, undo each other, repeat another node, or nothing uses their result. The finding
    is at the first of them.
    """
    removed = [] if net.verbs is None else [row for row in net.rows if row.name in net.verbs.cleaned]
    if len(removed) < max(MIN_IDLE_NODES, MIN_IDLE_SHARE * len(net.rows)):
        return
    size = sum(row.output_bytes for row in removed)
    yield Hit(
        layer=removed[0].name,
        message=f"it and {len(removed) - 1} more of {len(net.rows)} nodes change nothing: "
        f"{show(size, 'bytes')} for nothing",
        evidence={"nodes": len(removed), "output_bytes": size},
    )


def value_types(net: Net) -> ValueTypes:
    """The types of the net's values; sizes that the model leaves open are symbols."""

    def shape(value: ir.Value) -> Shape | None:
        return net.symbolic_shapes.get(value) if net.symbolic_shapes else value.shape

    return ValueTypes.of(net.model, shape, lambda value: value.dtype)


def _notable(net: Net, node: ir.Node, value: ir.Value, output_bytes: int) -> bool:
    """Whether a node is large enough to be reported, and a value can take the place of its output."""
    if output_bytes < max(1, MIN_SHARE * net.activation_bytes):
        return False
    output = node.outputs[0]
    names_output = output.is_graph_output() and node.op_type == "Identity"
    return not names_output and why_not_replaceable(output, value) is None
