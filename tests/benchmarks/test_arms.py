"""Parts of the accuracy benchmark, on a tiny net."""

from __future__ import annotations

import numpy as np
import pytest

from modelsurgeon.errors import Unreachable
from modelsurgeon.factorize import METHODS
from modelsurgeon.surgery.apply import macs
from tests import zoo
from tests.benchmarks import accuracy, arms
from tests.benchmarks.nets import reading
from tests.benchmarks.subjects import Bar, Net, Subject, classified, label

MODEL = zoo.model(
    """
    g (float[N, 8, 6, 6] x) => (float[N, 4] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1)
        r = Relu (a)
        q = GlobalAveragePool (r)
        f = Flatten (q)
        y = Gemm <transB = 1> (f, w2)
    }
    """,
    w1=np.random.default_rng(0).standard_normal((32, 8, 3, 3), np.float32),
    w2=np.random.default_rng(1).standard_normal((4, 32), np.float32),
)


def subject(count: int = 24) -> Subject:
    """An untrained net with random samples, all labeled 0."""
    drawn = np.random.default_rng(2).standard_normal((2, count, 8, 6, 6), np.float32)
    return Subject(
        model=MODEL,
        calibration={"x": drawn[0]},
        test={"x": drawn[1]},
        read=label,
        score=classified([0] * count),
        batch=4,
    )


@pytest.mark.parametrize("fraction", [0.7, 0.4])
def test_a_uniform_cut_keeps_the_asked_fraction(fraction: float) -> None:
    cut = arms.plain(subject())(fraction)
    whole = cut.editable.fresh_copy()
    shares = {
        site.name: macs(METHODS[step.method].sketch(site.layer, step.rank), site.calls)
        / macs([site.layer], site.calls)
        for site in whole.sites
        if (step := cut.plan.get(site.name))
    }
    assert fraction - 0.1 < cut.editable.total("macs") / whole.total("macs") <= fraction
    assert shares
    assert all(share <= fraction + 0.1 for share in shares.values())


def test_less_than_rank_1_everywhere_is_unreachable() -> None:
    with pytest.raises(Unreachable, match=r"rank 1 everywhere leaves more than 0\.001"):
        arms.plain(subject())(0.001)


def test_every_arm_has_a_row() -> None:
    found = list(accuracy.rows(subject(), [0.6, 0.001], list(arms.ARMS), timed=False))
    original, *cuts = found
    assert original["macs"] == 32 * 8 * 9 * 36 + 4 * 32
    assert original["same answer"] == 1
    assert [row["arm"] for row in cuts] == [
        "plain",
        "plain",
        "data-free",
        "data-free",
        "calibrated",
        "calibrated",
    ]
    assert all(row["kept"] <= 0.6 for row in cuts[::2])
    assert all("rank 1" in row["methods"] or "remain" in row["methods"] for row in cuts[1::2])


def test_promises_are_about_the_calibrated_arm() -> None:
    net = Net(
        name="n",
        open=lambda *_: subject(),
        kept=[0.5],
        bars=[Bar(kept=0.5, figure="accuracy", loss=0.01, source="s")],
    )
    whole = {"arm": "original", "asked": 1.0, "accuracy": 0.9}
    other = {"arm": "plain", "asked": 0.5, "kept": 0.5, "accuracy": 0.9, "error": 0.1}

    def verdicts(**row: float) -> list[tuple[str, str]]:
        ours = {"arm": "calibrated", "asked": 0.5, "kept": 0.5, "accuracy": 0.9, "error": 0.1, **row}
        return [(p["what"], p["held"]) for p in accuracy.promises(net, [whole, other, ours])]

    assert verdicts(accuracy=0.89) == [("accuracy", "held")]
    assert verdicts(accuracy=0.88) == [("accuracy", "NOT HELD")]
    assert verdicts(predicted=0.14)[1:] == [("predicted / measured", "held")]
    assert verdicts(predicted=0.16)[1:] == [("predicted / measured", "NOT HELD")]
    assert verdicts(speed1=0.9, speed2=1.1)[1:] == [("speed, 1T", "NOT HELD"), ("speed, 2T", "held")]
    assert accuracy.promises(net, [whole, other]) == []


def test_boxes_match_by_iou() -> None:
    page = np.zeros((40, 60), np.float32)
    page[5:15, 5:45] = page[20:30, 10:50] = 0.9
    near, far = page.copy(), np.roll(page, 8, axis=0)
    near[5:15, 5:10] = 0
    boxes = [[reading._boxes(each)] for each in (page, near, far)]
    assert boxes[0][0].tolist() == [[5, 15, 5, 45], [20, 30, 10, 50]]
    assert reading._found([boxes[0]], [boxes[0]]) == {"hmean": 1.0}
    assert reading._found([boxes[1]], [boxes[0]]) == {"hmean": 1.0}
    assert reading._found([boxes[2]], [boxes[0]]) == {"hmean": 0.0}
