"""Memory of training: weights, gradients, optimizer state, and tensors saved for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelsurgeon.inspection.rows import Shape
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Table

MAX_ROWS_SHOWN = 12  # of the saved tensors; JSON has all
OPTIMIZER_STATES = {"sgd-momentum": 1, "adam": 2}  # states that an optimizer keeps per param
OPTIMIZER_TITLES = {"sgd-momentum": "SGD, momentum", "adam": "Adam"}
IN_FLIGHT_NOTE = "not included: gradients of activations in flight, and workspaces of kernels"


@dataclass(frozen=True, kw_only=True)
class TrainedWeights:
    """Bytes that don't depend on the batch size.

    stored: bytes of all params. trained: number of trained params. gradients: bytes, in the weights' types.
    master: bytes of float32 copies of half-precision weights. state: bytes of one optimizer state for every
    trained param, float32 or larger.
    """

    stored: int
    trained: int
    gradients: int
    master: int
    state: int


@dataclass(frozen=True, kw_only=True)
class SavedBytes:
    """Bytes saved for the backward pass of the layers `by`: a tensor, or what they derive from it.

    layer: the one that produced it; None for an input of the model. what: tensor, mask, indices, statistics.
    """

    name: str
    layer: str | None
    what: str
    shape: Shape
    bytes: int
    by: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Recomputation:
    """Training with some activations kept and the rest recomputed.

    boundaries: layers whose output is kept. kept: bytes of these outputs and of the inputs. largest: bytes
    of the largest segment. macs: MACs of the recomputation.
    """

    boundaries: tuple[str, ...]
    kept: int
    largest: int
    macs: int

    @property
    def activations(self) -> int:
        """Peak bytes of activations."""
        return self.kept + self.largest


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Memory of training at the sizes a model is bound to. recomputation: None where it saves nothing."""

    weights: TrainedWeights
    kept: Sequence[SavedBytes]
    recomputation: Recomputation | None
    notes: Sequence[str] = ()

    @property
    def activations(self) -> int:
        """Bytes saved for the backward pass when nothing is recomputed."""
        return sum(one.bytes for one in self.kept)

    def total(self, optimizer: str, *, recompute: bool = False) -> int:
        """Sum of all bytes; optimizer: a key of `OPTIMIZER_STATES`."""
        weights = self.weights
        activations = self.recomputation.activations if recompute and self.recomputation else self.activations
        return (
            weights.stored
            + weights.gradients
            + weights.master
            + OPTIMIZER_STATES[optimizer] * weights.state
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
            "notes": [*self.notes, IN_FLIGHT_NOTE],
        }

    def _optimizer(self, name: str) -> dict[str, int | None]:
        return {
            "state": OPTIMIZER_STATES[name] * self.weights.state,
            "total": self.total(name),
            "total_recomputed": self.total(name, recompute=True) if self.recomputation else None,
        }

    def tables(self) -> list[Table]:
        """The sums for each optimizer, and the tensors saved for the backward pass."""
        return [self._sum_table(), self._saved_table()]

    def _sum_table(self) -> Table:
        choices = (False, True) if self.recomputation else (False,)
        columns = [
            _SumColumn(optimizer=name, recompute=again) for name in OPTIMIZER_STATES for again in choices
        ]
        sums = [self._sums_of(column) for column in columns]
        rows = [
            {"what": what, **{column.key: values[what] for column, values in zip(columns, sums, strict=True)}}
            for what in sums[0]
            if what == "total" or any(values[what] for values in sums)
        ]
        *parts, total = rows
        return Table(
            title="Memory to train",
            columns=[Column(key="what", title="Bytes"), *(column.column for column in columns)],
            rows=parts,
            total=total,
            notes=[
                f"{show(self.weights.trained, 'count')} params are trained",
                *self._notes(),
                IN_FLIGHT_NOTE,
            ],
        )

    def _sums_of(self, column: _SumColumn) -> dict[str, int]:
        found = self.recomputation if column.recompute else None
        return {
            "weights": self.weights.stored,
            "gradients": self.weights.gradients,
            "float32 copies of weights": self.weights.master,
            "optimizer state": OPTIMIZER_STATES[column.optimizer] * self.weights.state,
            "activations for backward": found.activations if found else self.activations,
            "total": self.total(column.optimizer, recompute=column.recompute),
        }

    def _notes(self) -> list[str]:
        return [*self._recomputation_notes(), *self.notes]

    def _recomputation_notes(self) -> list[str]:
        found = self.recomputation
        if found is None:
            return ["recomputing activations would save nothing: no cut at a single tensor lowers the peak"]
        count = len(found.boundaries)
        ends = ", ".join(found.boundaries[:4]) + (", ..." if count > 4 else "")
        outputs = "the output of 1 layer is" if count == 1 else f"the outputs of {count} layers are"
        kept, largest = show(found.kept, "bytes"), show(found.largest, "bytes")
        return [
            f"recomputed: {outputs} kept ({ends}; {kept} with the inputs), others are "
            f"computed again, at most {largest} at once, with {show(found.macs, 'count')} MACs"
        ]

    def _saved_table(self) -> Table:
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
            notes=[f"{len(rest)} smaller tensors are kept too ({size})"] if rest else [],
        )


@dataclass(frozen=True, kw_only=True)
class _SumColumn:
    """A column of the table of sums: an optimizer, with or without recomputation."""

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
    Column(key="what", title="Kind"),
    Column(key="by", title="Needed by"),
    Column(key="shape", title="Shape", kind="shape", wide=True),
    Column(key="bytes", title="Bytes", kind="bytes"),
    Column(key="share", title="%", kind="percent"),
    Column(key="share", title="", kind="bar"),
)
