"""Comparison of two models by their outputs on the same feeds, with error metrics and a verdict.

Models are given as functions from inputs to outputs, so that any framework's can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

from modelsurgeon.comparison.metrics import Metrics, MetricSums
from modelsurgeon.errors import BadData, BadModel
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

Verdict = Literal["identical", "within-noise", "within-tolerance", "different"]
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]

EXACT_TOLERANCE = 1e-5  # relative L2 that exact surgery stays under, and the tolerance where none is given
NOISE_FACTOR = 4.0  # times the noise floor: rounding in yet another order may be a few times worse

FLOOR_KEYS = ("rel_l2", "max_abs", "max_abs_over_peak")

VERDICT_TEXTS: Mapping[Verdict, str] = {
    "identical": "every bit is the same",
    "within-noise": "no further apart than A from itself under another legal execution",
    "within-tolerance": "further apart than noise, but within the tolerance",
    "different": "further apart than allowed",
}


OUTPUT_COLUMNS = (
    Column(key="name", title="output"),
    Column(key="rel_l2", title="rel L2", kind="float"),
    Column(key="max_abs", title="max |d|", kind="float"),
    Column(key="max_abs_over_peak", title="/ peak", kind="float"),
    Column(key="sqnr_db", title="SQNR dB", kind="float"),
    Column(key="cosine", title="cosine", kind="float", wide=True),
    Column(key="top1_agreement", title="top-1", kind="percent"),
    Column(key="equal", title="equal", kind="percent"),
    Column(key="nan_or_inf", title="NaN, Inf", kind="int", wide=True),
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Result of comparing the outputs of a model B with those of A.

    outputs: metrics of each output, in A's order. noise_floor: the metrics of A against itself under another
    legal execution; None where that wasn't run. verdict: see `compare`. tolerance: largest relative L2 error
    allowed. inputs: "data" or "noise"; a verdict on noise is no verdict on data. samples: number of samples.
    providers: onnxruntime's execution providers of A and B. notes: sentences for the reader.
    """

    outputs: Sequence[Metrics]
    noise_floor: Sequence[Metrics] | None = None
    verdict: Verdict
    tolerance: float
    inputs: str = "data"
    samples: int
    providers: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def worst(self) -> float:
        """The largest error over all outputs: relative L2, or the share of differing integers or texts.

        Infinite where shapes differ, or something is NaN or infinite in one model only. 0 without outputs.
        """
        return max((output.error for output in self.outputs), default=0.0)

    @property
    def noise(self) -> float:
        """The largest error of A against itself; 0 where that wasn't measured."""
        return max((output.error for output in self.noise_floor or ()), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in which infinite and undefined numbers are null."""
        return {
            "outputs": [output.as_dict() for output in self.outputs],
            "noise_floor": _floor_as_dict(self.noise_floor),
            "inputs": self.inputs,
            "samples": self.samples,
            "providers": list(self.providers),
            "tolerance": self.tolerance,
            "rel_l2": self.worst if isfinite(self.worst) else None,
            "verdict": self.verdict,
            "notes": list(self.notes),
        }

    def tables(self) -> list[Table]:
        """One table with a row per output, and the verdict in words below."""
        verdict = f"verdict: {self.verdict} ({VERDICT_TEXTS[self.verdict]})"
        floor = None if self.noise_floor is None else f"noise floor, A against itself: {self.noise:.2g}"
        many = "sample" if self.samples == 1 else "samples"
        samples = f"{self.samples} {many} of {self.inputs}, tolerance {self.tolerance:.2g} (relative L2)"
        mismatches = [f"{output.name}: {output.note}" for output in self.outputs if output.note]
        notes = [note for note in (verdict, samples, floor, *mismatches, *self.notes) if note]
        rows = [output.as_dict() for output in self.outputs]
        return [Table(title="Outputs", columns=OUTPUT_COLUMNS, rows=rows, notes=notes)]


def compare(
    run_a: Run,
    run_b: Run,
    batches: Iterable[Mapping[str, Any]],
    *,
    rerun_a: Run | None = None,
    tolerance: float | None = None,
    providers: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Run A and B on the same feeds and compare the outputs.

    Outputs are paired by name, the remaining ones by position. rerun_a: A under another legal execution
    (optimizations off, one thread), whose difference from A is the noise floor. The verdict is

    - identical: every bit of every output is the same;
    - within-noise: every output's error is at most NOISE_FACTOR times its error in the noise floor;
    - within-tolerance: every output's error is at most `tolerance`, or EXACT_TOLERANCE where none is given;
    - different: otherwise, and whenever a given tolerance is exceeded, be it by noise.

    An output's error is its relative L2; for integers, truth values and texts, the share of elements that
    differ; infinite where shapes differ, or something is NaN or infinite in one model only.
    Raises BadModel where the outputs can't be paired, BadData where there is no feed.
    """
    sums: dict[str, MetricSums] = {}
    floor_sums: dict[str, MetricSums] = {}
    pairs: list[tuple[str, str]] = []
    count = 0
    for feed in batches:
        a, b = run_a(feed), run_b(feed)
        pairs = pairs or pair_outputs(list(a), list(b))
        _add_outputs(sums, a, b, pairs)
        if rerun_a is not None:
            _add_outputs(floor_sums, a, rerun_a(feed), [(name, name) for name, _ in pairs])
        count += 1
    if not count:
        raise BadData("there is no sample to compare on: one at least is needed")
    outputs = [output_sums.metrics() for output_sums in sums.values()]
    noise = [output_sums.metrics() for output_sums in floor_sums.values()] if rerun_a else None
    renamed = [f"output {b} of B is compared with {a} of A" for a, b in pairs if a != b]
    return Comparison(
        outputs=outputs,
        noise_floor=noise,
        verdict=decide_verdict(outputs, noise, tolerance),
        tolerance=EXACT_TOLERANCE if tolerance is None else tolerance,
        inputs=getattr(batches, "kind", "data"),
        samples=getattr(batches, "samples", count),
        providers=providers,
        notes=(*renamed, *notes),
    )


def decide_verdict(
    outputs: Sequence[Metrics], noise: Sequence[Metrics] | None, tolerance: float | None
) -> Verdict:
    """The verdict, as `compare` defines it."""
    worst = max(output.error for output in outputs)
    if all(output.identical for output in outputs):
        return "identical"
    if tolerance is not None and worst > tolerance:
        return "different"
    if noise is not None and worst < inf and _is_within_noise(outputs, noise):
        return "within-noise"
    return (
        "within-tolerance" if worst <= (EXACT_TOLERANCE if tolerance is None else tolerance) else "different"
    )


def pair_outputs(a: Sequence[str], b: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of an output of A and one of B: by name, the remaining ones by position.

    Raises BadModel for different numbers of outputs, and for none.
    """
    if not a or len(a) != len(b):
        raise BadModel(f"A gives {_output_list(a)} and B gives {_output_list(b)}: as many outputs are needed")
    remaining = iter([name for name in b if name not in a])
    return [(name, name if name in b else next(remaining)) for name in a]


def _add_outputs(
    sums: dict[str, MetricSums],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    pairs: Sequence[tuple[str, str]],
) -> None:
    """Add one feed's outputs of A and B to the sums, which are kept by A's output names."""
    for name, other in pairs:
        sums.setdefault(name, MetricSums(name)).add(a[name], b[other])


def _is_within_noise(outputs: Sequence[Metrics], noise: Sequence[Metrics]) -> bool:
    return all(o.error <= NOISE_FACTOR * n.error for o, n in zip(outputs, noise, strict=True))


def _floor_as_dict(noise: Sequence[Metrics] | None) -> dict[str, Any] | None:
    """The worst of each metric over the outputs, and the metrics of each output."""
    if noise is None:
        return None
    worst = {key: max((output.as_dict()[key] or 0.0 for output in noise), default=0.0) for key in FLOOR_KEYS}
    return {**worst, "outputs": [output.as_dict() for output in noise]}


def _output_list(names: Sequence[str]) -> str:
    return f"{len(names)} outputs ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
