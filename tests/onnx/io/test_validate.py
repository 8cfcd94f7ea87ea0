"""Invalid models raise BadModel with a one-line message; models that onnxruntime loads are accepted."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx.parser
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.graph import traversal
from modelsurgeon.onnx.io import files, serialize, validate, validate_calls
from tests import zoo

Change = Callable[[ModelProto], object]

HEAD = '<ir_version: 9, opset_import: ["" : 17, "local" : 1]>'
MAIN = "g (float[2] x, bool c) => (float[2] y)"
IF = "y = If (c) <then_branch = t () => (float[2] b) {{ {} }}, else_branch = e () => (float[2] b) {{ {} }}>"
FUNCTION = '<domain: "local", opset_import: ["" : 17, "local" : 1]> {} (a) => (b) {{ {} }}'


def model(nodes: str, *functions: str, weights: tuple[str, ...] = ()) -> ModelProto:
    proto = onnx.parser.parse_model("\n".join([HEAD, f"{MAIN} {{ {nodes} }}", *functions]))
    proto.graph.initializer.extend(numpy_helper.from_array(np.ones(2, np.float32), name) for name in weights)
    return proto


def function(name: str, nodes: str) -> str:
    return FUNCTION.format(name, nodes)


def load(proto: ModelProto, folder: Path) -> None:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    files.load(path)


def changed(proto: ModelProto, *changes: Change) -> ModelProto:
    for change in changes:
        change(proto)
    return proto


SOUND = {
    "plain": model("y = Neg (x)"),
    "out of order": model("y = Relu (a) a = Neg (x)"),
    "an optional input left out": model("y = Clip (x, , hi)  hi = Constant <value = float {1}> ()"),
    "an input as output": changed(model("z = Neg (x)"), lambda m: setattr(m.graph.output[0], "name", "x")),
    "captured": model(IF.format("b = Neg (x)", "b = Relu (x)")),
    "captured, made later": model(IF.format("b = Neg (a)", "b = Relu (x)") + "a = Relu (x)"),
    "one name in two branches": model(IF.format("i = Neg (x) b = Neg (i)", "i = Relu (x) b = Neg (i)")),
    "function": model("y = local.Twice (x)", function("Twice", "b = Add (a, a)")),
    "an input with a default": model("y = Add (x, w)", weights=("w",)),
}


@pytest.mark.parametrize("proto", SOUND.values(), ids=SOUND)
def test_valid_models_are_accepted(proto: ModelProto, tmp_path: Path) -> None:
    load(proto, tmp_path)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_nodes_out_of_order_are_sorted(tmp_path: Path) -> None:
    for name in ("out of order", "captured, made later"):
        path = tmp_path / "model.onnx"
        path.write_bytes(SOUND[name].SerializeToString())
        assert [node.op_type for node in files.load(path).graph][-1] in ("Relu", "If")
        assert validate.check(ir.to_proto(files.load(path)), lambda _: None)
        assert not validate.check(SOUND[name], lambda _: None)


UNSOUND = {
    r"needs 'a': nothing makes that": model("y = Neg (a)"),
    r"has a cycle through node \d \('(Neg|Add)' ''\)": model("y = Neg (a) a = Add (y, x)"),
    r"makes 'y' twice, again in node 1": model("y = Neg (x) y = Relu (x)"),
    r"makes 'x' twice": model("x = Neg (x) y = Neg (x)"),
    r"makes 'w' twice": model("w = Neg (x) y = Neg (w)", weights=("w",)),
    r"two of the name 'w' \(weight\)": model("y = Add (x, w)", weights=("w", "w")),
    r"no name for weight 0": model("y = Neg (x)", weights=("",)),
    r"the output 'y', which nothing": model("z = Neg (x)"),
    r"hides the same name outside": model(
        "s = Neg (x)" + IF.format("s = Neg (x) b = Neg (s)", "b = Neg (x)")
    ),
    r"needs 'i': nothing makes": model(IF.format("i = Neg (x) b = Neg (i)", "b = Neg (i)")),
    r"the output 'b', which nothing": model(IF.format("d = Neg (x)", "b = Neg (x)")),
    r"a cycle through node 0": model(IF.format("b = Neg (a)", "b = Neg (x)") + "a = Neg (y)"),
    r"needs 'x': nothing makes": model("y = local.F (x)", function("F", "b = Neg (x)")),
    r"functions that call themselves: 'local.F'": model("y = Neg (x)", function("F", "b = local.F (a)")),
    r"defines the function 'F' twice": model("y = Neg (x)", *[function("F", "b = Neg (a)")] * 2),
    r"'' \(If\) without its else_branch": model(
        IF.format("b = Neg (x)", "b = Neg (x)").replace("else_", "elsa_")
    ),
    r"two attributes 'axis'": model("y = Softmax <axis = 0, axis = 0> (x)"),
    r"no operator in node 0": changed(model("y = Neg (x)"), lambda m: m.graph.node[0].ClearField("op_type")),
    r"states no IR version": changed(model("y = Neg (x)"), lambda m: m.ClearField("ir_version")),
    r"holds no graph": changed(model("y = Neg (x)"), lambda m: m.ClearField("graph")),
    r"imports no operator set": changed(model("y = Neg (x)"), lambda m: m.ClearField("opset_import")),
    r"two versions of the operator set ''": changed(
        model("y = Neg (x)"), lambda m: m.opset_import.add(version=18)
    ),
    r"holds training_info": changed(model("y = Neg (x)"), lambda m: m.training_info.add()),
    r"the sparse tensor '', which has the unknown": changed(
        model("y = Neg (x)"), lambda m: m.graph.sparse_initializer.add()
    ),
    r"sparse tensor in 'sparse_value'": changed(
        model("y = Neg (x)"),
        lambda m: m.graph.node[0].attribute.add(name="sparse_value", type=AttributeProto.SPARSE_TENSOR),
    ),
    r"an attribute 'alpha' without a type": changed(
        model("y = LeakyRelu <alpha = 0.5> (x)"), lambda m: m.graph.node[0].attribute[0].ClearField("type")
    ),
    r"refers to 'k': there is none": changed(
        model("y = LeakyRelu <alpha = 0.5> (x)"),
        lambda m: setattr(m.graph.node[0].attribute[0], "ref_attr_name", "k"),
    ),
    r"'x' of the unknown element type 999": changed(
        model("y = Neg (x)"), lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 999)
    ),
    r"'x', a map whose keys are no integers or texts, or of nothing": changed(
        model("y = Neg (x)"), lambda m: m.graph.input[0].type.map_type.SetInParent()
    ),
    r"'x', a sequence of nothing": changed(
        model("y = Neg (x)"), lambda m: m.graph.input[0].type.sequence_type.SetInParent()
    ),
    r"needs '\\x1b\[2J': nothing": changed(
        model("y = Neg (x)"), lambda m: m.graph.node[0].input.__setitem__(0, "\x1b[2J")
    ),
}


@pytest.mark.parametrize(("match", "proto"), UNSOUND.items(), ids=UNSOUND)
def test_invalid_models_raise_in_one_line(match: str, proto: ModelProto, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=match) as caught:
        load(proto, tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "model.onnx"))
    assert "\n" not in str(caught.value)


def weight(**fields: object) -> ModelProto:
    proto = model("y = Neg (x)")
    values: dict[str, object] = {"name": "w", "data_type": TensorProto.FLOAT, "dims": [2]} | fields
    proto.graph.initializer.append(TensorProto(**values))
    return proto


F, I64, I4, C64, STRING = 1, 7, 22, 14, 8


@pytest.mark.parametrize(
    "fields",
    [
        {"raw_data": bytes(8)},
        {"float_data": [1, 2]},
        {"dims": []} | {"float_data": [1]},
        {"dims": [0, 3]},
        {"dims": [3], "data_type": I4, "raw_data": bytes(2)},
        {"dims": [3], "data_type": I4, "int32_data": [1, 2]},
        {"data_type": C64, "float_data": [1, 2, 3, 4]},
        {"data_type": STRING, "string_data": [b"a", b"\xff"]},
        {"data_type": 9, "int32_data": [0, 1]},
    ],
)
def test_valid_tensors_are_accepted(fields: dict[str, object], tmp_path: Path) -> None:
    load(weight(**fields), tmp_path)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"raw_data": bytes(7)}, r"the tensor 'w', which has 7 bytes, 8 are needed"),
        ({"raw_data": bytes(9)}, r"has 9 bytes, 8 are needed"),
        ({"float_data": [1, 2, 3]}, r"has 3 values, 2 are needed"),
        ({}, r"has 0 bytes, 8 are needed"),
        ({"raw_data": bytes(8), "float_data": [1, 2]}, r"has its values in two places"),
        ({"int64_data": [1, 2]}, r"of type FLOAT has its values in int64_data"),
        ({"data_type": I64, "int32_data": [1, 2]}, r"of type INT64 has its values in int32_data"),
        ({"dims": [-2], "raw_data": bytes(8)}, r"has the shape \[-2\]: no size is negative"),
        ({"dims": [2**40, 2**40]}, r"no machine holds it"),
        ({"dims": [1] * 65, "float_data": [1]}, r"has 65 axes"),
        ({"data_type": 999, "raw_data": bytes(8)}, r"has the unknown element type 999"),
        ({"data_type": 0, "raw_data": bytes(8)}, r"has the unknown element type 0"),
        ({"data_type": STRING, "string_data": [b"a"]}, r"has 1 strings, 2 are needed"),
        ({"data_type": STRING, "raw_data": bytes(8)}, r"has 0 strings, 2 are needed"),
        ({"segment": {"begin": 0, "end": 1}, "raw_data": bytes(8)}, r"comes in segments"),
        ({"dims": [30_000], "raw_data": bytes(100_000)}, r"has 100000 bytes, 120000 are needed"),
        ({"dims": [30_000], "float_data": np.ones(29_999)}, r"has 119996 bytes, 120000 are needed"),
    ],
)
def test_invalid_tensors_raise(fields: dict[str, object], match: str, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=match):
        load(weight(**fields), tmp_path)


def test_names_that_are_not_utf8_raise(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(
        model("yyyy = Neg (x) y = Neg (yyyy)").SerializeToString().replace(b"yyyy", b"\xff\xfe\xfd\xfc")
    )
    with pytest.raises(BadModel, match=r"isn't UTF-8|can't be read"):
        files.load(path)


def nested(depth: int) -> ModelProto:
    """An If node nested `depth` times."""
    proto = model("y = Neg (x)")
    graph = proto.graph
    for _ in range(depth):
        attributes = graph.node.add(op_type="If", input=["c"]).attribute
        for name in ("else_branch", "then_branch"):
            attribute = attributes.add(name=name, type=AttributeProto.GRAPH)
            attribute.g.CopyFrom(GraphProto())
        graph = attribute.g
    return proto


def test_nesting_of_graphs_has_a_limit(tmp_path: Path) -> None:
    load(nested(20), tmp_path)
    with pytest.raises(BadModel, match=r"nested deeper than 32|can't be read as an ONNX model"):
        load(nested(34), tmp_path)


def test_too_large_expanded_functions_raise(tmp_path: Path) -> None:
    doubling = [function(f"F{i}", f"c = local.F{i + 1} (a) b = local.F{i + 1} (c)") for i in range(30)]
    with pytest.raises(BadModel, match=r"nodes once its functions are expanded"):
        load(model("y = local.F0 (x)", *doubling, function("F30", "b = Neg (a)")), tmp_path)


def test_too_deep_function_calls_raise(tmp_path: Path) -> None:
    chain = [function(f"F{i}", f"b = local.F{i + 1} (a)") for i in range(validate_calls.MAX_CALL_DEPTH)]
    last = function(f"F{validate_calls.MAX_CALL_DEPTH}", "b = Neg (a)")
    with pytest.raises(BadModel, match=r"call each other 65 deep: 64 at most"):
        load(model("y = local.F0 (x)", *chain, last), tmp_path)


def mutants(count: int, seed: int) -> Iterator[bytes]:
    """Bytes of small models, with some bytes replaced, inserted, removed or repeated."""
    dice = random.Random(seed)  # noqa: S311 - no secrets here
    whole = [proto.SerializeToString() for proto in SOUND.values()]
    whole += [zoo.light(name).read_bytes() for name in ("bvlc_alexnet", "zfnet512")]
    for _ in range(count):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.choice([1, 1, 1, 2, 8])):
            at, size = dice.randrange(len(data)), dice.randrange(1, 12)
            fresh = dice.choice([dice.randbytes(1), b"\xff", b"\0", dice.randbytes(size), data[-size:]])
            data[at : at + dice.choice([len(fresh), len(fresh), 0, size])] = fresh
        yield bytes(data)


def test_a_broken_file_loads_or_raises_bad_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    outcomes = {"model": 0, "bad": 0}
    for data in mutants(600, seed=0):
        path.write_bytes(data)
        try:
            model = files.load(path)
            traversal.replace_tensors(model, lambda tensor: (tensor.numpy(), tensor)[1])
            serialize.pack(model)
            outcomes["model"] += 1
        except BadModel as error:
            assert "\n" not in str(error)
            outcomes["bad"] += 1
    assert min(outcomes.values()) > 20
