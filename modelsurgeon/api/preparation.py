"""How a compression begins: from what a caller hands in to a model on the table and a study of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelsurgeon.api import models
from modelsurgeon.compression.study import Study
from modelsurgeon.data import Batches, split
from modelsurgeon.factorize import METHODS
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.progress import Progress
from modelsurgeon.surgery.edits import FactorizationEdit, check_globs, exclusion_reason
from modelsurgeon.surgery.site import EditableModel, Site

AUTO = "auto"
MIN_CALIBRATION_SAMPLES = 4  # samples to calibrate on; fewer say more about themselves than about the layers


def open_model(model: Any, *, data: Any, shapes: Any, batch: int | None, **how: Any) -> EditableModel:  # noqa: ANN401
    """The model through the door that it takes. how: dims, provider and runs, for graphs."""
    if models.is_module(model):
        from modelsurgeon.torch.model import TorchModel

        return TorchModel(model, data=data, shapes=shapes, batch=batch)
    from modelsurgeon.onnx.model import OnnxModel

    return OnnxModel(models.graph(model), data=data, shapes=shapes, batch=batch, **how)


def prepare(
    editable: EditableModel,
    *,
    method: str,
    only: Sequence[str],
    skip: Sequence[str],
    refit: bool,
    seed: int,
    runs: bool,
    watch: Progress | None,
    block: int = RANK_BLOCK,
) -> Study:
    """What is known of the model on the table; its layers have been watched where there are samples.

    runs: whether the model is run at all. The rest is as for `compress`. Raises BadPlan, ValueError.
    """
    methods = _methods(method)
    sites, left = _chosen_sites(editable, only, skip)
    calibration_data, held_out = _split(editable.batches(seed) if runs else None)
    return Study(
        model=editable.fresh_copy(),
        sites=sites,
        shared_input_sites=_usable_shared_inputs(editable, sites),
        methods=methods,
        calibration_data=calibration_data,
        held_out=held_out,
        refit=refit,
        seed=seed,
        left_out=left,
        watch=watch,
        block=_checked_block(block),
    ).watched()


def _split(batches: Batches | None) -> tuple[Batches | None, Batches | None]:
    """Samples to calibrate on and to judge by. Noise, and a handful of samples, say nothing of the layers."""
    if batches is None or batches.kind == "noise":
        return None, batches
    learned, judged = split(batches)
    return (learned, judged) if learned.samples >= MIN_CALIBRATION_SAMPLES else (None, batches)


def _checked_block(block: int) -> int:
    if block < 1:
        raise ValueError(f"blocks of {block}: 1 or more is needed")
    return block


def _methods(method: str) -> list[str]:
    if method != AUTO and method not in METHODS:
        raise ValueError(f"no method {method!r}; there are {AUTO}, {', '.join(METHODS)}")
    return list(METHODS) if method == AUTO else [method]


def _usable_shared_inputs(editable: EditableModel, sites: Sequence[Site]) -> list[Site]:
    """The unions of which every part may be replaced."""
    names = {site.name for site in sites}
    return [union for union in editable.shared_input_sites if names.issuperset(union.members)]


def _chosen_sites(
    editable: EditableModel, only: Sequence[str], skip: Sequence[str]
) -> tuple[list[Site], list[FactorizationEdit]]:
    """The sites that the globs leave, and an edit for every layer that is left alone by now."""
    check_globs(editable.names, (*only, *skip))
    reasons = {site.name: exclusion_reason(site.name, only, skip) for site in editable.sites}
    kept = [
        FactorizationEdit(layer=name, skipped=reason)
        for name, reason in reasons.items()
        if reason is not None
    ]
    return [site for site in editable.sites if reasons[site.name] is None], [*editable.skipped, *kept]
