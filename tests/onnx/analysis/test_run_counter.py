"""How often nodes run: branches, loops and scans."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from modelsurgeon.onnx.analysis.node_run import NodeRun
from modelsurgeon.onnx.analysis.run_counter import RunCounter
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.inference import unknown
from tests import zoo


def counted(model: ir.Model) -> tuple[dict[str, NodeRun], list[str]]:
    bound_model = bound(model)
    names = layer_names(bound_model)
    counter = RunCounter(
        names=names, shape_of=sizes, unknown=unknown(bound_model), functions=bound_model.functions
    )
    return {names[run.node]: run for run in counter.count(bound_model.graph)}, counter.notes


def macs(node_runs: dict[str, NodeRun]) -> int:
    return sum(run.total.macs for run in node_runs.values())


def test_the_costlier_branch_counts() -> None:
    node_runs, notes = counted(zoo.branches())
    assert {name: run.times for name, run in node_runs.items()} == {"yes": 1, "y": 1, "a": 0, "h": 1, "b": 1}
    assert macs(node_runs) == 2 * 4 * 5 + 2 * 5 * 3
    assert notes == ["y: else_branch is counted, then_branch costs no more"]


def test_a_constant_condition_selects_a_branch() -> None:
    node_runs, notes = counted(zoo.branches("yes"))
    assert macs(node_runs) == 2 * 4 * 3
    assert not notes


def test_a_branch_that_cannot_run_is_not_counted() -> None:
    built = zoo.branches()
    built.graph.initializers["w3"].const_value = ir.tensor(zoo.ones(7, 3))
    node_runs, [note] = counted(built)
    assert macs(node_runs) == 2 * 4 * 3
    assert note == "y: then_branch is counted, else_branch can't run at these sizes"


def test_a_loop_counts_every_iteration() -> None:
    node_runs, notes = counted(zoo.loop())
    assert node_runs["z"].times == 5
    assert macs(node_runs) == 5 * 2 * 4 * 4
    assert not notes


@pytest.mark.parametrize(
    ("how", "limit"), [({"trips": "n"}, ""), ({"goes_on": "stop"}, " (at most 5)")], ids=["n", "stop"]
)
def test_a_loop_of_unknown_length_counts_per_iteration(how: dict[str, str], limit: str) -> None:
    body = "t = ReduceSum <keepdims = 0> (s) stop = Cast <to = 9> (t) z = MatMul (s, w)"
    node_runs, notes = counted(zoo.loop(**how, body=body))
    assert node_runs["z"].times == 1
    assert notes == [f"y: counted per iteration, as its number of runs isn't constant{limit}"]


def test_a_loop_without_iterations_costs_nothing() -> None:
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
    node_runs, notes = counted(built)
    assert node_runs["z"].times == 0
    assert not notes


def test_a_scan_runs_along_its_axis() -> None:
    node_runs, notes = counted(zoo.scan())
    assert node_runs["s"].times == 7
    assert macs(node_runs) == 7 * 4 * 3
    assert not notes


def test_runs_of_nested_loops_multiply() -> None:
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
    node_runs, _ = counted(built)
    assert node_runs["c"].times == 21


def test_a_function_of_another_opset_counts_where_its_operators_are_the_same() -> None:
    built = zoo.model(
        """
        g (float[2, 4] x) => (float y) { y = local.f (x) }
        <domain: "local", opset_import: ["" : 14]>
        f (a) => (c) { w = Constant <value = float[4, 1] {1, 2, 3, 4}> () b = MatMul (a, w) c = Relu (b) }
        """
    )
    node_runs, _ = counted(built)
    assert macs(node_runs) == 2 * 4


def test_a_function_that_is_given_a_graph_is_uncounted() -> None:
    built = zoo.model(
        """
        g (float[2] x) => (float y) { y = local.f <body = inner () => (float[2] o) { o = Relu (x) }> (x) }
        <domain: "local", opset_import: ["" : 17]> f <body> (a) => (b) { b = Identity (a) }
        """
    )
    node_runs, _ = counted(built)
    assert "is given a graph" in getattr(node_runs["y"].cost, "reason", "")
