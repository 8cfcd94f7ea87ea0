"""Latency cache on disk: reading, broken files and concurrent writers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from modelsurgeon.onnx.run import latency_cache
from modelsurgeon.onnx.run.latency_cache import LatencyCache


def test_added_times_are_read_by_the_next_cache(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "times.json"
    LatencyCache(path).add({"a": 1.25})
    assert LatencyCache(path)["a"] == 1.25
    assert "b" not in LatencyCache(path)


def test_without_a_file_times_are_kept_in_memory() -> None:
    book = LatencyCache(None)
    book.add({"a": 1.0})
    assert book["a"] == 1.0
    assert "a" not in LatencyCache(None)


def test_the_time_that_is_written_first_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    ours, theirs = LatencyCache(path), LatencyCache(path)
    theirs.add({"a": 2.0, "b": 2.0})
    ours.add({"a": 1.0})
    ours.add({"a": 3.0})
    assert (ours["a"], ours["b"]) == (2.0, 2.0)  # the first write counts
    assert json.loads(path.read_text(encoding="utf-8")) == {"a": 2.0, "b": 2.0}


BROKEN = ["", "{", "[1]", "null", '{"a": "x"}', '{"a": NaN}', '{"a": -1}', "[" * 9999]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_read_as_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "times.json"
    path.write_text(text, encoding="utf-8")
    book = LatencyCache(path)
    assert "a" not in book
    book.add({"a": 1.0})
    assert LatencyCache(path)["a"] == 1.0


def test_a_binary_file_is_read_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    path.write_bytes(b"\xff\xfe\x00")
    assert "a" not in LatencyCache(path)


def test_a_file_that_cannot_be_written_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    book = LatencyCache(tmp_path / "file" / "times.json")
    book.add({"a": 1.0})
    assert book["a"] == 1.0


def test_concurrent_writers_leave_a_valid_file(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from modelsurgeon.onnx.run.latency_cache import LatencyCache\n"
        "for i in range(40): LatencyCache(Path(sys.argv[1])).add({f'{sys.argv[2]}{i}': 1.0})"
    )
    path = tmp_path / "times.json"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abc"]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = json.loads(path.read_text(encoding="utf-8"))
    assert any(f"{name}39" in found for name in "abc")
    assert [each.name for each in tmp_path.iterdir()] == ["times.json"]


def test_the_folder_follows_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert latency_cache.cache_folder() is None  # the cache is off in tests
    monkeypatch.setenv("MODELSURGEON_CACHE", str(tmp_path))
    assert latency_cache.cache_folder() == tmp_path
    monkeypatch.delenv("MODELSURGEON_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert latency_cache.cache_folder() == tmp_path / "modelsurgeon"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert latency_cache.cache_folder() == tmp_path / ".cache" / "modelsurgeon"


def test_each_thread_count_has_its_own_cache() -> None:
    assert latency_cache.cache_for("cpu", 1) is latency_cache.cache_for("cpu", 1)
    assert latency_cache.cache_for("cpu", 1) is not latency_cache.cache_for("cpu", 2)
    assert latency_cache.processor_name()
