"""What a file written by a verb must still say, next to the file that it was made from."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TypeProto, ValueInfoProto

from modelsurgeon.onnx.io.serialize import STACK_TRACE_KEY

HEADER = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")
Dims = list[int | str]


def documented(model: ModelProto) -> ModelProto:
    """The model with a doc string and an entry of metadata wherever a file may have one."""
    found = ModelProto.FromString(model.SerializeToString())
    found.producer_name, found.producer_version = found.producer_name or "maker", "1.2"
    found.domain, found.model_version, found.doc_string = "org.example", 7, "the model"
    _note(found, "model")
    graph = found.graph
    graph.doc_string = graph.doc_string or "the graph"
    _note(graph, "graph")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.doc_string = f"about {value.name}"
        _note(value, value.name)
    for number, node in enumerate(nodes(graph)):
        node.doc_string = f"node {number}"
        _note(node, str(number))
    for function in found.functions:
        function.doc_string = f"about {function.name}"
    return found


def without_defaults(model: ModelProto) -> ModelProto:
    """The model whose weights are no inputs, of an IR version that allows it."""
    found = ModelProto.FromString(model.SerializeToString())
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    if len(kept) < len(model.graph.input):
        found.ir_version = max(4, found.ir_version)
    del found.graph.input[:]
    found.graph.input.extend(kept)
    return found


def _note(owner: ModelProto | GraphProto | NodeProto | ValueInfoProto, text: str) -> None:
    owner.metadata_props.add(key="note", value=text)


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """All nodes, those in branches and loops included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def faults(
    original: ModelProto, written: ModelProto, *, resized: bool, cut: bool, lies: Collection[str]
) -> Iterator[str]:
    """What the written model says otherwise than the original, and shouldn't.

    resized: sizes were changed on purpose. cut: inputs and outputs were chosen anew. lies: values whose shape
    the original declares wrongly.
    """
    yield from _header_faults(original, written)
    weights = ({t.name for t in model.graph.initializer} for model in (original, written))
    fed = [
        {value.name: value for value in model.graph.input if value.name not in held}
        for model, held in zip((original, written), weights, strict=True)
    ]
    ends = [{value.name: value for value in model.graph.output} for model in (original, written)]
    for what, (before, after) in {"inputs": fed, "outputs": ends}.items():
        if not cut and list(before) != list(after):
            yield f"{what}: {list(before)} became {list(after)}"
        for name in before.keys() & after.keys():
            yield from _value_faults(before[name], after[name], sizes=not resized and name not in lies)
    for value in (*fed[1].values(), *ends[1].values()):
        if value.type.WhichOneof("value") is None:
            yield f"{value.name} has no type"
    if original.ir_version >= 4:
        left = {v.name for v in original.graph.input} - {v.name for v in written.graph.input}
        if left and not cut:
            yield f"inputs with a default went: {sorted(left)}"
    yield from _node_faults(original, written)


def _header_faults(original: ModelProto, written: ModelProto) -> Iterator[str]:
    for name in HEADER:
        if getattr(original, name) != getattr(written, name):
            yield f"{name}: {getattr(original, name)!r} became {getattr(written, name)!r}"
    if opsets(original) != opsets(written):
        yield f"opsets: {opsets(original)} became {opsets(written)}"
    if not entries(original).items() <= entries(written).items():
        yield "metadata of the model is missing"
    if original.graph.name != written.graph.name or original.graph.doc_string != written.graph.doc_string:
        yield "name or doc string of the graph differs"
    if entries(original.graph) != entries(written.graph):
        yield "metadata of the graph differs"
    before, after = ({f.name: f.doc_string for f in model.functions} for model in (original, written))
    if before != after:
        yield f"functions: {before} became {after}"


def opsets(model: ModelProto) -> dict[str, int]:
    """Versions by domain."""
    return {entry.domain: entry.version for entry in model.opset_import}


def entries(owner: ModelProto | GraphProto | NodeProto | ValueInfoProto) -> dict[str, str]:
    """Metadata by key, without the folders of the machine that exported the model."""
    return {entry.key: entry.value for entry in owner.metadata_props if entry.key != STACK_TRACE_KEY}


def _value_faults(before: ValueInfoProto, after: ValueInfoProto, *, sizes: bool) -> Iterator[str]:
    name = before.name
    if before.doc_string != after.doc_string or entries(before) != entries(after):
        yield f"doc string or metadata of {name} differs"
    if kind(before.type) != kind(after.type):
        yield f"type of {name}: {kind(before.type)} became {kind(after.type)}"
    one, other = dims(before.type), dims(after.type)
    if one is not None and other is None:
        yield f"shape of {name} is lost"
    elif sizes and one is not None and one != other:
        yield f"shape of {name}: {one} became {other}"


def kind(message: TypeProto) -> tuple[object, ...]:
    """A type without its shape."""
    which = message.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return (which, *kind(getattr(message, which).elem_type))
    if which == "map_type":
        return (which, message.map_type.key_type, *kind(message.map_type.value_type))
    return (which, message.denotation, getattr(message, which).elem_type if which else None)


def dims(message: TypeProto) -> Dims | None:
    """The declared shape; an open size is an empty text. None where none is declared."""
    which = message.WhichOneof("value")
    if which in ("sequence_type", "optional_type"):
        return dims(getattr(message, which).elem_type)
    if which != "tensor_type" or not message.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in message.tensor_type.shape.dim
    ]


def _node_faults(original: ModelProto, written: ModelProto) -> Iterator[str]:
    before = {(n.op_type, tuple(n.input), tuple(n.output)): n for n in nodes(original.graph)}
    for node in nodes(written.graph):
        old = before.get((node.op_type, tuple(node.input), tuple(node.output)))
        if old is None or not old.name:  # a rewritten node may get a name
            continue
        if (old.name, old.doc_string) != (node.name, node.doc_string) or entries(old) != entries(node):
            yield f"name, doc string or metadata of the untouched node {old.output[0]} differs"
    names = [[node.name for node in nodes(model.graph) if node.name] for model in (original, written)]
    if len(set(names[0])) == len(names[0]) and len(set(names[1])) < len(names[1]):
        yield "two nodes have one name"


def check(path: Path) -> str | None:
    """What onnx.checker says against a file, shape inference included; None where it passes."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # noqa: BLE001 - the checker raises several types
        return " ".join(str(error).split())[:160]
    return None


def stale(path: Path, feed: Mapping[str, np.ndarray]) -> list[str] | None:
    """Declared shapes that a run contradicts; None where the model doesn't run."""
    model = onnx.load(path)
    declared = {v.name: v.type for v in (*model.graph.value_info, *model.graph.output)}
    computed = {name for node in model.graph.node for name in node.output if name}
    asked = [name for name in declared if name in computed]
    ends = {value.name for value in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=name) for name in asked if name not in ends)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        needed = {value.name for value in session.get_inputs()}
        found = dict(
            zip(asked, session.run(asked, {n: a for n, a in feed.items() if n in needed}), strict=True)
        )
    except Exception:  # noqa: BLE001 - onnxruntime raises several types
        return None
    return [
        f"{name} is {array.shape}, declared {dims(declared[name])}"
        for name, array in found.items()
        if isinstance(array, np.ndarray) and not _fits(dims(declared[name]), array.shape)
    ]


def _fits(shape: Dims | None, sizes: tuple[int, ...]) -> bool:
    return shape is None or (
        len(shape) == len(sizes)
        and all(isinstance(dim, str) or dim == size for dim, size in zip(shape, sizes, strict=True))
    )
