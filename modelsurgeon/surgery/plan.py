"""What is to be done to each layer: plain data that a person may edit and replay.

As JSON a plan is one object, layer name -> method and rank:

    {"conv1": {"method": "spatial-svd", "rank": 32}, "fc": {"method": "tucker2", "rank": [64, 16]}}

A rank above full is full, and `"full"` stands for it. A layer that the plan doesn't name is left alone.
Layers that are fed the same may be cut as one, under the name that the report gives them:
`layers.0.{query,key,value}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelsurgeon.errors import BadPlan
from modelsurgeon.factorize import METHODS, Rank

FULL = 2**31  # above every full rank


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """One layer's method and rank."""

    method: str
    rank: Rank


@dataclass(frozen=True)
class Plan(Mapping[str, PlanStep]):
    """Layer name -> `PlanStep`: found on a module, valid on its export."""

    steps: Mapping[str, PlanStep]

    def __getitem__(self, layer: str) -> PlanStep:
        """The step of one layer."""
        return self.steps[layer]

    def __iter__(self) -> Iterator[str]:
        """Layer names, in the order in which they were planned."""
        return iter(self.steps)

    def __len__(self) -> int:
        """Number of layers that the plan replaces."""
        return len(self.steps)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The plan as plain JSON data."""
        return {name: {"method": step.method, "rank": _plain(step.rank)} for name, step in self.items()}

    @classmethod
    def from_dict(cls, data: object) -> Plan:
        """The plan that plain JSON data tells; anything else is a `BadPlan`."""
        if not isinstance(data, Mapping):
            raise BadPlan(
                f"a plan is an object, layer name -> method and rank; this is a {type(data).__name__}"
            )
        return cls({str(name): _step(str(name), entry) for name, entry in data.items()})

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """The plan in a JSON file."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise BadPlan(f"{path}: the plan can't be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise BadPlan(f"{path}: a plan in JSON is needed, this isn't JSON: {error}") from error
        try:
            return cls.from_dict(data)
        except BadPlan as error:
            raise BadPlan(f"{path}: {error}") from None

    def text(self) -> str:
        """The plan as JSON, one layer a line."""
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in self.as_dict().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"


def _plain(rank: Rank) -> int | list[int] | str:
    if isinstance(rank, tuple):
        return list(rank)
    return "full" if rank >= FULL else rank


def _step(layer: str, entry: object) -> PlanStep:
    if not isinstance(entry, Mapping) or not {"method", "rank"} <= set(entry):
        raise BadPlan(f'layer {layer!r}: {{"method": ..., "rank": ...}} is needed, found {entry!r}')
    if entry["method"] not in METHODS:
        raise BadPlan(f"layer {layer!r}: no method {entry['method']!r}; there are {', '.join(METHODS)}")
    return PlanStep(method=str(entry["method"]), rank=_rank(layer, str(entry["method"]), entry["rank"]))


def _rank(layer: str, method: str, rank: object) -> Rank:
    if rank == "full":
        return FULL
    if _is_rank(rank):
        return rank  # type: ignore[return-value]
    if isinstance(rank, list) and len(rank) == 2 and all(map(_is_rank, rank)) and method == "tucker2":
        return (rank[0], rank[1])
    pair = ", a pair [outputs, inputs]" if method == "tucker2" else ""
    raise BadPlan(
        f'layer {layer!r}: a rank of at least 1{pair} or "full" is needed for {method}, found {rank!r}'
    )


def _is_rank(rank: object) -> bool:
    return isinstance(rank, int) and not isinstance(rank, bool) and rank >= 1
