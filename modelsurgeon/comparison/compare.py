"""Comparison of two models by their outputs on the same feeds, with error metrics and a verdict.

Models are given as functions from inputs to outputs, so that any framework's can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, Literal

from modelsurgeon.comparison.metrics import Metrics, MetricSums
from modelsurgeon.comparison.pairing import LayerPair, OutputPairs, pair_outputs
from modelsurgeon.errors import BadData
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

Verdict = Literal["identical", "within-noise", "within-tolerance", "different"]
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]

EXACT_TOLERANCE = 1e-5  # relative L2 that exact surgery stays under, and the tolerance where none is given
NOISE_FACTOR = 4.0  # times the noise floor: rounding in yet another order may be a few times worse
# The largest error that passes for noise. Of 64 real models one moves by .05 under another execution (a
# detector on noise, whose probabilities are nearly 0 there), the others by 2e-5 at most.
NOISE_CEILING = 0.1
LOUD_ERROR = 0.3  # relative L2 above which a result is warned of that nothing was asked of
MAX_RANDOM_NAMED = 3  # random operators in a message

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

    outputs: metrics of each output, in A's order, then of the layers where these are compared too.
    noise_floor: the metrics of A against itself under another legal execution; None where that wasn't run.
    verdict: see `compare`; None where there is none, and `reason` says why. tolerance: largest relative L2
    error allowed. asked: whether the outputs had to stay within it; otherwise the verdict is a remark.
    inputs: "data" or "noise"; a verdict on noise is no verdict on data. samples: number of samples.
    providers: onnxruntime's execution providers of A and B. notes: sentences for the reader.
    """

    outputs: Sequence[Metrics]
    noise_floor: Sequence[Metrics] | None = None
    verdict: Verdict | None
    reason: str = ""
    tolerance: float
    asked: bool = True
    inputs: str = "data"
    samples: int
    providers: Sequence[str] = ()
    notes: Sequence[str] = ()

    @property
    def judged(self) -> Sequence[Metrics]:
        """The metrics of the model's own outputs, which alone decide the verdict."""
        return [output for output in self.outputs if not output.layer]

    @property
    def worst(self) -> float:
        """The largest error over all outputs: relative L2, or the share of differing integers or texts.

        Infinite where shapes differ, something is NaN or infinite in one model only, or there is no verdict.
        """
        if self.verdict is None:
            return inf
        return max((output.error for output in self.judged), default=0.0)

    @property
    def worst_output(self) -> str:
        """The name of the output with the largest error, and why its numbers couldn't be compared if so."""
        worst = max(self.judged, key=lambda output: output.error, default=None)
        if worst is None:
            return ""
        return f"{worst.name!r}, {worst.note}" if worst.note else repr(worst.name)

    @property
    def noise(self) -> float:
        """The largest error of A against itself; 0 where that wasn't measured."""
        return max((output.error for output in self.noise_floor or ()), default=0.0)

    @property
    def warning(self) -> str:
        """A warning of an error above LOUD_ERROR that no gate was asked to catch, or ""."""
        if self.asked or self.worst <= LOUD_ERROR:
            return ""
        return (
            f"the outputs changed much: relative L2 is {self.worst:.3g} at {self.worst_output}, and no "
            "tolerance was given to stop it: ask for less, or give a tolerance (--tolerance)"
        )

    @property
    def remarks(self) -> list[str]:
        """The warning, what wasn't asked, what the verdict doesn't cover, and the notes."""
        unasked = (
            f"relative L2 is {self.worst:.3g}; no tolerance was given, so nothing was asked of it"
            if self._is_unasked_difference
            else ""
        )
        remarks = (self.warning, unasked, *map(_gap_note, self.judged), _ceiling_note(self.noise))
        return [*filter(None, remarks), *self.notes]

    @property
    def _is_unasked_difference(self) -> bool:
        return self.verdict == "different" and not self.asked

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in which infinite and undefined numbers are null."""
        return {
            "outputs": [output.as_dict() for output in self.outputs],
            "noise_floor": _floor_as_dict(self.noise_floor),
            "inputs": self.inputs,
            "samples": self.samples,
            "providers": list(self.providers),
            "tolerance": self.tolerance,
            "asked": self.asked,
            "rel_l2": self.worst if isfinite(self.worst) else None,
            "verdict": self.verdict,
            "reason": self.reason,
            "notes": self.remarks,
        }

    def tables(self) -> list[Table]:
        """One table with a row per output, and the verdict in words below."""
        floor = None if self.noise_floor is None else f"noise floor, A against itself: {self.noise:.2g}"
        many = "sample" if self.samples == 1 else "samples"
        allowed = f", tolerance {self.tolerance:.2g} (relative L2)" if self.asked else ""
        samples = f"{self.samples} {many} of {self.inputs}{allowed}"
        mismatches = [f"{output.name}: {output.note}" for output in self.outputs if output.note]
        notes = [note for note in (self._verdict_line, samples, floor, *mismatches, *self.remarks) if note]
        rows = [output.as_dict() for output in self.outputs]
        return [Table(title="Outputs", columns=OUTPUT_COLUMNS, rows=rows, notes=notes)]

    @property
    def _verdict_line(self) -> str:
        if self.verdict is None:
            return f"no verdict: {self.reason}"
        if self._is_unasked_difference:
            return ""  # the remarks say what the error is
        return f"verdict: {self.verdict} ({VERDICT_TEXTS[self.verdict]})"


def compare(
    run_a: Run,
    run_b: Run,
    batches: Iterable[Mapping[str, Any]],
    *,
    rerun_a: Run | None = None,
    tolerance: float | None = None,
    asked: bool = True,
    by_position: bool = False,
    layers: Sequence[LayerPair] = (),
    random: Sequence[str] = (),
    random_b: Sequence[str] = (),
    providers: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Comparison:
    """Run A and B on the same feeds and compare the outputs.

    Outputs are paired by name; by_position: the remaining ones by position. rerun_a: A under another legal
    execution (optimizations off, one thread), whose difference from A is the noise floor. asked: whether the
    outputs have to stay within the tolerance. layers: inner tensors that both give as well; they have metrics
    and no part in the verdict. random, random_b: operators of A and of B that may give other values at every
    run. The verdict is

    - identical: every bit of every output is the same;
    - within-noise: every output's error is at most NOISE_FACTOR times its error in the noise floor, and at
      most NOISE_CEILING;
    - within-tolerance: every output's error is at most `tolerance`, or EXACT_TOLERANCE where none is given;
    - different: otherwise, and whenever a given tolerance is exceeded, be it by noise;
    - None, with the reason, where no output has a partner, A differs from itself when it is run twice, or a
      B with random operators does, or no finite element was compared.

    An output's error is its relative L2; for integers, truth values and texts, the share of elements that
    differ; infinite where shapes differ, or something is NaN or infinite in one model only.
    Raises BadModel where the numbers of outputs differ or two of one position are of other types or ranks,
    BadData where there is no feed.
    """
    sums: dict[str, MetricSums] = {}
    floor_sums: dict[str, MetricSums] = {}
    repeat_sums: dict[str, MetricSums] = {}
    repeat_sums_b: dict[str, MetricSums] = {}
    pairs: OutputPairs | None = None
    count = 0
    for feed in batches:
        a, b = run_a(feed), run_b(feed)
        if pairs is None:
            pairs = pair_outputs(a, b, layers, by_position=by_position)
        own = pairs.of_a_with_itself
        _add_outputs(sums, a, b, pairs.all)
        if rerun_a is not None:
            again = rerun_a(feed)
            _add_outputs(floor_sums, a, again, own)
            if random:
                _add_outputs(repeat_sums, again, rerun_a(feed), own)
        if random or not count:
            _add_outputs(repeat_sums, a, run_a(feed), own)
        if random_b:
            _add_outputs(repeat_sums_b, b, run_b(feed), pairs.of_b_with_itself)
        count += 1
    if pairs is None:
        raise BadData("there is no sample to compare on: one at least is needed")
    outputs = [output_sums.metrics() for output_sums in sums.values()]
    judged = [output for output in outputs if not output.layer]
    noise = [output_sums.metrics() for output_sums in floor_sums.values()] if rerun_a else None
    repeats, repeats_b = ([each.metrics() for each in sums.values()] for sums in (repeat_sums, repeat_sums_b))
    randomness = _randomness("A", repeats, random) or _randomness("B", repeats_b, random_b)
    reason = pairs.problem or randomness or _emptiness(judged)
    return Comparison(
        outputs=outputs,
        noise_floor=noise,
        verdict=None if reason else decide_verdict(judged, noise, tolerance),
        reason=reason,
        tolerance=EXACT_TOLERANCE if tolerance is None else tolerance,
        asked=asked,
        inputs=getattr(batches, "kind", "data"),
        samples=getattr(batches, "samples", count),
        providers=providers,
        notes=(*pairs.notes, *notes),
    )


def decide_verdict(
    outputs: Sequence[Metrics], noise: Sequence[Metrics] | None, tolerance: float | None
) -> Verdict:
    """The verdict on outputs of which something was compared, as `compare` defines it."""
    worst = max(output.error for output in outputs)
    if all(output.identical for output in outputs):
        return "identical"
    if tolerance is not None and worst > tolerance:
        return "different"
    if noise is not None and _is_within_noise(outputs, noise):
        return "within-noise"
    return (
        "within-tolerance" if worst <= (EXACT_TOLERANCE if tolerance is None else tolerance) else "different"
    )


def _add_outputs(
    sums: dict[str, MetricSums],
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    pairs: Sequence[LayerPair],
) -> None:
    """Add one feed's outputs of A and B to the sums, which are kept by A's output names."""
    for pair in pairs:
        sums.setdefault(pair.a, MetricSums(pair.a, pair.layer)).add(a[pair.a], b[pair.b])


def _is_within_noise(outputs: Sequence[Metrics], noise: Sequence[Metrics]) -> bool:
    limits = (min(NOISE_FACTOR * floor.error, NOISE_CEILING) for floor in noise)
    return all(output.error <= limit for output, limit in zip(outputs, limits, strict=True))


def _randomness(model: str, repeats: Sequence[Metrics], random: Sequence[str]) -> str:
    """How a model, A or B, differs from itself when it is run twice, or "".

    Without a random operator, rounding may differ where threads add in another order.
    """
    found = [m for m in repeats if (not m.identical if random else m.error > EXACT_TOLERANCE)]
    if not found:
        return ""
    worst = max(found, key=lambda metrics: metrics.error)
    named = ", ".join(random[:MAX_RANDOM_NAMED]) + (", ..." if len(random) > MAX_RANDOM_NAMED else "")
    return (
        f"{model} is not deterministic: output {worst.name!r} differs by {worst.error:.3g} (relative L2) "
        f"when {model} runs twice on the same sample{f'; random operators: {named}' if named else ''}: "
        "switch dropout and other randomness off first"
    )


def _emptiness(outputs: Sequence[Metrics]) -> str:
    """Why nothing was compared, or ""."""
    if not all(output.says_nothing for output in outputs):
        return ""
    kinds = "NaN or infinite in both" if any(output.nan_or_inf for output in outputs) else "empty"
    names = ", ".join(repr(output.name) for output in outputs[:3])
    return (
        f"no finite element was compared, all of {names} is {kinds}: give samples (--data) on which the "
        "outputs are numbers"
    )


def _gap_note(output: Metrics) -> str:
    """What the metrics of an output leave out, or ""."""
    if output.says_nothing:
        kind = "NaN or infinite in both" if output.nan_or_inf else "empty"
        return f"the verdict says nothing about the output {output.name!r}: it is {kind} on every sample"
    if output.nan_or_inf and output.error < inf:
        return (
            f"{output.nan_or_inf} elements of the output {output.name!r} are NaN or infinite in both: they "
            "are left out, and top-1 is of the finite rows"
        )
    return ""


def _ceiling_note(noise: float) -> str:
    if noise <= NOISE_CEILING:
        return ""
    return (
        f"A moves by {noise:.2g} under another legal execution, which is more than rounding: at most "
        f"{NOISE_CEILING:g} passes for noise"
    )


def _floor_as_dict(noise: Sequence[Metrics] | None) -> dict[str, Any] | None:
    """The worst of each metric over the outputs, and the metrics of each output."""
    if noise is None:
        return None
    worst = {key: max((output.as_dict()[key] or 0.0 for output in noise), default=0.0) for key in FLOOR_KEYS}
    return {**worst, "outputs": [output.as_dict() for output in noise]}
