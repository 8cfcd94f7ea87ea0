"""A rule, and what one finds: plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# error: the answers are wrong or random. warning: something is lost or wasted, and there is a cure.
# note: it stands out, and may be meant.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
PLACEHOLDER = re.compile(r"\{(\w+)\}")  # in advice: what a finding fills in


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What is looked for, and why.

    summary: what is wrong, in a few words. detail: when it is reported and why, in whole sentences. advice:
    what to do about it. bottleneck: whether `info` shows it too. weights: whether it reads weights.
    """

    id: str
    severity: Severity
    summary: str
    detail: str
    advice: str
    bottleneck: bool = False
    weights: bool = False

    @property
    def general_advice(self) -> str:
        """The advice for any layer: `--only LAYER` where a finding has a name."""
        return PLACEHOLDER.sub(lambda name: name[1].upper(), self.advice)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place where a rule applies. evidence: the numbers that the message tells, by name."""

    rule: str
    severity: Severity
    layer: str
    message: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def reaches(found: Severity, threshold: Severity) -> bool:
    """Whether a severity is at least as grave as another."""
    return SEVERITIES.index(found) <= SEVERITIES.index(threshold)
