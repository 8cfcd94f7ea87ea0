"""Layers with a shared input as one site: detection, names, selection, plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.errors import BadPlan
from modelsurgeon.factorize import METHODS
from modelsurgeon.onnx import run
from modelsurgeon.onnx.layers.shared_inputs import joint_name
from modelsurgeon.onnx.model import OnnxModel
from modelsurgeon.surgery.plan import Plan
from tests import zoo

ATTENTION = """g (float[N, T, 32] x) => (float[N, T, 48] y) {
    q = MatMul (x, wq)  k = MatMul (x, wk)  v = MatMul (x, wv)
    t = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, t)  c = Constant <value_float = 0.02> ()  r = Mul (s, c)  p = Softmax (r)
    y = MatMul (p, v)
}"""


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def attention() -> ir.Model:
    """Query, key and value weights of different norms that nearly share a 12-dimensional input subspace."""
    seen = normal(32, 12)
    weights = {
        f"w{name}": scale * (seen @ normal(12, width, seed=i) + 0.3 * normal(32, width, seed=9 + i))
        for i, (name, scale, width) in enumerate([("q", 0.5, 48), ("k", 2.0, 48), ("v", 10.0, 48)])
    }
    return zoo.model(ATTENTION, **weights)


def tokens(count: int, seed: int) -> np.ndarray:
    return normal(count, 6, 32, seed=seed)


def outputs(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return np.asarray(run.runner(model, optimize=False)({"x": x})["y"])


def shared_names(nodes: str, **weights: np.ndarray) -> list[list[str]]:
    model = zoo.model(f"g (float[2, 4, 6, 6] x, float[2, 8] z) => (y) {{ {nodes} }}", **weights)
    return [list(union.members) for union in OnnxModel(model, runs=False).shared_input_sites]


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (["layers.0.query", "layers.0.key"], "layers.0.{query,key}"),
        (["/l/q/MatMul", "/l/k/MatMul", "/l/v/MatMul"], "/l/{q,k,v}/MatMul"),
        (["a", "b"], "{a,b}"),
        (["one.a", "two.a"], "{one,two}.a"),
        (["conv1", "conv12"], "{conv1,conv12}"),
        (["a.b", "a.b.b"], "a.b{,.b}"),
    ],
)
def test_joint_names_have_common_parts_once(names: list[str], name: str) -> None:
    assert joint_name(names) == name


def test_matrices_with_the_same_input_are_one_site() -> None:
    assert shared_names(
        "a = Gemm (z, w)  b = Gemm (z, v)  y = Concat <axis = 1> (a, b)", w=normal(8, 3), v=normal(8, 5)
    ) == [["a", "b"]]
    assert shared_names(
        "a = Conv (x, w)  b = Conv (x, v)  y = Concat <axis = 1> (a, b)",
        w=normal(3, 4, 1, 1),
        v=normal(5, 4, 1, 1),
    ) == [["a", "b"]]


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        pytest.param(
            "a = Gemm (z, w)  r = Relu (z)  b = Gemm (r, v)  y = Add (a, b)",
            {"w": normal(8, 3), "v": normal(8, 3, seed=1)},
            id="other inputs",
        ),
        pytest.param(
            "a = Gemm (z, w, c)  b = Gemm (z, v)  y = Add (a, b)",
            {"w": normal(8, 3), "v": normal(8, 3, seed=1), "c": normal(3)},
            id="a bias in one alone",
        ),
        pytest.param(
            "a = Gemm (z, w)  b = MatMul (z, v)  y = Add (a, b)",
            {"w": normal(8, 3), "v": normal(8, 3, seed=1)},
            id="other operators",
        ),
        pytest.param(
            "a = Gemm (z, w)  b = Gemm (z, w)  y = Add (a, b)", {"w": normal(8, 3)}, id="one weight twice"
        ),
        pytest.param(
            "a = Conv <strides = [2, 2]> (x, w)  b = Conv (x, v)  c = Flatten (a)  d = Flatten (b)  "
            "y = Concat <axis = 1> (c, d)",
            {"w": normal(3, 4, 1, 1), "v": normal(5, 4, 1, 1)},
            id="other strides",
        ),
        pytest.param(
            "a = Conv <pads = [1, 1, 1, 1]> (x, w)  b = Conv <pads = [1, 1, 1, 1]> (x, v)  y = Add (a, b)",
            {"w": normal(3, 4, 3, 3), "v": normal(3, 4, 3, 3, seed=1)},
            id="kernels",
        ),
    ],
)
def test_other_layers_are_no_shared_input_site(nodes: str, weights: dict[str, np.ndarray]) -> None:
    assert shared_names(nodes, **weights) == []


def test_a_joint_layer_is_its_parts_concatenated(attention: ir.Model) -> None:
    [union] = OnnxModel(attention, data=tokens(4, 1)).shared_input_sites
    assert union.name == "{q,k,v}"
    assert union.layer.weight.shape == (144, 32)
    norms = [float(np.linalg.norm(part)) for part in np.split(union.layer.weight, 3)]
    assert max(norms) < 2 * min(norms)  # scaled to similar norms


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rank", [16, 32])
def test_a_chain_shares_all_but_its_last_factor(*, biased: bool, rank: int) -> None:
    bias = {f"b{name}": normal(20, seed=i) for i, name in enumerate("ab")} if biased else {}
    model = zoo.model(
        f"""g (float[N, 32] x) => (float[N, 20] y) {{
            a = Gemm (x, wa{", ba" if biased else ""})  b = Gemm (x, wb{", bb" if biased else ""})
            y = Sub (a, b)
        }}""",
        wa=100 * normal(32, 20),
        wb=normal(32, 20, seed=1),
        **bias,
    )
    editable = OnnxModel(model, data=normal(4, 32))
    [union] = editable.shared_input_sites
    chain = METHODS["svd"](union.layer, rank)
    union.replace(chain)
    small = editable.finish()
    assert editable.total("macs") == 32 * rank + rank * 40
    assert sum(node.op_type in ("Gemm", "MatMul") for node in small.graph) == 3
    if rank == 32:
        np.testing.assert_allclose(
            outputs(small, normal(4, 32)), outputs(model, normal(4, 32)), rtol=0, atol=2e-3
        )


def test_shared_input_sites_are_chosen_where_that_is_better(attention: ir.Model, tmp_path: Path) -> None:
    data = tokens(64, 1)
    result = ms.compress(attention, macs=0.75, data=data, block=4)
    assert list(result.plan) == ["{q,k,v}"]
    [edit] = [edit for edit in result.edits if edit.skipped is None]
    assert (edit.layer, edit.macs_before) == ("{q,k,v}", 6 * 3 * 32 * 48)
    assert edit.output_error is not None and edit.output_error < 0.5
    (tmp_path / "plan.json").write_text(result.plan.text())
    again = ms.compress(attention, plan=tmp_path / "plan.json", data=data)
    assert again.plan == result.plan
    assert ms.compare(result.model, again.model, data=tokens(4, 2)).verdict == "identical"


def test_skipped_layers_are_in_no_shared_input_site(attention: ir.Model) -> None:
    result = ms.compress(attention, macs=0.95, data=tokens(64, 1), block=4, skip=["v"])
    assert set(result.plan) <= {"q", "k"}


def test_a_plan_that_cuts_a_layer_twice_raises(attention: ir.Model) -> None:
    step = {"method": "svd", "rank": 8}
    with pytest.raises(BadPlan, match="the plan cuts 'k' twice, alone and with others"):
        ms.compress(attention, plan={"{q,k,v}": step, "k": step})


def test_a_dry_run_without_samples_gives_the_same_totals(attention: ir.Model) -> None:
    asked = {"macs": 0.75, "block": 4, "compare": False, "dims": {"N": 1, "T": 6}}
    result, foretold = (ms.compress(attention, **asked, dry_run=dry) for dry in (False, True))
    assert isinstance(result.plan, Plan) and list(result.plan) == ["{q,k,v}"]
    assert result.after is not None
    assert foretold.after == {key: result.after[key] for key in ("macs", "params")}


def test_a_shared_input_site_is_chosen_by_latency() -> None:
    wide = zoo.model(
        "g (float[N, 256] x) => (float[N, 999] y) { a = MatMul (x, wa)  b = MatMul (x, wb)  y = Add (a, b) }",
        wa=normal(256, 16) @ normal(16, 999),
        wb=normal(256, 16) @ normal(16, 999, seed=1),
    )
    result = ms.compress(wide, speedup=1.5, data=normal(512, 256), batch=64)
    assert list(result.plan) == ["{a,b}"]
