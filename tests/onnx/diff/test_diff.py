"""Differences between two graphs."""

from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.errors import UnknownShape
from modelsurgeon.inspection.difference import Difference
from tests import zoo

TEXT = """
    g (float[1, 8] x) => (float y) {
        a = MatMul (x, w1)
        r = LeakyRelu <alpha = 0.1> (a)
        y = MatMul (r, w2)
    }
"""


def net(text: str = TEXT, *, scale: float = 1, opset: int = 17) -> ir.Model:
    return zoo.model(text, w1=zoo.ones(8, 8), w2=scale * zoo.ones(8, 4), opset=opset)


def shown_changes(found: Difference) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(change.kind, change.name, tuple(change.what)) for change in found.shown]


def test_a_model_equals_itself() -> None:
    found = ms.diff(net(), net())
    assert found.identical
    assert found.counts == {"same": 3}
    assert shown_changes(found) == []
    assert [change.name for change in found.all().shown] == ["a", "r", "y"]
    assert "no difference in 3 nodes" in found.tables()[0].notes


def test_weights_are_compared_unless_disabled() -> None:
    assert shown_changes(ms.diff(net(), net(scale=2))) == [("changed", "y", ("input 1 has other values",))]
    blind = ms.diff(net(), net(scale=2), weights=False)
    assert blind.identical
    assert "weights are compared by type and shape only" in blind.notes


def test_attributes_and_operators_are_compared() -> None:
    found = ms.diff(net(), net(TEXT.replace("0.1", "0.5")))
    assert shown_changes(found) == [("changed", "r", ("alpha 0.1 → 0.5",))]
    [change] = ms.diff(net(), net(TEXT.replace("LeakyRelu <alpha = 0.1>", "Relu"))).shown
    assert (change.op, change.what[0]) == ("LeakyRelu → Relu", "LeakyRelu → Relu")


CONV = "g (float[1, 8, 9, 9] x) => (float y) { y = Conv (x, w) }"
SPELT = 'auto_pad = "NOTSET", strides = [1, 1], pads = [0, 0, 0, 0], kernel_shape = [3, 3], group = 1'


def test_an_explicit_default_is_no_difference() -> None:
    bare, full = (
        zoo.model(CONV.replace("Conv", text), w=zoo.ones(8, 8, 3, 3)) for text in ("Conv", f"Conv <{SPELT}>")
    )
    assert ms.diff(bare, full).identical
    wide = zoo.model(CONV.replace("Conv", "Conv <pads = [1, 1, 1, 1]>"), w=zoo.ones(8, 8, 3, 3))
    assert "pads unset → [1, 1, 1, 1]" in ms.diff(full, wide).shown[0].what


def test_an_added_bias_is_reported_once() -> None:
    biased = zoo.model(CONV.replace("w)", "w, b)"), w=zoo.ones(8, 8, 3, 3), b=zoo.ones(8))
    plain = zoo.model(CONV, w=zoo.ones(8, 8, 3, 3))
    assert shown_changes(ms.diff(plain, biased)) == [("changed", "y", ("input 2 none → 8",))]


def test_added_removed_and_renamed_nodes() -> None:
    longer = net(TEXT.replace("y = MatMul (r", "n = Neg (r) y = MatMul (n"))
    assert shown_changes(ms.diff(net(), longer)) == [("added", "n", ("output 1×8",))]
    assert shown_changes(ms.diff(longer, net())) == [("removed", "n", ("output 1×8",))]
    assert shown_changes(ms.diff(net(), net(TEXT.replace(" a =", " other =").replace("(a)", "(other)")))) == [
        ("renamed", "a", ("now called other",))
    ]


def test_sizes_and_opsets_are_compared() -> None:
    found = ms.diff(net(), net(TEXT.replace("[1, 8] x", "[2, 8] x"), opset=18))
    assert [change.kind for change in found.changes] == ["changed"] * 3
    assert found.changes[1].what == ["input 1×8 → 2×8", "output 1×8 → 2×8"]
    assert found.model[0] == "opset: onnx 17, com.microsoft 1, local 1 → onnx 18, com.microsoft 1, local 1"
    assert found.model[1] == "inputs: x float32 1×8 → x float32 2×8"


def test_branches_are_compared_inside() -> None:
    before, after = zoo.branches(), zoo.branches()
    after.graph.initializers["w3"].const_value = ir.tensor(np.zeros((5, 3), np.float32))
    assert shown_changes(ms.diff(before, after)) == [("changed", "b", ("input 1 has other values",))]


def test_a_branch_that_no_longer_runs_is_reported() -> None:
    """The condition is constant now, so the other branch runs."""
    assert shown_changes(ms.diff(zoo.branches(), zoo.branches("yes"))) == [
        ("changed", "y", ("input 0 is a constant now",)),
        ("changed", "a", ("runs 0 → 1 times",)),
        ("changed", "h", ("runs 1 → 0 times",)),
        ("changed", "b", ("runs 1 → 0 times",)),
    ]


@pytest.fixture(scope="module")
def compressed() -> Difference:
    rng = np.random.default_rng(0)
    model = zoo.model(TEXT, w1=rng.normal(size=(8, 8)).astype("f"), w2=rng.normal(size=(8, 4)).astype("f"))
    return ms.diff(model, ms.compress(model, rank=1).model)


def test_a_chain_of_factors_is_one_change(compressed: Difference) -> None:
    kinds = {change.name: change for change in compressed.shown}
    assert kinds["a"].kind == "replaced"
    assert [row.name for row in kinds["a"].after] == ["a.0", "a.1"]
    assert kinds["a"].what == ["now a chain of 2"]
    assert kinds["a"].as_dict()["params_after"] == 16


def test_layers_add_up_to_the_totals(compressed: Difference) -> None:
    for key in ("macs", "params", "param_bytes"):
        for when, totals in (("before", compressed.before), ("after", compressed.after)):
            rows = [change.as_dict()[f"{key}_{when}"] or 0 for change in compressed.changes]
            assert sum(rows) == getattr(totals, key)


def test_tables_fit_the_width_and_json_has_its_keys(compressed: Difference) -> None:
    for width in (80, 140):
        for table in compressed.tables():
            assert max(map(len, table.text(width).splitlines())) <= width
    data = json.loads(json.dumps(compressed.as_dict()))
    assert set(data) == {"identical", "before", "after", "model", "counts", "layers", "notes"}
    assert data["layers"][0]["change"] == "replaced"


def test_a_size_may_belong_to_one_of_the_models() -> None:
    one, other = (
        zoo.model(f"g (float[{size}, 4] x) => (float y) {{ y = MatMul (x, w) }}", w=zoo.ones(4, 2))
        for size in "AB"
    )
    found = ms.diff(one, other, dims={"A": 3, "B": 5})
    assert (found.before.macs, found.after.macs) == (24, 40)
    with pytest.raises(UnknownShape, match="no input has a dimension 'C'"):
        ms.diff(one, other, dims={"A": 3, "C": 5})
