"""What an edited model must still say when it is written, because the original said it.

The promises stay with the model in memory, so that nothing that is done to it later can break them unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.graph.map_types import map_type
from modelsurgeon.onnx.graph.names import nodes_with_functions
from modelsurgeon.onnx.io.validate_text import first_duplicate, quoted

PROMISES_KEY = "modelsurgeon.promises"  # model.meta


@dataclass(frozen=True, kw_only=True)
class Promises:
    """Of the original: which inputs and outputs have a type and a shape, and whether node names are unique.

    untyped, shaped: names of inputs and outputs of the original that state no type, and that state a shape.
    """

    untyped: frozenset[str]
    shaped: frozenset[str]
    unique_names: bool


def keep(edited: ir.Model, original: ir.Model, *, cut: bool = False) -> None:
    """Promise what the original holds, and check it. cut: whether inputs and outputs were chosen anew.

    Raises BadModel for a promise that the edited model doesn't keep.
    """
    if not cut:
        _check_same("outputs", original.graph.outputs, edited.graph.outputs)
        _check_same("inputs", _fed(original), _fed(edited))
    ends = [*original.graph.inputs, *original.graph.outputs]
    edited.meta[PROMISES_KEY] = Promises(
        untyped=frozenset(str(value.name) for value in ends if not _is_typed(value)),
        shaped=frozenset(str(value.name) for value in ends if value.shape is not None),
        unique_names=_repeated_name(original) is None,
    )
    check(edited)


def check(model: ir.Model) -> None:
    """Raise BadModel for a model that breaks what was promised for it; one without promises passes."""
    promised: Promises | None = model.meta.get(PROMISES_KEY)
    if promised is None:
        return
    for value in (*model.graph.inputs, *model.graph.outputs):
        name = str(value.name)
        if name not in promised.untyped and not _is_typed(value):
            raise BadModel(
                f"nothing gives the type of {quoted(name)}, which an input or output must state: "
                "choose another tensor, or declare it in the model first"
            )
        if name in promised.shaped and value.shape is None:
            raise BadModel(
                f"the model would lose the shape of {quoted(name)}, which the original states: set it first"
            )
    if promised.unique_names and (repeated := _repeated_name(model)) is not None:
        raise BadModel(
            f"the model would have two nodes named {quoted(repeated)}, which the original doesn't: rename it"
        )


def _check_same(what: str, before: Sequence[ir.Value], after: Sequence[ir.Value]) -> None:
    names = [str(value.name) for value in before]
    now = [str(value.name) for value in after]
    if names != now:
        changed = next(iter({*names} ^ {*now}), names[0] if names else "")
        raise BadModel(
            f"the edit would change the {what} of the model, first {quoted(changed)}: "
            "leave the layers next to it out (--skip)"
        )
    for old, new in zip(before, after, strict=True):
        if old.type is not None and new.type is not None and old.type != new.type:
            raise BadModel(
                f"the edit would make {quoted(str(old.name))} {new.type} instead of {old.type}: "
                "leave the layers next to it out (--skip)"
            )


def _fed(model: ir.Model) -> list[ir.Value]:
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def _is_typed(value: ir.Value) -> bool:
    return value.type is not None or map_type(value) is not None


def _repeated_name(model: ir.Model) -> str | None:
    names: Iterable[str] = (node.name for node in nodes_with_functions(model) if node.name)
    return first_duplicate(names)
