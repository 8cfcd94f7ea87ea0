"""What the functions of a model add up to: no calls in circles, none too deep, none that explode."""

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
    """Raise BadModel for calls in a circle, nested deeper than DEPTH, or of more than NODES nodes in the end.

    main: how often the graph uses each operator; functions: the same for each function's body.
    """
    depth: dict[Op, int] = {}
    nodes: dict[Op, int] = {}
    for op in _callees_first(functions):
        body = functions[op]
        depth[op] = 1 + max((depth.get(called, 0) for called in body), default=0)
        nodes[op] = _nodes(body, nodes)
        if depth[op] > MAX_CALL_DEPTH:
            raise BadModel(
                f"has functions that call each other {depth[op]} deep: {MAX_CALL_DEPTH} at most are read"
            )
    if (total := _nodes(main, nodes)) > MAX_CALLED_NODES:
        raise BadModel(
            f"has {total:.3g} nodes once its functions are expanded: {MAX_CALLED_NODES} at most are read"
        )


def _callees_first(functions: Mapping[Op, Ops]) -> list[Op]:
    graph = {op: [called for called in body if called in functions] for op, body in functions.items()}
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise BadModel(f"has functions that call themselves: {_shown(error.args[1][0])}") from error


def _nodes(body: Ops, nodes: Mapping[Op, int]) -> int:
    return sum(count * nodes.get(op, 1) for op, count in body.items())


def _shown(op: Op) -> str:
    return repr(".".join(filter(None, op)))
