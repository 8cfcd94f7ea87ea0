"""Plans: the method and rank of every layer to replace, as plain data that a person may edit and replay.

As JSON a plan is one object, layer name -> method and rank:

    {"conv1": {"method": "spatial-svd", "rank": 32}, "fc": {"method": "tucker2", "rank": [64, 16]}}

method: a name of `factorize.METHODS`. rank: a whole number of at least 1; for tucker2 also a pair
[outputs, inputs]; or `"full"`. A rank above the layer's full rank counts as full. A layer that the plan
doesn't name stays as it is. Layers with shared input may be cut as one, under the name that the report gives
them, such as `layers.0.{query,key,value}`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelsurgeon.errors import BadPlan
from modelsurgeon.factorize import METHODS, Rank

FULL_RANK = 2**31  # above the full rank of every layer


@dataclass(frozen=True, kw_only=True)
class PlanStep:
    """The step of one layer. method: a name of `factorize.METHODS`. rank: a number, or a pair for tucker2."""

    method: str
    rank: Rank


@dataclass(frozen=True)
class Plan(Mapping[str, PlanStep]):
    """Mapping from layer names to `PlanStep`; a plan found on a module is valid on its export.

    The steps are not checked against a model before the plan is applied, and those given to the constructor
    not at all; `from_dict` and `read` check methods and ranks.
    """

    steps: Mapping[str, PlanStep]

    def __getitem__(self, layer: str) -> PlanStep:
        """The step of one layer. Raises KeyError for a layer that the plan doesn't name."""
        return self.steps[layer]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the layer names, in the order in which they were given."""
        return iter(self.steps)

    def __len__(self) -> int:
        """Number of layers that the plan replaces."""
        return len(self.steps)

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """The plan as plain JSON data, as the module describes it: the inverse of `from_dict`.

        Each layer has "method", and "rank" as a number, a list of two, or "full".
        """
        return {
            name: {"method": step.method, "rank": _rank_as_json(step.rank)} for name, step in self.items()
        }

    @classmethod
    def from_dict(cls, data: object) -> Plan:
        """The plan from plain JSON data: an object, layer name -> {"method": ..., "rank": ...}.

        Raises BadPlan for other data, an unknown method and a rank that the method doesn't take.
        """
        if not isinstance(data, Mapping):
            raise BadPlan(
                f"a plan is an object, layer name -> method and rank; this is a {type(data).__name__}"
            )
        return cls({str(name): _parse_step(str(name), entry) for name, entry in data.items()})

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """The plan from a JSON file. Raises BadPlan where it can't be read, or is not the JSON of a plan."""
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
        """The plan as JSON text, one layer a line and a newline at the end; `read` reads it from a file."""
        lines = [f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in self.as_dict().items()]
        return "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"


def _rank_as_json(rank: Rank) -> int | list[int] | str:
    if isinstance(rank, tuple):
        return list(rank)
    return "full" if rank >= FULL_RANK else rank


def _parse_step(layer: str, entry: object) -> PlanStep:
    if not isinstance(entry, Mapping) or not {"method", "rank"} <= set(entry):
        raise BadPlan(f'layer {layer!r}: {{"method": ..., "rank": ...}} is needed, found {entry!r}')
    if entry["method"] not in METHODS:
        raise BadPlan(f"layer {layer!r}: no method {entry['method']!r}; there are {', '.join(METHODS)}")
    return PlanStep(method=str(entry["method"]), rank=_parse_rank(layer, str(entry["method"]), entry["rank"]))


def _parse_rank(layer: str, method: str, rank: object) -> Rank:
    if rank == "full":
        return FULL_RANK
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
