"""The `modelsurgeon compress` command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from tests.cli.conftest import Command, small_net

COMPRESS = ("compress", "model.onnx", "-o", "small.onnx")
QUICK = (*COMPRESS, "--no-compare")


def result(run: Command, *arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--format", "json")
    assert (done.code, done.err) == (0, "")
    data: dict[str, Any] = json.loads(done.out)
    return data


@pytest.mark.parametrize("rank", ["evbmf", "50%"])
def test_evbmf_and_percent_choose_ranks_per_layer(run: Command, rank: str) -> None:
    data = result(run, *QUICK, "--rank", rank, "--dry-run", "--method", "svd")
    edits = [e for e in data["edits"] if e["skipped"] is None]
    assert all(e["macs_after"] < e["macs_before"] for e in edits)
    reasons = {e["skipped"] for e in data["edits"]}
    assert edits or any("evbmf" in str(reason) for reason in reasons)
    if rank == "50%":
        assert edits and all(2 * e["macs_after"] <= e["macs_before"] for e in edits)


@pytest.mark.parametrize("rank", ["0", "abc", "0%", "100%", "-3", "2.5"])
def test_an_invalid_rank_is_wrong_usage(run: Command, rank: str) -> None:
    done = run(*QUICK, f"--rank={rank}")
    assert done.code == 2 and "rank" in done.err


def test_a_rank_makes_a_smaller_model_that_runs(run: Command, here: Path) -> None:
    data = result(run, *COMPRESS, "--rank", "4", "--data", "calibration.npz")
    assert data["after"]["macs"] < data["before"]["macs"]
    assert data["after"]["params"] < data["before"]["params"]
    assert {edit["layer"] for edit in data["edits"]} == {"conv1", "conv2", "fc"}
    assert data["comparison"]["inputs"] == "data"
    assert data["comparison"]["outputs"][0]["rel_l2"] < 0.2
    onnxruntime.InferenceSession(here / "small.onnx")
    info = json.loads(run("info", "small.onnx", "--dim", "N=1", "--format", "json").out)
    assert info["totals"]["params"] == data["after"]["params"]


@pytest.mark.parametrize("budget", [("--energy", "0.9"), ("--macs", "0.7"), ("--params", "0.7")])
@pytest.mark.parametrize("method", ["auto", "svd", "spatial-svd", "tucker2", "cp"])
def test_every_budget_and_method(run: Command, budget: tuple[str, str], method: str) -> None:
    data = result(run, *QUICK, *budget, "--method", method)
    if budget[0] in ("--macs", "--params"):
        key = budget[0][2:]
        assert data["after"][key] <= 0.7 * data["before"][key]
    used = {edit["method"] for edit in data["edits"] if not edit["skipped"]}
    assert used
    assert method == "auto" or used == {method}


def test_a_plan_can_be_saved_and_replayed(run: Command, here: Path) -> None:
    first = result(run, *QUICK, "--rank", "4", "--save-plan", "plan.json")
    assert json.loads((here / "plan.json").read_text()) == first["plan"]
    (here / "small.onnx").unlink()
    again = result(run, *QUICK, "--plan", "plan.json")
    assert again["plan"] == first["plan"]
    assert again["after"]["params"] == first["after"]["params"]


def test_only_and_skip_choose_layers(run: Command) -> None:
    data = result(run, *QUICK, "--rank", "4", "--only", "conv*", "--skip", "conv1")
    assert [edit["layer"] for edit in data["edits"] if not edit["skipped"]] == ["conv2"]
    assert all(edit["skipped"] for edit in data["edits"] if edit["layer"] in ("conv1", "fc"))


def test_a_dry_run_writes_no_model(run: Command, here: Path) -> None:
    data = result(run, *COMPRESS, "--rank", "4", "--dry-run", "--save-plan", "plan.json")
    assert data["after"]["macs"] < data["before"]["macs"]
    assert not (here / "small.onnx").exists()
    assert (here / "plan.json").exists()
    without_out = run("compress", "model.onnx", "--rank", "4", "--dry-run")
    assert without_out.code == 0


def test_a_missed_tolerance_writes_nothing(run: Command, here: Path) -> None:
    before = set(here.iterdir())
    options = ("--tolerance", "1e-6", "--save-plan", "plan.json", "--report", "report.html")
    done = run(*COMPRESS, "--rank", "1", *options)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 1
    assert "1e-06" in done.err
    assert set(here.iterdir()) == before


def test_noise_is_reported(run: Command) -> None:
    assert "noise" in run(*COMPRESS, "--rank", "4").out


def test_no_compare_is_reported(run: Command) -> None:
    done = run(*COMPRESS, "--rank", "4", "--no-compare")
    assert done.code == 0
    assert "not compared" in done.out


def test_the_report_is_an_html_page(run: Command, here: Path) -> None:
    assert run(*COMPRESS, "--rank", "4", "--report", "report.html").code == 0
    page = (here / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert all(name in page for name in ("conv1", "conv2", "fc"))


def test_an_older_output_is_replaced_and_the_input_is_not_touched(run: Command, here: Path) -> None:
    before = (here / "model.onnx").read_bytes()
    (here / "small.onnx").write_text("old")
    assert run(*QUICK, "--rank", "4").code == 0
    onnx.load(here / "small.onnx")
    assert (here / "model.onnx").read_bytes() == before


def test_equal_inputs_give_equal_bytes(run: Command, here: Path) -> None:
    run(*QUICK, "--rank", "4")
    first = (here / "small.onnx").read_bytes()
    run(*QUICK, "--rank", "4")
    assert (here / "small.onnx").read_bytes() == first


def test_missing_cuda_is_an_error_not_a_cpu_run(run: Command, here: Path) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the provider")
    done = run(*COMPRESS, "--rank", "4", "--provider", "cuda")
    assert done.code == 1
    assert "cuda" in done.err.lower()
    assert not (here / "small.onnx").exists()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Subprocesses handle SIGINT even if the test run ignores it, as in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_exits_130_and_writes_nothing(here: Path) -> None:
    onnx.save(small_net(channels=640), here / "large.onnx")
    before = set(here.iterdir())
    program = [sys.executable, "-m", "modelsurgeon_cli", "compress", "large.onnx", "-o", "small.onnx"]
    running = subprocess.Popen(
        [*program, "--macs", "0.3", "--method", "cp"],
        cwd=here,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        time.sleep(2.5)
        assert running.poll() is None, running.communicate()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert set(here.iterdir()) == before


def test_a_sweep_writes_a_model_and_a_plan_per_fraction(run: Command, here: Path) -> None:
    before = (here / "model.onnx").read_bytes()
    data = result(
        run, *COMPRESS, "--sweep", "0.8,0.5", "--data", "calibration.npz", "--save-plan", "plan.json"
    )
    assert [point["file"] for point in data["points"]] == ["small-0.80.onnx", "small-0.50.onnx"]
    assert not (here / "small.onnx").exists()
    for point in data["points"]:
        macs = json.loads(run("info", point["file"], "--dim", "N=1", "--format", "json").out)["totals"][
            "macs"
        ]
        assert macs == point["after"]["macs"] <= point["fraction"] * point["before"]["macs"]
        plan = json.loads((here / f"plan-{point['fraction']:.2f}.json").read_text())
        assert plan == point["plan"]
    assert (here / "model.onnx").read_bytes() == before


@pytest.mark.parametrize("form", ["csv", "markdown", "html", "table"])
def test_a_sweep_is_printed_in_every_format(run: Command, here: Path, form: str) -> None:
    done = run(
        "compress", "model.onnx", "--sweep", "0.8,0.5", "--dry-run", "--format", form, "--report", "r.html"
    )
    assert (done.code, done.err) == (0, "")
    assert "80.0 %" in done.out or "0.8," in done.out
    assert (here / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_no_point_of_a_sweep_may_replace_the_input(run: Command, here: Path) -> None:
    (here / "model.onnx").rename(here / "small-0.50.onnx")
    done = run("compress", "small-0.50.onnx", "-o", "small.onnx", "--sweep", "0.9,0.5")
    assert (done.code, done.out) == (2, "")
    assert "-o at 0.5, small-0.50.onnx is the file of MODEL too" in done.err


@pytest.mark.parametrize("shares", ["", "0.5,", "0,0.5", "0.5,0.5", "0.5,x", "1.5", "nan"])
def test_an_invalid_sweep_is_wrong_usage(run: Command, shares: str) -> None:
    done = run(*COMPRESS, "--sweep", shares)
    assert done.code == 2 and "--sweep" in done.err


def test_a_sweep_that_misses_its_tolerance_writes_nothing(run: Command, here: Path) -> None:
    before = set(here.iterdir())
    done = run(*COMPRESS, "--sweep", "0.9,0.5", "--tolerance", "1e-6")
    assert (done.code, done.out) == (1, "")
    assert set(here.iterdir()) == before


@pytest.mark.parametrize("budget", [("--macs", "0.6"), ("--sweep", "0.8,0.6")])
def test_equal_seed_and_samples_give_equal_bytes_in_another_process(
    here: Path, budget: tuple[str, str]
) -> None:
    program = [sys.executable, "-m", "modelsurgeon_cli", *COMPRESS, *budget, "--data", "calibration.npz"]
    environment = {**os.environ, "MODELSURGEON_CACHE": str(here / "cache")}  # timings are reused
    found = []
    for _ in range(2):
        subprocess.run(program, cwd=here, env=environment, check=True, capture_output=True)
        made = sorted(here.glob("small*.onnx"))
        found.append({path.name: path.read_bytes() for path in made})
        for path in made:
            path.unlink()
    assert found[0] == found[1] and found[0]
