"""Output on a terminal: colors, and a spinner unless `--quiet`."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")


def on_a_terminal(*arguments: str) -> str:
    """Output of a command on a pseudo-terminal, run in the working directory."""
    ours, theirs = pty.openpty()
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ}
    with subprocess.Popen(
        [sys.executable, "-m", "modelsurgeon_cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "100"},
    ) as running:
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    assert running.returncode == 0
    return printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # on Linux: the other end is closed
        return b""


def test_a_terminal_gets_colors_and_escaped_names(here: Path) -> None:
    model = onnx.load(here / "model.onnx")
    model.graph.node[0].name = "[red]\x1b[31m"
    onnx.save(model, here / "nasty.onnx")
    printed = on_a_terminal("info", "nasty.onnx")
    assert "\x1b[1mLayer" in printed
    assert "[red]\\x1b[31m" in printed
    assert "\x1b[31m" not in printed


@pytest.mark.usefixtures("here")
def test_a_terminal_gets_a_spinner_unless_quiet() -> None:
    assert "reading model.onnx" in on_a_terminal("info", "model.onnx")
    quiet = on_a_terminal("info", "model.onnx", "--quiet")
    assert "reading model.onnx" not in quiet
    assert quiet.startswith("\x1b[1mmodel.onnx")


@pytest.mark.usefixtures("here")
def test_the_spinner_shows_the_stage() -> None:
    arguments = ("compress", "model.onnx", "--macs", "0.5", "--data", "calibration.npz", "--dry-run")
    shown = on_a_terminal(*arguments)
    for piece in ("calibration", "candidates", "sensitivity", "fitting"):
        assert f"compressing model.onnx: {piece}" in shown
    assert "compressing" not in on_a_terminal(*arguments, "--quiet")
