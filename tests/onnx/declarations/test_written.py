"""Every verb on every model: the file that it writes says what the original said, and what is true.

`MODELSURGEON_MODELS` adds public models to the long form; `pytest -s` prints how many files were written.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.api import samples
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from tests import zoo
from tests.onnx.declarations import nets
from tests.onnx.declarations.written import check, documented, faults, stale, without_defaults

MODELS = os.environ.get("MODELSURGEON_MODELS")
MAX_NODES_TO_COMPRESS, MAX_PARAMS_TO_COMPRESS = 400, 3e6  # larger models take too long for compress
Verb = Callable[["Patient"], Any]


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A file with a feed for it. feed: None where the model doesn't run on noise."""

    path: Path
    feed: Mapping[str, np.ndarray] | None
    complaint: str | None

    @cached_property
    def model(self) -> ir.Model:
        return ms.load(self.path)

    @cached_property
    def proto(self) -> onnx.ModelProto:
        return onnx.load(self.path)

    def check_size(self) -> None:
        """Refuse what takes too long to compress in every form."""
        params = sum(site.layer.params for site in sites(editable_copy(self.model))[0])
        if len(self.proto.graph.node) > MAX_NODES_TO_COMPRESS or params > MAX_PARAMS_TO_COMPRESS:
            raise ms.SurgeryError("is too large")

    @cached_property
    def layers(self) -> list[str]:
        return [site.name for site in sites(editable_copy(self.model))[0]]

    @cached_property
    def old_lies(self) -> frozenset[str] | None:
        """Names of the values that the file declares wrongly; None where it doesn't run."""
        found = stale(self.path, self.feed) if self.feed else None
        return None if found is None else frozenset(line.split()[0] for line in found)


def plain(verb: Callable[..., Any], **how: object) -> Verb:
    return lambda patient: verb(patient.path, compare=False, **how)


def with_data(verb: Callable[..., Any], **how: object) -> Verb:
    return lambda patient: verb(
        patient.path, compare=False, data=[patient.feed] if patient.feed else None, **how
    )


def at_its_size(verb: Callable[..., Any], **how: object) -> Verb:
    def run(patient: Patient) -> Any:  # noqa: ANN401 - an operation
        given = {name: array.shape for name, array in (patient.feed or {}).items()}
        return verb(patient.path, compare=False, shapes=given or None, **how)

    return run


def whole(patient: Patient) -> Any:  # noqa: ANN401 - an operation
    names = [value.name for value in patient.model.graph.outputs]
    made = {value.name for node in patient.model.graph for value in node.outputs}
    taken = {value.name for value in patient.model.graph.inputs}
    return ms.extract(patient.path, [n for n in names if n in made | taken], compare=False)


