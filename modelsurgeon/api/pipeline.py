"""Several verbs in order, with gates between them: a model comes out only where every gate holds.

A recipe names the model, what all steps share, and the steps:

    model = "model.onnx"
    out = "small.onnx"
    data = "calibration.npz"
    tolerance = 0.1               # of the last model against the first, relative L2

    [[step]]
    verb = "bn fold"

    [[step]]
    verb = "compress"
    macs = 0.5
    max_params = 1e6              # a gate on what this step gives

Arguments are those of the library; paths start from the recipe's folder.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from modelsurgeon.api import models
from modelsurgeon.api.info import info
from modelsurgeon.api.operation import compare_with_original, drawn_feeds
from modelsurgeon.api.options import SurgeryOptions, keywords_of
from modelsurgeon.arguments import Interval, Tolerance, checked, find_problem, parameters
from modelsurgeon.comparison import gate
from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.errors import BadArgument, BadPlan, GateMissed
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table

# verb -> where its function is; each takes a model and gives a result with `model` and `comparison`
VERBS = {
    "bn fold": "bn.fold",
    "bn freeze": "bn.freeze",
    "bn recalibrate": "bn.recalibrate",
    "bn sanitize": "bn.sanitize",
    "clean": "api.surgery.clean",
    "compress": "api.compress.compress",
    "equalize": "api.surgery.equalize",
    "extract": "api.surgery.extract",
    "fc2conv": "api.surgery.fc2conv",
    "pool2conv": "api.surgery.pool2conv",
    "prune": "api.surgery.prune",
    "steal": "api.steal.steal",
}
LIMITED_TOTALS = ("macs", "params", "param_bytes", "activation_bytes")
PATH_ARGUMENTS = ("data", "donor", "plan")
SHARED_ARGUMENTS = ("data", "seed", "provider", "shapes", "dims", "freeze_inputs")
Limit = Annotated[float, Interval(0)]
DATA_TYPES = str | Path | Mapping[str, Any] | Sequence[Any]  # of samples in a recipe
RECIPE_TYPES: Mapping[str, Any] = {
    **get_type_hints(SurgeryOptions, include_extras=True),
    "out": str | Path,
    "tolerance": Tolerance | None,
    "data": DATA_TYPES,
}
RECIPE_KEYS = ("model", "out", "tolerance", "step", *SHARED_ARGUMENTS)


@dataclass(frozen=True, kw_only=True)
class RecipeStep:
    """One verb with its arguments. limits: total -> the most that its model may have of it."""

    verb: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a pipeline does. shared: arguments for every step that takes them. out: where the model goes.

    tolerance: relative L2 of the last model against the first; None for no such comparison.
    """

    model: Path
    out: Path | None
    steps: Sequence[RecipeStep]
    shared: Mapping[str, Any]
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """One step that was run: the verb's result, and the totals of its model."""

    step: RecipeStep
    result: Any
    totals: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The step and its result as plain JSON data."""
        arguments = {key: value for key, value in self.step.arguments.items() if key not in PATH_ARGUMENTS}
        return {
            "verb": self.step.verb,
            "arguments": arguments,
            "totals": self.totals,
            **self.result.as_dict(),
        }


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """A finished pipeline: its last model, a report per step, and the first and last model compared."""

    model: Any
    steps: Sequence[StepReport]
    comparison: Comparison | None

    def as_dict(self) -> dict[str, Any]:
        """All steps as plain JSON data."""
        comparison = None if self.comparison is None else self.comparison.as_dict()
        return {"steps": [step.as_dict() for step in self.steps], "comparison": comparison}

    def tables(self) -> list[Table]:
        """A row per step, the tables of every step, and the last model compared with the first."""
        details = [
            replace(table, title=f"{number}. {report.step.verb}: {table.title}")
            for number, report in enumerate(self.steps, 1)
            for table in report.result.tables()
        ]
        last = [] if self.comparison is None else self.comparison.tables()
        return [_summary(self.steps), *details, *(replace(t, title="First against last") for t in last)]


def read(path: str | Path) -> Recipe:
    """The recipe in a TOML file. Raises BadPlan for a file that is none."""
    path = Path(path)
    try:
        return recipe(tomllib.loads(path.read_text(encoding="utf-8")), path.parent)
    except OSError as error:
        raise BadPlan(f"{path} can't be read ({error.strerror}): check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadPlan(f"{path} is no TOML: {error}") from error
    except BadPlan as error:
        raise BadPlan(f"{path}: {error}") from error


def recipe(given: Mapping[str, Any], folder: Path = Path()) -> Recipe:
    """A recipe from plain data; paths start from `folder`. Raises BadPlan."""
    _check_keys(given, RECIPE_KEYS, "a pipeline")
    _check_types(
        {key: value for key, value in given.items() if key not in ("step", "model")},
        RECIPE_TYPES,
        "the pipeline",
    )
    if not isinstance(given.get("model"), str):
        raise BadPlan("no model is named: model = FILE is needed")
    steps = given.get("step")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, Mapping) for step in steps):
        raise BadPlan("there is no step: one [[step]] with its verb is needed at least")
    model = given["model"]
    return Recipe(
        model=Path(model) if models.is_source(model) else folder / model,
        out=folder / given["out"] if "out" in given else None,
        steps=[_parse_step(number, step, folder) for number, step in enumerate(steps, 1)],
        shared=_resolve_paths({key: given[key] for key in SHARED_ARGUMENTS if key in given}, folder),
        tolerance=given.get("tolerance"),
    )


@checked
def pipeline(given: str | Path | Mapping[str, Any] | Recipe) -> PipelineRun:
    """Run a recipe: a path to its TOML, the same as plain data, or a `Recipe`. Nothing is written.

    Raises GateMissed and ToleranceExceeded at the first gate that doesn't hold, BadPlan for a recipe that is
    none, and what the verbs raise.
    """
    if not isinstance(given, Recipe):
        given = read(given) if isinstance(given, str | Path) else recipe(given)
    source = str(given.model)
    original = models.load(source, shapes=given.shared.get("shapes"))
    model: Any = original if models.is_source(source) else given.model
    reports: list[StepReport] = []
    for number, step in enumerate(given.steps, 1):
        result = _run_step(number, step, model, given.shared)
        analysis = info(result.model, shapes=given.shared.get("shapes"), dims=given.shared.get("dims"))
        totals = {name: getattr(analysis.totals, name) for name in LIMITED_TOTALS}
        _check_limits(f"step {number}, {step.verb}", analysis, step.limits)
        reports.append(StepReport(step=step, result=result, totals=totals))
        model = result.model
    return PipelineRun(model=model, steps=reports, comparison=_compare_ends(given, reports, original, model))


def _parse_step(number: int, given: Mapping[str, Any], folder: Path) -> RecipeStep:
    verb = given.get("verb")
    if not isinstance(verb, str) or verb not in VERBS:
        raise BadPlan(f"step {number} has the verb {verb!r}; there are {', '.join(VERBS)}")
    gates = {f"max_{name}": name for name in LIMITED_TOTALS if f"max_{name}" in given}
    _check_types({key: given[key] for key in gates}, dict.fromkeys(gates, Limit), f"step {number}, {verb}")
    limits = {name: float(given[key]) for key, name in gates.items()}
    arguments = {key: value for key, value in given.items() if key != "verb" and key not in gates}
    _check_keys(arguments, _parameters(verb), f"step {number}, {verb},")
    known = {**parameters(_function(verb)), "data": RECIPE_TYPES["data"]}
    _check_types(arguments, known, f"step {number}, {verb}")
    return RecipeStep(verb=verb, arguments=_resolve_paths(arguments, folder), limits=limits)


def _check_types(given: Mapping[str, Any], types: Mapping[str, Any], where: str) -> None:
    """Raise BadPlan for the first value that isn't of its type."""
    for key, value in given.items():
        if problem := find_problem(key, value, types[key]):
            raise BadPlan(f"{where}: {problem}")


