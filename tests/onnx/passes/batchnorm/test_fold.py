"""Folding in graphs: outputs are unchanged, and skipped norms have a reason."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from tests import zoo
from tests.onnx.passes.batchnorm.nets import CONV, MAPS, NORM, ROWS, STATS, net, ops, weights
from tests.onnx.passes.mixed_nets import make_foreign

SIDES = np.array([0, 0, 1, 1, 0, 0, 2, 0])
LAST = "t = Transpose <perm = [0, 2, 3, 1]> (c)"
PAD = 'Pad <mode = "reflect"> (p, sides)'


ALIKE = CONV | {name: zoo.ones(4) * 0.3 for name in ("scale", "shift", "mean", "var")}
FULL = weights(w=(4, 4), b=(4,))


# name: the body, its input, its weights, the operators that are left
HOLDS: dict[str, tuple[str, str, dict[str, np.ndarray], str]] = {
    "conv": (f"c = Conv (x, w) y = {NORM}", MAPS, CONV, "Conv"),
    "conv with bias": (f"c = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = {NORM}", MAPS, CONV, "Conv"),
    "automatic padding on an open map": (
        f'c = Conv <auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w) y = {NORM}',
        "float[2, 4, H, W] x",
        CONV,
        "Conv",
    ),
    "grouped transposed": (
        f"c = ConvTranspose <group = 2, strides = [2, 2]> (x, w) y = {NORM}",
        MAPS,
        weights(6, w=(4, 3, 3, 3)),
        "ConvTranspose",
    ),
    "gemm": (
        f"c = Gemm <transB = 1, alpha = 0.5, beta = 2.0> (x, w, b) y = {NORM}",
        ROWS,
        weights(5, w=(5, 4), b=(5,)),
        "Gemm",
    ),
    "matmul": (f"c = MatMul (x, w) y = {NORM}", ROWS, weights(5, w=(4, 5)), "MatMul Add"),
    "matmul and its bias": (f"p = MatMul (x, w) c = Add (b, p) y = {NORM}", ROWS, FULL, "MatMul Add"),
    "matmul from the left": (
        f"c = MatMul (w, x) y = {NORM}",
        "float[2, 4, 3] x",
        weights(5, w=(5, 4)),
        "MatMul Add",
    ),
    "a bias that is added": (f"p = Conv (x, w) c = Add (p, k) y = {NORM}", MAPS, CONV, "Conv Add"),
    "an identity between": (f"p = Conv (x, w) c = Identity (p) y = {NORM}", MAPS, CONV, "Conv Identity"),
    "weights behind nodes": (
        """v = Identity (w) t = Transpose <perm = [1, 0, 2, 3]> (v) s = Cast <to = 1> (mean)
        c = Conv (x, t) y = BatchNormalization (c, scale, shift, s, var)""",
        MAPS,
        CONV,
        "Conv",
    ),
    "in front of a conv": (f"c = Relu (x) n = {NORM} y = Conv (n, w, b)", MAPS, CONV, "Relu Conv"),
    "in front of a grouped conv": (
        f"c = Relu (x) n = {NORM} y = Conv <group = 2> (n, w)",
        MAPS,
        weights(4, w=(6, 2, 3, 3)),
        "Relu Conv",
    ),
    "in front of a pointwise transposed conv": (
        f"c = Relu (x) n = {NORM} y = ConvTranspose <group = 2> (n, w)",
        MAPS,
        weights(4, w=(4, 3, 1, 1)),
        "Relu ConvTranspose",
    ),
    "in front of a gemm": (f"c = Relu (x) n = {NORM} y = Gemm (n, w)", ROWS, FULL, "Relu Gemm"),
    "in front of a matmul": (f"c = Relu (x) n = {NORM} y = MatMul (n, w)", ROWS, FULL, "Relu MatMul Add"),
    "behind an input": (f"n = BatchNormalization (x, {STATS}) y = Conv (n, w)", MAPS, CONV, "Conv"),
    "behind a value with other uses": (
        f"c = Conv (x, v) n = {NORM} q = Conv (n, w) r = Conv (c, u) y = Add (q, r)",
        MAPS,
        CONV | {"v": CONV["w"][::-1].copy(), "u": CONV["w"][:, ::-1].copy()},
        "Conv Conv Conv Add",
    ),
    "two in a row": (f"c = Conv (x, w) n = {NORM} y = {NORM.replace('c,', 'n,')}", MAPS, CONV, "Conv"),
    "two in a row, in front": (
        f"c = Relu (x) n = {NORM} m = {NORM.replace('c,', 'n,')} y = Conv (m, w)",
        MAPS,
        CONV,
        "Relu Conv",
    ),
    "channels last, as multiplication and addition": (
        f"c = Conv (x, w) {LAST} m = Mul (t, scale) y = Add (mean, m)",
        MAPS,
        CONV,
        "Conv Transpose",
    ),
    "channels last, between casts that change nothing": (
        f"""c = Conv <pads = [1, 1, 1, 1]> (x, w, b) {LAST} d = Cast <to = 1> (t) e = Add (d, shift)
        f = Cast <to = 1> (e) s = Sub (f, mean) m = Div (s, scale) a = Sub (var, m) y = Cast <to = 1> (a)""",
        MAPS,
        CONV,
        "Conv Transpose Cast",
    ),
    "one factor per channel": (
        "c = MatMul (x, w) a = Add (c, b) y = Mul (a, scale)",
        "float[2, 3, 4] x",
        FULL,
        "MatMul Add",
    ),
    "on channels that Transposes put back": (
        f"p = Conv (x, w) {LAST.replace('(c)', '(p)')} c = Transpose <perm = [0, 3, 1, 2]> (t) y = {NORM}",
        MAPS,
        CONV,
        "Conv Transpose Transpose",
    ),
    "a layer on the last axis": (
        f"p = MatMul (x, w) a = Add (p, b) c = Transpose <perm = [0, 2, 1]> (a) y = {NORM}",
        "float[2, 3, 4] x",
        FULL,
        "MatMul Add Transpose",
    ),
    "in front of a layer on the last axis": (
        f"c = Relu (x) n = {NORM} t = Transpose <perm = [0, 2, 1]> (n) y = MatMul (t, w)",
        "float[2, 4, 3] x",
        FULL,
        "Relu Transpose MatMul Add",
    ),
    "through a padding that repeats": (
        f"p = Conv (x, w) c = {PAD} y = {NORM}",
        MAPS,
        CONV | {"sides": SIDES},
        "Conv Pad",
    ),
    "through a padding that repeats, in front": (
        f"p = {NORM.replace('c,', 'x,')} q = {PAD} y = Conv (q, w)",
        MAPS,
        CONV | {"sides": SIDES},
        "Pad Conv",
    ),
    "through zeros that become one constant": (
        f"p = Conv (x, w) c = Pad (p, sides) y = {NORM}",
        MAPS,
        ALIKE | {"sides": SIDES},
        "Conv Pad",
    ),
    "through zeros that were one constant": (
        f"p = {NORM.replace('c,', 'x,')} q = Pad (p, sides) y = Conv (q, w)",
        MAPS,
        ALIKE | {"sides": SIDES},
        "Pad Conv",
    ),
}


@pytest.mark.parametrize("case", HOLDS)
def test_fold_keeps_the_outputs(case: str) -> None:
    body, x, arrays, left = HOLDS[case]
    done = ms.bn.fold(net(body, x, **arrays), shapes={"x": (2, 4, 7, 5)} if "H" in x else {})
    assert ops(done.model) == left
    assert all(edit.skipped is None and edit.details["into"] for edit in done.edits)
    assert done.comparison is not None
    assert 0 < done.comparison.worst < 2e-6
    assert [value.name for value in done.model.graph.outputs] == ["y"]


def test_paddings_as_attributes_and_with_axes() -> None:
    old = "p = Conv (x, w) c = Pad <pads = [0, 0, 1, 1, 0, 0, 2, 0], value = 0.5> (p) y = " + NORM
    new = f"p = Conv (x, w) c = Pad (p, sides, half, axes) y = {NORM}"
    more = {"sides": np.array([1, 0, 2, 0]), "half": np.float32(0.5), "axes": np.array([-1, 2])}
    for body, opset, arrays in ((old, 10, {}), (new, 18, more)):
        done = ms.bn.fold(net(body, opset=opset, **ALIKE, **arrays))  # type: ignore[arg-type]
        assert ops(done.model) == "Conv Pad"


# name: the body, more arguments of `net`, the reason
ALONE: dict[str, tuple[str, dict[str, Any], str]] = {
    "training mode": (
        f"c = Conv (x, w) y, m, v = BatchNormalization <training_mode = 1> (c, {STATS})",
        {},
        "training mode",
    ),
    "training mode by outputs": (
        f"c = Conv (x, w) z, m, v = {NORM} y = Add (z, m)",
        {"opset": 9},
        "training mode",
    ),
    "training mode by default": (f"c = Conv (x, w) y = {NORM}", {"opset": 6}, "training mode"),
    "statistics per position": (
        f"c = Conv (x, w) y = BatchNormalization <spatial = 0> (c, {STATS})",
        {"opset": 7},
        "per position",
    ),
    "shared weight": (
        f"c = Conv (x, w) d = Conv (x, w) e = {NORM} y = Add (d, e)",
        {},
        "its weight is also used by Conv",
    ),
    "weight with other uses": (
        f"c = Conv (x, w) e = {NORM} s = ReduceSum <keepdims = 0> (w) y = Mul (e, s)",
        {},
        "its weight is also used by ReduceSum",
    ),
    "weight is a graph input": (
        f"c = Conv (x, v) y = {NORM}",
        {"x": f"{MAPS}, float[4, 4, 3, 3] v"},
        "its weight is a graph input",
    ),
    "weight is computed": (
        f"v = Mul (w, f) c = Conv (x, v) y = {NORM}",
        {"x": f"{MAPS}, float f"},
        "its weight is computed at run time",
    ),
    "quantized weight": (
        f"v = DequantizeLinear (q, one) c = Conv (x, v) y = {NORM}",
        {"q": np.ones((4, 4, 3, 3), np.int8), "one": np.float32(0.1)},
        "its weight is quantized",
    ),
    "statistics are a graph input": (
        "c = Conv (x, w) y = BatchNormalization (c, scale, shift, mean, v)",
        {"x": f"{MAPS}, float[4] v"},
        "its var is a graph input",
    ),
    "statistics are computed": (
        "v = Abs (var) u = Mul (v, f) c = Conv (x, w) y = BatchNormalization (c, scale, shift, mean, u)",
        {"x": f"{MAPS}, float f"},
        "its var is computed at run time",
    ),
    "broken statistics": (f"c = Conv (x, w) y = {NORM}", {"var": -zoo.ones(4)}, "bn sanitize"),
    "several uses": (
        f"c = Conv (x, w) e = {NORM} r = Relu (e) y = Add (c, r)",
        {},
        "has other uses",
    ),
    "no linear layer": (
        f"c = Relu (x) n = {NORM} y = Relu (n)",
        {},
        "Relu comes before it, Relu comes after",
    ),
    "nothing at all": (f"y = BatchNormalization (x, {STATS})", {}, "nothing comes before it"),
    "padding in front": (
        f"c = Relu (x) n = {NORM} y = Conv <pads = [1, 0, 0, 0]> (n, w)",
        {},
        "pads with zeros",
    ),
    "transposed in front": (f"c = Relu (x) n = {NORM} y = ConvTranspose (n, w)", {}, "is transposed"),
    "automatic padding on an open map": (
        f'c = Relu (x) n = {NORM} y = Conv <auto_pad = "SAME_LOWER", strides = [2, 2]> (n, w)',
        {"x": "float[2, 4, H, W] x"},
        "whose size the model leaves open",
    ),
    "padding between": (
        f"p = Conv (x, w) c = Pad (p, sides) y = {NORM}",
        {"sides": SIDES},
        "differ from channel to channel",
    ),
    "more channels between": (
        f"p = Conv (x, w) c = Pad (p, sides) y = {NORM}",
        {"sides": np.array([0, 1, 0, 0, 0, -1, 0, 0])},
        "adds channels",
    ),
    "another axis": (
        f"c = MatMul (x, w) y = {NORM}",
        {"x": "float[2, 4, 4] x", "w": zoo.ones(4, 4)},
        "another axis than that of the channels",
    ),
    "open number of axes": (
        f"r = Reshape (x, s) c = MatMul (r, w) y = {NORM}",
        {"x": f"{ROWS}, int64[R] s", "w": zoo.ones(4, 4)},
        "number of axes isn't known",
    ),
    "bias per position": (
        f"p = Conv (x, w) c = Add (p, k) y = {NORM}",
        {"k": zoo.ones(4, 4)},
        "differs from position to position",
    ),
    "bias per sample": (
        f"p = Conv (x, w) c = Add (p, k) y = {NORM}",
        {"k": np.arange(8, dtype=np.float32).reshape(2, 4, 1, 1)},
        "differs from position to position",
    ),
    "sum of two maps": (f"p = Conv (x, w) c = Add (p, p) y = {NORM}", {}, "Add comes before it"),
}


@pytest.mark.parametrize("case", ALONE)
def test_skipped_norm_has_a_reason(case: str) -> None:
    body, more, reason = ALONE[case]
    model = net(body, **({**CONV, **more}))
    before = ops(model)
    done = ms.bn.fold(model, compare=False)
    assert reason in " ".join(str(edit.skipped) for edit in done.edits)
    assert ops(done.model) == before


@pytest.mark.parametrize("case", HOLDS)
def test_operators_of_other_domains_are_left_alone(case: str) -> None:
    body, x, arrays, _ = HOLDS[case]
    whole = ir.to_proto(net(body, x=x, **arrays))
    for place, _ in enumerate(whole.graph.node):
        proto = onnx.ModelProto()
        proto.CopyFrom(whole)
        make_foreign(proto, proto.graph.node[place])
        model = ir.from_proto(proto)
        if any(edit.skipped is None for edit in ms.bn.fold(model, compare=False).edits):
            ms.bn.fold(model, tolerance=1e-4)


NO_NORMS = {
    "a factor per row": ("c = Conv (x, w) y = Mul (c, k)", {"k": np.arange(4, dtype=np.float32)[:, None]}),
    "one factor for all": ("c = Conv (x, w) y = Mul (c, k)", {"k": np.float32(0.5)}),
    "a reciprocal": ("c = Conv (x, w) y = Div (k, c)", {"k": zoo.ones(4, 1, 1)}),
    "a division by zero": ("c = Conv (x, w) y = Div (c, k)", {"k": zoo.ones(4, 1, 1) * 0}),
    "more axes": ("c = Conv (x, w) y = Mul (c, k)", {"k": zoo.ones(1, 1, 4, 1, 1)}),
    "another use": (
        "c = Conv (x, w) m = Mul (c, k) y = Add (c, m)",
        {"k": np.arange(4, dtype=np.float32)[:, None, None]},
    ),
    "a map of one channel": (
        "s = ReduceMean <axes = [1]> (x) c = Conv (s, w) y = Mul (c, k)",
        {"w": zoo.ones(1, 1, 3, 3), "k": np.arange(4, dtype=np.float32)[:, None, None]},
    ),
}


@pytest.mark.parametrize("case", NO_NORMS)
def test_constants_that_are_no_norm_stay(case: str) -> None:
    body, more = NO_NORMS[case]
    model = net(body, **({**CONV, **more}))
    done = ms.bn.fold(model, compare=False)
    assert ops(done.model) == ops(model)
    assert not done.edits


def test_norm_next_to_a_graph_output() -> None:
    """A norm isn't folded where the value between it and the layer is a graph output."""
    model = zoo.model(
        f"g ({MAPS}) => (float c, float y) {{ c = Conv (x, w) n = {NORM} y = Relu (n) }}", **CONV
    )
    (edit,) = ms.bn.fold(model).edits
    assert "is a graph output" in str(edit.skipped)
    model = zoo.model(
        f"g ({MAPS}) => (float n, float y) {{ c = Relu (x) n = {NORM} y = Conv (n, w) }}", **CONV
    )
    (edit,) = ms.bn.fold(model).edits
    assert "is a graph output" in str(edit.skipped)