def cut(patient: Patient, *, entry: bool = False) -> Any:  # noqa: ANN401 - an operation
    nodes = [node for node in patient.model.graph if node.op_type != "Constant" and node.outputs[0].name]
    middle = nodes[len(nodes) // 2].outputs[0].name
    if not entry:
        return ms.extract(patient.path, [middle], compare=False)
    return ms.extract(patient.path, [patient.model.graph.outputs[0].name], [middle], compare=False)


def steal(patient: Patient, **how: object) -> Any:  # noqa: ANN401 - an operation
    return ms.steal(patient.path, patient.path, compare=False, **how)


def grown(patient: Patient) -> Any:  # noqa: ANN401 - an operation
    if not patient.layers:
        raise ms.SurgeryError("has no layers")
    rows = {site.name: site.layer.out_channels for site in sites(editable_copy(patient.model))[0]}
    return steal(patient, grow={patient.layers[-1]: rows[patient.layers[-1]] + 4})


def compressed(patient: Patient, **how: object) -> Any:  # noqa: ANN401 - an operation
    patient.check_size()
    return ms.compress(patient.path, compare=False, **how)


def planned(patient: Patient) -> Any:  # noqa: ANN401 - a result
    return compressed(patient, plan=compressed(patient, rank=1, dry_run=True).plan)


def swept(patient: Patient) -> Any:  # noqa: ANN401 - a result
    patient.check_size()
    return ms.sweep(patient.path, [0.8], of="params", compare=False).points[0].result


def in_a_pipeline(patient: Patient) -> Any:  # noqa: ANN401 - a pipeline run
    verbs = ("bn fold", "prune", "equalize", "pool2conv", "bn sanitize")
    return ms.pipeline(
        {"model": str(patient.path), "step": [{"verb": verb, "compare": False} for verb in verbs]}
    )


# All verbs that write a model, in all their forms; a new one needs a line here.
VERBS: dict[str, Verb] = {
    "bn fold": plain(ms.bn.fold),
    "bn freeze": plain(ms.bn.freeze),
    "bn freeze to norm": plain(ms.bn.freeze, form="batchnorm"),
    "bn sanitize": plain(ms.bn.sanitize),
    "bn recalibrate": with_data(ms.bn.recalibrate),
    "equalize": plain(ms.equalize),
    "prune": plain(ms.prune),
    "clean": plain(ms.clean),
    "fold frozen inputs": plain(ms.bn.fold, freeze_inputs=True),
    "steal with frozen inputs": partial(steal, freeze_inputs=True),
    "pool2conv": plain(ms.pool2conv),
    "pool2conv approximate": with_data(ms.pool2conv, approximate=True),
    "fc2conv": plain(ms.fc2conv),
    "fc2conv at its size": at_its_size(ms.fc2conv),
    "reverse": at_its_size(ms.fc2conv, reverse=True),
    "im2col": at_its_size(ms.fc2conv, reverse=True, im2col=True),
    "extract all": whole,
    "extract half": cut,
    "extract the rest": partial(cut, entry=True),
    "steal": steal,
    "steal partial": partial(steal, partial=True),
    "steal and grow": grown,
    "compress to rank 1": partial(compressed, rank=1),
    "compress to macs": partial(compressed, macs=0.7),
    "compress with frozen inputs": partial(compressed, params=0.8, freeze_inputs=True),
    "compress by a plan": planned,
    "sweep": swept,
    "pipeline": in_a_pipeline,
}
FREEZING = {name for name in VERBS if "frozen" in name}
CUTS = {"extract all", "extract half", "extract the rest"}
RESIZING = {"fc2conv", "fc2conv at its size", "reverse", "im2col", "steal and grow"}


def complaints(patient: Patient, name: str, folder: Path, seen: Counter[str]) -> Iterator[str]:
    """What is wrong with the file that a verb writes; nothing where it refuses."""
    try:
        done = VERBS[name](patient)
    except ms.SurgeryError as error:
        seen[f"refused: {type(error).__name__}"] += 1
        if "would lose" in str(error) or "would change the" in str(error):
            yield f"can't be written: {error}"
        return
    out = folder / "out.onnx"
    ms.save(done.model, out)
    edited = bool(getattr(done, "edits", True)) and any(
        edit.skipped is None for edit in getattr(done, "edits", ())
    )
    seen["written, edited" if edited else "written"] += 1
    known = {"resized": name in RESIZING, "cut": name in CUTS, "lies": patient.old_lies or ()}
    before = without_defaults(patient.proto) if name in FREEZING else patient.proto
    yield from faults(before, onnx.load(out), **known)
    if patient.complaint is None and (complaint := check(out)) is not None:
        yield f"checker: {complaint}"
    if patient.old_lies is not None and patient.feed and name != "extract the rest":
        lies = stale(out, patient.feed)
        seen["run"] += lies is not None
        yield from (line for line in lies or () if line.split()[0] not in patient.old_lies)


def admitted(model: onnx.ModelProto, path: Path) -> Patient:
    """The model as a file with doc strings everywhere."""
    onnx.save(documented(model), path)
    try:
        feed = next(iter(samples.feeds(ms.load(path), None, samples=1)[0]))
    except ms.SurgeryError:
        feed = None
    return Patient(path=path, feed=feed, complaint=check(path))


@pytest.mark.parametrize("build", nets.NETS, ids=lambda build: build.__name__)
def test_small_nets(build: nets.Build, tmp_path: Path) -> None:
    from modelsurgeon.onnx.graph.map_types import restore_map_types

    proto = ir.to_proto(build())
    restore_map_types(proto)
    patient = admitted(proto, tmp_path / "model.onnx")
    seen: Counter[str] = Counter()
    found = {name: list(complaints(patient, name, tmp_path, seen)) for name in VERBS}
    assert not {name: lines for name, lines in found.items() if lines}
    assert seen["written, edited"] or build.__name__ in ("loop", "scan", "branches", "functions", "padded")


def test_an_output_of_unknown_type_is_refused() -> None:
    model = zoo.model("g (float[N, 6] x) => (float[N, 5] y) { a = local.Post (x) y = local.Post (a) }")
    with pytest.raises(ms.BadModel, match="nothing gives the type of 'a'"):
        ms.extract(model, ["a"], compare=False)


def files() -> list[Path]:
    """The classic nets of the onnx package, and public models."""
    public = sorted(p for p in Path(MODELS).rglob("*.onnx") if "backend/test" not in str(p)) if MODELS else []
    return [*sorted(zoo.LIGHT.glob("*.onnx")), *(p for p in public if not p.name.startswith("light_"))]


@pytest.mark.slow
@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_large_nets(path: Path, tmp_path: Path) -> None:
    try:
        ms.load(path)
    except ms.SurgeryError as error:
        pytest.skip(str(error))
    patient = admitted(onnx.load(path), tmp_path / "model.onnx")
    seen: Counter[str] = Counter()
    found = {name: list(complaints(patient, name, tmp_path, seen)) for name in VERBS}
    print(path.stem, dict(seen))
    assert not {name: lines for name, lines in found.items() if lines}
