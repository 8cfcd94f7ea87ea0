"""Verbs in several threads of one process: equal results, and the process is afterwards as it was."""

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import threadpoolctl
from onnx import numpy_helper, parser

import modelsurgeon as ms

SAMPLES = np.random.default_rng(0).normal(size=(16, 48)).astype(np.float32)


def saved(model: Any, folder: Path, name: str) -> bytes:  # noqa: ANN401
    """The bytes that the model is saved as."""
    ms.save(model, folder / name)
    return (folder / name).read_bytes()


def net() -> onnx.ModelProto:
    """Two layers with random weights."""
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N, 48] x) => (float[N, 48] y) '
        "{ h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"
    )
    draw = np.random.default_rng(1).normal
    weights = [numpy_helper.from_array(draw(size=(48, 48)).astype(np.float32), name) for name in "ab"]
    proto.graph.initializer.extend(weights)
    return proto


def served(folder: Path, worker: int) -> list[object]:
    """One round of requests: the compressed model, its comparison, and two analyses."""
    result = ms.compress(MODEL, macs=0.6, data=SAMPLES)
    compared = ms.compare(MODEL, result.model, data=SAMPLES)
    return [
        saved(result.model, folder, f"{worker}.onnx"),
        compared.as_dict(),
        ms.info(MODEL).as_dict(),
        ms.info(result.model).as_dict(),
    ]


def exported(folder: Path, worker: int) -> list[object]:
    """One request for a module: it is compressed, and exported."""
    torch = pytest.importorskip("torch")
    from modelsurgeon.torch.export import export

    module = torch.nn.Sequential(torch.nn.Linear(48, 32), torch.nn.ReLU(), torch.nn.Linear(32, 9)).eval()
    for number, weight in enumerate(module.parameters()):
        draw = np.random.default_rng(number).normal
        weight.data = torch.from_numpy(draw(size=weight.shape).astype(np.float32))
    result = ms.compress(module, rank=4, data=SAMPLES)
    graph = export(result.model, torch.from_numpy(SAMPLES))
    return [result.as_dict(), saved(graph, folder, f"{worker}.onnx")]


MODEL = net()


def state() -> dict[str, object]:
    """What belongs to the process, not to a call."""
    return {
        "blas": [(each["user_api"], each["num_threads"]) for each in threadpoolctl.threadpool_info()],
        "streams": (sys.stdout, sys.stderr, sys.stdin),
        "logging": (list(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        "torch's log": [list(each.filters) for each in logging.getLogger("torch").handlers],
        "warnings": (list(warnings.filters), warnings.showwarning),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


def rounds(seconds: float) -> Iterator[int]:
    """Numbers of rounds, one at least, until the time is over."""
    end, number = time.monotonic() + seconds, 0
    while number == 0 or time.monotonic() < end:
        yield number
        number += 1


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("request_once", "threads"), [(served, 8), (exported, 3)])
def test_threads_give_equal_results_and_leave_the_process_as_it_was(
    request_once: Any,  # noqa: ANN401
    threads: int,
    seconds: float,
    tmp_path: Path,
) -> None:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        expected, before = request_once(tmp_path, threads), state()

        def work(worker: int) -> list[bool]:
            return [request_once(tmp_path, worker) == expected for _ in rounds(seconds)]

        with ThreadPoolExecutor(threads) as pool:
            equal = list(pool.map(work, range(threads)))
        assert all(map(all, equal))
        assert state() == before
