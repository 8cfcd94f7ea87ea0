"""Prepare a compression: open the model, split the samples, and collect what they show of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelsurgeon.api import models
from modelsurgeon.api.operation import freeze_inputs
from modelsurgeon.api.options import AUTO, CompressionOptions, reject_unknown
from modelsurgeon.compression.study import Study
from modelsurgeon.data import Batches, split
from modelsurgeon.errors import BadArgument
from modelsurgeon.factorize import METHODS
from modelsurgeon.factorize.rank import RANK_BLOCK
from modelsurgeon.surgery.edits import FactorizationEdit, check_globs, exclusion_reason
from modelsurgeon.surgery.site import EditableModel, Site

MIN_CALIBRATION_SAMPLES = 4  # fewer say more of themselves than of the layers


def prepare(
    verb: str,
    model: Any,  # noqa: ANN401 - whatever a caller calls a model
    options: CompressionOptions,
    *,
    must_run: bool = False,
) -> tuple[EditableModel, Study]:
    """The opened model and a study of it, calibrated where there are samples.

    must_run: the goal is measured on the whole model, so it is run even if nothing is compared. Raises
    BadPlan for a glob that matches no layer, BadArgument for an unknown method and for blocks below 1,
    for an unknown option, and what loading the model and its data raises.
    """
    reject_unknown(verb, options, CompressionOptions)
    dry = options.get("dry_run", False) and options.get("data") is None
    runs = must_run or (options.get("compare", True) and not dry)
    opened = open_model(model, options, runs=runs)
    return opened, _study(opened, options, runs=runs)


def open_model(
    model: Any,  # noqa: ANN401
    options: CompressionOptions,
    *,
    runs: bool,
) -> EditableModel:
    """The model behind the port of its framework. runs: sizes must be such that a graph runs at them."""
    data, shapes, batch = options.get("data"), options.get("shapes"), options.get("batch")
    if models.is_module(model):
        from modelsurgeon.torch.model import TorchModel

        return TorchModel(
            model, data=data, shapes=shapes, batch=batch, skip_bad=options.get("skip_bad", False)
        )
    from modelsurgeon.onnx.model import OnnxModel

    graph, notes = freeze_inputs(models.graph(model), options)
    return OnnxModel(
        graph,
        data=data,
        shapes=shapes,
        batch=batch,
        skip_bad=options.get("skip_bad", False),
        dims=options.get("dims"),
        provider=options.get("provider", "cpu"),
        runs=runs,
        opened_with=notes,
    )


def chosen_options(options: CompressionOptions) -> dict[str, Any]:
    """The options that the history records: what was chosen other than by default, and no paths."""
    method, block = options.get("method", AUTO), options.get("block", RANK_BLOCK)
    chosen = {
        "method": method if method != AUTO else None,
        "only": list(options.get("only", ())),
        "skip": list(options.get("skip", ())),
        "block": block if block != RANK_BLOCK else None,
        "freeze_inputs": options.get("freeze_inputs", False),
    }
    return {name: value for name, value in chosen.items() if value}


def _study(opened: EditableModel, options: CompressionOptions, *, runs: bool) -> Study:
    methods, seed = _methods(options.get("method", AUTO)), options.get("seed", 0)
    sites, skipped = _chosen_sites(opened, options.get("only", ()), options.get("skip", ()))
    calibration_data, held_out = _split(opened.batches(seed) if runs else None)
    return Study(
        model=opened.fresh_copy(),
        sites=sites,
        shared_input_sites=_usable_shared_inputs(opened, sites),
        methods=methods,
        calibration_data=calibration_data,
        held_out=held_out,
        refit=options.get("refit", True),
        seed=seed,
        skipped=skipped,
        watch=options.get("watch"),
        block=_checked_block(options.get("block", RANK_BLOCK)),
    ).calibrated()


def _split(batches: Batches | None) -> tuple[Batches | None, Batches | None]:
    """Samples to calibrate on, None without enough of them, and samples to compare on."""
    if batches is None or batches.kind == "noise":
        return None, batches
    calibration_data, held_out = split(batches)
    enough = calibration_data.samples >= MIN_CALIBRATION_SAMPLES
    return (calibration_data, held_out) if enough else (None, batches)


def _checked_block(block: int) -> int:
    if block < 1:
        raise BadArgument(f"blocks of {block}: 1 or more is needed")
    return block


def _methods(method: str) -> list[str]:
    if method != AUTO and method not in METHODS:
        raise BadArgument(f"no method {method!r}; there are {AUTO}, {', '.join(METHODS)}")
    return list(METHODS) if method == AUTO else [method]


def _usable_shared_inputs(opened: EditableModel, sites: Sequence[Site]) -> list[Site]:
    """The shared-input sites of which every member may be replaced."""
    names = {site.name for site in sites}
    return [site for site in opened.shared_input_sites if names.issuperset(site.members)]


def _chosen_sites(
    opened: EditableModel, only: Sequence[str], skip: Sequence[str]
) -> tuple[list[Site], list[FactorizationEdit]]:
    """The sites that the globs leave, and an edit for every layer that is skipped so far."""
    check_globs(opened.names, (*only, *skip))
    reasons = {site.name: exclusion_reason(site.name, only, skip) for site in opened.sites}
    excluded = [FactorizationEdit(layer=name, skipped=why) for name, why in reasons.items() if why]
    return [site for site in opened.sites if reasons[site.name] is None], [*opened.skipped, *excluded]
