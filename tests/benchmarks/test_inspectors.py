"""`info` compared with other inspectors: time and memory on large models. `make bench` prints the table.

The others need versions of packages that differ from ours: `make peers` installs them in an environment of
their own. Without it their rows say so. The table states for each promise whether it held; a missed promise
doesn't fail the test.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from modelsurgeon.report.columns import Column, Row
from modelsurgeon.report.table import Table
from tests import zoo
from tests.benchmarks.processes import Taken, taken

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PEERS = Path(os.environ.get("MODELSURGEON_PEERS", ROOT / ".venv-peers")) / "bin"
PATIENCE = 60.0  # seconds for one run
RUNS = 3  # the least is reported: other load only adds
LOAD = "import sys, onnx; onnx.load(sys.argv[1], load_external_data=False)"
ONNX_TOOL = """
import sys, onnx_tool
graph = onnx_tool.Model(sys.argv[1]).graph
graph.shape_infer()
graph.profile()
print("MACs", int(graph.macs[0]))
"""
COUNTED = re.compile(r'(?:MACs |"macs": )(\d+)')
TOOLS: dict[str, list[str | Path]] = {
    "onnx.load": [sys.executable, "-c", LOAD],
    "modelsurgeon info": [sys.executable, "-m", "modelsurgeon_cli", "info"],
    "the same as JSON": [sys.executable, "-m", "modelsurgeon_cli", "info", "--format", "json"],
    "onnx-tool": [PEERS / "python", "-c", ONNX_TOOL],
    "onnxslim --inspect": [PEERS / "onnxslim", "--inspect"],
    "polygraphy inspect": [PEERS / "polygraphy", "inspect", "model"],
}
OURS = "modelsurgeon info"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Promised limits for a model: seconds, bytes, and CPU time relative to that of `onnx.load`."""

    seconds: float = float("inf")
    peak: float = float("inf")
    ratio: float = float("inf")

    def verdict(self, ours: Row) -> str:
        """Whether the limits held."""
        held = ours["seconds"] <= self.seconds and ours["peak"] <= self.peak and ours["ratio"] <= self.ratio
        return "held" if held else "NOT HELD"


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[TensorProto],
    x: Sequence[int | str],
    y: str,
) -> Path:
    """Save a model with one input named x."""
    ports = [helper.make_tensor_value_info(*port) for port in (("x", 1, x), (y, 1, None))]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())
    return path


def many_nodes(folder: Path, batch: int | str = 1) -> Path:
    """A residual net of 6000 small nodes."""
    nodes, weights, x = [], [], "x"
    for step in range(1500):
        names = {part: f"{part}{step}" for part in ("w", "b", "scale", "shift", "mean", "var")}
        shapes = {"w": (8, 8, 3, 3)}
        weights += [
            numpy_helper.from_array(np.ones(shapes.get(part, (8,)), np.float32), name)
            for part, name in names.items()
        ]
        conv, norm, relu, add = (f"{op}{step}" for op in ("conv", "norm", "relu", "add"))
        folded = [names[part] for part in ("scale", "shift", "mean", "var")]
        nodes += [
            helper.make_node("Conv", [x, names["w"], names["b"]], [conv], name=conv, pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [conv, *folded], [norm], name=norm),
            helper.make_node("Relu", [norm], [relu], name=relu),
            helper.make_node("Add", [relu, x], [add], name=add),
        ]
        x = add
    return save(folder / f"nodes_{batch}.onnx", nodes, weights, (batch, 8, 32, 32), x)


def open_batch(folder: Path) -> Path:
    """The same with a symbolic batch: every cost is a formula."""
    return many_nodes(folder, "N")


