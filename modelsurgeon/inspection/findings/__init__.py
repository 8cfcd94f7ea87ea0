"""Results of `check`: rules, findings and their report, as tables, SARIF and JUnit XML.

Plain data; the rules themselves are in `modelsurgeon.onnx.lint`.
"""

from modelsurgeon.inspection.findings.finding import SEVERITIES, Finding, Rule, Severity, reaches
from modelsurgeon.inspection.findings.report import Report, Roofline

__all__ = ["SEVERITIES", "Finding", "Report", "Roofline", "Rule", "Severity", "reaches"]
