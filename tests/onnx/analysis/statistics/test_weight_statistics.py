"""Weight statistics: every tensor once, with the layer names and params of the analysis."""

import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.inspection.statistics.weight import Weight
from modelsurgeon.onnx.analysis.statistics.weight_statistics import collect_weight_statistics
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.io import files
from tests import zoo

GRAPHS = {
    "classifier": zoo.classifier,
    "branches": zoo.branches,
    "loop": zoo.loop,
    "scan": zoo.scan,
    "functions": zoo.functions,
    "quantized": zoo.quantized,
}


def weighed(model: ir.Model) -> dict[tuple[str, str], Weight]:
    return {(weight.layer, weight.role): weight for weight in collect_weight_statistics(model).tensors}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_param_is_measured_once_under_its_layer(name: str) -> None:
    model = GRAPHS[name]()
    analysis = analyze(model)
    found = collect_weight_statistics(model, dims=analysis.defaults).tensors
    assert sum(weight.spread.count for weight in found) == analysis.totals.params
    params = {row.name: row.params for row in analysis.layers if row.params}
    for layer, count in params.items():
        assert sum(weight.spread.count for weight in found if weight.layer == layer) == count


def test_quantized_weights_are_measured_dequantized() -> None:
    found = weighed(zoo.quantized())
    weight, bias = found["y", "weight"], found["y", "bias"]
    assert (weight.dtype, weight.shape, weight.spread.high) == ("int8", (4, 3), 1.0)
    assert (bias.dtype, bias.spread.high) == ("int32", 0.5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.float64])
def test_every_floating_type_is_measured(dtype: type) -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(dtype)
    model = zoo.model(
        "g (float[2, 6] x) => (float[2, 4] y) { f = Cast <to = 1> (w) y = MatMul (x, f) }", opset=19
    )
    tensor = ir.Tensor(weight, ir.DataType.from_numpy(weight.dtype), name="w")
    value = next(v for v in next(iter(model.graph)).inputs if v is not None)
    value.const_value, value.type, value.shape = tensor, ir.TensorType(tensor.dtype), ir.Shape(weight.shape)
    model.graph.register_initializer(value)
    (found,) = collect_weight_statistics(model).tensors
    true = np.linalg.svd(weight.astype(np.float64), compute_uv=False)
    assert found.spectrum is not None
    assert found.spectrum.norm == pytest.approx(true[0], rel=1e-6)
    assert found.dtype == weight.dtype.name


def test_folded_constants_are_one_weight() -> None:
    gates = {
        name: np.random.default_rng(i).normal(size=(1, 3, 4)).astype(np.float32)
        for i, name in enumerate("ab")
    }
    model = zoo.model(
        """
        g (float[2, 1, 4] x) => (float y) {
            ab = Concat <axis = 1> (a, b) w = Concat <axis = 1> (ab, ab) y = LSTM <hidden_size = 3> (x, w, r)
        }
        """,
        **gates,
        r=zoo.ones(1, 12, 3),
    )
    found = weighed(model)
    assert {key: weight.shape for key, weight in found.items()} == {
        ("y", "W"): (1, 12, 4),
        ("y", "R"): (1, 12, 3),
    }
    spectrum = found["y", "W"].spectrum
    assert spectrum is not None
    whole = np.concatenate([gates["a"], gates["b"]] * 2, axis=1)[0]
    assert spectrum.norm == pytest.approx(np.linalg.norm(whole, 2), rel=1e-5)


def test_constants_in_a_branch_are_folded() -> None:
    model = zoo.branches()
    (choice,) = (node for node in model.graph if node.op_type == "If")
    body = choice.attributes["then_branch"].as_graph()
    (product,) = (node for node in body if node.op_type == "MatMul")
    scaled = ir.node("Mul", [product.inputs[1], product.inputs[1]])
    body.insert_before(product, scaled)
    product.replace_input_with(1, scaled.outputs[0])
    assert weighed(model)["a", "weight"].channels is not None


def test_unknown_operators_leave_the_tensor_as_stored() -> None:
    model = zoo.model(
        "g (float[2, 4] x) => (float[2, 3] y) { v = local.odd (w) y = MatMul (x, v) }", w=zoo.ones(4, 3)
    )
    assert [weight.channels for weight in collect_weight_statistics(model).tensors] == [None]


def test_integer_weights_without_a_scale_have_no_fan() -> None:
    model = zoo.model(
        "g (uint8[2, 4] x) => (int32[2, 3] y) { y = MatMulInteger (x, w) }", w=np.ones((4, 3), np.int8)
    )
    (found,) = collect_weight_statistics(model).tensors
    assert (found.fan, found.he) == (None, None)
    assert found.spectrum is not None


def test_an_initializer_that_may_be_overridden_is_a_weight() -> None:
    model = zoo.model(
        "g (float[2, 4] x, float[4, 3] w) => (float[2, 3] y) { y = MatMul (x, w) }", w=zoo.ones(4, 3)
    )
    assert [weight.role for weight in collect_weight_statistics(model).tensors] == ["weight"]


def test_convolutions_are_measured_at_their_input_size() -> None:
    analysis = ms.info(zoo.classifier(), shapes={"x": (1, 3, 20, 16)}, weights=True)
    sizes = {
        entry["layer"]: entry["operator"] for entry in analysis.as_dict()["weights"] if entry["operator"]
    }
    assert sizes["a"]["size"] == [20, 16]
    assert sizes["d"]["size"] == [5, 4]
    assert "e" not in sizes


def test_no_weights_unless_asked() -> None:
    assert "weights" not in ms.info(zoo.classifier()).as_dict()


def test_one_weight_at_a_time_is_in_memory(tmp_path: Path) -> None:
    wide, count = 16384, 16
    products = "".join(f"y{i} = MatMul (x, w{i}) " for i in range(count))
    weight = np.random.default_rng(0).normal(size=(wide, 64)).astype(np.float32)
    model = zoo.model(
        f"g (float[1, {wide}] x) => (float[1, 64] y) "
        f"{{ {products} y = Sum ({', '.join(f'y{i}' for i in range(count))}) }}",
        **{f"w{i}": weight for i in range(count)},
    )
    files.save(model, tmp_path / "large.onnx")
    collect_weight_statistics(zoo.quantized())  # imports happen before the measurement
    loaded = files.load(tmp_path / "large.onnx")
    tracemalloc.start()
    try:
        assert len(collect_weight_statistics(loaded).tensors) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.7 * count * weight.nbytes
