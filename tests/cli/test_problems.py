"""Errors: one line on stderr, the right exit code, nothing written."""

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import onnx
import pytest

from tests.cli.conftest import Command

INFO = ("info", "model.onnx")
COMPRESS = ("compress", "model.onnx", "-o", "small.onnx")
COMPARE = ("compare", "model.onnx", "model.onnx")

PROBLEMS = [
    (("info", "nowhere.onnx"), "nowhere.onnx"),
    (("info", "note.txt"), "note.txt"),
    (("info", "folder"), "folder"),
    (("info", "empty.onnx"), "empty.onnx"),
    (("info", "no_such_package.net:Net"), "no_such_package"),
    (("info", "json:no_such_factory", "--shape", "x=1,2"), "no_such_factory"),
    ((*INFO, "--weights", "w.safetensors"), "model.onnx is no PyTorch source"),
    ((*INFO, "--shape", "q=1,4,12,12"), "no input 'q'"),
    ((*INFO, "--shape", "x=1,5,12,12"), "x"),
    ((*INFO, "--dim", "M=3"), "'M'"),
    ((*INFO, "--output", "nowhere/out.txt"), "nowhere"),
    (("compress", "nowhere.onnx", "-o", "small.onnx", "--rank", "4"), "nowhere.onnx"),
    (("compress", "note.txt", "-o", "small.onnx", "--rank", "4"), "note.txt"),
    (("compress", "folder", "-o", "small.onnx", "--rank", "4"), "folder"),
    (("compress", "model.onnx", "-o", "nowhere/small.onnx", "--rank", "4"), "nowhere"),
    (("compress", "model.onnx", "-o", "folder", "--rank", "4"), "folder"),
    (("compress", "model.onnx", "-o", "note.txt/small.onnx", "--rank", "4"), "note.txt"),
    ((*COMPRESS, "--plan", "nowhere.json"), "nowhere.json"),
    ((*COMPRESS, "--plan", "note.txt"), "note.txt"),
    ((*COMPRESS, "--rank", "4", "--data", "nowhere.npz"), "nowhere.npz"),
    ((*COMPRESS, "--rank", "4", "--data", "note.txt"), "note.txt"),
    ((*COMPRESS, "--rank", "4", "--save-plan", "nowhere/plan.json"), "nowhere"),
    ((*COMPRESS, "--rank", "4", "--report", "nowhere/report.html"), "nowhere"),
    (("compare", "model.onnx", "nowhere.onnx"), "nowhere.onnx"),
    (("compare", "note.txt", "model.onnx"), "note.txt"),
    ((*COMPARE, "--data", "nowhere.npz"), "nowhere.npz"),
]

WRONG_USAGE = [
    ((), "Usage"),
    (("decompress",), "decompress"),
    (("info",), "MODEL"),
    ((*INFO, "--no-such-option"), "--no-such-option"),
    ((*INFO, "--format", "xml"), "xml"),
    ((*INFO, "--shape", "x"), "'x' is not"),
    ((*INFO, "--shape", "x=1,0,3"), "'x=1,0,3' is not"),
    ((*INFO, "--shape", "x=1,-1"), "'x=1,-1' is not"),
    ((*INFO, "--dim", "N=2,3"), "one size"),
    ((*INFO, "--dim", "N=many"), "'N=many' is not"),
    ((*INFO, "--output", "model.onnx"), "MODEL too"),
    (COMPRESS, "found none"),
    (("compress", "model.onnx", "--rank", "4"), "-o OUT is missing"),
    ((*COMPRESS, "--rank", "0"), "--rank"),
    ((*COMPRESS, "--rank", "-3"), "--rank"),
    ((*COMPRESS, "--rank", "many"), "--rank"),
    ((*COMPRESS, "--energy", "1.5"), "--energy"),
    ((*COMPRESS, "--energy", "0"), "--energy"),
    ((*COMPRESS, "--energy", "nan"), "--energy"),
    ((*COMPRESS, "--macs", "2"), "--macs"),
    ((*COMPRESS, "--params", "-1"), "--params"),
    ((*COMPRESS, "--max-error", "0"), "--max-error"),
    ((*COMPRESS, "--speedup", "1"), "--speedup"),
    ((*COMPRESS, "--rank", "4", "--energy", "0.9"), "found --rank and --energy"),
    ((*COMPRESS, "--rank", "4", "--method", "magic"), "svd, spatial-svd, tucker2, cp"),
    ((*COMPRESS, "--rank", "4", "--tolerance", "nan"), "--tolerance"),
    ((*COMPRESS, "--rank", "4", "--tolerance", "inf"), "--tolerance"),
    ((*COMPRESS, "--rank", "4", "--provider", "tpu"), "tpu"),
    (("compress", "model.onnx", "-o", "model.onnx", "--rank", "4"), "MODEL too"),
    (("compress", "model.onnx", "-o", "folder/../model.onnx", "--rank", "4"), "MODEL too"),
    (("compress", "model.onnx", "-o", "link.onnx", "--rank", "4"), "MODEL too"),
    (("compress", "model.onnx", "-o", "hard.onnx", "--rank", "4"), "MODEL too"),
    ((*COMPRESS, "--rank", "4", "--report", "small.onnx"), "-o too"),
    ((*COMPRESS, "--rank", "4", "--save-plan", "model.onnx"), "MODEL too"),
    ((*COMPRESS, "--rank", "4", "--data", "calibration.npz", "--output", "calibration.npz"), "--data too"),
    (("compare", "model.onnx"), "B"),
    ((*COMPARE, "--samples", "0"), "--samples"),
    ((*COMPARE, "--batch", "0"), "--batch"),
    ((*COMPARE, "--seed", "-1"), "--seed"),
]


