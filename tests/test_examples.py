"""The examples run on the shipped files and give the results that they describe."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import modelsurgeon as ms

EXAMPLES = Path(__file__).parents[1] / "examples"
DIGITS = EXAMPLES / "digits"
ROW = re.compile(r"^(accuracy|MACs|params|bytes|latency)[ ,][^0-9]*(.*)$", re.MULTILINE)
NUMBER = re.compile(r"[+-]?\d[\d,]*\.?\d*")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of the demo, and its printed output."""
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def rows(text: str) -> dict[str, list[float]]:
    """The numbers in each row of the table, by its first word."""
    table = text.rpartition("What half the work costs")[2].partition("\n\n")[0]
    return {
        name: [float(number.replace(",", "")) for number in NUMBER.findall(rest)]
        for name, rest in ROW.findall(table)
    }


def test_the_demo_halves_the_macs_and_keeps_accuracy(demo: tuple[Path, str]) -> None:
    table = rows(demo[1])
    before, after, change = table["accuracy"]
    assert change == pytest.approx(after - before, abs=0.011)
    assert before > 99
    assert after >= before - 1
    before, after, kept = table["MACs"]
    assert kept == pytest.approx(100 * after / before, abs=0.06)
    assert 45 < kept <= 50
    assert table["params"][2] < 100
    assert table["bytes"][2] < 100


def test_the_demo_reports_the_measured_speedup(demo: tuple[Path, str]) -> None:
    before, low, high, after, least, most, ratio = rows(demo[1])["latency"]
    assert low <= before <= high and least <= after <= most
    assert low / most < ratio < high / least  # median ratio of alternating runs


def test_the_demo_writes_its_files(demo: tuple[Path, str]) -> None:
    folder, text = demo
    assert sorted(path.name for path in folder.iterdir()) == ["compressed.onnx", "plan.json", "report.html"]
    totals = ms.info(folder / "compressed.onnx", dims={"batch": 1}).totals
    assert [totals.macs, totals.params] == [rows(text)["MACs"][1], rows(text)["params"][1]]
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    assert set(plan) < {layer.name for layer in ms.info(DIGITS / "model.onnx").layers}
    report = (folder / "report.html").read_text(encoding="utf-8").replace("<wbr>", "")
    assert all(name in report for name in plan)


def test_the_readme_shows_what_the_demo_prints(demo: tuple[Path, str]) -> None:
    """Counts agree within 5%, as ranks may differ between machines; times are not compared."""
    shown = rows((EXAMPLES.parent / "README.md").read_text(encoding="utf-8"))
    printed = rows(demo[1])
    assert list(shown) == list(printed)
    for name in ("MACs", "params", "bytes"):
        assert shown[name] == pytest.approx(printed[name], rel=0.05)
    assert shown["accuracy"][:2] == pytest.approx(printed["accuracy"][:2], abs=0.5)


def test_calibration_and_test_images_are_disjoint() -> None:
    with np.load(DIGITS / "calibration.npz") as ours, np.load(DIGITS / "test.npz") as theirs:
        assert ours.files == ["image"]
        assert sorted(theirs.files) == ["image", "label"]
        seen = {image.tobytes() for image in ours["image"]}
        assert len(seen) == 256
        assert len(theirs["label"]) == len(theirs["image"]) == 599
        assert not [image for image in theirs["image"] if image.tobytes() in seen]


def test_a_grown_head_can_be_trained(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "grow_head.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    moved, before, after, frozen = done.stdout.splitlines()
    assert float(moved.split()[-1]) < 1e-4
    assert float(after.split()[-1].rstrip("%")) > 90 > float(before.split()[-1].rstrip("%"))
    assert frozen == "held fixed: 0.bias, 0.weight, 3.bias, 3.weight"


@pytest.mark.slow
def test_recalibration_restores_accuracy_within_half_a_point() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "heal_statistics.py")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    trained, spoilt, healed = (float(line.split()[-1].rstrip("%")) for line in done.stdout.splitlines())
    assert spoilt < 50
    assert healed >= trained - 0.5


@pytest.mark.slow
def test_training_writes_what_the_demo_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One epoch: the script runs, its data equal the shipped data, and the nets have equal layers."""
    spec = importlib.util.spec_from_file_location("train_digits", EXAMPLES / "train_digits.py")
    assert spec and spec.loader
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(tmp_path, epochs=1)
    assert "accuracy on 599 test images" in capsys.readouterr().out
    for name in ("calibration.npz", "test.npz"):
        with np.load(tmp_path / name) as made, np.load(DIGITS / name) as shipped:
            assert all(np.array_equal(made[key], shipped[key]) for key in shipped.files)
    made, shipped = (
        [(layer.name, layer.op, layer.macs) for layer in ms.info(folder / "model.onnx").layers]
        for folder in (tmp_path, DIGITS)
    )
    assert made == shipped
