"""A name hides what is visible around it, nothing else: every net that onnx and onnxruntime load, loads."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import ModelProto

import modelsurgeon as ms
from modelsurgeon.onnx.analysis.statistics.inline_branches import branch_path
from modelsurgeon.onnx.graph.edit import taken_names
from modelsurgeon.onnx.graph.names import rename_apart
from modelsurgeon.onnx.io.files import from_proto
from modelsurgeon.onnx.io.serialize import pack
from tests import zoo
from tests.onnx.io.nested_scopes import nested_model

MERGED = """<ir_version: 8, opset_import: ["" : 17]>
merged (float[N, 4] x, bool use_cache) => (float[N, 4] logits, float[N, 4] present) {
  logits, present = If (use_cache) <
    then_branch = a () => (float[N, 4] logits, float[N, 4] present) {
      present = Relu (x)
      logits = Add (x, present)
    }, else_branch = b () => (float[N, 4] logits, float[N, 4] present) {
      logits = Neg (x)
      present = Mul (logits, x)
    }>
}"""
CONDITIONS = (True, False)
AMBIGUOUS = "runtimes differ on which is meant"


def feed(condition: bool) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x": rng.standard_normal(2).astype(np.float32),
        "rows": rng.standard_normal((3, 2)).astype(np.float32),
        "cond": np.array(condition),
    }


def session(model: ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def outputs(model: ir.Model | ModelProto, feed: dict[str, Any]) -> list[Any]:
    proto = model if isinstance(model, ModelProto) else written(model)
    opened = session(proto)
    return opened.run(None, {value.name: feed[value.name] for value in opened.get_inputs()})


def written(model: ir.Model) -> ModelProto:
    proto = ModelProto.FromString(pack(model).skeleton)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def is_valid(model: ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
        session(model)
    except Exception:  # noqa: BLE001 - onnx and onnxruntime have no common exceptions
        return False
    return True


@cache
def valid_models(count: int) -> list[ModelProto]:
    found = [proto for seed in range(count) if is_valid(proto := nested_model(seed))]
    assert len(found) > count // 4
    return found


def test_every_valid_net_loads_and_is_written_as_it_was() -> None:
    for proto in valid_models(120):
        model = from_proto(proto)
        for condition in CONDITIONS:
            given = feed(condition)
            assert np.array_equal(outputs(model, given)[0], outputs(proto, given)[0], equal_nan=True)


def test_branches_taken_compute_what_the_net_computes() -> None:
    taken = 0
    for proto in valid_models(120):
        model = from_proto(proto)
        before = proto.SerializeToString()
        for condition in CONDITIONS:
            given = feed(condition)
            try:
                path = branch_path(model, given)
            except ms.BadData as error:
                assert AMBIGUOUS in str(error)
                continue
            taken += bool(path.taken)
            assert not any(node.op_type == "If" for node in path.model.graph)
            found = outputs(path.model, given)
            assert np.array_equal(found[0], outputs(proto, given)[0], equal_nan=True)
        assert proto.SerializeToString() == before
    assert taken > 10


def test_names_renamed_apart_are_all_different() -> None:
    for proto in valid_models(60):
        clone = from_proto(proto)
        rename_apart(clone, taken_names(clone))
        graphs = [clone.graph, *clone.graph.subgraphs()]
        values = {
            value
            for graph in graphs
            for value in (*graph.inputs, *graph.initializers.values(), *(o for n in graph for o in n.outputs))
        }
        assert len({value.name for value in values}) == len(values)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_merged_decoder_is_read_and_cut(condition: bool) -> None:
    proto = onnx.parser.parse_model(MERGED)
    model = from_proto(proto)
    assert ms.info(model).totals.macs == 0
    given = {"x": np.array([[1, -2, 3, -4]], np.float32), "use_cache": np.array(condition)}
    expected = outputs(proto, given)
    assert np.array_equal(outputs(ms.extract(model, ["present"]).model, given)[0], expected[1])


def test_an_output_that_becomes_an_input_hides_no_name_of_a_branch() -> None:
    text = MERGED.replace("float[N, 4] present) {\n  l", "float[N, 4] sum) {\n  l").rstrip("}\n")
    proto = onnx.parser.parse_model(f"{text}>\n sum = Add (logits, present) }}".replace("}>>", "}>"))
    cut = ms.extract(proto, ["sum"], ["logits", "x", "use_cache"]).model
    given = {"x": np.ones((1, 4), np.float32), "use_cache": np.array(True)}
    given["logits"] = np.full((1, 4), 7, np.float32)
    assert np.array_equal(outputs(cut, given)[0], np.full((1, 4), 8, np.float32))


def test_shapes_of_equal_names_are_kept_apart() -> None:
    """`check` judges a value by its own shape, not by that of another value with the same name."""
    model = zoo.model("""g (float[N, 4] x, bool c) => (float[4, N] r) {
      same = Constant <value = int64[2] {-1, 4}> ()
      flat = Constant <value = int64[2] {4, -1}> ()
      y = If (c) <then_branch = t () => (float[4, N] z) {
          y = Reshape (x, same)
          z = Transpose (y)
      }, else_branch = e () => (float[4, N] z) { z = Transpose (x) }>
      r = Reshape (y, flat)
    }""")
    found = [finding.layer for finding in ms.check(model).findings if finding.rule == "no-op"]
    assert sorted(found) == ["r", "y#2"]


AMBIGUOUS_NET = """g (float[2] x, bool c) => (float[2] y) {
  v = Neg (x)
  y = If (c) <then_branch = t () => (float[2] a) <float[2] v = {1, 2}> { a = Neg (v) },
              else_branch = e () => (float[2] b) { b = Relu (v) }>
}"""


def test_a_weight_that_onnxruntime_mistakes_is_refused() -> None:
    model = zoo.model(AMBIGUOUS_NET)
    assert ms.info(model).totals.nodes == 4
    with pytest.raises(ms.BadData, match=f"'y' has the weight 'v' .*{AMBIGUOUS}"):
        branch_path(model, {"x": np.ones(2, np.float32), "c": np.array(True)})
