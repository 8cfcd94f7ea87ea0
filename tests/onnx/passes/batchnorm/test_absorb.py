"""Batch norms absorbed by the chain that replaces the layer before them, and those that can't be."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.calibration.activation_aware import CalibratedLayer
from modelsurgeon.compression.candidates import site_candidates
from modelsurgeon.data import batches
from modelsurgeon.factorize import METHODS, compose
from modelsurgeon.onnx import run
from modelsurgeon.onnx.layers.sites import editable_copy, sites
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.onnx.passes.batchnorm.absorb import absorbable_norms
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.surgery.apply import apply_plan
from modelsurgeon.surgery.plan import Plan, PlanStep
from tests.zoo import model

RNG = np.random.default_rng(5)
NORM = "scale, shift, mean, var"


def normal(*shape: int, dtype: str = "f4") -> np.ndarray:
    return (RNG.normal(size=shape) / np.prod(shape[1:]) ** 0.5).astype(dtype)


def norm(channels: int, suffix: str = "", dtype: str = "f4") -> dict[str, np.ndarray]:
    """Params of a batch norm with scales from 1/8 to 8."""
    gain = np.exp2(RNG.uniform(-3, 3, channels))
    parts = {"scale": gain, "shift": RNG.normal(size=channels), "mean": RNG.normal(size=channels)}
    parts["var"] = RNG.uniform(0.5, 2, channels)
    return {f"{name}{suffix}": array.astype(dtype) for name, array in parts.items()}


def outputs_of(net: ir.Model, **feed: np.ndarray) -> dict[str, np.ndarray]:
    return dict(run.runner(net, optimize=False, threads=1)(feed))


def distance(a: ir.Model, b: ir.Model, **feed: np.ndarray) -> float:
    ours, theirs = outputs_of(a, **feed), outputs_of(b, **feed)
    assert list(ours) == list(theirs)
    pairs = [(ours[name].astype(float), theirs[name].astype(float)) for name in ours]
    return max(float(np.linalg.norm(x - y) / np.linalg.norm(x)) for x, y in pairs)


def operators(net: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in net.graph)


def found(net: ir.Model) -> list[str]:
    context = PassContext(model=editable_copy(net))
    return list(absorbable_norms(context, sites(context.model)[0]))


def merged(net: ir.Model) -> ir.Model:
    """All norms folded by `bn fold`."""
    return ms.bn.fold(net).model


LAYERS = {
    "conv": ("Conv <pads = [1, 1, 1, 1], strides = [2, 2]>", (12, 8, 3, 3), "svd"),
    "grouped": ("Conv <group = 2>", (12, 4, 3, 3), "svd"),
    "pointwise": ("Conv", (12, 8, 1, 1), "svd"),
    "transposed": ("ConvTranspose <strides = [2, 1]>", (8, 12, 3, 3), "spatial-svd"),
    "transposed and grouped": ("ConvTranspose <group = 2>", (8, 6, 2, 2), "svd"),
    "Gemm": ("Gemm", (8, 12), "svd"),
    "Gemm, other way round": ("Gemm <transB = 1>", (12, 8), "svd"),
}


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_unchanged_after_absorbing(kind: str, *, bias: bool, dtype: str) -> None:
    node, shape, method = LAYERS[kind]
    operator, _, attributes = node.partition(" ")
    space = "" if operator == "Gemm" else ", 7, 6"
    name = "float" if dtype == "f4" else "float16"
    net = model(
        f"""g ({name}[N, 8{space}] x) => ({name} y) {{
            a = {operator} {attributes} (x, w{", b" if bias else ""})
            y = BatchNormalization (a, {NORM})
        }}""",
        w=normal(*shape, dtype=dtype),
        **({"b": normal(12, dtype=dtype)} if bias else {}),
        **norm(12, dtype=dtype),
    )
    x = normal(3, *(8, 7, 6)[: len(shape) - 1], dtype=dtype)
    full = METHODS[method].full_rank
    for whole in (True, False):
        editable = OnnxModel(net, data=x)
        [site] = editable.sites
        layer = site.layer
        assert layer.weight.dtype == dtype
        site.replace(METHODS[method](layer, full(layer)) if whole else [layer])
        cut = editable.finish()
        assert not operators(cut)["BatchNormalization"]
        assert [value.name for value in cut.graph.outputs] == ["y"]
        assert distance(net, cut, x=x) < (1e-5 if dtype == "f4" else 3e-3)


NET = f"""g (float[N, 16, 8, 8] x) => (float[N, 24, 8, 8] y) {{
    a = Conv <pads = [1, 1, 1, 1]> (x, wa)
    n = BatchNormalization (a, {NORM})
    r = Relu (n)
    c = Conv <pads = [1, 1, 1, 1]> (r, wc, bc)
    m = BatchNormalization (c, scale2, shift2, mean2, var2)
    y = Add (m, x2)
}}"""


@pytest.fixture(scope="module")
def net() -> ir.Model:
    weights = {"wa": normal(32, 16, 3, 3), "wc": normal(24, 32, 3, 3), "bc": normal(24)}
    return model(NET, **weights, **norm(32), **norm(24, "2"), x2=normal(1, 24, 8, 8))


def images(count: int = 24) -> np.ndarray:
    return normal(count, 16, 8, 8) * 10


def test_only_replaced_layers_absorb_norms(net: ir.Model) -> None:
    result = ms.compress(net, plan={"a": {"method": "svd", "rank": 16}}, data=images())
    assert operators(result.model)["BatchNormalization"] == 1
    assert {"scale2", "var2"} <= set(result.model.graph.initializers)
    assert "scale" not in result.model.graph.initializers
    assert operators(net)["BatchNormalization"] == 2
    assert [value.name for node in result.model.graph for value in node.outputs][1:4] == ["n", "r", "c"]


@pytest.mark.parametrize("how", [{}, {"data": True, "compare": False}])
def test_norms_stay_without_calibration(net: ir.Model, how: dict[str, bool]) -> None:
    asked = how | ({"data": images()} if "data" in how else {})
    result = ms.compress(net, plan={"a": {"method": "svd", "rank": 16}}, **asked)
    assert operators(result.model)["BatchNormalization"] == 2
    [edit] = [edit for edit in result.edits if edit.skipped is None]
    assert (edit.params_before, edit.params_after) == (32 * 16 * 9, 16 * 16 * 9 + 32 * 16)


def test_error_is_measured_after_the_norm(net: ir.Model) -> None:
    plan = Plan({"a": PlanStep(method="svd", rank=8)})
    [edit] = apply_plan(plan, OnnxModel(net, data=images()).sites)
    folded, raw = (
        METHODS["svd"].error(sites(editable_copy(each))[0][0].layer, [8])[0] for each in (merged(net), net)
    )
    assert edit.error == pytest.approx(folded, rel=1e-4)
    assert abs(raw - folded) > 0.05


def test_same_plan_if_norms_are_folded_first(net: ir.Model) -> None:
    samples = images(48)
    plain = ms.compress(net, macs=0.6, data=samples, block=4, refit=False)  # a search amplifies rounding
    folded = ms.compress(merged(net), macs=0.6, data=samples, block=4, refit=False)
    assert len(plain.plan) == 2 and list(plain.plan.values()) == list(folded.plan.values())
    assert distance(plain.model, folded.model, x=images(4)) < 1e-4


@pytest.mark.parametrize("data", [False, True])
@pytest.mark.parametrize("goal", [{"macs": 0.6}, {"params": 0.6}, {"rank": 8}])
def test_dry_run_matches_the_result(net: ir.Model, goal: dict[str, object], *, data: bool) -> None:
    samples = images() if data else None
    foretold = ms.compress(net, **goal, data=samples, dry_run=True, block=4)
    done = ms.compress(net, **goal, data=samples, block=4)
    assert foretold.plan == done.plan and done.plan
    assert foretold.after is not None and done.after is not None and done.before is not None
    assert foretold.after == {key: done.after[key] for key in ("macs", "params")}
    saved = sum((e.params_before or 0) - (e.params_after or 0) for e in done.edits)
    assert done.before["params"] - done.after["params"] == saved


def test_budget_includes_the_norm(net: ir.Model) -> None:
    editable = OnnxModel(net, data=images())
    dense = [
        site_candidates(site, CalibratedLayer(layer=site.layer), ["svd"], "params")[0]
        for site in editable.sites
    ]
    assert [each.params for each in dense] == [32 * 16 * 9 + 4 * 32, 24 * 32 * 9 + 24 + 4 * 24]
    assert sum(each.params for each in dense) + 24 * 64 == editable.total("params")


def test_plan_reproduces_the_model(net: ir.Model) -> None:
    samples = images()
    once = ms.compress(net, macs=0.6, data=samples, block=4)
    again = ms.compress(net, plan=once.plan, data=samples)
    assert distance(once.model, again.model, x=images(2)) == 0


SHARED = f"""g (float[N, 8, 6, 6] x) => (float[N, 12, 6, 6] y) {{
    a = Conv (x, w)
    n = BatchNormalization (a, {NORM})
    c = Conv (n, v)
    y = BatchNormalization (c, {NORM})
}}"""


def test_params_shared_by_two_norms() -> None:
    net = model(SHARED, w=normal(12, 8, 1, 1), v=normal(12, 12, 1, 1), **norm(12))
    data = normal(8, 8, 6, 6)
    plan = {"a": {"method": "svd", "rank": 2}}
    foretold = ms.compress(net, plan=plan, data=data, dry_run=True)
    done = ms.compress(net, plan=plan, data=data)
    assert foretold.after is not None and done.after is not None
    assert foretold.after["params"] == done.after["params"]
    assert operators(done.model)["BatchNormalization"] == 1


def behind(between: str, outputs: str = "float y", opset: int = 17, **weights: np.ndarray) -> list[str]:
    """Layers with an absorbable norm in a net that starts with a convolution `a` of 4 channels."""
    parts = {**norm(4), **weights}
    text = f"g (float[N, 4, 6, 6] x, float[4] s) => ({outputs}) {{ a = Conv (x, w)  {between} }}"
    used = {name: array for name, array in parts.items() if name in text}
    return found(model(text, w=normal(4, 4, 1, 1), opset=opset, **used))


BROKEN = np.array([1, -1, 1, 1], "f4")
APART: dict[str, dict[str, object]] = {
    "seen from outside": {
        "between": f"y = BatchNormalization (a, {NORM})",
        "outputs": "float y, float a",
    },
    "taken twice": {"between": f"n = BatchNormalization (a, {NORM})  y = Add (n, a)"},
    "taken as statistics": {"between": "y = BatchNormalization (x, scale, shift, a, var)"},
    "something between": {"between": f"r = Relu (a)  y = BatchNormalization (r, {NORM})"},
    "another layer between": {
        "between": f"c = Conv (x, v)  n = BatchNormalization (a, {NORM})  y = Add (n, c)",
        "v": normal(4, 4, 1, 1),
    },
    "in training": {"between": f"y, p, q = BatchNormalization <training_mode = 1> (a, {NORM})"},
    "in training, as it once was": {
        "between": f"y, p, q, o, t = BatchNormalization (a, {NORM})  z = Add (p, q)",
        "outputs": "float y, float z",
        "opset": 9,
    },
    "statistics are outputs": {
        "between": f"y, p, q, o, t = BatchNormalization <is_test = 1> (a, {NORM})",
        "outputs": "float y, float p",
        "opset": 6,
    },
    "statistics are fed": {"between": "y = BatchNormalization (a, scale, s, mean, var)"},
    "broken": {"between": f"y = BatchNormalization (a, {NORM})", "var": BROKEN},
    "too large when folded": {
        "between": f"y = BatchNormalization (a, {NORM})",
        "scale": np.full(4, 3e38, "f4"),
        "var": np.full(4, 1e-6, "f4"),
    },
}


@pytest.mark.parametrize("case", APART)
def test_norm_is_not_absorbed(case: str) -> None:
    assert behind(f"y = BatchNormalization (a, {NORM})") == ["a"]
    assert behind(**APART[case]) == []  # type: ignore[arg-type]


def test_norm_with_unused_statistics_outputs() -> None:
    net = model(
        f"""g (float[N, 4, 6, 6] x) => (float y) {{
            a = Conv (x, w)  n, p, q, o, t = BatchNormalization (a, {NORM})  y = Relu (n)
        }}""",
        w=normal(4, 4, 1, 1),
        opset=9,
        **norm(4),
    )
    [site] = OnnxModel(net, data=normal(2, 4, 6, 6)).sites
    assert site.norm is not None
    site.replace([site.layer])
    assert [node.op_type for node in site.graph] == ["Conv", "Relu"]


def test_norm_on_another_axis_stays() -> None:
    net = "g (float[N, 4, 4] x) => (float y) {{ a = MatMul (x, w)  y = BatchNormalization (a, {0}) }}"
    assert found(model(net.format(NORM), w=normal(4, 4), **norm(4))) == []


def test_shared_weight_absorbs_no_norm() -> None:
    net = model(
        f"""g (float[N, 4, 6, 6] x) => (float y) {{
            a = Conv (x, w)  n = BatchNormalization (a, {NORM})
            c = Conv (n, w)  y = BatchNormalization (c, {NORM})
        }}""",
        w=normal(4, 4, 1, 1),
        **norm(4),
    )
    assert found(net) == []
    cut = ms.compress(net, plan={"a": {"method": "svd", "rank": 4}}, data=normal(8, 4, 6, 6)).model
    assert operators(cut)["BatchNormalization"] == 2
    assert distance(net, cut, x=normal(2, 4, 6, 6)) < 1e-4


CROSSED = f"""g (float[N, 8, 6, 6] x) => (float y) {{
    a = Conv <pads = [1, 1, 1, 1]> (x, w)
    c = Conv <pads = [1, 1, 1, 1]> (x, v)
    n = BatchNormalization (a, {NORM})
    m = BatchNormalization (c, {NORM})
    y = Add (n, m)
}}"""


def test_norms_after_two_layers() -> None:
    """Only `c` absorbs its norm: the output of `a` is still needed where the stage of `c` starts."""
    net = model(CROSSED, w=normal(12, 8, 3, 3), v=normal(12, 8, 3, 3), **norm(12))
    assert found(net) == ["c"]
    step = {"method": "svd", "rank": 10}
    result = ms.compress(net, plan={"a": step, "c": step}, data=normal(16, 8, 6, 6))
    assert operators(result.model)["BatchNormalization"] == 1
    assert all(edit.output_error is not None for edit in result.edits)
    assert result.comparison is not None and result.comparison.worst < 0.5


def test_stage_inputs_are_those_of_the_edited_model(net: ir.Model) -> None:
    feeds = batches(images(6), run.inputs(net))
    editable = OnnxModel(net, data=feeds)
    seen = []
    for site, pairs in editable.paired_inputs(["a", "c"], feeds):
        seen.append(np.concatenate([fed.current for fed in pairs()]))
        site.replace(METHODS["svd"](site.layer, 4))
    inside = run.runner(editable.finish(), outputs=["r"])
    np.testing.assert_allclose(seen[1], np.concatenate([inside(feed)["r"] for feed in feeds]), atol=1e-4)


def test_layers_with_a_shared_input_absorb_their_norms() -> None:
    net = model(
        f"""g (float[N, 32, 4, 4] x) => (float y, float n) {{
            a = Conv (x, w)  n = BatchNormalization (a, {NORM})
            c = Conv (x, v)  m = BatchNormalization (c, scale2, shift2, mean2, var2)
            y = Relu (m)
        }}""",
        w=normal(24, 32, 1, 1),
        v=normal(40, 32, 1, 1),
        **norm(24),
        **norm(40, "2"),
    )
    editable = OnnxModel(net, data=normal(4, 32, 4, 4))
    [union] = editable.shared_input_sites
    assert union.extra_params == 3 * (24 + 40)  # each gains a bias
    chain = METHODS["svd"](union.layer, 32)
    union.replace(chain)
    cut = editable.finish()
    assert operators(cut) == {"Conv": 3, "Relu": 1}
    assert distance(net, cut, x=normal(3, 32, 4, 4)) < 1e-5
    assert compose(chain).out_channels == 64


BLOCK = f"""g (float[N, 8, 6, 6] x) => (float[N, 8, 6, 6] y) {{
    e = Conv (x, we)
    n = BatchNormalization (e, {NORM})
    r = Relu (n)
    d = Conv <group = 64, pads = [1, 1, 1, 1]> (r, wd)
    m = BatchNormalization (d, scale2, shift2, mean2, var2)
    s = Relu (m)
    p = Conv (s, wp)
    o = BatchNormalization (p, scale3, shift3, mean3, var3)
    y = Add (o, x)
}}"""


@pytest.mark.parametrize("rest", [{}, {"e": {"method": "svd", "rank": 6}}])
def test_channels_method_across_norms(rest: dict[str, object]) -> None:
    net = model(
        BLOCK,
        we=normal(64, 8, 1, 1),
        wd=normal(64, 1, 3, 3),
        wp=normal(8, 64, 1, 1),
        **norm(64),
        **norm(64, "2"),
        **norm(8, "3"),
    )
    plan, data = {"p": {"method": "channels", "rank": 32}, **rest}, normal(32, 8, 6, 6)
    [made] = [site.producers for site in OnnxModel(net).sites if site.producers is not None]
    assert (made.layers, made.params) == (("e", "d"), 8 + 4 + 9 + 4)
    result = ms.compress(net, plan=plan, data=data)
    assert operators(result.model)["BatchNormalization"] == 2 - len(rest)
    left = {v.name: v.shape.numpy() for v in result.model.graph.initializers.values() if v.shape is not None}
    assert {shape for shape in left.values() if len(shape) == 1} == {(32,), (8,)}
    for samples in (data, None):
        foretold, done = (ms.compress(net, plan=plan, data=samples, dry_run=dry) for dry in (True, False))
        assert foretold.after is not None and done.after is not None
        assert foretold.after == {key: done.after[key] for key in ("macs", "params")}
