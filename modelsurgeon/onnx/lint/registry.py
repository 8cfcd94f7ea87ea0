"""Registry of the rules, their hits, and the findings made of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from glob import escape
from inspect import getdoc
from shlex import quote
from typing import Any

from modelsurgeon.errors import BadArgument
from modelsurgeon.inspection.findings import SEVERITIES, Finding, Rule, Severity
from modelsurgeon.onnx.lint.net import Net


@dataclass(frozen=True, kw_only=True)
class Hit:
    """One place where a rule applies.

    message: the finding, in numbers. badness: sorts the hits of a rule, the worst first. evidence: the
    numbers by name; advice may name them in braces. advice: replaces the rule's own. otherwise: replaces both
    where they name a verb that doesn't edit the layer.
    """

    layer: str
    message: str
    badness: float = 0.0
    evidence: Mapping[str, Any] = field(default_factory=dict)
    advice: str | None = None
    otherwise: str | None = None


RuleFunction = Callable[[Net], Iterator[Hit]]

NAMED_VERB = re.compile(r"`modelsurgeon ((?:bn )?\w+)")  # the first verb that advice names
RULES: dict[str, Rule] = {}
_functions: dict[str, RuleFunction] = {}


def rule(
    id: str, severity: Severity, *, summary: str, advice: str, bottleneck: bool = False, weights: bool = False
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as a rule, with its docstring as detail. Raises BadArgument for an id in use."""

    def register(function: RuleFunction) -> RuleFunction:
        if id in RULES:
            raise ValueError(f"the rule {id} is already defined")
        RULES[id] = Rule(
            id=id,
            severity=severity,
            summary=summary,
            detail=" ".join((getdoc(function) or "").split()),
            advice=advice,
            bottleneck=bottleneck,
            weights=weights,
        )
        _functions[id] = function
        return function

    return register


def hits(net: Net, rule: Rule) -> list[Hit]:
    """Hits of one rule, the worst first; of one layer only the worst."""
    mildest_first = sorted(_functions[rule.id](net), key=lambda hit: hit.badness)
    return list(reversed({hit.layer: hit for hit in mildest_first}.values()))


def findings(net: Net, rules: Sequence[Rule], ignore: Sequence[str] = ()) -> list[Finding]:
    """Findings of the rules, by severity, then in the order of the rules, then the worst first.

    ignore: `rule:glob` leaves out findings of a rule at layers with such names.
    """
    by_severity = sorted(rules, key=lambda rule: SEVERITIES.index(rule.severity))
    return [
        _finding(net, rule, hit)
        for rule in by_severity
        for hit in hits(net, rule)
        if not any(_ignores(entry, rule.id, hit.layer) for entry in ignore)
    ]


def chosen_rules(select: Sequence[str], ignore: Sequence[str], *, weights: bool) -> list[Rule]:
    """The rules to run: those selected, or all; less those ignored.

    weights: whether rules that read weights are among all; a selected one always runs.
    Raises BadArgument for a name that no rule has.
    """
    for name in (*select, *ignore):
        if problem := unknown_rule(name.partition(":")[0]):
            raise BadArgument(problem)
    wanted = select or [rule.id for rule in RULES.values() if weights or not rule.weights]
    return [rule for rule in RULES.values() if rule.id in wanted and rule.id not in ignore]


def unknown_rule(name: str) -> str | None:
    """Message that there is no such rule, with the names most alike; None where there is one."""
    if name in RULES:
        return None
    alike = " or ".join(get_close_matches(name, RULES, n=3, cutoff=0.5))
    return f"there is no rule {name!r}; {f'did you mean {alike}?' if alike else 'check --rules lists them'}"


def _ignores(entry: str, rule: str, layer: str) -> bool:
    """Whether an entry `rule:glob` covers this layer; an entry without a colon covers no single layer."""
    name, colon, glob = entry.partition(":")
    return bool(colon) and name == rule and fnmatchcase(layer, glob)


def _finding(net: Net, rule: Rule, hit: Hit) -> Finding:
    advice = hit.advice or rule.advice
    named = NAMED_VERB.search(advice)
    if named is not None and net.verbs is not None and not net.verbs.does(named[1], hit.layer):
        advice = (
            hit.otherwise or f"`{named[1]}` doesn't apply to {{layer}}: change it where the model is made."
        )
    outputs = ",".join(str(value.name) for value in net.model.graph.outputs)
    values = {**hit.evidence, "layer": quote(escape(hit.layer)), "outputs": quote(outputs)}
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        layer=hit.layer,
        message=hit.message,
        advice=advice.format_map(values),
        evidence=dict(hit.evidence),
    )
