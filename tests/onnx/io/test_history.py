"""The surgery record in a model's metadata: complete, portable, and the same for the same operation."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.io import history
from tests import zoo


def test_every_operation_adds_a_record_oldest_first(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    ms.save(zoo.classifier(), first)
    once = ms.extract(first, ["e"])
    ms.save(once.model, second)
    twice = ms.extract(second, ["r"], skip=["?"], compare=False)
    assert ms.history(twice.model).as_dict() == [
        {
            "verb": "extract",
            "arguments": {"outputs": ["e"]},
            "version": ms.__version__,
            "input_sha256": sha256(first.read_bytes()).hexdigest(),
            "verdict": "identical",
        },
        {
            "verb": "extract",
            "arguments": {"outputs": ["r"], "skip": ["?"]},
            "version": ms.__version__,
            "input_sha256": sha256(second.read_bytes()).hexdigest(),
            "verdict": "not compared",
        },
    ]


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        ms.save(zoo.classifier(), tmp_path / name / "model.onnx")
        ms.save(ms.extract(tmp_path / name / "model.onnx", ["e"]).model, tmp_path / name / "out.onnx")
    assert (tmp_path / "one" / "out.onnx").read_bytes() == (tmp_path / "two" / "out.onnx").read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / "one" / "out.onnx").read_bytes()


def test_digests_of_a_graph_and_its_file_are_equal(tmp_path: Path) -> None:
    ms.save(zoo.classifier(), tmp_path / "model.onnx")
    assert history.digest(zoo.classifier()) == history.digest(tmp_path / "model.onnx")


@pytest.mark.parametrize("text", ["", "[", "7", '["line"]', '[{"verb": "x"}]', '[{"time": 1}]', "{}"])
def test_invalid_metadata_is_no_history(text: str) -> None:
    model = zoo.classifier()
    model.metadata_props[history.HISTORY_KEY] = text
    assert ms.history(model).as_dict() == []


def test_an_empty_history_shows_none() -> None:
    assert "none" in ms.history(zoo.classifier()).tables()[0].text(80)


def test_the_records_are_plain_json() -> None:
    model = zoo.classifier()
    history.add(
        model, history.HistoryRecord(verb="bn fold", input_sha256="0" * 64, arguments={"only": ["a*"]})
    )
    (line,) = json.loads(model.metadata_props[history.HISTORY_KEY])
    assert set(line) == {"verb", "arguments", "version", "input_sha256", "verdict"}
