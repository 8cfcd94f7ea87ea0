"""The node tests that come with onnx, as a sweep: no inferred shape or type may be another than what runs.

Each case is inferred as it is declared, with all inputs but the first as constants, and with open axes of the
first input; these are bound before inference, or put into its formulas, at the sizes of the case and others.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, defs, numpy_helper

from tests.onnx.shapes.rules.ran import Array, Sweep, run

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the reference implementation

# The sizes of its two inputs belong together, but the reference implementation doesn't check it.
UNCHECKED = {"AffineGrid"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One of onnx's node tests with its inputs, and what all its nodes return."""

    name: str
    model: ModelProto
    feed: Mapping[str, Array]
    ran: Mapping[str, object]


@cache
def node_tests() -> list[tuple[str, ModelProto, list[object], list[object]]]:
    """Name, model, inputs and outputs of every node test."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases overflow on purpose
        collected = collect_testcases(None)
    return [
        (case.name, case.model, [*case.data_sets[0][0]], [*case.data_sets[0][1]])
        for case in collected
        if case.model is not None
    ]


def cases(*, expanded: bool) -> Iterator[Case]:
    """The node tests, or those of them that are the bodies of functions."""
    for name, model, inputs, outputs in node_tests():
        if ("_expanded" in name) == expanded:
            feed = dict(zip([value.name for value in model.graph.input], map(array, inputs), strict=False))
            ran = dict(zip([value.name for value in model.graph.output], map(array, outputs), strict=True))
            inside = run(model, feed, reference=True) if len(model.graph.node) > 1 else None
            if inside is not None and all(shape(inside[end]) == shape(ran[end]) for end in ran):
                ran = {**inside, **ran}
            yield Case(name=name, model=model, feed=feed, ran=ran)


def array(value: object) -> Array:
    """A tensor as an array; a sequence as it is."""
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value  # type: ignore[return-value]


def shape(value: object) -> tuple[int, ...] | None:
    """Shape of an array; None for a sequence."""
    return value.shape if isinstance(value, np.ndarray | np.generic) else None


def with_constants(case: Case) -> ModelProto:
    """The case with every tensor but the first input as an initializer, and no declared output shape."""
    model = ModelProto()
    model.CopyFrom(case.model)
    for value in [*model.graph.input][1:]:
        given = case.feed[value.name]
        if isinstance(given, np.ndarray | np.generic) and value.type.HasField("tensor_type"):
            tensor = numpy_helper.from_array(np.asarray(given), value.name)
            if tensor.data_type == value.type.tensor_type.elem_type:
                model.graph.initializer.append(tensor)
                model.graph.input.remove(value)
    for value in model.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return model


def opened(model: ModelProto, axes: int) -> ModelProto:
    """The model with symbols for the first axes of its first input."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for axis, dim in enumerate([*copy.graph.input[0].type.tensor_type.shape.dim][:axes]):
        dim.dim_param = f"N{axis}"
    return copy


def first_input(case: Case) -> Array | None:
    """The first input if it is a tensor of numbers with axes."""
    given = next(iter(case.feed.values()), None)
    is_tensor = isinstance(given, np.ndarray) and given.dtype.kind in "biuf" and given.ndim > 0
    return given if is_tensor else None


def sweep_open(found: Sweep, case: Case, axes: int, growths: tuple[int, ...]) -> None:
    """Compare a case with this many open axes, at its own sizes and, where it runs there, at others."""
    given = first_input(case)
    if given is None or len(case.model.graph.input[0].type.tensor_type.shape.dim) != given.ndim:
        return
    model = opened(with_constants(case), axes)
    for growth in (0, *growths):
        shape = [size + growth * (axis < axes) for axis, size in enumerate(given.shape)]
        sizes = {f"N{axis}": size for axis, size in enumerate(shape[:axes])}
        feed = {value.name: case.feed[value.name] for value in model.graph.input}
        feed[model.graph.input[0].name] = np.resize(given, shape)
        ran = run(model, feed) if growth else case.ran
        if ran is not None and found.compare(case.name, model, ran, dims=sizes):
            found.compare(case.name, model, ran, at=sizes)


def test_shapes_of_nodes() -> None:
    found = Sweep()
    for case in cases(expanded=False):
        found.compare(case.name, case.model, case.ran)
        found.compare(case.name, with_constants(case), case.ran)
        sweep_open(found, case, 1, ())
    assert not found.wrong
    assert found.counts["unknown"] < 0.1 * found.counts["agreed"], found.unknown


@pytest.mark.slow
def test_shapes_of_nodes_at_other_sizes() -> None:
    found = Sweep()
    for case in cases(expanded=False):
        if case.model.graph.node[0].op_type not in UNCHECKED:
            sweep_open(found, case, 1, (1, 2))
            sweep_open(found, case, 9, (1, 2))
    assert not found.wrong
    assert found.counts["unknown"] < 0.07 * found.counts["agreed"], found.unknown


@pytest.mark.slow
def test_shapes_in_the_bodies_of_functions() -> None:
    found = Sweep()
    for case in cases(expanded=True):
        found.compare(case.name, case.model, case.ran)
        found.compare(case.name, with_constants(case), case.ran)
        sweep_open(found, case, 1, (1,))
        sweep_open(found, case, 9, ())
    assert not found.wrong
    assert found.counts["unknown"] < 0.02 * found.counts["agreed"], found.unknown


def older_versions(case: Case) -> Iterator[ModelProto]:
    """A case of one node, declared at the newest opset of each older version of its operator."""
    node = case.model.graph.node[0]
    versions = versions_of(node.domain, node.op_type)
    declared = {opset.domain: opset.version for opset in case.model.opset_import}[node.domain]
    for version, following in pairwise(versions):
        schema = defs.get_schema(node.op_type, version, node.domain)
        given = {attribute.name: attribute.type for attribute in node.attribute}
        if following <= declared and takes(schema, given, len(node.input), len(node.output)):
            model = ModelProto()
            model.CopyFrom(case.model)
            for opset in model.opset_import:
                if opset.domain == node.domain:
                    opset.version = following - 1
            yield model


@cache
def versions_of(domain: str, op: str) -> list[int]:
    """Opset versions in which an operator's definition changed."""
    return sorted(
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if (schema.domain, schema.name) == (domain, op)
    )


def takes(schema: defs.OpSchema, attributes: Mapping[str, int], inputs: int, outputs: int) -> bool:
    """Whether a definition allows a node with these attributes and this many inputs and outputs."""
    return (
        schema.min_input <= inputs <= schema.max_input
        and outputs <= schema.max_output
        and all(
            name in schema.attributes and schema.attributes[name].type.value == kind
            for name, kind in attributes.items()
        )
        and all(name in attributes for name, attribute in schema.attributes.items() if attribute.required)
    )


@pytest.mark.slow
def test_shapes_at_older_opsets() -> None:
    found = Sweep()
    for case in cases(expanded=False):
        if len(case.model.graph.node) == 1 and all(
            isinstance(given, np.ndarray) for given in case.feed.values()
        ):
            for model in older_versions(case):
                older = Case(name=case.name, model=model, feed=case.feed, ran=run(model, case.feed) or {})
                found.compare(case.name, model, older.ran)
                found.compare(case.name, with_constants(older), older.ran)
                sweep_open(found, older, 1, ())
    assert not found.wrong
    assert found.counts["unknown"] < 0.1 * found.counts["agreed"], found.unknown
