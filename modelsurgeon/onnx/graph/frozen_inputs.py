"""Inputs of a graph that have a default: weights that old exporters list as inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

FIRST_IR_VERSION_WITHOUT_LISTING = 4  # before, every initializer had to be an input, too
MAX_NAMES = 3  # in a note


def defaulted_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that an initializer gives a default, which a caller may override from IR version 4 on."""
    return [value for value in model.graph.inputs if value.name in model.graph.initializers]


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """A model whose inputs have no defaults, and notes on what was changed; none where nothing was."""

    model: ir.Model
    notes: Sequence[str] = ()


def freeze_inputs(model: ir.Model) -> Frozen:
    """A copy without the inputs that have a default: these are constants then; tensors are shared.

    Before IR version 4 all initializers had to be inputs, so the copy has version 4. The model itself where
    no input has a default.
    """
    if not defaulted_inputs(model):
        return Frozen(model=model)
    copy = model.clone()
    names = [str(value.name) for value in defaulted_inputs(copy)]
    kept = [value for value in copy.graph.inputs if value.name not in copy.graph.initializers]
    copy.graph.inputs.clear()
    copy.graph.inputs.extend(kept)
    shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
    many = f"{len(names)} inputs with a default are" if len(names) > 1 else "an input with a default is"
    notes = [f"{many} taken out of the inputs, and fixed: {shown}"]
    if copy.ir_version < FIRST_IR_VERSION_WITHOUT_LISTING:
        notes.append(
            f"the IR version is raised from {copy.ir_version} to {FIRST_IR_VERSION_WITHOUT_LISTING}: before, "
            "every weight had to be an input"
        )
        copy.ir_version = FIRST_IR_VERSION_WITHOUT_LISTING
    return Frozen(model=copy, notes=notes)
