"""Advice names a verb only where it acts: the verbs themselves are run on every net."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.errors import SurgeryError
from modelsurgeon.onnx.check import check
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.graph.traversal import graphs
from modelsurgeon.onnx.lint.verbs import Verbs
from tests import zoo
from tests.onnx.lint.nets import chain

RNG = np.random.default_rng(3)
NORM = "BatchNormalization ({}, scale, shift, mean, var)"
INACTIVE = "r = Constant <value = float {0.5}> () t = Constant <value = bool {0}> ()"
BODIES = {
    "after a convolution": f"c = Conv (x, w) y = {NORM.format('c')}",
    "after a transposed one": f"c = ConvTranspose (x, w) y = {NORM.format('c')}",
    "after a depthwise one": f"c = Conv <group = 8> (x, d) y = {NORM.format('c')}",
    "after a bias": f"c = Conv (x, w) b = Add (c, bias) y = {NORM.format('b')}",
    "after a bias that differs by position": f"c = Conv (x, w) b = Add (c, map) y = {NORM.format('b')}",
    "after two biases": f"c = Conv (x, w) b = Add (c, bias) e = Add (b, bias) y = {NORM.format('e')}",
    "after a residual": f"c = Conv <pads = [2, 2, 2, 2]> (x, w) b = Add (c, x) y = {NORM.format('b')}",
    "after an Identity": f"c = Conv (x, w) i = Identity (c) y = {NORM.format('i')}",
    "after a Relu": f"c = Conv (x, w) r = Relu (c) y = {NORM.format('r')}",
    "after a Pad of zeros": f"c = Conv (x, w) p = Pad (c, pads) y = {NORM.format('p')}",
    "after a mirror": f'c = Conv (x, w) p = Pad <mode = "reflect"> (c, pads) y = {NORM.format("p")}',
    "after a Pad of channels": f"c = Conv (x, v) p = Pad (c, channels) y = {NORM.format('p')}",
    "after an output": f"c = Conv (x, w) y = {NORM.format('c')} o = Identity (c)",
    "after two uses": f"c = Conv (x, w) n = {NORM.format('c')} y = Add (n, c)",
    "after a shared weight": f"c = Conv (x, w) e = Conv (x, w) n = {NORM.format('c')} y = Add (n, e)",
    "after a weight also read": f"c = Conv (x, w) n = {NORM.format('c')} s = ReduceSum (w) y = Add (n, s)",
    "after a computed weight": f"a = Abs (given) c = Conv (x, a) y = {NORM.format('c')}",
    "after an input as weight": f"c = Conv (x, given) y = {NORM.format('c')}",
    "after a flipped one": f"a = Transpose <perm = [0, 1, 3, 2]> (w) c = Conv (x, a) y = {NORM.format('c')}",
    "after a quantized weight": f"a = DequantizeLinear (q, step) c = Conv (x, a) y = {NORM.format('c')}",
    "after a dynamic bias": f"c = Conv (x, w, given1) y = {NORM.format('c')}",
    "before a convolution": f"n = {NORM.format('x')} y = Conv (n, w)",
    "before a grouped one": f"n = {NORM.format('x')} y = Conv <group = 2> (n, g)",
    "before a padded one": f"n = {NORM.format('x')} y = Conv <pads = [2, 2, 2, 2]> (n, w)",
    "before a padded one, by name": f'n = {NORM.format("x")} y = Conv <auto_pad = "SAME_UPPER"> (n, w)',
    "before a VALID one": f'n = {NORM.format("x")} y = Conv <auto_pad = "VALID"> (n, w)',
    "before a transposed one": f"n = {NORM.format('x')} y = ConvTranspose (n, w)",
    "before a transposed point": f"n = {NORM.format('x')} y = ConvTranspose (n, p1)",
    "before a Relu": f"n = {NORM.format('x')} r = Relu (n) y = Conv (r, w)",
    "before two": f"n = {NORM.format('x')} a = Conv (n, w) b = Conv (n, w2) y = Add (a, b)",
    "between two": f"c = Conv (x, w) n = {NORM.format('c')} y = Conv (n, w2)",
    "two in a row": f"c = Conv (x, w) n = {NORM.format('c')} y = {NORM.format('n')}",
    "around one": f"n = {NORM.format('x')} c = Conv (n, w) y = {NORM.format('c')}",
    "in training mode": f"c = Conv (x, w) y = {NORM.format('c').replace('(', '<training_mode = 1> (')}",
    "computed variance": "a = Abs (given2) c = Conv (x, w) y = BatchNormalization (c, scale, shift, mean, a)",
    "given variance": "c = Conv (x, w) y = BatchNormalization (c, scale, shift, mean, given2)",
    "negative variance": "c = Conv (x, w) y = BatchNormalization (c, scale, shift, mean, negative)",
    "another number of channels": f"c = Conv (x, w9) s = Slice (c, zero, eight, zero) y = {NORM.format('c')}",
    "alone": f"y = {NORM.format('x')}",
}  # fmt: skip
FLAT = {
    "after a MatMul": f"m = MatMul (x, u) y = {NORM.format('m')}",
    "after a Gemm": f"m = Gemm <transB = 1, alpha = 2.0, beta = 0.5> (x, u, mean) y = {NORM.format('m')}",
    "after a Gemm with transA": f"m = Gemm <transA = 1> (s, u) y = {NORM.format('m')}",
    "before a MatMul": f"n = {NORM.format('x')} y = MatMul (n, u)",
    "around a MatMul": f"n = {NORM.format('x')} m = MatMul (n, u) y = {NORM.format('m')}",
    "around both": f"n = {NORM.format('x')} m = MatMul (n, u) b = Add (m, mean) y = {NORM.format('b')}",
    "after a MatMul of two activations": f"m = MatMul (x, s) y = {NORM.format('m')}",
}  # fmt: skip
SEQUENCE = {
    "after a MatMul on the last axis": f"m = MatMul (x, u) y = {NORM.format('m')}",
    "after a MatMul on the left": f"m = MatMul (u, x) y = {NORM.format('m')}",
}


def weights() -> dict[str, np.ndarray]:
    def random(*shape: int) -> np.ndarray:
        return RNG.normal(size=shape).astype(np.float32)

    return {
        "w": random(8, 8, 5, 5), "w2": random(8, 8, 5, 5), "v": random(6, 8, 5, 5), "w9": random(9, 8, 5, 5),
        "d": random(8, 1, 5, 5), "g": random(8, 4, 5, 5), "p1": random(8, 8, 1, 1), "u": random(8, 8),
        "bias": random(8, 1, 1), "map": random(8, 4, 4), "q": np.ones((8, 8, 5, 5), np.int8),
        "step": random(),
        "scale": random(8), "shift": random(8), "mean": random(8), "var": np.abs(random(8)) + 0.1,
        "negative": np.full(8, -1, np.float32), "zero": np.int64([0]), "eight": np.int64([8]),
        "pads": np.int64([0, 0, 1, 1, 0, 0, 1, 1]), "channels": np.int64([0, 1, 0, 0, 0, 1, 0, 0]),
    }  # fmt: skip


def nets() -> dict[str, ir.Model]:
    """Nets around a batch norm, and those of the zoo."""
    extra = ", float[8, 8, 5, 5] given, float[8] given1, float[8] given2"
    heads = {"1, 8, 8, 8": BODIES, "8, 8": FLAT, "2, 8, 8": SEQUENCE}
    found = {}
    for shape, bodies in heads.items():
        for name, body in bodies.items():
            outputs = "float y, float o" if " o = " in body else "float y"
            more = extra if shape.count(",") == 3 else ", float[8, 8] s"
            text = f"g (float[{shape}] x{more}) => ({outputs}) {{ {body} }}"
            found[name] = zoo.model(
                text, **{k: v for k, v in weights().items() if re.search(rf"\b{k}\b", body)}
            )
    others = (zoo.classifier, zoo.branches, zoo.loop, zoo.scan, zoo.functions, zoo.padded, zoo.quantized)
    return found | {make.__name__: make() for make in others}


NETS = nets()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("reads", [False, True])
def test_a_fold_is_promised_where_bn_fold_folds(name: str, reads: bool) -> None:
    promised = {entry.layer for entry in check(NETS[name], select=["bn-not-folded"], weights=reads).findings}
    edits = ms.bn.fold(NETS[name], compare=False).edits
    assert promised == {edit.layer for edit in edits if edit.skipped is None}


def test_many_of_the_nets_can_be_folded_and_many_cannot() -> None:
    folded = sum(bool(Verbs(model=model).folds) for model in NETS.values())
    assert len(NETS) / 3 < folded < 2 * len(NETS) / 3


@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("number", [np.nan, 6e4])
def test_numbers_that_cannot_be_folded_are_found_where_weights_are_read(number: float, reads: bool) -> None:
    text = f"g (float16[1, 8, 6, 6] x) => (float16 y) {{ {BODIES['after a convolution']} }}"
    values = {name: array.astype(np.float16) for name, array in weights().items() if array.dtype.kind == "f"}
    values["w"] = np.ones((64, 8, 3, 3), np.float16)
    for name in ("scale", "shift", "mean", "var"):
        values[name] = np.full(64, 2, np.float16)
    values["w"][0] = number
    model = zoo.model(text, **{name: values[name] for name in ("w", "scale", "shift", "mean", "var")})
    assert not [edit for edit in ms.bn.fold(model, compare=False).edits if edit.skipped is None]
    assert bool(Verbs(model=model, reads_weights=reads).folds) is not reads


LAYERS = {
    "one": "y = MatMul (x, u)",
    "of two activations": "y = MatMul (x, s)",
    "with a weight of one row": "y = MatMul (x, row)",
    "shared": "a = MatMul (x, u) y = MatMul (a, u)",
    "used twice": "a = MatMul (x, u) b = Relu (u) y = Add (a, b)",
    "in a branch": "c = Constant <value = bool {1}> () y = If (c) <then_branch = t () => (float[8, 8] p) "
                   "{ p = MatMul (x, u) }, else_branch = e () => (float[8, 8] q) { q = Neg (x) }>",
    "stacked": "y = MatMul (x, stack)",
    "transposed data": "y = Gemm <transA = 1> (x, u)",
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_compress_is_advised_where_it_replaces_the_layer(name: str) -> None:
    rows = {"u": RNG.normal(size=(8, 8)), "row": RNG.normal(size=(8, 1)), "stack": RNG.normal(size=(2, 8, 8))}
    constants = {key: array.astype(np.float32) for key, array in rows.items() if key in LAYERS[name]}
    model = zoo.model(f"g (float[8, 8] x, float[8, 8] s) => (float y) {{ {LAYERS[name]} }}", **constants)
    for layer in layer_names(model).values():
        try:
            edits = ms.compress(model, rank=1, only=[layer], compare=False).edits
        except SurgeryError:
            edits = []
        cheaper = {e.layer for e in edits if e.skipped is None and e.params_after < e.params_before}
        assert (layer in Verbs(model=model).compressed) is (layer in cheaper), layer


@pytest.mark.parametrize("body", [
    "y = MatMul (x, s)", "y = Relu (x) a = MatMul (x, s)", f"{INACTIVE} a = Dropout (x, r, t) y = Relu (a)",
    f"{INACTIVE} a = Relu (x) y = Dropout (a, r, t)",
    f"{INACTIVE} a, m = Dropout (x, r, t) y = Where (m, a, x)",
    "y = MatMul (x, u) n = Neg (u)", "a = MatMul (x, u) y = Relu (a)",
    f"y = If (c) <then_branch = b () => (float p) {{ {INACTIVE} q = Dropout (x, r, t) p = Neg (q) }},"
    " else_branch = e () => (float d) { d = Neg (x) z = MatMul (x, s) }>",
])  # fmt: skip
def test_advised_commands_do_what_they_are_advised_for(body: str) -> None:
    """extract removes what it is said to remove, and compress edits the layer."""
    values = {"u": RNG.normal(size=(8, 8)).astype(np.float32), "unread": zoo.ones(64, 64)}
    model = zoo.model(f"g (float[8, 8] x, float[8, 8] s, bool c) => (float y) {{ {body} }}", **values)
    for finding in check(model).findings:
        if "modelsurgeon extract" in finding.advice:
            done = ms.extract(model, outputs=["y"], compare=False).model
            assert finding.layer not in {*layer_names(done).values(), *_weights(done)}
        if "modelsurgeon compress" in finding.advice:
            edits = ms.compress(model, rank=1, only=[finding.layer], compare=False).edits
            assert [edit.layer for edit in edits if edit.skipped is None] == [finding.layer]
        if "doesn't apply" in finding.advice:
            assert not Verbs(model=model).does(finding.advice.split("`")[1], finding.layer)


def test_training_mode_is_ended_by_the_advised_verb() -> None:
    model = NETS["in training mode"]
    [entry] = check(model, select=["batchnorm-training"]).findings
    assert "bn freeze MODEL -o OUT --training" in entry.advice
    assert not check(
        ms.bn.freeze(model, training=True, compare=False).model, select=["batchnorm-training"]
    ).findings


def test_promises_leave_the_model_alone() -> None:
    model = chain(64, 64)
    before = ir.to_proto(model).SerializeToString()
    verbs = Verbs(model=model)
    assert verbs.compressed
    assert not verbs.folds
    assert not verbs.extracted
    assert ir.to_proto(model).SerializeToString() == before


def _weights(model: ir.Model) -> set[str]:
    return {str(value.name) for graph in graphs(model) for value in graph.initializers.values()}
