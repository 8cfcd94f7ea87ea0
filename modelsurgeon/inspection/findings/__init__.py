"""What `check` finds: rules, findings and their report, as tables and for machines.

Plain data; which rules there are and what they look at is told in `modelsurgeon.onnx.lint`.
"""

from modelsurgeon.inspection.findings.finding import SEVERITIES, Finding, Rule, Severity, reaches
from modelsurgeon.inspection.findings.report import Report, Roofline

__all__ = ["SEVERITIES", "Finding", "Report", "Roofline", "Rule", "Severity", "reaches"]
