"""Statistics of a model's weights, with findings, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from modelsurgeon.inspection.statistics.remarks import Remark, remarks
from modelsurgeon.inspection.statistics.spectrum import RANK_ENERGIES
from modelsurgeon.inspection.statistics.weight import Weight
from modelsurgeon.report.columns import Column
from modelsurgeon.report.formatting import percent
from modelsurgeon.report.table import Table

WEIGHT_COLUMNS = (
    Column(key="name", title="Layer"),
    Column(key="shape", title="Weight", kind="shape"),
    Column(key="abs_max", title="|Max|", kind="float"),
    Column(key="he", title="× He", kind="float"),
    Column(key="norm", title="Norm", kind="float"),
    Column(key="operator", title="as conv", kind="float", wide=True),
    Column(key="condition", title="Cond.", kind="float", wide=True),
    Column(key="stable_rank", title="Stable", kind="float", wide=True),
    Column(key="r0.9", title="90 %", kind="int", wide=True),
    Column(key="r0.95", title="95 %", kind="int"),
    Column(key="r0.99", title="99 %", kind="int", wide=True),
    Column(key="full", title="Rank", kind="int"),
    Column(key="curve", title="Spectrum", kind="spark"),
    Column(key="dtype", title="Type", wide=True),
    Column(key="sparsity", title="Zeros", kind="percent", wide=True),
    Column(key="min", title="Min", kind="float", wide=True),
    Column(key="max", title="Max", kind="float", wide=True),
    Column(key="std", title="Std", kind="float", wide=True),
)
REMARK_COLUMNS = (
    Column(key="layer", title="Layer"),
    Column(key="rule", title="Rule"),
    Column(key="message", title="Finding", kind="prose"),
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Statistics of all weight tensors of a model, in file order."""

    tensors: Sequence[Weight]

    def among(self, layers: Collection[str]) -> Weights:
        """The tensors of the layers of these names."""
        return Weights(tensors=[weight for weight in self.tensors if weight.layer in layers])

    @property
    def findings(self) -> list[Remark]:
        """The findings in all tensors."""
        return [remark for weight in self.tensors for remark in remarks(weight)]

    def as_dict(self) -> list[dict[str, Any]]:
        """One entry for each tensor, with its findings."""
        return [
            {**weight.as_dict(), "findings": [_remark_row(remark) for remark in remarks(weight)]}
            for weight in self.tensors
        ]

    def tables(self) -> list[Table]:
        """The weights of linear layers, and the findings in all tensors if there are any."""
        shown = [weight for weight in self.tensors if weight.channels is not None]
        listed = [
            Table(title="Weights", columns=WEIGHT_COLUMNS, rows=list(map(_row, shown)), notes=_notes(self))
        ]
        if findings := self.findings:
            rows = [asdict(remark) for remark in findings]
            listed.append(Table(title="Findings in the weights", columns=REMARK_COLUMNS, rows=rows))
        return listed


def _remark_row(remark: Remark) -> dict[str, str]:
    return {"rule": remark.rule, "message": remark.message}


def _row(weight: Weight) -> dict[str, Any]:
    found = weight.spectrum
    row = {
        **weight.spread.as_dict(),
        "name": weight.layer if weight.role == "weight" else f"{weight.layer} {weight.role}",
        "shape": weight.shape,
        "dtype": weight.dtype,
        "he": weight.he,
        "operator": weight.operator.norm if weight.operator else None,
    }
    if found is None:
        return row
    ranks = {f"r{energy:g}": found.rank_for(energy) for energy in RANK_ENERGIES}
    return row | ranks | {
        "norm": found.norm,
        "condition": found.condition,
        "stable_rank": found.stable_rank,
        "full": found.full,
        "curve": found.curve(),
    }  # fmt: skip


def _notes(weights: Weights) -> list[str]:
    """Notes that explain the columns and name what isn't shown."""
    shown = [weight for weight in weights.tensors if weight.channels is not None]
    rest = len(weights.tensors) - len(shown)
    notes = [
        "× He: standard deviation over that of He's initialization; Norm: largest singular value of the "
        "unfolded weight; 95 %: the rank that keeps this share of its energy",
        *_operator_note(shown),
        *_incomplete(shown),
    ]
    return (
        [*notes, f"{rest} more tensors (biases, scales, statistics) aren't shown; JSON has them"]
        if rest
        else notes
    )


def _operator_note(shown: Sequence[Weight]) -> list[str]:
    norms = [weight.operator for weight in shown if weight.operator]
    if not norms:
        return []
    rough = [norm for norm in norms if not norm.exact]
    slack = max((norm.slack for norm in rough), default=0.0)
    short = (
        f"; {len(rough)} of {len(norms)} by iteration, between frequencies at most {percent(slack)} larger"
        if rough
        else ""
    )
    return [
        f"as conv: largest singular value of the convolution as an operator, with circular padding{short}"
    ]


def _incomplete(shown: Sequence[Weight]) -> list[str]:
    long = [weight for weight in shown if weight.spectrum and not weight.spectrum.whole]
    return (
        [f"{len(long)} matrices are too large: only their largest singular value is computed"] if long else []
    )
