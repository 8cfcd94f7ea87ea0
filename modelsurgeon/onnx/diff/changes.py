"""Changes of paired nodes, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from modelsurgeon.inspection.difference import Change
from modelsurgeon.onnx.diff.nodes import DiffNode, Operand
from modelsurgeon.onnx.diff.wiring import PairedWires
from modelsurgeon.report.formatting import show

MAX_TEXT_LENGTH = 40  # of an attribute; of a longer one the change says only that it differs
NO_OPERAND = Operand(value=None)


def change(before: Sequence[DiffNode], after: Sequence[DiffNode], wiring: PairedWires) -> Change:
    """Change of a layer. before, after: its nodes in each model; one may be empty.

    The kind is "added", "removed", "replaced", "changed", "renamed" or "same".
    """
    rows: dict[str, Any] = {"before": [node.row for node in before], "after": [node.row for node in after]}
    if not before or not after:
        return Change(kind="removed" if before else "added", **rows, what=_output_shape((*before, *after)))
    if len(after) > 1 or after[0].row.name == f"{before[0].row.name}.0":
        rewired = wiring.chain_changes(before[0], after)
        return Change(kind="replaced", **rows, what=[f"now a chain of {len(after)}", *rewired])
    what = [*_differences(before[0], wiring.in_order_of(before[0], after[0]), wiring)]
    name = after[0].row.name
    renamed = [f"now called {name}"] if name != before[0].row.name else []
    return Change(
        kind="changed" if what else "renamed" if renamed else "same", **rows, what=[*what, *renamed]
    )


def _output_shape(diff_nodes: Sequence[DiffNode]) -> list[str]:
    shapes = (show(node.row.output, "shape") for node in diff_nodes if node.row.output is not None)
    return [f"output {shape}" for shape in list(shapes)[-1:]]


def _differences(before: DiffNode, after: DiffNode, wiring: PairedWires) -> Iterator[str]:
    was, now = before.row, after.row
    if _operator(before) != _operator(after):
        yield f"{_operator(before)} → {_operator(after)}"
    yield from _input_changes(before, after)
    yield from _output_changes(was.output_shapes, now.output_shapes)
    if was.runs != now.runs:
        yield f"runs {was.runs} → {now.runs} times"
    if was.dtype != now.dtype:
        yield f"{was.dtype} → {now.dtype}"
    for name in sorted({*before.attributes, *after.attributes}):
        yield from _attribute_change(name, before.attributes.get(name), after.attributes.get(name))
    yield from wiring.changes(before, after)


def _operator(each: DiffNode) -> str:
    """Domain, operator and overload, and the opset where it isn't the model's."""
    domain, op, overload = each.node.op_identifier()
    version = each.node.version
    name = ".".join(filter(None, (domain, op, overload)))
    return name if version is None else f"{name} of opset {version}"


def _input_changes(before: DiffNode, after: DiffNode) -> Iterator[str]:
    """Changes of the inputs' shapes, then of inputs left out, then of constants."""
    count = max(len(before.operands), len(after.operands))
    padded = [[*each.operands, *[NO_OPERAND] * (count - len(each.operands))] for each in (before, after)]
    pairs = [*enumerate(zip(*padded, strict=True))]
    for index, (was, now) in pairs:
        yield from _shape_change("input", index, was.shape, now.shape)
    for index, (was, now) in pairs:
        if (was.value is None) != (now.value is None):
            if was.shape == now.shape:  # neither is known
                yield f"input {index} is {'left out' if now.value is None else 'given'} now"
        else:
            yield from _constant_change(index, was.constant, now.constant)


def _output_changes(was: Sequence[Any], now: Sequence[Any]) -> Iterator[str]:
    for index in range(max(len(was), len(now))):
        old, new = (shapes[index] if index < len(shapes) else None for shapes in (was, now))
        yield from _shape_change("output", index, old, new)
    if len(was) != len(now):
        yield f"{len(was)} → {len(now)} outputs"


def _shape_change(
    what: str, index: int, was: Sequence[int] | None, now: Sequence[int] | None
) -> Iterator[str]:
    if was != now:
        number = f" {index}" if index else ""
        yield f"{what}{number} {_shape_text(was)} → {_shape_text(now)}"


def _shape_text(shape: Sequence[int] | None) -> str:
    return "none" if shape is None else show(shape, "shape")


def _attribute_change(name: str, was: str | None, now: str | None) -> Iterator[str]:
    if was != now:
        short = max(len(was or ""), len(now or "")) <= MAX_TEXT_LENGTH
        yield f"{name} {was or 'unset'} → {now or 'unset'}" if short else f"{name} differs"


def _constant_change(index: int, was: str | None, now: str | None) -> Iterator[str]:
    """Change of a constant input's type or values; a change of its shape is reported elsewhere."""
    if was is None or now is None:
        if was != now:
            yield f"input {index} is {'a constant now' if was is None else 'no constant any more'}"
    elif was != now and was.split(" ")[1] == now.split(" ")[1]:
        types = (was.split(" ")[0], now.split(" ")[0])
        yield f"input {index} " + (" → ".join(types) if types[0] != types[1] else "has other values")
