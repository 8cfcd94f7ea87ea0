"""The memory footprint as plain data and as a table."""

from __future__ import annotations

from modelsurgeon.inspection.memory import MAX_TENSORS_SHOWN, Footprint, LiveTensor, MemoryStep

STEPS = [
    MemoryStep(node="a", bytes=10),
    MemoryStep(node="b", bytes=40, depth=1),
    MemoryStep(node="c", bytes=40),
]


def tensor(name: str, size: int, node: str | None = "a") -> LiveTensor:
    return LiveTensor(name=name, node=node, shape=(size,), dtype="int8", bytes=size)


def test_the_peak_is_the_first_maximum() -> None:
    found = Footprint(timeline=STEPS, tensors=[tensor("t", 30), tensor("x", 10, None)], main=40)
    assert found.peak == 1
    assert found.as_dict() == {
        "peak": {
            "node": "b",
            "bytes": 40,
            "tensors": [
                {"name": "t", "node": "a", "shape": (30,), "dtype": "int8", "bytes": 30},
                {"name": "x", "node": None, "shape": (10,), "dtype": "int8", "bytes": 10},
            ],
        },
        "main_graph_peak_bytes": 40,
        "timeline": [
            {"node": "a", "bytes": 10, "depth": 0},
            {"node": "b", "bytes": 40, "depth": 1},
            {"node": "c", "bytes": 40, "depth": 0},
        ],
        "notes": [],
    }
    [table] = found.tables()
    assert [(row["name"], row["node"], row["share"]) for row in table.rows] == [
        ("t", "a", 0.75),
        ("x", "(input)", 0.25),
    ]
    assert table.notes == ["this peak is inside a branch or a loop body; the main graph's is 40 B"]


def test_tensors_not_shown_are_counted() -> None:
    found = Footprint(
        timeline=STEPS[:1], tensors=[tensor(f"t{n}", 5) for n in range(MAX_TENSORS_SHOWN + 3)], main=10
    )
    [table] = found.tables()
    assert len(table.rows) == MAX_TENSORS_SHOWN
    assert table.total == {"name": "total", "bytes": 5 * (MAX_TENSORS_SHOWN + 3), "share": 1.0}
    assert table.notes == ["3 smaller tensors are alive too (15 B)"]


def test_a_model_without_nodes_has_no_plot() -> None:
    found = Footprint(timeline=[], tensors=[], main=7)
    assert found.as_dict()["peak"] == {"node": None, "bytes": 7, "tensors": []}
    assert found.tables()[0].plot is None
