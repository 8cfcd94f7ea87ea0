"""Every weight rule on a tensor that it applies to; a sound tensor has no findings."""

import numpy as np
import pytest

from modelsurgeon.inspection.statistics.remarks import REMARK_RULES, remarks
from modelsurgeon.inspection.statistics.weight import Weight, WeightInUse, measure_weight
from modelsurgeon.inspection.statistics.weights import Weights
from modelsurgeon.layers import Array, Layer


def matrix(out: int = 64, into: int = 48) -> Array:
    """A random weight with He's initialization."""
    draw = np.random.default_rng(0).normal(size=(out, into)) * np.sqrt(2 / into)
    return draw.astype(np.float32)


def weighed(array: Array, role: str = "weight") -> Weight:
    linear = Layer(weight=array) if array.ndim > 1 else None
    return measure_weight(
        WeightInUse(layer="fc", op="Gemm", role=role, dtype="float32", array=array, linear=linear)
    )


def changed(*changes: tuple[object, object]) -> Array:
    array = matrix()
    for where, value in changes:
        array[where] = value  # type: ignore[call-overload]
    return array


def doubled() -> Array:
    array = matrix()
    array[7] = 2 * array[3]
    return array


def repeated() -> Array:
    array = matrix()
    array[[7, 9]] = array[3]
    return array


def outlier(value: float) -> Array:
    array = np.ones(8, np.float32)
    array[2] = value
    return array


CASES = {
    "nan-or-inf": (
        weighed(changed(((slice(2, 5), 0), np.nan), ((3, 1), np.inf))),
        "NaN and Inf in 3 of 64 output channels (2, 3, 4), 4 values in all",
    ),
    "constant": (weighed(np.full((4, 4), 0.5, np.float32)), "all 16 values are 0.5"),
    "dead-outputs": (weighed(changed((slice(2, 13), 0))), "11 of 64 output channels are zero: 2, 3, 4, 5, 6"),
    "dead-inputs": (weighed(changed(((slice(None), 1), 0))), "1 of 48 input channels are zero: 1"),
    "duplicate-outputs": (
        weighed(repeated()),
        "3 of 64 output channels have the same weights as another, 2 could be removed: 3 = 7 = 9",
    ),
    "scaled-outputs": (weighed(doubled()), "2 of 64 output channels are multiples of another one: 3 = 7"),
    "scale": (weighed(100 * matrix()), "times that of He's initialization"),
    "sparse": (weighed(np.where(matrix() > 0.1, matrix(), 0)), "of the values are exactly 0"),
    "clipped": (weighed(np.clip(matrix(), -0.2, 0.2)), "of the values are at the bounds -0.2 and 0.2"),
    "rank-deficient": (weighed(matrix(8, 2) @ matrix(2, 8)), "rank 2 of 8"),
    "half-overflow": (
        weighed(outlier(1e5), "bias"),
        "bias: magnitudes up to 1e+05: the largest float16 is 65504",
    ),
    "negative-variance": (weighed(outlier(-0.5), "variance"), "variance: as low as -0.5"),
    "zero-scale": (weighed(outlier(0.0), "scale"), "scale: 0 in 1 of 8 channels"),
}


def test_minimum_and_maximum_alone_are_no_clipping() -> None:
    assert not [one for one in remarks(weighed(matrix(4, 4))) if one.rule == "clipped"]


def test_every_rule_has_a_case() -> None:
    assert set(CASES) == set(REMARK_RULES)


@pytest.mark.parametrize("name", CASES)
def test_messages_of_all_rules(name: str) -> None:
    weight, message = CASES[name]
    found = {remark.rule: remark for remark in remarks(weight)}
    assert message in found[name].message
    assert found[name].layer == "fc"


def test_a_sound_weight_has_no_findings() -> None:
    assert remarks(weighed(matrix())) == []
    assert remarks(weighed(np.zeros(8, np.float32), "bias")) == []


def test_nan_in_a_vector_is_counted() -> None:
    (remark,) = remarks(weighed(outlier(np.nan), "bias"))
    assert remark.message == "bias: NaN in 1 of 8 values"


def test_a_constant_weight_has_one_finding() -> None:
    zeros = remarks(weighed(np.zeros((64, 64), np.float32)))
    assert [remark.rule for remark in zeros] == ["constant"]


def test_scale_relative_to_he_and_xavier() -> None:
    weight = weighed(matrix(512, 300))
    assert weight.fan == (300, 512)
    assert weight.he == pytest.approx(1, rel=0.02)
    assert weight.xavier == pytest.approx(np.sqrt(812 / 300), rel=0.02)


def test_table_has_matrices_and_all_findings() -> None:
    report = Weights(tensors=[weighed(matrix()), weighed(outlier(np.nan), "bias")])
    weights, findings = report.tables()
    assert [row["name"] for row in weights.rows] == ["fc"]
    assert [row["message"] for row in findings.rows] == ["bias: NaN in 1 of 8 values"]
    assert "1 more tensors" in weights.notes[-1]
    assert [len(entry["findings"]) for entry in report.as_dict()] == [0, 1]


def test_with_nan_only_the_spectra_are_missing() -> None:
    found = CASES["nan-or-inf"][0].as_dict()
    assert (found["spectrum"], found["operator"]) == (None, None)
    assert (found["nan"], found["inf"]) == (3, 1)
    assert found["channels"]["nonfinite_outputs"] == [2, 3, 4]