def test_norm_in_a_subgraph_is_skipped() -> None:
    model = zoo.model(
        f"""
        g ({MAPS}, bool f) => (float y) {{
            c = Conv (x, w)
            y = If (f) < then_branch = t () => (float n) {{ n = {NORM} }},
                         else_branch = e () => (float r) {{ r = Relu (c) }} >
        }}
        """,
        **CONV,
    )
    (edit,) = ms.bn.fold(model).edits
    assert "subgraph" in str(edit.skipped)


def test_skip_option() -> None:
    model = net(f"c = Conv (x, w) y = {NORM}", **CONV)
    (edit,) = ms.bn.fold(model, skip=["y"]).edits
    assert edit.skipped == "left out as asked (--skip)"


@pytest.mark.parametrize(("name", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_weights_keep_their_dtype(name: str, dtype: type) -> None:
    arrays = {key: array.astype(dtype) for key, array in CONV.items()}
    text = f"g ({name}[2, 4, 6, 6] x) => ({name} y) {{ c = Conv (x, w) y = {NORM} }}"
    done = ms.bn.fold(zoo.model(text, **arrays), compare=False)
    assert ops(done.model) == "Conv"
    found = {value.dtype for value in done.model.graph.initializers.values()}
    assert found == {ir.DataType.from_numpy(np.dtype(dtype))}
