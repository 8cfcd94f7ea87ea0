"""Checks of the functions of a model: no recursion, bounded depth of calls and number of nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from modelsurgeon.errors import BadModel

Op = tuple[str, str, str]  # domain, name, overload: an operator, or a function of the model
Ops = Counter[Op]

MAX_CALL_DEPTH = 64
MAX_CALLED_NODES = 10_000_000


def check_calls(main: Ops, functions: Mapping[Op, Ops]) -> None:
    """Raise BadModel for recursion, calls nested too deep, or too many nodes once functions are expanded.

    The limits are MAX_CALL_DEPTH and MAX_CALLED_NODES. main: how often the graph uses each operator;
    functions: the same for each function's body.
    """
    depth: dict[Op, int] = {}
    nodes: dict[Op, int] = {}
    for op in _callees_first(functions):
        body = functions[op]
        depth[op] = 1 + max((depth.get(called, 0) for called in body), default=0)
        nodes[op] = _expanded_nodes(body, nodes)
        if depth[op] > MAX_CALL_DEPTH:
            raise BadModel(
                f"has functions that call each other {depth[op]} deep: {MAX_CALL_DEPTH} at most are read"
            )
    if (total := _expanded_nodes(main, nodes)) > MAX_CALLED_NODES:
        raise BadModel(
            f"has {total:.3g} nodes once its functions are expanded: {MAX_CALLED_NODES} at most are read"
        )


def _callees_first(functions: Mapping[Op, Ops]) -> list[Op]:
    graph = {op: [called for called in body if called in functions] for op, body in functions.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise BadModel(f"has functions that call themselves: {_dotted_name(error.args[1][0])}") from error


def _expanded_nodes(body: Ops, nodes: Mapping[Op, int]) -> int:
    return sum(count * nodes.get(op, 1) for op, count in body.items())


def _dotted_name(op: Op) -> str:
    return repr(".".join(filter(None, op)))
