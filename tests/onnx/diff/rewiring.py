"""Models rewired at random, renamed and reordered, and their answers in onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.dataflow import subgraphs

Feed = dict[str, np.ndarray]
Kind = tuple[object, ...]


def randomized(model: ir.Model, rng: np.random.Generator) -> ir.Model:
    """The model with random floats as weights, so that no two values are equal by chance."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.dtype.is_floating_point() and "var" not in str(value.name):
                noise = 0.5 * rng.normal(size=tensor.shape.numpy())
                value.const_value = ir.tensor(noise.astype(tensor.dtype.numpy()), name=value.name)
    return model


def rewired(model: ir.Model, rng: np.random.Generator, count: int) -> Iterator[ir.Model]:
    """Copies with one input of a node, or one output of a graph, connected to another value of its type."""
    kinds = _kinds(model)
    places = [*_places(model, kinds)]
    for pick in rng.permutation(len(places))[:count]:
        graph, index, at, name = places[pick]
        copy = model.clone()
        target = [*copy.graphs()][graph]
        values = {value.name: value for each in copy.graphs() for value in _made_in(each)}
        if index is None:
            target.outputs[at] = values[name]
        else:
            target[index].replace_input_with(at, values[name])
        yield copy


def swapped_outputs(model: ir.Model) -> ir.Model:
    """A copy whose first two outputs have changed places, but not their names."""
    copy = model.clone()
    a, b = copy.graph.outputs[:2]
    a.name, b.name = b.name, a.name
    copy.graph.outputs[:2] = [b, a]
    return copy


def renamed(model: ir.Model, rng: np.random.Generator) -> ir.Model:
    """A copy with other names for all nodes and values but inputs and outputs, in another legal order."""
    copy = model.clone()
    for graph in copy.graphs():
        _shuffle(graph, rng)
    kept = {*copy.graph.inputs, *copy.graph.outputs}
    values = {value: None for graph in copy.graphs() for value in _made_in(graph)}
    for number, value in zip(rng.permutation(len(values)), values, strict=True):
        if value not in kept and value.name:
            value.name = f"v_{number}"
    for number, node in enumerate(copy.graph.all_nodes()):
        node.name = f"n_{number}"
    return copy


def answers(model: ir.Model, feed: Feed) -> list[np.ndarray] | None:
    """Outputs in onnxruntime, as the model is written; None where it can't run."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(
            ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return [np.asarray(each) for each in session.run(None, feed)]
    except Exception:  # noqa: BLE001 - onnxruntime has many, all of them for models that don't run
        return None


def random_feed(model: ir.Model, rng: np.random.Generator, size: int = 4) -> Feed:
    """Random inputs; open axes have `size`."""
    feed = {}
    for value in shapes.data_inputs(model):
        shape = [dim if isinstance(dim, int) and dim > 0 else size for dim in value.shape or ()]
        dtype = value.dtype.numpy() if value.dtype else np.float32
        feed[str(value.name)] = np.asarray(rng.normal(size=shape) * 2).astype(dtype)
    return feed


def equal(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> bool:
    """Whether two lists of outputs are the same to the last bit."""
    return len(a) == len(b) and all(
        x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
        for x, y in zip(a, b, strict=True)
    )


def _places(model: ir.Model, kinds: dict[str, Kind]) -> Iterator[tuple[int, int | None, int, str]]:
    """Every change: graph, node (None for the graph's outputs), index, and the value to read instead."""
    graphs = [*model.graphs()]
    parents = {body: graph for graph in graphs for node in graph for body in subgraphs(node)}
    for number, graph in enumerate(graphs):
        known = [value for value in _outer(graph, parents) if value.name in kinds]
        for index, node in enumerate(graph):
            for at, value in enumerate(node.inputs):
                yield from ((number, index, at, name) for name in _others(value, known, kinds))
            known += [value for value in node.outputs if value.name in kinds]
        inside = [value for value in known if value.producer() in {*graph}]
        for at, value in enumerate(graph.outputs):
            if graph is not model.graph:
                yield from ((number, None, at, name) for name in _others(value, inside, kinds))


def _outer(graph: ir.Graph, parents: dict[ir.Graph, ir.Graph]) -> list[ir.Value]:
    """Values that a graph sees before its first node."""
    around = parents.get(graph)
    own = [value for value in graph.inputs if not value.is_initializer()]
    return own if around is None else [*_outer(around, parents), *own]


def _others(value: ir.Value | None, known: Sequence[ir.Value], kinds: dict[str, Kind]) -> list[str]:
    if value is None or value.is_initializer() or value.name not in kinds:
        return []
    kind = kinds[value.name]
    return [str(each.name) for each in known if each is not value and kinds[str(each.name)] == kind]


def _kinds(model: ir.Model) -> dict[str, Kind]:
    """Type and shape of every value whose shape is known."""
    known = shapes.bound(model)
    return {
        str(value.name): (value.dtype, *map(str, value.shape))
        for graph in known.graphs()
        for value in _made_in(graph)
        if value.shape is not None and value.name and value.dtype is not None
    }


def _made_in(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from (*graph.inputs, *graph.initializers.values())
    yield from (value for node in graph for value in node.outputs)


def _shuffle(graph: ir.Graph, rng: np.random.Generator) -> None:
    """Put the nodes into a random topological order."""
    nodes = [*graph]
    waiting = {node: {value.producer() for value in _reads(node)} & {*nodes} - {node} for node in nodes}
    order: list[ir.Node] = []
    while waiting:
        ready = [node for node, before in waiting.items() if before <= {*order}]
        order.append(ready[int(rng.integers(len(ready)))])
        del waiting[order[-1]]
    graph.remove(nodes)
    graph.extend(order)


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    for body in subgraphs(node):
        yield from (value for inner in body for value in _reads(inner))
        yield from body.outputs
