"""Copy weights from one state dict into another; a layer is the part of a name before the last dot."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.matching.head_rows import Growth, class_origins, copy_overlap, grow_rows
from modelsurgeon.matching.pairing import WeightedPart, pair
from modelsurgeon.surgery.edits import Edit

State = Mapping[str, Any]


def steal(
    donor: State,
    recipient: State,
    *,
    given: Mapping[str, str] | None = None,
    partial: bool = False,
    growth: Growth | None = None,
) -> tuple[dict[str, Any], list[Edit], list[str]]:
    """The recipient's state with weights of the donor, an edit per layer, and the tensors copied whole.

    given: recipient's layer -> donor's layer, such as "layer1.0.conv1". Raises BadPlan for a name that the
    models don't have, and for a layer that can't grow to the size asked for.
    """
    growth = growth or Growth()
    ours, theirs = state_parts(recipient), state_parts(donor)
    if unknown := [name for name in growth.sizes if name not in {part.name for part in ours}]:
        raise BadPlan(f"there is no layer {unknown[0]!r} to grow in the recipient")
    pairing = pair(theirs, ours, given)
    state, edits, frozen = dict(recipient), [], []
    for part in ours:
        source = pairing.donors.get(part.name)
        details: dict[str, Any] = {"donor": source, "by": pairing.how.get(part.name)}
        try:
            if part.name in growth.sizes:
                new = _grown_weights(donor, recipient, part, source, growth)
                action, details = (
                    "grow",
                    {"donor": source, "classes": growth.sizes[part.name], "new_rows": growth.init},
                )
            else:
                new, whole = _copied_weights(donor, recipient, part, source, partial)
                action = "steal" if whole else "steal the overlap"
                frozen += list(new) if whole else []
            state |= new
            edits.append(Edit(layer=part.name, action=action, details=details))
        except UnsupportedLayer as reason:
            edits.append(Edit(layer=part.name, action="steal", details=details, skipped=str(reason)))
    return state, edits, frozen


def state_parts(state: State) -> list[WeightedPart]:
    """Layers of a state dict in its order; names that are sorted as text are sorted by their numbers."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            owner, _, slot = name.rpartition(".")
            groups.setdefault(owner, {})[slot] = tuple(value.shape)
    names = list(groups)
    if list(state) == sorted(state):
        names.sort(key=_numeric_key)
    return [WeightedPart(name=name, kind=_kind(groups[name]), shapes=groups[name]) for name in names]


def _numeric_key(name: str) -> list[tuple[bool, int, str]]:
    """Sort key with which layer2 comes before layer10."""
    pieces = re.split(r"(\d+)", name)
    return [(piece.isdigit(), int(piece) if piece.isdigit() else 0, piece) for piece in pieces]


def _kind(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{slot} of {len(shape)} axes" for slot, shape in sorted(shapes.items()))


def _copied_weights(
    donor: State, recipient: State, part: WeightedPart, source: str | None, partial: bool
) -> tuple[State, bool]:
    if source is None:
        raise UnsupportedLayer(
            "no layer of the donor that is left has its name or, in this order, its shapes"
        )
    new, whole = {}, True
    for slot in part.shapes:
        name = _join(part.name, slot)
        ours, theirs = recipient[name], donor.get(_join(source, slot))
        if theirs is None:
            raise UnsupportedLayer(f"the donor's layer has no {slot}")
        if theirs.shape != ours.shape:
            whole = False
            if not partial:
                sizes = f"its {slot} is {tuple(ours.shape)}, the donor's {tuple(theirs.shape)}"
                raise UnsupportedLayer(f"{sizes}; --partial takes what overlaps")
            theirs = torch.from_numpy(copy_overlap(_array(theirs), _array(ours)))
        new[name] = _in_type(theirs, ours, slot)
    return new, whole


def _in_type(theirs: torch.Tensor, ours: torch.Tensor, slot: str) -> torch.Tensor:
    """A copy in the type of `ours`. Raises UnsupportedLayer where NaN or infinity would come in."""
    made = theirs.detach().to(ours.dtype).clone()
    if made.isfinite().all() or not ours.isfinite().all():
        return made
    if theirs.isfinite().all():
        largest = float(theirs.abs().max())
        raise UnsupportedLayer(
            f"the donor's {slot} reaches {largest:.3g}, which is more than {ours.dtype} holds"
        )
    raise UnsupportedLayer(f"the donor's {slot} holds NaN or infinite numbers")


def _grown_weights(
    donor: State, recipient: State, part: WeightedPart, source: str | None, growth: Growth
) -> State:
    if source is None:
        raise BadPlan(f"no layer of the donor belongs to {part.name!r}: name one in a map (--map)")
    if growth.init == "fit":
        raise BadPlan(
            "new rows of a state dict can't be fitted: that needs a model to run; take another --grow-init"
        )
    old = donor[_join(source, "weight")]
    rows = class_origins(growth.sizes[part.name], len(old), growth.labels, growth.init)
    new = {}
    for index, slot in enumerate(part.shapes):
        name = _join(part.name, slot)
        theirs = donor.get(_join(source, slot))
        if theirs is None or theirs.shape[1:] != recipient[name].shape[1:]:
            raise BadPlan(f"{name!r} and the donor's differ in more than classes: only equal inputs grow")
        grown = grow_rows(_array(theirs), rows, growth.init, growth.seed + index)
        try:
            new[name] = _in_type(torch.from_numpy(np.ascontiguousarray(grown)), recipient[name], slot)
        except UnsupportedLayer as reason:
            raise BadPlan(f"{part.name!r} can't grow: {reason}") from reason
    return new


def _array(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return wide.detach().cpu().numpy()


def _join(owner: str, slot: str) -> str:
    return f"{owner}.{slot}" if owner else slot
