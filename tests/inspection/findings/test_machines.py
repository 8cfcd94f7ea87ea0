"""SARIF and JUnit output is well-formed for any layer name and message."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.inspection.findings import SEVERITIES, Finding, Report, Roofline, Rule, Severity
from modelsurgeon.inspection.findings.sarif import artifact_uri

RULES = [
    Rule(
        id=f"{severity}-rule",
        severity=severity,
        summary="It is.",
        detail="When it is.",
        advice="Mend {layer}.",
    )
    for severity in SEVERITIES
]
NASTY = "conv[31m\x1b\x00<b>&\"'\n\ud800]]>"
SPACES = " \t\n"


def report(*findings: Finding, path: str = "models/net 1.onnx") -> Report:
    return Report(
        model={"path": path},
        findings=findings,
        rules=RULES,
        roofline=Roofline(balance=10.0, memory_bound_share=0.5),
    )


def finding(severity: Severity, layer: str = "conv1", message: str = "is odd") -> Finding:
    return Finding(
        rule=f"{severity}-rule",
        severity=severity,
        layer=layer,
        message=message,
        advice="Mend it.",
        evidence={"share": 0.5, "sizes": (1, 2)},
    )


findings = st.lists(
    st.builds(finding, st.sampled_from(SEVERITIES), st.text() | st.just(NASTY), st.text() | st.just(NASTY)),
    max_size=4,
)


@given(findings)
def test_sarif_has_the_structure_of_its_schema(found: list[Finding]) -> None:
    document = json.loads(json.dumps(report(*found).sarif(), allow_nan=False))
    assert document["version"] == "2.1.0"
    assert document["$schema"].endswith("sarif-schema-2.1.0.json")
    [run] = document["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "modelsurgeon"
    assert len({rule["id"] for rule in driver["rules"]}) == len(driver["rules"])
    for rule in driver["rules"]:
        assert all(rule[key]["text"] for key in ("shortDescription", "fullDescription", "help"))
        assert rule["help"]["text"] == "Mend LAYER."
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
    assert len(run["results"]) == len(found)
    for result in run["results"]:
        check_result(result, run)


def check_result(result: dict[str, Any], run: dict[str, Any]) -> None:
    """The result refers to its rule, its file and its layer."""
    rule = run["tool"]["driver"]["rules"][result["ruleIndex"]]
    assert (rule["id"], rule["defaultConfiguration"]["level"]) == (result["ruleId"], result["level"])
    assert result["message"]["text"].isprintable()
    [location] = result["locations"]
    artifact = location["physicalLocation"]["artifactLocation"]
    assert run["artifacts"][artifact["index"]]["location"]["uri"] == artifact["uri"]
    [logical] = location["logicalLocations"]
    assert logical["fullyQualifiedName"].isprintable()
    assert all(isinstance(value, str) for value in result["partialFingerprints"].values())
    assert result["properties"]["evidence"] == {"share": 0.5, "sizes": [1, 2]}


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("net.onnx", "net.onnx"),
        ("models/net 1%.onnx", "models/net%201%25.onnx"),
        ("/tmp/net.onnx", "file:///tmp/net.onnx"),  # noqa: S108
        ("net:v2.onnx", "net%3Av2.onnx"),
    ],
)
def test_a_path_becomes_a_uri(path: str, uri: str) -> None:
    assert artifact_uri(path) == uri


@given(findings, st.sampled_from([*SEVERITIES, None]))
def test_junit_is_xml_with_correct_counts(found: list[Finding], fail_on: Severity | None) -> None:
    root = ElementTree.fromstring(report(*found).junit(fail_on))  # noqa: S314
    suite = root.find("testsuite")
    assert root.tag == "testsuites"
    assert suite is not None
    cases = suite.findall("testcase")
    for counted in (root, suite):
        assert int(counted.attrib["tests"]) == len(cases)
        assert int(counted.attrib["failures"]) == len(list(root.iter("failure")))
        assert (counted.attrib["errors"], counted.attrib["skipped"]) == ("0", "0")
    assert all(case.attrib["classname"] and case.attrib["name"] for case in cases)
    silent = len(RULES) - len({each.rule for each in found})
    assert len(cases) == len(found) + silent
    assert len(list(root.iter("failure"))) == len(report(*found).reaching(fail_on)) if fail_on else True


def test_milder_findings_pass_and_are_listed() -> None:
    text = report(finding("error"), finding("note", "conv2")).junit("warning")
    root = ElementTree.fromstring(text)  # noqa: S314
    cases = {case.attrib["name"]: case for case in root.iter("testcase")}
    assert set(cases) == {"error-rule: conv1", "warning-rule", "note-rule: conv2"}
    [failure] = cases["error-rule: conv1"]
    assert failure.attrib == {"message": "is odd", "type": "error"}
    assert failure.text == "is odd\nMend it."
    assert cases["note-rule: conv2"].findtext("system-out") == "note: is odd\nMend it."


def test_a_report_without_a_file_has_a_name() -> None:
    nameless = replace(report(), model={"path": None})
    assert nameless.sarif()["runs"][0]["artifacts"] == [{"location": {"uri": "model"}}]
