"""Registration of shape rules: new ones, those of a similar operator, and corrections of the library's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import onnx_ir as ir
from onnx_shape_inference import ShapeInferenceContext, registry

Rule = Callable[[ShapeInferenceContext, ir.Node], None]


def register_missing(domain: str, op: str, rule: Rule) -> None:
    """Give an operator a rule from its first version on, unless that version has one."""
    if registry.get(domain, op, version=1) is None:
        registry.register(domain, op, since_version=1)(rule)


def register_instead(domain: str, op: str, rule: Rule) -> None:
    """Give an operator this rule for all versions, in place of those that it has."""
    for version in registry.version_boundaries(domain, op) or (1,):
        registry.register(domain, op, since_version=version)(rule)


def correct_rule(op: str, correct: Rule, *, domain: str = "") -> None:
    """Run a correction after every registered version of an operator's rule."""
    for version in registry.version_boundaries(domain, op):
        registered = cast(Rule, registry.get(domain, op, version=version))
        registry.register(domain, op, since_version=version)(_in_sequence(registered, correct))


def follow_node_version(domain: str, op: str) -> None:
    """Replace every rule of an operator by one that follows the opset version of a node that has its own.

    An operator that is younger than a model's opset gets such a rule for all versions.
    """
    versions = registry.version_boundaries(domain, op)
    rules = {version: cast(Rule, registry.get(domain, op, version=version)) for version in versions}
    if not rules:
        return
    for version in {1, *versions}:
        registry.register(domain, op, since_version=version)(_dispatching(rules, rules.get(version)))


def _dispatching(rules: Mapping[int, Rule], otherwise: Rule | None) -> Rule:
    """A rule that takes one of `rules` for a node with a version, and `otherwise` for others."""

    def rule(ctx: ShapeInferenceContext, node: ir.Node) -> None:
        since = max((version for version in rules if version <= (node.version or 0)), default=None)
        if node.version is None or since is None:
            if otherwise is not None:
                otherwise(ctx, node)
            return
        imports = ctx.opset_imports
        ctx.opset_imports = {**imports, node.domain: node.version}
        try:
            rules[since](ctx, node)
        finally:
            ctx.opset_imports = imports

    return rule


def replace_rule(op: str, rule: Rule, *, domain: str = "") -> None:
    """Put a rule in the place of every registered version of an operator's rule."""
    for version in registry.version_boundaries(domain, op):
        registry.register(domain, op, since_version=version)(rule)


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
