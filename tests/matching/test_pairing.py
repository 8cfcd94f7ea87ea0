"""Transfer between nets: pairing of layers, and rows for new classes."""

from __future__ import annotations

import numpy as np
import pytest

from modelsurgeon.errors import BadPlan, UnsupportedLayer
from modelsurgeon.matching.head_rows import class_origins, copy_overlap, fit_rows, grow_rows
from modelsurgeon.matching.pairing import WeightedPart, pair

RNG = np.random.default_rng(2)


def part(name: str, *shape: int, kind: str = "conv", alias: str = "") -> WeightedPart:
    return WeightedPart(name=name, kind=kind, shapes={"weight": shape}, aliases=(alias,) if alias else ())


def test_names_come_before_structure_and_a_map_before_both() -> None:
    donors = [part("a", 4, 3), part("b", 4, 3), part("c", 4, 3)]
    found = pair(donors, [part("b", 4, 3), part("x", 4, 3), part("y", 4, 3)], {"y": "a"})
    assert found.donors == {"y": "a", "b": "b", "x": "c"}
    assert found.how == {"y": "map", "b": "name", "x": "structure"}


def test_equal_tensor_names_pair() -> None:
    found = pair([part("n1", 4, 3, alias="w")], [part("m7", 4, 3, alias="w")])
    assert found.how == {"m7": "name"}


def test_renamed_layers_are_aligned_around_an_inserted_one() -> None:
    shapes = [(8, 3), (16, 8), (16, 16), (10, 16)]
    donors = [part(f"old{i}", *shape) for i, shape in enumerate(shapes)]
    ours = [part(f"new{i}", *shape) for i, shape in enumerate([*shapes[:2], (16, 32), *shapes[2:]])]
    assert pair(donors, ours).donors == {"new0": "old0", "new1": "old1", "new3": "old2", "new4": "old3"}


def test_layers_with_and_without_bias_pair() -> None:
    donors = [part("a", 4, 3), part("b", 8, 4)]
    biased = WeightedPart(name="y", kind="conv", shapes={"weight": (8, 4), "bias": (8,)})
    assert pair(donors, [biased]).donors == {"y": "b"}
    assert pair([biased], donors).donors == {"b": "y"}


def test_different_kinds_never_pair() -> None:
    assert not pair([part("a", 4, 3)], [part("a", 4, 3, kind="norm")]).donors


@pytest.mark.parametrize(("given", "side"), [({"z": "a"}, "recipient"), ({"a": "z"}, "donor")])
def test_a_map_of_unknown_names_is_refused(given: dict[str, str], side: str) -> None:
    with pytest.raises(BadPlan, match=f"names 'z', and the {side} has no such layer"):
        pair([part("a", 1, 1)], [part("a", 1, 1)], given)


def test_the_overlap_is_copied_and_the_rest_kept() -> None:
    made = copy_overlap(np.ones((2, 5)), np.zeros((3, 4)))
    assert np.array_equal(made, [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    with pytest.raises(UnsupportedLayer, match="has 2 axes"):
        copy_overlap(np.ones((2, 5)), np.zeros(3))


OLD = RNG.normal(size=(3, 4))


@pytest.mark.parametrize("init", ["zero", "mean", "random"])
def test_old_classes_keep_their_rows_bit_for_bit(init: str) -> None:
    made = grow_rows(OLD, class_origins(6, 3, None, init), init)  # type: ignore[arg-type]
    assert made.shape == (6, 4)
    assert np.array_equal(made[:3], OLD)


def test_new_rows_follow_the_init() -> None:
    rows = class_origins(5000, 3, None, "zero")
    assert not grow_rows(OLD, rows, "zero")[3:].any()
    assert np.allclose(grow_rows(OLD, rows, "mean")[3:], OLD.mean(axis=0))
    drawn = grow_rows(OLD, rows, "random", 1)[3:]
    assert drawn.mean() == pytest.approx(OLD.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(OLD.std(), rel=0.03)
    assert np.array_equal(drawn, grow_rows(OLD, rows, "random", 1)[3:])


def test_labels_set_the_origin_of_rows() -> None:
    names = {"donor": ["cat", "dog", "owl"], "recipient": ["owl", "ant", "cat", "dog"]}
    assert class_origins(4, 3, names, "zero") == [[2], [], [0], [1]]
    assert class_origins(4, 3, {"0": 1, "3": [0, 2]}, "map") == [[1], [], [], [0, 2]]
    made = grow_rows(OLD, class_origins(4, 3, {"0": 1, "3": [0, 2]}, "map"), "map")
    assert np.allclose(made, [OLD[1], np.zeros(4), np.zeros(4), (OLD[0] + OLD[2]) / 2])


WRONG = {
    "give labels": (None, "map"),
    "labels are": ([1, 2], "map"),
    "the labels name the old class 7": ({"0": 7}, "map"),
    "a class below 4 and old classes": ({"9": 1}, "map"),
    "name 2 new classes, 4 are asked for": ({"donor": ["a"], "recipient": ["a", "b"]}, "zero"),
}


@pytest.mark.parametrize("message", WRONG)
def test_labels_that_dont_fit_are_refused(message: str) -> None:
    labels, init = WRONG[message]
    with pytest.raises(BadPlan, match=message):
        class_origins(4, 3, labels, init)  # type: ignore[arg-type]


def test_fitted_rows_respond_to_their_class_mean_only() -> None:
    """Old rows give 10 for their own class mean and 0 for others; a new row is fitted likewise."""
    means = np.eye(4, 6)
    rows = class_origins(4, 3, None, "fit")
    weight = grow_rows(10 * means[:3], rows, "zero")
    made, bias = fit_rows(weight, np.zeros(4), rows, means)
    assert np.array_equal(made[:3], weight[:3])
    assert bias is not None
    assert np.allclose(means @ made[3] + bias[3], [0, 0, 0, 10], atol=1e-8)


def test_a_class_without_samples_is_unchanged() -> None:
    means = np.full((4, 6), np.nan)
    means[:3] = np.eye(3, 6)
    rows = class_origins(4, 3, None, "fit")
    made, _ = fit_rows(np.zeros((4, 6)), None, rows, means)
    assert not made[3].any()
