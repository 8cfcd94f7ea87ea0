"""Registration of shape rules: new ones, those of a similar operator, and corrections of the library's."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

Rule = Callable[[ShapeInferenceContext, ir.Node], None]


def register_missing(domain: str, op: str, rule: Rule) -> None:
    """Give an operator a rule from its first version on, unless that version has one."""
    if registry.get(domain, op, version=1) is None:
        registry.register(domain, op, since_version=1)(rule)


def replace_rule(op: str, rule: Rule, *, domain: str = "") -> None:
    """Put a rule in the place of all registered versions of an operator's rule, and before the oldest."""
    for version in {1, *registry.version_boundaries(domain, op)}:
        registry.register(domain, op, since_version=version)(rule)


def correct_rule(op: str, correct: Rule, *, domain: str = "") -> None:
    """Run a correction after every registered version of an operator's rule."""
    for version in registry.version_boundaries(domain, op):
        registered = cast(Rule, registry.get(domain, op, version=version))
        registry.register(domain, op, since_version=version)(_in_sequence(registered, correct))


def oldest_rule(op: str) -> Rule:
    """The rule of a standard operator's oldest version that has one."""
    return _rule_at(op, registry.version_boundaries("", op)[0])


def newest_rule(op: str) -> Rule:
    """The rule of a standard operator's newest version."""
    return _rule_at(op, registry.version_boundaries("", op)[-1])


def _rule_at(op: str, version: int) -> Rule:
    return cast(Rule, registry.get("", op, version=version))


def _in_sequence(first: Rule, second: Rule) -> Rule:
    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        first(ctx, node)
        second(ctx, node)

    return rule
