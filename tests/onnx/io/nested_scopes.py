"""Random nets of nested Ifs, Loops and Scans that use the same names again and again."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

NAMES = ("a", "b", "c", "d", "e", "f")
MAX_DEPTH = 3


def nested_model(seed: int) -> ModelProto:
    """A model of float vectors of 2; some of these models are valid. Inputs: x, rows (3, 2), cond."""
    graph = _graph(Random(seed), 0, (), ["x"])  # noqa: S311 - a seeded sequence
    graph.input.extend([_vector("rows", 3, 2), helper.make_tensor_value_info("cond", TensorProto.BOOL, [])])
    graph.initializer.append(numpy_helper.from_array(np.array(2), "trip"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _vector(name: str, *shape: int) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape or (2,))


def _graph(random: Random, depth: int, visible: Sequence[str], inputs: Sequence[str]) -> GraphProto:
    own, weights = list(inputs), []
    if depth and random.random() < 0.4 and (name := random.choice(NAMES)) not in own:
        own.append(name)
        weights = [numpy_helper.from_array(np.array([random.random(), 1], np.float32), name)]
    nodes: list[NodeProto] = []
    for _ in range(random.randint(2, 5)):
        name = random.choice((*NAMES, "y", "z", "k"))
        if name in own or (name in visible and random.random() < 0.95):
            continue
        nodes.append(_node(random, depth, (*own, *visible), name))
        own.append(name)
    if not nodes:
        nodes = [helper.make_node("Neg", [own[0] if own else visible[0]], ["last"])]
    return helper.make_graph(
        nodes, "g", [_vector(name) for name in inputs], [_vector(nodes[-1].output[0])], weights
    )


def _node(random: Random, depth: int, readable: Sequence[str], output: str) -> NodeProto:
    kind = random.choice(("If", "If", "Loop", "Scan"))
    if depth == MAX_DEPTH or random.random() < 0.5:
        operands = [random.choice(readable), random.choice(readable)]
        return helper.make_node(random.choice(("Add", "Mul", "Sub")), operands, [output])
    if kind == "If":
        branches = {name: _graph(random, depth + 1, readable, ()) for name in ("then_branch", "else_branch")}
        return helper.make_node("If", ["cond"], [output], **branches)
    state, row = random.sample(NAMES, 2)
    if kind == "Scan":
        body = _graph(random, depth + 1, readable, [state, row])
        return helper.make_node(
            "Scan", [random.choice(readable), "rows"], [output], body=body, num_scan_inputs=1
        )
    body = _graph(random, depth + 1, readable, [state])
    body.node.insert(0, helper.make_node("Identity", ["go"], ["on"]))
    loop_inputs = [helper.make_tensor_value_info("i", TensorProto.INT64, [])]
    loop_inputs.append(helper.make_tensor_value_info("go", TensorProto.BOOL, []))
    for place, value in enumerate(loop_inputs):
        body.input.insert(place, value)
    body.output.insert(0, helper.make_tensor_value_info("on", TensorProto.BOOL, []))
    return helper.make_node("Loop", ["trip", "", random.choice(readable)], [output], body=body)
