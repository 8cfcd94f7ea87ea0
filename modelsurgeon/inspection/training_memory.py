"""What it takes to train a model: weights, gradients, an optimizer, and what the backward pass needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelsurgeon.inspection.rows import Shape
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Table

MAX_ROWS_SHOWN = 12  # of what is kept; JSON has all
OPTIMIZER_STATES = {"sgd-momentum": 1, "adam": 2}  # numbers that an optimizer keeps for each param
OPTIMIZER_TITLES = {"sgd-momentum": "SGD, momentum", "adam": "Adam"}
IN_FLIGHT = "gradients of activations on their way and workspaces of kernels come on top"


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """Bytes that don't depend on the batch.

    stored: all params of the model. trained: how many numbers are trained. gradients: in the weights' types.
    master: float32 copies of half-precision weights. state: one number of an optimizer for each that is
    trained, float32 or larger.
    """

    stored: int
    trained: int
    gradients: int
    master: int
    state: int


@dataclass(frozen=True, kw_only=True)
class SavedBytes:
    """Bytes that are kept for the backward pass: a tensor, or what else `by`, the layers named, make of it.

    layer: the one that made it; None for an input of the model. what: tensor, mask, indices, statistics.
    """

    name: str
    layer: str | None
    what: str
    shape: Shape
    bytes: int
    by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """Training with some activations kept, and the rest computed again.

    boundaries: layers whose output is kept. kept: bytes of these and of inputs; largest: of the segment that
    needs most. macs: done again.
    """

    boundaries: tuple[str, ...]
    kept: int
    largest: int
    macs: int

    @property
    def activations(self) -> int:
        """Bytes of activations at the worst moment."""
        return self.kept + self.largest


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Memory to train, at the sizes that a model is bound to. recomputation: None where it saves nothing."""

    weights: TrainedWeights
    kept: Sequence[SavedBytes]
    recomputation: Recomputation | None
    notes: Sequence[str] = ()

    @property
    def activations(self) -> int:
        """Bytes kept for the backward pass when nothing is recomputed."""
        return sum(one.bytes for one in self.kept)

    def total(self, optimizer: str, *, recompute: bool = False) -> int:
        """All bytes with an optimizer of STATES."""
        held = self.weights
        activations = self.recomputation.activations if recompute and self.recomputation else self.activations
        return (
            held.stored
            + held.gradients
            + held.master
            + OPTIMIZER_STATES[optimizer] * held.state
            + activations
        )

    def as_dict(self) -> dict[str, Any]:
        """The JSON under `training`."""
        found = self.recomputation
        return {
            "weights": self.weights.stored,
            "trained_params": self.weights.trained,
            "gradients": self.weights.gradients,
            "master_weights": self.weights.master,
            "activations": self.activations,
            "optimizers": {name: self._optimizer(name) for name in OPTIMIZER_STATES},
            "recomputation": found and {**asdict(found), "activations": found.activations},
            "kept": [asdict(one) for one in self.kept],
            "notes": [*self.notes, IN_FLIGHT],
        }

    def _optimizer(self, name: str) -> dict[str, int | None]:
        return {
            "state": OPTIMIZER_STATES[name] * self.weights.state,
            "total": self.total(name),
            "total_recomputed": self.total(name, recompute=True) if self.recomputation else None,
        }

    def tables(self) -> list[Table]:
        """The sums for each optimizer, and what is kept for the backward pass."""
        return [self._sums(), self._kept()]

    def _sums(self) -> Table:
        choices = (False, True) if self.recomputation else (False,)
        ways = [_SumColumn(optimizer=name, recompute=again) for name in OPTIMIZER_STATES for again in choices]
        sums = [self._column(way) for way in ways]
        rows = [
            {"what": what, **{way.key: column[what] for way, column in zip(ways, sums, strict=True)}}
            for what in sums[0]
            if any(column[what] for column in sums)
        ]
        *parts, total = rows
        return Table(
            title="Memory to train",
            columns=[Column(key="what", title="Bytes"), *(way.column for way in ways)],
            rows=parts,
            total=total,
            notes=[f"{show(self.weights.trained, 'count')} params are trained", *self._told(), IN_FLIGHT],
        )

    def _column(self, way: _SumColumn) -> dict[str, int]:
        found = self.recomputation if way.recompute else None
        return {
            "weights": self.weights.stored,
            "gradients": self.weights.gradients,
            "float32 copies of weights": self.weights.master,
            "optimizer state": OPTIMIZER_STATES[way.optimizer] * self.weights.state,
            "activations for backward": found.activations if found else self.activations,
            "total": self.total(way.optimizer, recompute=way.recompute),
        }

    def _told(self) -> list[str]:
        return [*self._recomputed(), *self.notes]

    def _recomputed(self) -> list[str]:
        found = self.recomputation
        if found is None:
            return ["recomputing activations would save nothing: no single tensor to cut at pays"]
        count = len(found.boundaries)
        ends = ", ".join(found.boundaries[:4]) + (", ..." if count > 4 else "")
        outputs = "the output of 1 layer is" if count == 1 else f"the outputs of {count} layers are"
        kept, largest = show(found.kept, "bytes"), show(found.largest, "bytes")
        return [
            f"recomputed: {outputs} kept ({ends}; {kept} with the inputs), others are "
            f"computed again, at most {largest} at once, with {show(found.macs, 'count')} MACs"
        ]

    def _kept(self) -> Table:
        whole = self.activations
        listed = sorted(self.kept, key=lambda one: -one.bytes)
        rest = listed[MAX_ROWS_SHOWN:]
        size = show(sum(one.bytes for one in rest), "bytes")
        return Table(
            title="Kept for the backward pass",
            columns=SAVED_COLUMNS,
            rows=[
                {**asdict(one), "by": ", ".join(one.by), "share": one.bytes / (whole or 1)}
                for one in listed[:MAX_ROWS_SHOWN]
            ],
            total={"name": "total", "bytes": whole, "share": 1.0},
            notes=[f"{len(rest)} smaller ones are kept too ({size})"] if rest else [],
        )


@dataclass(frozen=True, kw_only=True)
class _SumColumn:
    """A column of the sums: an optimizer, with or without recomputation."""

    optimizer: str
    recompute: bool

    @property
    def key(self) -> str:
        return f"{self.optimizer}-recomputed" if self.recompute else self.optimizer

    @property
    def column(self) -> Column:
        title = "recomputed" if self.recompute else OPTIMIZER_TITLES[self.optimizer]
        return Column(key=self.key, title=title, kind="bytes")


SAVED_COLUMNS: Sequence[Column] = (
    Column(key="name", title="Tensor"),
    Column(key="what", title="What"),
    Column(key="by", title="Needed by"),
    Column(key="shape", title="Shape", kind="shape", wide=True),
    Column(key="bytes", title="Bytes", kind="bytes"),
    Column(key="share", title="%", kind="percent"),
    Column(key="share", title="", kind="bar"),
)
