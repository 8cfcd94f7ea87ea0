"""Activation statistics equal those of the whole tensors from onnxruntime with optimizations off."""

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon import data
from modelsurgeon.inspection.statistics.activation import Activation, Bounds
from modelsurgeon.onnx import run
from modelsurgeon.onnx.analysis.statistics import activation_statistics
from modelsurgeon.onnx.analysis.statistics.activation_statistics import bounds, collect_activation_statistics
from tests import zoo

RNG = np.random.default_rng(0)
FEEDS = RNG.normal(size=(6, 3, 20, 16)).astype(np.float32)


def net() -> ir.Model:
    """The classifier with random weights and one dead channel."""
    model = zoo.classifier()
    for name, value in model.graph.initializers.items():
        array = value.const_value
        assert array is not None
        drawn = np.abs(RNG.normal(size=array.shape.numpy())).astype(np.float32)
        if name == "w1":
            drawn -= 0.7
        if name == "shift":
            drawn[2] = -1e4
        value.const_value = ir.Tensor(drawn, name=name)
    return model


def watched(model: ir.Model, feeds: object = FEEDS, batch: int | None = 2) -> dict[str, Activation]:
    batches = data.batches(feeds, run.inputs(model), batch=batch)
    return {place.place.layer: place for place in collect_activation_statistics(model, batches).places}


def test_statistics_equal_those_of_onnxruntime() -> None:
    model = net()
    found = watched(model)
    names = [name for name in found if name != "y"]
    whole = run.runner(model, outputs=names, optimize=False)({"x": FEEDS})
    assert set(found) == {"a", "n", "r", "p", "d", "e", "q", "y"}
    for name, place in found.items():
        true = whole[name].astype(np.float64)
        assert place.spread.count == true.size
        assert place.spread.mean == pytest.approx(true.mean(), rel=1e-4)
        assert place.spread.std == pytest.approx(true.std(), rel=1e-4)
        assert place.spread.high == pytest.approx(true.max(), rel=1e-4)
    assert found["r"].dead == (2,)
    assert found["y"].channels == 10
    assert found["r"].as_dict()["shape"] == [2, 8, 10, 8]


def test_group_size_does_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    whole = watched(model)
    monkeypatch.setattr(activation_statistics, "GROUP_BYTES", 1)
    progress: list[tuple[str, int, int]] = []
    batches = data.batches(FEEDS, run.inputs(model), batch=3)
    parts = collect_activation_statistics(model, batches, watch=lambda *step: progress.append(step))
    assert progress == [("activations", number, 2 * len(whole)) for number in range(2 * len(whole))]
    for place in parts.places:
        assert place.spread.mean == pytest.approx(whole[place.place.layer].spread.mean, rel=1e-5)


@pytest.mark.parametrize(
    ("text", "true"),
    [
        ("y = Sigmoid (x)", Bounds(low=0.0, high=1.0, margin=0.01)),
        ("y = Tanh (x)", Bounds(low=-1.0, high=1.0, margin=0.01)),
        ("y = HardSwish (x)", Bounds(low=0.0, high=None)),
        ("l = Constant <value = float {-2.0}> () h = Constant <value = float {6.0}> () y = Clip (x, l, h)",
         Bounds(low=-2.0, high=6.0)),
        ("h = Constant <value = float {6.0}> () y = Clip (x, , h)", Bounds(low=None, high=6.0)),
        ("y = Relu (x)", None),
    ],
)  # fmt: skip
def test_bounds_are_those_of_the_operator(text: str, true: Bounds | None) -> None:
    assert bounds(list(zoo.model(f"g (float[2, 4] x) => (float[2, 4] y) {{ {text} }}").graph)[-1]) == true


def test_bounds_of_clip_with_attributes() -> None:
    model = zoo.model("g (float[2, 4] x) => (float[2, 4] y) { y = Clip <min = 0.0, max = 6.0> (x) }", opset=6)
    assert bounds(next(iter(model.graph))) == Bounds(low=0.0, high=6.0)


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("a = MatMul (x, w) y = Relu (a)", -1),
        ("a = MatMul (x, w) b = Reshape (a, s) y = Relu (b)", None),
        ("y = Relu (x)", None),
    ],
)
def test_channel_axis_is_that_of_the_last_layer(text: str, axis: int | None) -> None:
    model = zoo.model(
        f"g (float[2, 5, 4] x) => (float y) {{ {text} }}", w=zoo.ones(4, 3), s=np.array([2, 3, 5], np.int64)
    )
    batches = data.batches(np.ones((2, 5, 4), np.float32), run.inputs(model))
    assert collect_activation_statistics(model, batches).places[-1].place.axis == axis


def test_activations_inside_functions() -> None:
    feeds = {
        "x": RNG.normal(size=(4, 4)).astype(np.float32),
        "z": RNG.normal(size=(12, 4)).astype(np.float32),
    }
    found = watched(zoo.functions(), feeds, batch=None)
    assert [place.place.op for place in found.values()] == ["MatMul", "Add"] * 2


def test_info_has_a_section_only_with_data() -> None:
    model = net()
    given = {"x": FEEDS, "odd": FEEDS}
    measured = ms.info(model, data=given, samples=4, batch=2).as_dict()
    assert "ignored, since no input has this name: odd" in measured["notes"]
    found = measured["activations"]
    assert {entry["samples"] for entry in found} == {4}
    assert "activations" not in ms.info(model).as_dict()
