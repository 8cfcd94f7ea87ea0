"""The rules of `check`: each is a function under `@rule` that yields a `Hit` for every problem of a net.

A rule must find nothing in a healthy net; its thresholds are constants at the top of its file. Importing this
package registers all rules, in the order in which they are documented.
"""

from modelsurgeon.onnx.lint import impossible_sizes, hot_spots  # noqa: I001 - the order of the rules
from modelsurgeon.onnx.lint import feature_maps, window_coverage, training_leftovers, redundant, no_ops
from modelsurgeon.onnx.lint import low_rank, weight_values
from modelsurgeon.onnx.lint.net import DEFAULT_BALANCE, Net
from modelsurgeon.onnx.lint.registry import RULES, Hit, chosen_rules, findings, hits, rule, unknown_rule
from modelsurgeon.onnx.lint.verbs import Verbs

__all__ = [
    "DEFAULT_BALANCE",
    "RULES",
    "Hit",
    "Net",
    "Verbs",
    "chosen_rules",
    "feature_maps",
    "findings",
    "hits",
    "hot_spots",
    "impossible_sizes",
    "low_rank",
    "no_ops",
    "redundant",
    "rule",
    "training_leftovers",
    "unknown_rule",
    "weight_values",
    "window_coverage",
]
