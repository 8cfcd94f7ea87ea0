"""Analysis of whole models: measured costs, consistent totals, formulas and JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.errors import SurgeryError, UnknownShape
from modelsurgeon.inspection.analysis import Analysis
from modelsurgeon.onnx.info import analyze
from tests import zoo
from tests.truth import LIGHT, PUBLIC, Truth

MODELS = os.environ.get("MODELSURGEON_MODELS")
ZOO: list[Callable[[], ir.Model]] = [
    *(zoo.classifier, zoo.branches, zoo.loop, zoo.scan, zoo.functions, zoo.padded, zoo.quantized)
]
SUMS = ("macs", "flops", "bias_adds", "params", "param_bytes")


def check(found: Analysis, truth: Truth) -> None:
    totals = asdict(found.totals)
    expected = {key: value for key, value in asdict(truth).items() if key in totals}
    assert {key: totals[key] for key in expected} == expected
    assert not found.uncounted
    check_sums(found)


def check_sums(found: Analysis) -> None:
    for key in SUMS:
        assert sum(getattr(row, key) or 0 for row in found.layers) == getattr(found.totals, key)
    assert found.totals.nodes == len(found.layers)
    assert len({row.name for row in found.layers}) == len(found.layers)
    if found.totals.macs:
        assert sum(row.mac_share or 0 for row in found.layers) == pytest.approx(1)
    if found.totals.params:
        assert sum(row.param_share for row in found.layers) == pytest.approx(1)


@pytest.mark.parametrize("name", LIGHT)
def test_classic_nets(name: str) -> None:
    truth = LIGHT[name]
    check(analyze(ir.load(zoo.light(name)), shapes=truth.shapes), truth)


@pytest.mark.models
@pytest.mark.skipif(not MODELS, reason="MODELSURGEON_MODELS names no folder of public models")
@pytest.mark.parametrize("name", PUBLIC)
def test_public_models(name: str) -> None:
    truth = PUBLIC[name]
    path = next(Path(str(MODELS)).rglob(truth.file), None)
    if path is None:
        pytest.skip(f"{truth.file} isn't in the folder of public models")
    check(analyze(ir.load(path), shapes=truth.shapes), truth)


@pytest.mark.parametrize("build", ZOO, ids=lambda build: build.__name__)
def test_columns_add_up_to_totals(build: Callable[[], ir.Model]) -> None:
    found = analyze(build())
    check_sums(found)
    assert not found.uncounted
    top = sum(row.output_bytes for row in found.layers)
    inputs = found.totals.activation_bytes - top
    assert inputs >= 0 or any(row.op in ("If", "Loop", "Scan") for row in found.layers)


def test_a_small_net_by_hand() -> None:
    found = analyze(zoo.classifier(), shapes={"x": (2, 3, 16, 16)})
    totals = found.totals
    assert totals.macs == 2 * (8 * 64 * 27 + 8 * 16 * 9 + 16 * 16 * 8 + 10 * 16)
    assert totals.bias_adds == 2 * (8 * 64 + 10)
    assert totals.params == 8 * 27 + 8 + 4 * 8 + 8 * 9 + 16 * 8 + 160 + 10
    assert totals.bn_stats == 16
    # x and a: 3 maps of 16 x 16 and 8 of 8 x 8, for two images
    assert totals.peak_activation_bytes == 2 * 4 * (3 * 256 + 8 * 64)
    first = found.layers[0]
    assert (first.name, first.op, first.dtype) == ("a", "Conv", "float32")
    assert first.input_shapes == ((2, 3, 16, 16), (8, 3, 3, 3), (8,))
    assert first.output_shapes == ((2, 8, 8, 8),)
    moved = 4 * (2 * 3 * 256 + 8 * 27 + 8 + 2 * 8 * 64)
    assert first.flops is not None
    assert first.intensity == pytest.approx(first.flops / moved)
    assert not found.formulas
    assert not found.defaults


@pytest.mark.parametrize(
    "dims", [{"N": 1, "H": 32, "W": 32}, {"N": 3, "H": 33, "W": 50}, {"N": 7, "H": 5, "W": 9}]
)
def test_formulas_hold_at_other_sizes(dims: dict[str, int]) -> None:
    found = analyze(zoo.classifier())
    assert found.defaults == {"N": 1, "H": 224, "W": 224}
    assert set(found.formulas) == {"macs", "flops", "bias_adds", "activation_bytes"}
    there = analyze(zoo.classifier(), dims=dims).totals
    for key, formula in found.formulas.items():
        assert ir.SymbolicDim(formula).evaluate(dims) == getattr(there, key)


def test_macs_are_proportional_to_the_batch_size() -> None:
    found = analyze(zoo.classifier(), shapes=None, dims={"H": 32, "W": 32})
    assert found.formulas["macs"] == f"{found.totals.macs}*N"


@pytest.mark.parametrize(("factor", "macs"), [(0.5, "12*floor(N/2)"), (2, "24*N")])
def test_a_size_computed_in_floats_has_a_formula(factor: float, macs: str) -> None:
    built = zoo.model(
        """
        g (float[N, 4] x) => (float y) {
            s = Shape (x)
            f = Cast <to = 1> (s)
            m = Mul (f, k)
            n = Cast <to = 7> (m)
            zero = ConstantOfShape (n)
            y = MatMul (zero, w)
        }
        """,
        w=zoo.ones(4, 3),
        k=np.array([factor, 1], np.float32),
    )
    assert analyze(built, dims={"N": 10}).totals.macs == factor * 10 * 4 * 3
    found = analyze(built)
    assert not found.uncounted
    assert found.formulas["macs"] == macs


def test_a_loop_whose_length_is_a_size_has_a_formula() -> None:
    built = zoo.model(
        """
        g (float[N, 4] x) => (float y) {
            n = Shape <end = 1> (x)
            i = Squeeze (n)
            yes = Constant <value = bool {1}> ()
            y = Loop (i, yes, x) <
                body = b (int64 k, bool c, float[N, 4] s) => (bool o, float z) {
                    o = Identity (c)
                    z = MatMul (s, w)
                }
            >
        }
        """,
        w=zoo.ones(4, 4),
    )
    assert analyze(built, dims={"N": 3}).totals.macs == 3 * 3 * 4 * 4
    found = analyze(built)
    assert found.totals.macs == 16
    assert found.formulas["macs"] == "16*N**2"


def test_unknown_costs_are_listed_and_not_zero() -> None:
    built = zoo.model(
        "g (float[2, 3] x) => (float y) { a = somewhere.Magic (x) b = Relu (a) r = Relu (x) y = Add (r, b) }"
    )
    found = analyze(built)
    [entry] = found.uncounted
    assert (entry.op, entry.count, entry.nodes) == ("somewhere::Magic", 1, ("a",))
    assert entry.reason == "no cost is defined for this operator: define one with modelsurgeon.counts"
    assert entry.behind == {"Relu": 1, "Add": 1}
    magic, blind, plain, _ = found.layers
    assert (magic.macs, magic.flops, blind.flops, plain.flops) == (None, None, None, 6)
    assert found.notes == ["activations leave out 3 values of unknown size (a, b, y)"]


def test_nodes_of_an_uncounted_branch_have_no_runs() -> None:
    runs = {row.name: row.runs for row in analyze(zoo.branches()).layers}
    assert runs == {"yes": 1, "y": 1, "a": 0, "h": 1, "b": 1}


def test_a_node_that_fits_at_no_size_is_named() -> None:
    text = "g (float[N, T] x) => (float y) { d = Concat <axis = 1> (x, x) y = MatMul (d, w) }"
    found = analyze(zoo.model(text, w=zoo.ones(7, 3)))
    assert [(entry.op, entry.nodes) for entry in found.uncounted] == [("MatMul", ("y",))]
    assert "2*T" in found.uncounted[0].reason and "7" in found.uncounted[0].reason


def test_default_sizes_that_do_not_fit_are_noted() -> None:
    text = "g (float[N, T] x, float[N, S] z) => (float y) { d = Concat <axis = 1> (x, z) y = MatMul (d, w) }"
    built = zoo.model(text, w=zoo.ones(7, 3))
    found = analyze(built, dims={"S": 7})  # only an empty T fits
    assert found.uncounted
    assert "the default sizes don't fit this model" in found.notes[-1]
    assert "bind N, T" in found.notes[-1]


def test_the_json_has_the_documented_keys() -> None:
    found = analyze(zoo.classifier()).as_dict()
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, default=str))
    assert set(found) >= {"model", "totals", "formulas", "layers", "uncounted", "bottlenecks"}
    assert found["model"] == {
        "path": None,
        "format": "onnx",
        "opset": {"": 17, "com.microsoft": 1, "local": 1},
        "producer": "",
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["N", 3, "H", "W"]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": ["N", 10]}],
    }
    assert set(found["totals"]) >= {
        *("macs", "flops", "bias_adds", "params", "param_bytes", "bn_stats"),
        *("activation_bytes", "peak_activation_bytes", "nodes"),
    }
    assert set(found["layers"][0]) >= {
        *(
            "name",
            "op",
            "domain",
            "module",
            "input_shapes",
            "output_shapes",
            "dtype",
            "macs",
            "flops",
            "params",
        ),
        *("param_bytes", "output_bytes", "mac_share", "param_share", "intensity"),
    }
    assert "formulas" not in analyze(zoo.branches()).as_dict()


def test_numbers_in_the_json_are_plain() -> None:
    def numbers(value: object) -> list[object]:
        if isinstance(value, dict):
            return [one for item in value.values() for one in numbers(item)]
        if isinstance(value, list | tuple):
            return [one for item in value for one in numbers(item)]
        return [] if value is None or isinstance(value, str) else [value]

    for build in ZOO:
        assert {type(one) for one in numbers(analyze(build()).as_dict())} <= {int, float}


def test_the_path_is_the_one_it_was_loaded_from() -> None:
    built = zoo.branches()
    built.meta["modelsurgeon.path"] = Path("some") / "net.onnx"
    assert analyze(built).model["path"] == str(Path("some") / "net.onnx")


def test_a_binding_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UnknownShape, match="no input 'z'"):
        analyze(zoo.classifier(), shapes={"z": (1,)})


def test_the_model_is_unchanged() -> None:
    built = zoo.functions()
    before = ir.to_proto(built).SerializeToString()
    analyze(built)
    assert ir.to_proto(built).SerializeToString() == before


def test_types_that_numpy_lacks_have_names() -> None:
    built = zoo.model("g (float[2] x) => (bfloat16 y) { y = Cast <to = 16> (x) }")
    assert analyze(built).layers[0].dtype == "bfloat16"
    built = zoo.model("g (float[2] x) => (string y) { y = Cast <to = 8> (x) }")
    assert isinstance(analyze(built).layers[0].dtype, str)


def test_weights_are_attributed_to_the_layer_that_uses_them() -> None:
    text = "g (float[2, 3] x) => (float y) { t = Transpose (w) c = Identity (t) y = MatMul (x, c) }"
    rows = {row.name: row.params for row in analyze(zoo.model(text, w=np.ones((4, 3), np.float32))).layers}
    assert rows == {"t": 0, "c": 0, "y": 12}


@given(build=st.sampled_from(ZOO), rng=st.randoms(use_true_random=False))
def test_a_broken_graph_raises_only_surgery_errors(build: Callable[[], ir.Model], rng: Random) -> None:
    """Damage: removed attributes and inputs, exchanged operators, impossible sizes."""
    proto = ir.to_proto(build())
    node = rng.choice(proto.graph.node)
    for damage in rng.sample(range(4), 2):
        if damage == 0 and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        elif damage == 1 and node.input:
            del node.input[rng.randrange(len(node.input))]
        elif damage == 2:
            node.op_type = rng.choice(["Loop", "If", "Conv", "Einsum", "LSTM", "Resize", "Attention", "Scan"])
        elif damage == 3 and proto.graph.input[0].type.tensor_type.shape.dim:
            proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = rng.choice([-1, 0, 10**9])
    try:
        analyze(ir.from_proto(proto))
    except SurgeryError as error:
        assert str(error)


def test_a_branch_that_cannot_run_costs_nothing() -> None:
    built = zoo.branches()
    built.graph.initializers["w3"].const_value = ir.tensor(zoo.ones(7, 3))
    found = analyze(built)
    assert not found.uncounted
    assert next(row.macs for row in found.sorted_by("macs").layers) == 2 * 4 * 3
    assert {row.macs for row in found.layers if row.runs == 0} == {0}


@pytest.mark.parametrize("make", [zoo.classifier, zoo.branches, zoo.loop, zoo.functions])
def test_spend_does_not_change_the_analysis(make: Callable[[], ir.Model]) -> None:
    kept = make()
    found = analyze(kept)
    assert analyze(make(), spend=True).as_dict() == found.as_dict() == analyze(kept).as_dict()
