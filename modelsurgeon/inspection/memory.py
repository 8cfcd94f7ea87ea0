"""Memory of activations while a model runs: the timeline, the peak, and the tensors alive there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelsurgeon.inspection.rows import Shape
from modelsurgeon.report.bar_plot import Plot
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import show
from modelsurgeon.report.table import Table

MAX_TENSORS_SHOWN = 12  # of the tensors alive at the peak; JSON has all
TENSOR_COLUMNS = (
    Column(key="name", title="Tensor"),
    Column(key="node", title="Producer"),
    Column(key="shape", title="Shape", kind="shape"),
    Column(key="dtype", title="Type", wide=True),
    Column(key="bytes", title="Bytes", kind="bytes"),
    Column(key="share", title="%", kind="percent"),
    Column(key="share", title="", kind="bar"),
)


@dataclass(frozen=True, kw_only=True)
class LiveTensor:
    """An activation that is alive. node: the layer that produced it; None for an input of the model."""

    name: str
    node: str | None
    shape: Shape
    dtype: str | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class MemoryStep:
    """Bytes alive while a node runs: its inputs, its outputs and all tensors that are needed later.

    depth: 0 in the main graph, more inside branches and loop bodies, whose nodes come before their own.
    """

    node: str
    bytes: int
    depth: int = 0


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Live bytes step by step. Sizes are those of one run of each node; no two tensors share memory.

    tensors: those alive at the peak, the largest first. main: the peak of the main graph alone, as in the
    totals. notes: what the figures leave out.
    """

    timeline: Sequence[MemoryStep]
    tensors: Sequence[LiveTensor]
    main: int
    notes: Sequence[str] = ()

    @property
    def peak(self) -> int | None:
        """Index of the first step with the most live bytes; None where there are no steps."""
        if not self.timeline:
            return None
        return max(range(len(self.timeline)), key=lambda step: self.timeline[step].bytes)

    def as_dict(self) -> dict[str, Any]:
        """The JSON under `memory`."""
        step = None if self.peak is None else self.timeline[self.peak]
        return {
            "peak": {
                "node": step and step.node,
                "bytes": step.bytes if step else self.main,
                "tensors": [asdict(tensor) for tensor in self.tensors],
            },
            "main_graph_peak_bytes": self.main,
            "timeline": [asdict(step) for step in self.timeline],
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """The tensors of the peak, under a plot of live bytes over the nodes."""
        whole = sum(tensor.bytes for tensor in self.tensors)
        rows = [{**asdict(one), "node": one.node or "(input)"} for one in self.tensors[:MAX_TENSORS_SHOWN]]
        return [
            Table(
                title="Memory: live bytes while each node runs, and the tensors of the peak",
                columns=TENSOR_COLUMNS,
                rows=[{**row, "share": row["bytes"] / (whole or 1)} for row in rows],
                total={"name": "total", "bytes": whole, "share": 1.0},
                notes=[*self._rest_note(), *self._inner_graph_note(), *self.notes],
                plot=self._plot(),
            )
        ]

    def _plot(self) -> Plot | None:
        if self.peak is None:
            return None
        return Plot(
            values=[step.bytes for step in self.timeline],
            kind="bytes",
            axis="node",
            mark=self.peak,
            label=self.timeline[self.peak].node,
        )

    def _rest_note(self) -> list[str]:
        rest = self.tensors[MAX_TENSORS_SHOWN:]
        size = show(sum(tensor.bytes for tensor in rest), "bytes")
        return [f"{len(rest)} smaller tensors are alive too ({size})"] if rest else []

    def _inner_graph_note(self) -> list[str]:
        """A note where this peak may be larger than that of the totals."""
        if self.peak is None or not self.timeline[self.peak].depth:
            return []
        return [
            f"this peak is inside a branch or a loop body; the main graph's is {show(self.main, 'bytes')}"
        ]
