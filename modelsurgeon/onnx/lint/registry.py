"""The registry of rules, and what a rule gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import escape
from inspect import getdoc
from shlex import quote
from typing import Any

from modelsurgeon.inspection.findings import SEVERITIES, Finding, Rule, Severity
from modelsurgeon.onnx.lint.net import Net


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One place where a rule applies.

    message: what is found, in numbers. badness: by this the worst of a rule's hits come first.
    evidence: the numbers by name; advice may name them in braces. advice: in place of the rule's own.
    """

    layer: str
    message: str
    badness: float = 0.0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str | None = None


Look = Callable[[Net], Iterator[Hit]]

RULES: dict[str, Rule] = {}
_looks: dict[str, Look] = {}


def rule(
    id: str, severity: Severity, *, summary: str, advice: str, bottleneck: bool = False, weights: bool = False
) -> Callable[[Look], Look]:
    """Register a function as a rule; its docstring is the rule's detail. Naming one twice is an error."""

    def register(look: Look) -> Look:
        if id in RULES:
            raise ValueError(f"the rule {id} is already defined")
        RULES[id] = Rule(
            id=id,
            severity=severity,
            summary=summary,
            detail=" ".join((getdoc(look) or "").split()),
            advice=advice,
            bottleneck=bottleneck,
            weights=weights,
        )
        _looks[id] = look
        return look

    return register


def hits(net: Net, rule: Rule) -> list[Hit]:
    """What one rule finds, the worst first; of one layer only the worst."""
    mildest_first = sorted(_looks[rule.id](net), key=lambda hit: hit.badness)
    return list(reversed({hit.layer: hit for hit in mildest_first}.values()))


def findings(net: Net, rules: Sequence[Rule], ignore: Sequence[str] = ()) -> list[Finding]:
    """What the rules find, by severity, then in the order of the rules, then the worst first.

    ignore: `rule:glob` leaves out what a rule finds at layers of such names.
    """
    by_severity = sorted(rules, key=lambda rule: SEVERITIES.index(rule.severity))
    return [
        _finding(net, rule, hit)
        for rule in by_severity
        for hit in hits(net, rule)
        if not any(_ignores(entry, rule.id, hit.layer) for entry in ignore)
    ]


def chosen_rules(select: Sequence[str], ignore: Sequence[str], *, weights: bool) -> list[Rule]:
    """The rules to ask: those selected, or all; less those ignored.

    weights: whether rules that read weights are among all; to select one asks for it anyway.
    Raises ValueError for a name that no rule has.
    """
    for name in (*select, *ignore):
        if problem := unknown_rule(name.partition(":")[0]):
            raise ValueError(problem)
    wanted = select or [rule.id for rule in RULES.values() if weights or not rule.weights]
    return [rule for rule in RULES.values() if rule.id in wanted and rule.id not in ignore]


def unknown_rule(name: str) -> str | None:
    """That there is no such rule, and which ones are spelt alike; None where there is one."""
    if name in RULES:
        return None
    near = " or ".join(get_close_matches(name, RULES, n=3, cutoff=0.5))
    return f"there is no rule {name!r}; {f'did you mean {near}?' if near else 'check --rules lists them'}"


def _ignores(entry: str, rule: str, layer: str) -> bool:
    """Whether `rule:glob` means this layer; an entry without a colon isn't about layers."""
    name, colon, glob = entry.partition(":")
    return bool(colon) and name == rule and fnmatchcase(layer, glob)


def _finding(net: Net, rule: Rule, hit: Hit) -> Finding:
    outputs = ",".join(str(value.name) for value in net.model.graph.outputs)
    values = {**hit.evidence, "layer": quote(escape(hit.layer)), "outputs": quote(outputs)}
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        layer=hit.layer,
        message=hit.message,
        advice=(hit.advice or rule.advice).format_map(values),
        evidence=dict(hit.evidence),
    )