@pytest.fixture
def before(here: Path) -> dict[str, bytes | None]:
    """Adds invalid models and links to a model; returns the contents of the folder."""
    (here / "note.txt").write_text("a text\n")
    (here / "empty.onnx").touch()
    (here / "folder").mkdir()
    (here / "link.onnx").symlink_to("model.onnx")
    (here / "hard.onnx").hardlink_to(here / "model.onnx")
    return contents(here)


def contents(folder: Path) -> dict[str, bytes | None]:
    return {path.name: path.read_bytes() if path.is_file() else None for path in folder.iterdir()}


def is_one_line(text: str) -> bool:
    return text.startswith("error: ") and text.count("\n") == 1 and text.endswith("\n")


@pytest.mark.parametrize(("arguments", "found"), PROBLEMS)
def test_a_problem_is_one_line_and_exit_1(
    run: Command, here: Path, before: dict[str, bytes | None], arguments: tuple[str, ...], found: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (1, "")
    assert is_one_line(done.err), done.err
    assert found in done.err
    assert contents(here) == before


@pytest.mark.parametrize(("arguments", "found"), WRONG_USAGE)
def test_wrong_usage_is_exit_2(
    run: Command, here: Path, before: dict[str, bytes | None], arguments: tuple[str, ...], found: str
) -> None:
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    assert is_one_line(done.err) or not arguments, done.err
    assert found in done.err
    assert contents(here) == before


@pytest.mark.parametrize("output", ["weights.bin", "folder/../weights.bin", "small.onnx"])
@pytest.mark.usefixtures("before")
def test_external_weight_files_are_not_overwritten(run: Command, here: Path, output: str) -> None:
    data = "small.onnx.data" if output == "small.onnx" else "weights.bin"
    model = onnx.load(here / "model.onnx")
    onnx.save(model, here / "big.onnx", save_as_external_data=True, location=data, size_threshold=0)
    before = contents(here)
    commands = [("compress", "big.onnx", "-o", output, "--rank", "4")]
    if data == "weights.bin":
        commands += [
            ("compress", "big.onnx", "--dry-run", "--rank", "4", "--save-plan", output),
            ("info", "big.onnx", "--output", output),
            ("compare", "model.onnx", "big.onnx", "--output", output),
        ]
    for command in commands:
        done = run(*command)
        assert (done.code, done.out) == (2, "")
        assert is_one_line(done.err)
        assert data in done.err
        assert contents(here) == before


def test_control_characters_in_a_path_are_escaped(run: Command) -> None:
    done = run("info", "a\x1b[31m\nb.onnx")
    assert done.code == 1
    assert is_one_line(done.err)
    assert "a\\x1b[31m\\nb.onnx" in done.err


def test_a_warning_is_one_line_and_quiet_hides_it(here: Path) -> None:
    (here / "warns.py").write_text(
        "import warnings\nwarnings.warn('mind\\nthis')\nraise ValueError('no net')\n"
    )
    sys.modules.pop("warns", None)
    program = [sys.executable, "-m", "modelsurgeon_cli", "info", "warns:net", "--shape", "x=1,2"]
    loud = subprocess.run(program, capture_output=True, text=True, cwd=here, check=False)
    assert "warning: mind\\nthis\n" in loud.stderr
    quiet = subprocess.run([*program, "--quiet"], capture_output=True, text=True, cwd=here, check=False)
    assert "warning" not in quiet.stderr
    assert loud.returncode == quiet.returncode == 1


@pytest.mark.skipif(os.geteuid() == 0 and not which("setpriv"), reason="root may read and write everything")
def test_missing_permissions_are_reported(here: Path) -> None:
    as_anyone = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    program = [*as_anyone, sys.executable, "-m", "modelsurgeon_cli"]
    (here / "model.onnx").chmod(0)
    reads = subprocess.run([*program, *INFO], capture_output=True, text=True, cwd=here, check=False)
    (here / "model.onnx").chmod(0o644)
    here.chmod(0o555)
    command = [*program, *COMPRESS, "--rank", "4"]
    writes = subprocess.run(command, capture_output=True, text=True, cwd=here, check=False)
    here.chmod(0o755)
    for done in (reads, writes):
        assert (done.returncode, done.stdout) == (1, "")
        assert is_one_line(done.stderr), done.stderr
        assert "ermission denied" in done.stderr
    assert not (here / "small.onnx").exists()
