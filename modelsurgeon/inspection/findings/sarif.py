"""Findings as SARIF 2.1.0: Static Analysis Results Interchange Format, OASIS standard of 2020."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from modelsurgeon.inspection.findings.finding import Finding, Rule
from modelsurgeon.report import formatting
from modelsurgeon.version import __version__

SARIF_VERSION = "2.1.0"
SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def document(path: str, rules: Sequence[Rule], findings: Sequence[Finding]) -> dict[str, Any]:
    """A SARIF log of one run over one file; severities are SARIF levels as they are."""
    uri = artifact_uri(path)
    index = {rule.id: number for number, rule in enumerate(rules)}
    descriptors = [_rule(rule) for rule in rules]
    run = {
        "tool": {"driver": {"name": "modelsurgeon", "semanticVersion": __version__, "rules": descriptors}},
        "artifacts": [{"location": {"uri": uri}}],
        "results": [_result(finding, index[finding.rule], uri) for finding in findings],
    }
    return {"$schema": SARIF_SCHEMA, "version": SARIF_VERSION, "runs": [run]}


def artifact_uri(path: str) -> str:
    """A path as a URI: relative as it is, absolute as file://."""
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "shortDescription": {"text": rule.summary},
        "fullDescription": {"text": rule.detail},
        "help": {"text": rule.general_advice},
        "defaultConfiguration": {"level": rule.severity},
    }


def _result(finding: Finding, index: int, uri: str) -> dict[str, Any]:
    layer = formatting.escape(finding.layer)
    return {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.severity,
        "message": {
            "text": f"{layer}: {formatting.escape(finding.message)}. {formatting.escape(finding.advice)}"
        },
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": uri, "index": 0}},
                "logicalLocations": [{"name": layer, "fullyQualifiedName": layer, "kind": "node"}],
            }
        ],
        # Lets a code host recognize a finding again when its numbers have changed.
        "partialFingerprints": {"ruleAndLayer/v1": f"{finding.rule}:{layer}"},
        "properties": {"evidence": formatting.plain(finding.evidence)},
    }
