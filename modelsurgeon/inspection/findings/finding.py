"""Rules and findings as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]

# error: the outputs are wrong or random. warning: something is lost or wasted, and can be fixed.
# note: unusual, but may be intended.
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
PLACEHOLDER = re.compile(r"\{(\w+)\}")  # in advice: filled in by a finding


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A problem that `check` looks for.

    summary: the problem in a few words. detail: when it is reported and why, in whole sentences. advice:
    what to do about it. bottleneck: whether `info` shows it too. weights: whether the rule reads weights.
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
        """The advice for any layer: `--only LAYER` where a finding has the layer's name."""
        return PLACEHOLDER.sub(lambda name: name[1].upper(), self.advice)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place where a rule applies. evidence: the numbers in the message, by name."""

    rule: str
    severity: Severity
    layer: str
    message: str
    advice: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


def reaches(found: Severity, threshold: Severity) -> bool:
    """Whether a severity is at least `threshold`."""
    return SEVERITIES.index(found) <= SEVERITIES.index(threshold)
