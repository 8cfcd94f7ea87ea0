"""Which parameters of a module the constants of its exported graph are made from.

The exporter slices, joins and transposes parameters, and adds constants of its own. A count of params takes
the module's own parameters from here: each once, a slice as the whole, and the exporter's constants not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import onnx_ir as ir
from torch import nn

from modelsurgeon.layers.onnx_names import MODULE_PARAMS_KEY, ORIGINS_KEY

Origins = Mapping[str, frozenset[str]]  # by the name of a value: names of parameters
RANDOM_OPERATORS = frozenset({"Bernoulli", "Multinomial"})


def trace_origins(graph: ir.Graph, module: nn.Module) -> Origins:
    """Parameters behind every value that is computed from constants alone; call before constants are folded.

    A parameter that has several names in the module goes by the first.
    """
    first: dict[int, str] = {}
    named = module.named_parameters(remove_duplicate=False)
    aliases = {name: first.setdefault(id(parameter), name) for name, parameter in named}
    found: dict[str, frozenset[str]] = {}
    for name in graph.initializers:
        found[name] = frozenset({aliases[name]} if name in aliases else ())
    for node in graph.all_nodes():
        names = [str(value.name) for value in node.inputs if value is not None]
        if _is_deterministic(node) and all(name in found for name in names):
            origins = frozenset[str]().union(*(found[name] for name in names))
            found.update((str(value.name), origins) for value in node.outputs)
    return found


def record_params(graph: ir.Graph, module: nn.Module, origins: Origins) -> None:
    """Store the parameters of `module`, and those behind each constant, in the meta of the exported graph."""
    for name, value in graph.initializers.items():
        value.meta.setdefault(ORIGINS_KEY, tuple(sorted(_origins_of(name, origins))))
    uses = Counter(name for value in graph.initializers.values() for name in value.meta[ORIGINS_KEY])
    graph.meta[MODULE_PARAMS_KEY] = {
        name: (parameter.numel(), parameter.numel() * parameter.element_size(), uses[name])
        for name, parameter in module.named_parameters()
    }


def _origins_of(name: str, origins: Origins) -> frozenset[str]:
    """The parameters behind a constant; `.T` at the end of a name stands for a transposed parameter."""
    return origins.get(name, origins.get(name.removesuffix(".T"), frozenset()))


def _is_deterministic(node: ir.Node) -> bool:
    """Whether a node always computes the same from the same inputs, without subgraphs."""
    graphs = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    random = node.op_type.startswith("Random") or node.op_type in RANDOM_OPERATORS
    return not random and not any(attribute.type in graphs for attribute in node.attributes.values())
