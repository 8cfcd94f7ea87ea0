"""Three ways to cut a net to a fraction of its MACs: plain SVD, and `compress` without and with samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from modelsurgeon.api.options import CompressionOptions
from modelsurgeon.api.preparation import open_model, prepare
from modelsurgeon.compression.planner import budgets
from modelsurgeon.compression.rollback import carry_out_with_rollback
from modelsurgeon.errors import Unreachable
from modelsurgeon.factorize import METHODS, suited
from modelsurgeon.surgery.apply import apply_plan, macs
from modelsurgeon.surgery.plan import Plan, PlanStep
from modelsurgeon.surgery.site import EditableModel, Site
from tests.benchmarks.subjects import Subject

PEER = ("spatial-svd", "svd")  # k x 1 then 1 x k where there is a kernel, else two smaller matrices
TRIFLE = 1e-2  # share of all MACs up to which a layer is left as it is, usually the first and a small head
STEPS = 20  # of a bisection


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A cut net, its plan, and the predicted relative L2 error, None where nothing was predicted."""

    editable: EditableModel
    plan: Plan
    predicted: float | None = None


Arm = Callable[[float], Cut]  # raises Unreachable


def plain(subject: Subject, *, timed: bool = True) -> Arm:  # noqa: ARG001 - there is no choice to time
    """SVD of the weights: the same share of MACs for every layer that is large and gets cheaper."""
    editable = _opened(subject)
    total = editable.total("macs")
    sites = [site for site in editable.sites if macs([site.layer], site.calls) > TRIFLE * total]

    def left(plan: Plan) -> float:
        chosen = [site for site in sites if site.name in plan]
        saved = sum(macs([s.layer], s.calls) - _cost(s, plan[s.name].rank) for s in chosen)
        return 1 - saved / total

    def at(fraction: float) -> Cut:
        low, high = 0.0, 1.0
        if left(uniform(sites, low)) > fraction:
            raise Unreachable(f"rank 1 everywhere leaves more than {fraction:g}")
        for _ in range(STEPS):
            share = (low + high) / 2
            low, high = (share, high) if left(uniform(sites, share)) <= fraction else (low, share)
        fresh, plan = editable.fresh_copy(), uniform(sites, low)
        apply_plan(plan, [site for site in fresh.sites if site.name in plan])
        fresh.finish()
        return Cut(editable=fresh, plan=plan)

    return at


def uniform(sites: list[Site], share: float) -> Plan:
    """Each layer at the largest rank within that share of its MACs, at least 1, where that is cheaper."""
    steps = {}
    for site in sites:
        whole, one = macs([site.layer], site.calls), _cost(site, 1)
        rank = max(1, int(share * whole / one))
        if rank * one < whole:
            steps[site.name] = PlanStep(method=suited(site.layer, PEER)[0], rank=rank)
    return Plan(steps)


def _cost(site: Site, rank: int) -> int:
    """MACs of the chain, proportional to the rank."""
    method = METHODS[suited(site.layer, PEER)[0]]
    return rank * macs(method.sketch(site.layer, 1), site.calls)


def data_free(subject: Subject, *, timed: bool) -> Arm:
    """`compress` without samples: ranks chosen over the whole net, by the weights."""
    return _chosen(subject, {"shapes": subject.shapes, "compare": timed}, timed=timed)


def calibrated(subject: Subject, *, timed: bool) -> Arm:
    """`compress` with samples: calibrated, chosen by sensitivity, refitted."""
    return _chosen(subject, {"data": dict(subject.calibration), "batch": subject.batch}, timed=timed)


def _chosen(subject: Subject, options: CompressionOptions, *, timed: bool) -> Arm:
    """timed: chains slower than their layer are no candidates, and a slower net is rolled back."""
    editable, study = prepare("compress", subject.model, options)
    study = study if timed else replace(study, held_out=None)
    decided, _ = budgets(study, "macs")

    def at(fraction: float) -> Cut:
        fresh = editable.fresh_copy()
        done = carry_out_with_rollback(decided(fraction).plan, study, fresh, firm=False)
        return Cut(editable=fresh, plan=done.plan, predicted=study.predict_error(fresh))

    return at


def _opened(subject: Subject) -> EditableModel:
    """The model without samples, with the input shapes of its feeds."""
    return open_model(subject.model, {"shapes": subject.shapes}, runs=False)


class Start(Protocol):
    """Prepares an arm once for all fractions. timed: whether latency is measured."""

    def __call__(self, subject: Subject, *, timed: bool) -> Arm: ...


ARMS: dict[str, Start] = {"plain": plain, "data-free": data_free, "calibrated": calibrated}
