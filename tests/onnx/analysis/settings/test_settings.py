"""Floats that only steer an operator are no params; weights in the same places stay."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import ArrayLike
from onnx import defs

from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.onnx.analysis.settings.steering import STEERING_INPUTS, is_name_of_a_param
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.io import files
from tests import zoo

Weights = Mapping[str, ArrayLike]
RNG = np.random.default_rng(0)
IMAGE = "g (float[1, 3, 8, 8] x) => (y) {{ y = {} }}"
SCORES = "g (float[1, 2, 64, 64] x) => (float y) {{ {} y = Softmax (s) }}"
MIN = np.finfo(np.float32).min


def f4(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def triangle(masked: float, kept: float = 0, size: int = 64) -> np.ndarray:
    return np.where(np.tri(size, dtype=bool), np.float32(kept), np.float32(masked))


def analyzed(text: str, weights: Weights, opset: int = 17) -> Analysis:
    return analyze(zoo.model(text, opset=opset, version=10, **weights))


STEERED: dict[str, tuple[str, Weights, int]] = {
    "Resize": ("Resize (x, , s)", {"s": f4(1, 1, 2, 2)}, 17),
    "Resize-10": ("Resize (x, s)", {"s": f4(1, 1, 2, 2)}, 10),
    "Resize with roi": (
        'Resize <coordinate_transformation_mode = "tf_crop_and_resize"> (x, r, s)',
        {"s": f4(1, 1, 2, 2), "r": f4(0, 0, 0, 0, 1, 1, 1, 1)},
        17,
    ),
    "Upsample": ("Upsample (x, s)", {"s": f4(1, 1, 2, 2)}, 9),
    "Pad of one axis": ("Pad (x, p, v)", {"p": np.zeros(8, np.int64), "v": f4(1)}, 17),
    "Pad of no axis": ("Pad (x, p, v)", {"p": np.zeros(8, np.int64), "v": np.float32(1)}, 17),
    "Dropout": ("Dropout (x, r)", {"r": f4(0.5)}, 17),
    "Clip": ("Clip (x, a, b)", {"a": f4(0), "b": f4(6)}, 17),
    "RoiAlign": ("RoiAlign (x, r, b)", {"r": f4(0, 0, 4, 4).reshape(1, 4), "b": np.zeros(1, np.int64)}, 17),
    "CastLike": ("CastLike (x, t)", {"t": f4(1, 2)}, 17),
    "a factor": ("Mul (x, s)", {"s": f4(0.125)}, 17),
    "a factor of four axes": ("Mul (x, s)", {"s": f4(0.125).reshape(1, 1, 1, 1)}, 17),
    "a divisor": ("Div (x, s)", {"s": f4(8)}, 17),
    "an exponent": ("Pow (x, s)", {"s": f4(2)}, 17),
    "bounds": ("Max (x, s)", {"s": f4(0)}, 17),
    "a threshold": ("Greater (x, s)", {"s": f4(0.5)}, 17),
    "an exporter's constant": ("Mul (x, s)", {"s": f4(2)}, 17),
}


@pytest.mark.parametrize("kind", STEERED)
def test_floats_that_steer_are_no_params(kind: str) -> None:
    node, weights, opset = STEERED[kind]
    found = analyzed(IMAGE.format(node), weights, opset)
    axes = {
        name: array for name, array in weights.items() if np.ndim(array) and np.asarray(array).dtype == "f4"
    }
    assert (found.totals.params, found.totals.param_bytes) == (0, 0)
    assert found.totals.constants == sum(np.size(array) for array in axes.values())
    assert found.totals.constant_bytes == 4 * found.totals.constants
    assert {name for entry in found.constants for name in entry.names} == set(axes)


def test_range_one_hot_and_nms_are_steered() -> None:
    text = """
    g (int64[4] i, float[1, 10, 4] b, float[1, 1, 10] c) => (float y, r, o) {
        y = OneHot (i, d, v) r = Range (s, l, s) o = NonMaxSuppression (b, c, m, t, t)
    }
    """
    weights: Weights = {"d": np.int64(10), "v": f4(0, 1), "s": np.float32(1), "l": np.float32(9)}
    found = analyzed(text, {**weights, "m": np.array([5]), "t": f4(0.5)})
    assert (found.totals.params, found.totals.constants) == (0, 3)


@pytest.mark.parametrize(
    "way",
    [
        "c = Concat <axis = 0> (s, q) y = Resize (x, , c)",
        "h = Shape <start = 2> (x) f = Cast <to = 1> (h) m = Mul (f, s) r = Floor (m) i = Cast <to = 7> (r)"
        " n = Shape <end = 2> (x) z = Concat <axis = 0> (n, i) y = Resize (x, , , z)",
        "h = Shape <start = 2> (x) f = Cast <to = 1> (h) m = Div (f, s) i = Cast <to = 7> (m)"
        " y = Expand (x, i)",
    ],
)
def test_floats_in_the_arithmetic_of_sizes_are_no_params(way: str) -> None:
    text = f"g (float[1, 1, H, W] x, float[2] q) => (y) {{ {way} }}"
    found = analyzed(text, {"s": f4(1, 1)})
    assert (found.totals.params, found.totals.constants) == (0, 2)
    shown = analyzed(text.replace("(y)", f"(y, {'c' if ' c =' in text else 'm'})"), {"s": f4(1, 1)})
    assert shown.totals.params == 2


def test_the_table_names_inputs_that_exist() -> None:
    schemas = {schema.name: schema for schema in defs.get_all_schemas_with_history()}
    most = {
        name: max(len(one.inputs) for one in defs.get_all_schemas_with_history() if one.name == name)
        for name in STEERING_INPUTS
        if name in schemas
    }
    assert len(most) > 15
    assert not {name for name, count in most.items() if max(STEERING_INPUTS[name], default=0) >= count}


LEARNT: dict[str, tuple[str, Weights, int]] = {
    "a slope": ("PRelu (x, s)", {"s": f4(0.25)}, 1),
    "a bias of one output": ("Add (x, s)", {"s": f4(0.25)}, 1),
    "a factor per channel": ("Mul (x, s)", {"s": RNG.normal(size=(3, 1, 1)).astype("f4")}, 3),
    "a kernel of one weight": ("Conv (x, s)", {"s": np.ones((1, 3, 1, 1), "f4")}, 3),
}


@pytest.mark.parametrize("kind", LEARNT)
def test_weights_in_such_places_are_params(kind: str) -> None:
    node, weights, count = LEARNT[kind]
    assert analyzed(IMAGE.format(node), weights).totals.params == count


def test_a_tensor_with_another_use_is_a_param() -> None:
    text = (
        "g (float[1, 3, 8, 8] x) => (y) { a = Resize (x, , s) b = Add (x, s) y = Concat <axis = 2> (a, b) }"
    )
    with_both = zoo.model(text.replace("Add (x, s)", "Reshape (q, n)"), s=f4(1, 1, 2, 2), q=f4(1), n=[1])
    assert analyze(with_both).totals.constants >= 4
    both = zoo.model(
        "g (float[4, 4, 4, 4] x) => (y, z) { y = Resize (x, , s) z = Add (x, s) }", s=f4(1, 1, 2, 2)
    )
    assert analyze(both).totals.params == 4


@pytest.mark.parametrize(
    ("name", "learnt"),
    [
        ("blocks.0.gamma", True),
        ("learnable_affine_block_0.w_0", True),
        ("dense/ReadVariableOp:0", True),
        ("s", False),
        ("onnx::Mul_123", False),
        ("/blocks/Constant_output_0", False),
        ("val_3", False),
        ("p2o.helper.constant.4", False),
        ("auto.cast.37", False),
        ("", False),
    ],
)
def test_single_factors_are_told_by_their_names(name: str, learnt: bool) -> None:
    assert is_name_of_a_param(name) == learnt
    built = zoo.model("g (float[4] x) => (y) { y = Mul (x, s) }", s=f4(2))
    if name:
        built.graph.initializers["s"].name = name
    assert analyze(built).totals.params == learnt


MASKS = {
    "-inf": triangle(-np.inf),
    "-1e9": triangle(-1e9),
    "the least number": triangle(float(MIN)),
    "-100, as in Swin": triangle(-100)[None],
    "two masks in one": np.minimum(triangle(-np.inf) + triangle(-1e4).T, 0)[None, None],
}


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize(
    "way",
    [
        "s = Add (x, m)",
        "s = Add (m, x)",
        "c = Cast <to = 1> (m) a = Add (x, c) b = Reshape (a, n) s = Mul (b, f)",
        "s = Where (k, x, m)",
    ],
)
def test_masks_of_scores_are_no_params(kind: str, way: str) -> None:
    given = {"m": MASKS[kind], "n": np.array([0, 0, 64, 64]), "f": np.float32(2), "k": np.tri(64, dtype=bool)}
    found = analyzed(SCORES.format(way), {name: array for name, array in given.items() if name in way})
    assert found.totals.params == 0
    assert "mask" in found.constants[0].reason


def test_masks_of_ones_are_no_params() -> None:
    found = analyzed(SCORES.format("s = Mul (x, m)"), {"m": triangle(0, 1)})
    assert (found.totals.params, found.totals.constants) == (0, 64 * 64)


@pytest.mark.parametrize(
    "mask",
    [
        "f = ConstantOfShape <value = float[1] {-1e9}> (n) m = Trilu <upper = 1> (f, k)",
        "f = ConstantOfShape <value = float[1] {1}> (n) t = Trilu <upper = 0> (f) o = Sub (a, t)"
        " m = Mul (o, b)",
    ],
)
def test_masks_made_of_one_number_are_no_params(mask: str) -> None:
    text = SCORES.format(f"n = Constant <value = int64[2] {{64, 64}}> () {mask} s = Add (x, m)")
    found = analyzed(text, {"k": np.int64(1), "a": np.float32(1), "b": np.float32(-1e9)})
    assert (found.totals.params, found.totals.constants) == (0, 64 * 64)


@pytest.mark.parametrize(
    ("table", "way"),
    [
        (RNG.normal(size=(64, 64)).astype("f4"), "s = Add (x, m)"),  # a learnt bias of positions
        (np.zeros((64, 64), "f4"), "s = Add (x, m)"),
        (np.ones((64, 64), "f4"), "s = Mul (x, m)"),
        (triangle(-np.inf), "s = MatMul (x, m)"),
        (triangle(-np.inf), "a = Add (x, m) s = Exp (a)"),
    ],
)
def test_other_squares_are_params(table: np.ndarray, way: str) -> None:
    assert analyzed(SCORES.format(way), {"m": table}).totals.params == table.size


@pytest.mark.parametrize("attention", ["Attention <q_num_heads = 2, kv_num_heads = 2> (q, q, q, m)"])
def test_a_mask_of_attention_is_no_param(attention: str) -> None:
    text = f"g (float[1, 64, 8] q) => (float y) {{ y = {attention} }}"
    assert analyzed(text, {"m": triangle(-np.inf)}, 23).totals.params == 0
    assert analyzed(text, {"m": RNG.normal(size=(64, 64)).astype("f4")}, 23).totals.params == 4096


RECURRENT = {"LSTM": (4, ", h, h"), "GRU": (3, ", h"), "RNN": (1, ", h")}


@pytest.mark.parametrize("op", RECURRENT)
@pytest.mark.parametrize("learnt", [False, True])
def test_initial_states_of_zeros_are_no_params(op: str, learnt: bool) -> None:
    gates, states = RECURRENT[op]
    text = f"g (float[5, 2, 4] x) => (float y) {{ y = {op} <hidden_size = 8> (x, w, r, , {states}) }}"
    state = np.full((1, 2, 8), learnt, np.float32)
    weights = {"w": zoo.ones(1, gates * 8, 4), "r": zoo.ones(1, gates * 8, 8), "h": state}
    found = analyzed(text, weights)
    assert found.totals.params == gates * 8 * 12 + 16 * learnt
    assert found.totals.constants == 16 * (not learnt)


@pytest.mark.parametrize(
    "state",
    ["h = ConstantOfShape (n)", "z = Constant <value = float[1] {0}> () h = Expand (z, n)"],
)
def test_folded_states_of_zeros_are_no_params(state: str) -> None:
    size = "n = Constant <value = int64[3] {1, 2, 8}> ()"
    text = f"g (float[5, 2, 4] x) => (y) {{ {size} {state} y = GRU <hidden_size = 8> (x, w, r, , , h) }}"
    found = analyzed(text, {"w": zoo.ones(1, 24, 4), "r": zoo.ones(1, 24, 8)})
    assert found.totals.params == 24 * 12


@pytest.mark.parametrize(
    "way",
    [
        "b = Shape <start = 1, end = 2> (x) s = Concat <axis = 0> (i, b, i) h = Tile (z, s)",
        "b = Shape <start = 1, end = 2> (x) s = Concat <axis = 0> (i, b, k) h = Expand (z, s)",
    ],
)
@pytest.mark.parametrize("start", [0, 1])
def test_zeros_that_are_moved_to_a_state_are_no_params(way: str, start: int) -> None:
    text = f"g (float[S, B, 4] x) => (float y) {{ {way} y = GRU <hidden_size = 8> (x, w, r, , , h) }}"
    weights = {"w": zoo.ones(1, 24, 4), "r": zoo.ones(1, 24, 8), "z": np.full((1, 1, 8), start, "f4")}
    found = analyzed(text, {**weights, "i": np.array([1]), "k": np.array([8])})
    assert (found.totals.params, found.totals.constants) == (24 * 12 + 8 * start, 8 - 8 * start)


@pytest.mark.parametrize("start", [0, 1])
def test_zeros_that_are_written_into_are_no_params(start: int) -> None:
    text = "g (float[2] u, int64[2] i) => (float y) { y = ScatterElements (z, i, u) }"
    found = analyzed(text, {"z": np.full(6, start, "f4")})
    assert (found.totals.params, found.totals.constants) == (6 * start, 6 - 6 * start)


def test_a_file_with_weights_in_constant_nodes_says_what_it_cannot_tell() -> None:
    text = """
    g (float[1, 1, 4, 4] x) => (float y) {
        w = Constant <value = float[1, 1, 2, 2] {1, 2, 3, 4}> ()
        s = Constant <value = float[4] {1, 1, 2, 2}> ()
        c = Conv (x, w) y = Resize (c, , s)
    }
    """
    found = analyzed(text, {})
    assert found.totals.params == 8
    assert any("4 of the params may only steer operators" in note for note in found.notes)


def test_few_entries_of_a_large_mask_are_read(tmp_path: Path) -> None:
    built = zoo.model(SCORES.replace("64", "256").format("s = Add (x, m)"), m=triangle(-np.inf, size=256))
    files.save(built, tmp_path / "mask.onnx")
    loaded = files.load(tmp_path / "mask.onnx")
    assert analyze(loaded).totals.params == 0


def test_a_mask_that_cannot_be_read_stays_a_param() -> None:
    built = zoo.model(SCORES.format("s = Add (x, m)"), m=triangle(-np.inf))
    built.graph.initializers["m"].const_value = ir.ExternalTensor(
        location="missing.bin",
        offset=0,
        length=4 * 64 * 64,
        dtype=ir.DataType.FLOAT,
        shape=ir.Shape((64, 64)),
        name="m",
        base_dir=Path(__file__).parent,
    )
    assert analyze(built).totals.params == 64 * 64


def test_numbers_in_attributes_have_bytes_of_their_own() -> None:
    text = """
    g (float[1, 3] x) => (float y) {
        y = ai.onnx.ml.LinearRegressor <coefficients = [1.0, 2.0, 3.0], intercepts = [0.5, 0.5]> (x)
    }
    """
    found = analyzed(text, {})
    assert (found.totals.params, found.totals.attribute_bytes) == (0, 20)
    assert any("numbers in attributes take 20 B" in note for note in found.notes)