def external_data(folder: Path, side: int = 3248, count: int = 64) -> Path:
    """2.7 GB of weights as external data, in a sparse file."""
    size, weights, nodes = 4 * side * side, [], []
    for step in range(count):
        weight = TensorProto(name=f"w{step}", data_type=1, dims=(side, side))
        weight.data_location = TensorProto.EXTERNAL
        location = {"location": "weights.bin", "offset": str(step * size), "length": str(size)}
        for key, value in location.items():
            weight.external_data.add(key=key, value=value)
        weights.append(weight)
        nodes.append(helper.make_node("MatMul", [f"h{step}" if step else "x", f"w{step}"], [f"h{step + 1}"]))
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(count * size)
    return save(folder / "external.onnx", nodes, weights, (1, side), f"h{count}")


def resnet50(folder: Path) -> Path:
    """ResNet-50 with its 102 MB of weights in the model file."""
    model = onnx.load(zoo.light("resnet50"))
    sizes = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    made = [node for node in model.graph.node if node.op_type == "ConstantOfShape"]
    for node in made:
        array = np.ones(sizes[node.input[0]], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
        model.graph.node.remove(node)
    path = folder / "resnet50.onnx"
    path.write_bytes(model.SerializeToString())
    return path


MODELS: dict[str, tuple[Callable[[Path], Path], Bar]] = {
    "6000 nodes": (many_nodes, Bar(ratio=4.0)),
    "6000 nodes, open batch": (open_batch, Bar(ratio=4.0)),
    "2.7 GB of external data": (external_data, Bar(seconds=2.0, peak=120e6)),
    "resnet50, 102 MB in one file": (resnet50, Bar(peak=200e6)),
}
COLUMNS = [
    Column(key="model", title="model", kind="text"),
    Column(key="tool", title="tool", kind="text"),
    Column(key="seconds", title="wall, s", kind="float"),
    Column(key="cpu", title="CPU, s", kind="float"),
    Column(key="ratio", title="CPU / onnx.load", kind="float"),
    Column(key="peak", title="peak", kind="bytes"),
    Column(key="macs", title="MACs printed", kind="count"),
    Column(key="held", title="", kind="text"),
]


def least(runs: Sequence[Taken]) -> Row:
    """The least time and memory of the runs, or the reason why the last one failed."""
    last = runs[-1]
    if last.ended:
        lines = last.printed.strip().splitlines() or ["no output"]
        stopped = f"stopped after {PATIENCE:.0f} s, at {last.peak / 1e6:.0f} MB"
        return {"held": stopped if last.ended < 0 else f"failed: {lines[-1][:60]}"}
    match = COUNTED.search(last.printed)
    return {
        "seconds": min(run.seconds for run in runs),
        "cpu": min(run.cpu for run in runs),
        "peak": min(run.peak for run in runs),
        "macs": int(match[1]) if match else None,
        "held": "",
    }


def runs_of(command: Sequence[str | Path], path: Path) -> list[Taken]:
    """`RUNS` runs, fewer where one fails."""
    found = [taken([*command, path], patience=PATIENCE)]
    while len(found) < RUNS and not found[-1].ended:
        found.append(taken([*command, path], patience=PATIENCE))
    return found


def rows(name: str, path: Path, bar: Bar) -> list[Row]:
    """One row for each tool."""
    found: dict[str, Row] = {}
    for tool, command in TOOLS.items():
        here = Path(command[0]).exists()
        found[tool] = least(runs_of(command, path)) if here else {"held": "not installed: make peers"}
        found[tool] |= {"model": name, "tool": tool}
        if "cpu" in found[tool]:
            found[tool]["ratio"] = found[tool]["cpu"] / found["onnx.load"]["cpu"]
    found[OURS]["held"] = bar.verdict(found[OURS])
    return list(found.values())


def test_the_table(tmp_path: Path) -> None:
    found = [row for name, (make, bar) in MODELS.items() for row in rows(name, make(tmp_path), bar)]
    notes = [f"the least of {RUNS} runs; onnx.load is `import onnx; onnx.load(load_external_data=False)`"]
    table = Table(title="Inspectors side by side", columns=COLUMNS, rows=found, notes=notes)
    Console(width=160).print(table)
    ours = [row for row in found if row["tool"] == "the same as JSON"]
    assert [row["macs"] for row in ours] == [884_736_000, 884_736_000, 64 * 3248**2, 4_089_184_256]
