"""Every exact verb on every model there is: it holds the answers, or says why it left a layer alone.

The models are the public ones, the classic nets that the onnx package brings, with random weights, and those
of onnx's own test-suite. Run with `pytest -s` to read the table: how many models were edited, how far the
worst answer moved, and the reasons to leave a layer alone.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon import doors
from modelsurgeon.onnx.run import runner
from modelsurgeon.onnx.shapes import data_inputs
from modelsurgeon.table import Column, Table
from tests import zoo
from tests.onnx.test_backend import CASES, array

MODELS = os.environ.get("MODELSURGEON_MODELS")
EXACT = 1e-5
Verb = Callable[..., ms.Operation]
Feed = Mapping[str, np.ndarray]


def whole(model: ir.Model, **how: object) -> ms.Operation:
    """Extraction of all outputs: nothing but dropout may go."""
    return ms.extract(model, [str(value.name) for value in model.graph.outputs], **how)  # type: ignore[arg-type]


def halved(model: ir.Model, **how: object) -> ms.Operation:
    """Extraction of a tensor in the middle."""
    nodes = [node for node in model.graph if node.op_type != "Constant"]
    if not nodes:
        return whole(model, **how)
    return ms.extract(model, [str(nodes[len(nodes) // 2].outputs[0].name)], **how)  # type: ignore[arg-type]


# A verb that is exact joins with its line.
VERBS: dict[str, Verb] = {
    "bn fold": ms.bn.fold,
    "bn freeze": ms.bn.freeze,
    "extract all": whole,
    "extract half": halved,
    "equalize": ms.equalize,
    "fc2conv": ms.fc2conv,
    "pool2conv": ms.pool2conv,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.models,
    pytest.mark.skipif(not CASES, reason="MODELSURGEON_MODELS names no folder with public models"),
]


@dataclass
class Seen:
    """What a verb did to the models of one kind."""

    models: int = 0
    edited: int = 0
    unrunnable: int = 0
    worst: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)


@pytest.mark.parametrize("verb", VERBS)
def test_the_answers_hold_everywhere(verb: str) -> None:
    seen = {kind: Seen() for kind in ("public", "light", "backend")}
    failures: list[str] = []
    for kind, path in paths():
        try:
            model, feed = sample(kind, path)
        except ms.SurgeryError:
            continue  # refused at the door, as io's own tests have it
        seen[kind].models += 1
        try:
            note(seen[kind], VERBS[verb](model, data=[feed] if feed else None))
        except ms.SurgeryError as error:
            seen[kind].unrunnable += 1
            if runs(model, feed):
                failures.append(f"{path}: {error}")
            else:
                VERBS[verb](model, compare=False)
    print("\n" + table(verb, seen).text(100) + reasons(seen).text(100))
    assert not failures


def paths() -> Iterator[tuple[str, Path]]:
    """All models by kind."""
    backend = set(CASES)
    for path in sorted(Path(str(MODELS)).rglob("*.onnx")):
        if path not in backend and "backend/test" not in str(path):
            yield "public", path
    yield from (("light", path) for path in sorted(zoo.LIGHT.glob("*.onnx")))
    yield from (("backend", path) for path in CASES)


def sample(kind: str, path: Path) -> tuple[ir.Model, Feed | None]:
    """A model and one feed for it; None where it has to be noise."""
    model = ms.load(path)
    if kind == "light":
        draw_weights(model)
    folder = path.parent / "test_data_set_0"
    given = {str(v.name): array(folder / f"input_{i}.pb") for i, v in enumerate(data_inputs(model))}
    feed = {name: found for name, found in given.items() if found is not None}
    if feed and len(feed) == len(given):
        return model, feed
    try:
        return model, next(iter(doors.feeds(model, None, samples=1)[0]))
    except ms.SurgeryError:
        return model, None


def draw_weights(model: ir.Model) -> None:
    """Put normal weights in the place of equal ones, positive where they have one axis."""
    draw = np.random.default_rng(0)
    for node in list(model.graph):
        if node.op_type == "ConstantOfShape":
            shape = tuple(int(size) for size in ir.convenience.get_const_tensor(node.inputs[0]).numpy())
            fan = np.prod(shape[1:]) if len(shape) > 1 else 1
            array = (
                draw.normal(size=shape) * np.sqrt(2 / fan) if len(shape) > 1 else draw.uniform(0.5, 1, shape)
            )
            made = ir.node("Constant", [], {"value": ir.tensor(array.astype(np.float32))})
            old = node.outputs
            made.outputs[0].name = old[0].name
            ir.convenience.replace_nodes_and_values(model.graph, node, [node], [made], old, made.outputs)


def runs(model: ir.Model, feed: Feed | None) -> bool:
    """Whether the original itself can be run as `operate` would run it."""
    try:
        first = feed or next(iter(doors.feeds(model, None)[0]))
        for optimize in (False, True):
            runner(model, optimize=optimize)(first)
    except ms.SurgeryError:
        return False
    return True


def note(seen: Seen, done: ms.Operation) -> None:
    assert done.comparison is not None
    assert done.comparison.worst <= EXACT or done.comparison.verdict == "within-noise"
    seen.edited += any(edit.skipped is None for edit in done.edits)
    seen.worst = max(seen.worst, done.comparison.worst)
    seen.reasons.update(str(edit.skipped) for edit in done.edits if edit.skipped is not None)
    assert "" not in seen.reasons


def table(verb: str, seen: Mapping[str, Seen]) -> Table:
    columns = [
        Column(key="kind", title="models"),
        Column(key="models", title="count", kind="int"),
        Column(key="edited", title="edited", kind="int"),
        Column(key="unrunnable", title="don't run", kind="int"),
        Column(key="worst", title="worst rel L2", kind="float"),
    ]
    rows = [{"kind": kind, **vars(each)} for kind, each in seen.items()]
    return Table(title=f"{verb}, everywhere", columns=columns, rows=rows)


def reasons(seen: Mapping[str, Seen]) -> Table:
    total = sum((each.reasons for each in seen.values()), Counter[str]())
    rows = [{"count": count, "reason": reason} for reason, count in total.most_common()]
    columns = [
        Column(key="count", title="layers", kind="int"),
        Column(key="reason", title="left alone because", kind="prose"),
    ]
    return Table(title="", columns=columns, rows=rows)
