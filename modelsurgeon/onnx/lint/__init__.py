"""The rules of `check`: each a function under `@rule` that looks at a net and yields what it finds.

A rule must keep quiet on a healthy net; its thresholds are named constants beside it. Importing this package
registers all rules, in the order in which they are documented.
"""

from modelsurgeon.onnx.lint import work  # noqa: I001 - the order of the rules
from modelsurgeon.onnx.lint import maps, edges, modes, redundant, spectra
from modelsurgeon.onnx.lint.net import BALANCE, Net
from modelsurgeon.onnx.lint.registry import RULES, Hit, chosen, findings, hits, rule, unknown

__all__ = [
    "BALANCE",
    "RULES",
    "Hit",
    "Net",
    "chosen",
    "edges",
    "findings",
    "hits",
    "maps",
    "modes",
    "redundant",
    "rule",
    "spectra",
    "unknown",
    "work",
]