def _check_keys(given: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise BadPlan(f"{what} takes no {key!r}; {hint}")


def _resolve_paths(arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The arguments with paths relative to the recipe's folder resolved."""
    return {
        key: folder / value if key in PATH_ARGUMENTS and isinstance(value, str | Path) else value
        for key, value in arguments.items()
    }


def _function(name: str) -> Callable[..., Any]:
    """The library's function for a verb."""
    module, _, function = VERBS[name].rpartition(".")
    found: Callable[..., Any] = getattr(import_module(f"modelsurgeon.{module}"), function)
    return found


def _parameters(name: str) -> list[str]:
    """The keywords that a verb takes besides the model."""
    return [key for key in keywords_of(_function(name)) if key != _model_parameter(name)]


def _model_parameter(name: str) -> str:
    """The parameter of a verb that is the model to operate on: the first one, but for a donor's recipient."""
    parameters = keywords_of(_function(name))
    return "recipient" if "recipient" in parameters else parameters[0]


def _run_step(number: int, step: RecipeStep, model: Any, shared: Mapping[str, Any]) -> Any:  # noqa: ANN401
    takes = _parameters(step.verb)
    arguments = {key: value for key, value in shared.items() if key in takes} | dict(step.arguments)
    try:
        return _function(step.verb)(**{_model_parameter(step.verb): model}, **arguments)
    except BadArgument as error:
        raise BadPlan(f"step {number}, {step.verb}: {error}") from error


def _check_limits(where: str, analysis: Analysis, limits: Mapping[str, float]) -> None:
    """Raise GateMissed for a total that is above its limit, or leaves something out and may be."""
    for name, limit in limits.items():
        value, gaps = getattr(analysis.totals, name), analysis.left_out(name)
        least = "at least " if gaps else ""
        if value > limit:
            raise GateMissed(f"{where}: {name} is {least}{value}, at most {limit:.0f} was allowed")
        if gaps:
            raise GateMissed(
                f"{where}: {name} is {least}{value}, at most {limit:.0f} was allowed; left out: {gaps[0]}"
            )


def _compare_ends(
    given: Recipe,
    reports: Sequence[StepReport],
    original: Any,  # noqa: ANN401
    model: Any,  # noqa: ANN401
) -> Comparison | None:
    """The last model compared with the first; None where the recipe has no tolerance for that."""
    if given.tolerance is None:
        return None
    takes = SurgeryOptions.__annotations__
    options: Any = {key: value for key, value in given.shared.items() if key in takes}
    options["tolerance"] = given.tolerance
    feeds, notes = drawn_feeds(original, options)
    vectors = any(step.verb == "fc2conv" for step in given.steps)
    edited = {edit.layer for report in reports for edit in report.result.edits if edit.skipped is None}
    found = compare_with_original(
        original, model, feeds, options, notes, vectors=vectors, gated=True, layers=edited
    )
    gate.check(found, "ask less of the steps, or allow more", subject="the last model differs from the first")
    return found


def _summary(reports: Sequence[StepReport]) -> Table:
    columns = [
        Column(key="step", title="step", kind="int"),
        Column(key="verb", title="verb"),
        Column(key="edited", title="layers edited", kind="int"),
        Column(key="left", title="left alone", kind="int"),
        Column(key="rel_l2", title="rel L2", kind="float"),
        Column(key="verdict", title="verdict"),
        Column(key="macs", title="MACs", kind="count"),
        Column(key="params", title="params", kind="count"),
    ]
    rows = [_row(number, report) for number, report in enumerate(reports, 1)]
    return Table(title="Steps", columns=columns, rows=rows)


def _row(number: int, report: StepReport) -> dict[str, Any]:
    edits, comparison = report.result.edits, report.result.comparison
    left = sum(edit.skipped is not None for edit in edits)
    return {
        "step": number,
        "verb": report.step.verb,
        "edited": len(edits) - left,
        "left": left,
        "rel_l2": None if comparison is None else comparison.worst,
        "verdict": "not compared" if comparison is None else comparison.verdict,
        **report.totals,
    }
