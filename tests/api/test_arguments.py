"""Arguments of the public functions that are of a wrong type, out of range or unknown."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import parser

import modelsurgeon as ms
from modelsurgeon.arguments import parameters

WRONG = [
    -1,
    float("nan"),
    float("inf"),
    "0.7",
    "",
    [],
    {},
    object(),
    [1],
    {"x": "a"},
    {1: 2},
    [{1: 2}],
    {"x": None},
    b"x",
    [None],
    {"x": [0]},
]
MODEL = parser.parse_model(
    '<ir_version: 8, opset_import: ["" : 17]> g (float[1, 4] x) => (float[1, 4] y) '
    "<float[4, 4] w = {4, 0, 0, 0, 0, 3, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1}> { h = MatMul(x, w) y = Relu(h) }"
)
GIVEN: dict[str, dict[str, Any]] = {
    "sweep": {"model": MODEL, "fractions": [0.5]},
    "compare": {"a": MODEL, "b": MODEL},
    "diff": {"a": MODEL, "b": MODEL},
    "steal": {"donor": MODEL, "recipient": MODEL},
    "extract": {"model": MODEL, "outputs": ["y"]},
    "pipeline": {},
    "device": {},
    "load": {},
}
NOT_VERBS = ("counts", "conv_matrix", "im2col", "save")
VERBS = {
    name: function
    for name in ms.__all__
    if inspect.isfunction(function := getattr(ms, name)) and name not in NOT_VERBS
} | {f"bn {name}": getattr(ms.bn, name) for name in ("inspect", "fold", "freeze", "sanitize", "recalibrate")}


@pytest.mark.parametrize("name", VERBS)
def test_a_wrong_value_is_a_surgery_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    verb, given = VERBS[name], GIVEN.get(name, {"model": MODEL})
    for key in [*parameters(verb), "nonsense"]:
        for value in WRONG:
            try:
                verb(**{**given, key: value})
            except ms.SurgeryError as error:
                assert "\n" not in str(error)
                assert str(error)
    with pytest.raises(ms.BadArgument, match=f"{name} takes no keyword 'nonsense'; its options are"):
        verb(**given, nonsense=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ms.prune(MODEL, only="fc"),
            r"only is the text 'fc', a list of texts is needed: write \['fc'\]",
        ),
        (
            lambda: ms.compress(MODEL, macs="0.7"),
            "macs is the text '0.7', a finite number above 0 and at most 1",
        ),
        (
            lambda: ms.info(MODEL, dims={"N": "a"}),
            r"dims\['N'\] is the text 'a', a whole number of at least 1",
        ),
        (
            lambda: ms.info(MODEL, dims=3),
            "dims is 3, a mapping of names to whole numbers of at least 1 is needed",
        ),
        (lambda: ms.compare(MODEL, MODEL, tolerance=float("nan")), "tolerance is nan, a finite number of at"),
        (lambda: ms.compare(MODEL, MODEL, samples=True), "samples is True, a whole number of at least 1"),
        (
            lambda: ms.bn.freeze(MODEL, form="x"),
            "bn freeze: form is the text 'x', one of 'mul-add', 'batchnorm'",
        ),
    ],
)
def test_messages_say_what_was_found_and_needed(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ms.BadArgument, match=message):
        call()
