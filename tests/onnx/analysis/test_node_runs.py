"""How often nodes run: branches, loops and scans."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelsurgeon.onnx.analysis.node_runs import NodeRun, RunCounter
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.inference import unknown
from tests import zoo


def walked(model: ir.Model) -> tuple[dict[str, NodeRun], list[str]]:
    whole = bound(model)
    names = layer_names(whole)
    walk = RunCounter(names=names, shape_of=sizes, unknown=unknown(whole), functions=whole.functions)
    return {names[visit.node]: visit for visit in walk.visits(whole.graph)}, walk.notes


def macs(visits: dict[str, NodeRun]) -> int:
    return sum(visit.total.macs for visit in visits.values())


def test_the_dearer_branch_counts() -> None:
    visits, notes = walked(zoo.branches())
    assert {name: visit.runs for name, visit in visits.items()} == {"yes": 1, "y": 1, "a": 0, "h": 1, "b": 1}
    assert macs(visits) == 2 * 4 * 5 + 2 * 5 * 3
    assert notes == ["y: else_branch is counted, then_branch is not dearer"]


def test_a_constant_condition_decides() -> None:
    visits, notes = walked(zoo.branches("yes"))
    assert macs(visits) == 2 * 4 * 3
    assert not notes


def test_a_branch_that_cannot_run_is_not_taken() -> None:
    built = zoo.branches()
    built.graph.initializers["w3"].const_value = ir.tensor(zoo.ones(7, 3))
    visits, [note] = walked(built)
    assert macs(visits) == 2 * 4 * 3
    assert note == "y: then_branch is counted, else_branch can't run at these sizes"


def test_a_loop_counts_as_often_as_it_runs() -> None:
    visits, notes = walked(zoo.loop())
    assert visits["z"].runs == 5
    assert macs(visits) == 5 * 2 * 4 * 4
    assert not notes


@pytest.mark.parametrize("how", [{"trips": "n"}, {"goes_on": "stop"}])
def test_a_loop_of_unknown_length_counts_per_iteration_and_says_so(how: dict[str, str]) -> None:
    body = "t = ReduceSum <keepdims = 0> (s) stop = Cast <to = 9> (t) z = MatMul (s, w)"
    visits, notes = walked(zoo.loop(**how, body=body))
    assert visits["z"].runs == 1
    assert notes == ["y: counted per iteration, as its number of runs isn't constant"]


def test_a_loop_that_never_begins_costs_nothing() -> None:
    built = zoo.model(
        """
        g (float[2] x) => (float y) {
            five = Constant <value = int64 {5}> ()
            no = Constant <value = bool {0}> ()
            y = Loop (five, no, x) <
                body = b (int64 k, bool i, float[2] s) => (bool i, float z) { z = Relu (s) }
            >
        }
        """
    )
    visits, notes = walked(built)
    assert visits["z"].runs == 0
    assert not notes


def test_a_scan_runs_along_its_axis() -> None:
    visits, notes = walked(zoo.scan())
    assert visits["s"].runs == 7
    assert macs(visits) == 7 * 4 * 3
    assert not notes


def test_loops_in_loops_multiply() -> None:
    built = zoo.model(
        """
        g (float[7, 4] x) => (float y) {
            three = Constant <value = int64 {3}> ()
            yes = Constant <value = bool {1}> ()
            y = Loop (three, yes, x) <
                body = b (int64 k, bool i, float[7, 4] s) => (bool i, float[7, 4] z) {
                    z = Scan <
                        num_scan_inputs = 1,
                        body = r (float[4] a) => (float[4] c) { c = MatMul (a, w) }
                    > (s)
                }
            >
        }
        """,
        w=zoo.ones(4, 4),
    )
    visits, _ = walked(built)
    assert visits["c"].runs == 21


def test_a_function_of_another_opset_counts_where_its_operators_are_the_same() -> None:
    built = zoo.model(
        """
        g (float[2, 4] x) => (float y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 14]>
        f (a) => (c) { w = Constant <value = float[4, 1] {1, 2, 3, 4}> () b = MatMul (a, w) c = Relu (b) }
        """
    )
    visits, _ = walked(built)
    assert macs(visits) == 2 * 4


def test_a_function_that_cannot_be_inlined_is_uncounted() -> None:
    built = zoo.model(
        """
        g (float[2] x) => (float y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 12]> f (a) => (b) { b = Softmax (a) }
        """
    )
    visits, _ = walked(built)
    assert "imports another opset" in getattr(visits["y"].cost, "reason", "")
