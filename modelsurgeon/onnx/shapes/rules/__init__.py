"""Shape rules that onnx_shape_inference lacks, and corrections of its own."""

from functools import cache

from onnx_shape_inference import registry

from modelsurgeon.onnx.shapes.rules import (
    contrib,
    control_flow,
    data_dependent,
    maps,
    sequences,
    standard,
)
from modelsurgeon.onnx.shapes.rules.open_sizes import contents
from modelsurgeon.onnx.shapes.rules.open_sizes import corrections as open_axes
from modelsurgeon.onnx.shapes.rules.registration import follow_node_version


@cache
def register() -> None:
    """Add the rules to onnx_shape_inference's registry, once. Its own rules are kept, or get a correction."""
    registry.collect()
    for rules in (standard, contrib, open_axes, contents, maps, sequences, control_flow, data_dependent):
        rules.register()


@cache
def follow_versions(domain: str, op: str) -> None:
    """Let the rules of an operator follow `Node.version`, where a node has one."""
    register()
    follow_node_version(domain, op)
