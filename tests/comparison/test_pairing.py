"""Which outputs of two models are compared with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from modelsurgeon.comparison.compare import compare
from modelsurgeon.comparison.pairing import LayerPair, pair_outputs
from modelsurgeon.errors import BadModel


def ones(names: Sequence[str]) -> dict[str, np.ndarray]:
    return {name: np.ones((2, 3), np.float32) for name in names}


def paired(a: Sequence[str], b: Sequence[str], *, by_position: bool = False) -> list[tuple[str, str]]:
    found = pair_outputs(ones(a), ones(b), by_position=by_position)
    return [(pair.a, pair.b) for pair in found.outputs]


def test_outputs_are_paired_by_name() -> None:
    assert paired(["y", "z"], ["z", "y"]) == [("y", "y"), ("z", "z")]
    assert paired(["y", "z"], ["z", "y"], by_position=True) == [("y", "y"), ("z", "z")]


def test_the_remaining_ones_are_paired_by_position_if_asked() -> None:
    assert paired(["y", "z"], ["w", "y"], by_position=True) == [("y", "y"), ("z", "w")]
    assert paired(["p", "y", "q"], ["r", "s", "y"], by_position=True) == [("p", "r"), ("y", "y"), ("q", "s")]
    found = compare(lambda _: ones(["y"]), lambda _: ones(["z"]), [{}], by_position=True)
    assert (found.verdict, found.notes) == ("identical", ("output z of B is compared with y of A",))


@pytest.mark.parametrize(("a", "b", "common"), [(["y"], ["z"], 0), (["x", "y"], ["z", "x"], 1)])
def test_without_it_other_names_leave_no_verdict(a: list[str], b: list[str], common: int) -> None:
    found = compare(lambda _: ones(a), lambda _: ones(b), [{}])
    assert found.verdict is None
    assert found.worst == float("inf")
    assert len(found.outputs) == common
    assert "y in A, z in B" in found.reason
    assert "--by-position" in found.reason
    assert found.as_dict()["rel_l2"] is None


@pytest.mark.parametrize(("a", "b"), [(["y"], ["y", "z"]), ([], [])])
def test_other_numbers_of_outputs_raise(a: Sequence[str], b: Sequence[str]) -> None:
    for by_position in (True, False):
        with pytest.raises(BadModel, match=rf"A gives {len(a)} outputs? .* and B gives {len(b)}"):
            paired(a, b, by_position=by_position)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.ones(3), np.ones((3, 1)), "floats of rank 1 and 'z' of B, at its position, floats of rank 2"),
        (np.ones(3), np.ones(3, int), "floats of rank 1 .* integers of rank 1"),
        (np.ones(3, bool), np.ones(3, int), "truth values of rank 1 .* integers of rank 1"),
        (np.array(["a"]), np.ones(1), "texts of rank 1 .* floats of rank 1"),
        ([np.ones(3)], np.ones(3), "a list .* floats of rank 1"),
    ],
)
def test_positions_never_pair_across_types_or_ranks(a: object, b: object, words: str) -> None:
    with pytest.raises(BadModel, match=rf"output 'y' of A is {words}"):
        pair_outputs({"y": a}, {"z": b}, by_position=True)


def test_floats_of_two_widths_are_paired_by_position() -> None:
    found = pair_outputs({"y": np.ones(3, np.float16)}, {"z": np.ones(4, np.float32)}, by_position=True)
    assert [(pair.a, pair.b) for pair in found.outputs] == [("y", "z")]


def test_layers_have_metrics_and_no_part_in_the_verdict() -> None:
    def run(inner: float) -> dict[str, np.ndarray]:
        return {"y": np.ones(2), "h": np.full(2, float(inner))}

    layers = [LayerPair(layer="conv", a="h", b="h")]
    found = compare(lambda _: run(1), lambda _: run(5), [{}], layers=layers, rerun_a=lambda _: run(1))
    assert (found.verdict, found.worst) == ("identical", 0)
    assert [(output.name, output.layer, output.error) for output in found.outputs] == [
        ("y", "", 0),
        ("h", "conv", 4),
    ]


ONE = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("a", "b", "note"),
    [
        ([ONE], ONE, "a sequence [a tensor] in A, a tensor in B"),
        ([[ONE], [ONE]], [[ONE, ONE]], "a sequence [a sequence [a tensor], a sequence [a tensor]] in A"),
        ({0: ONE}, {5: ONE}, "a mapping {0: a tensor} in A, a mapping {5: a tensor} in B"),
        ([], None, "a sequence [] in A, nothing in B"),
    ],
)
def test_equal_numbers_in_other_containers_are_different(a: object, b: object, note: str) -> None:
    found = compare(lambda _: {"y": a}, lambda _: {"y": b}, [{}])
    assert found.verdict == "different"
    assert found.outputs[0].note.startswith(note)
    assert compare(lambda _: {"y": [ONE, a]}, lambda _: {"y": [ONE, a]}, [{}]).verdict == "identical"
