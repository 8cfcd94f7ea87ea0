"""No verb relies on the comparison: outputs stay the same whatever form the constants have, unchecked.

The tests compare by themselves, with onnxruntime's optimizations off; graph inputs with default values are
left out, and then given other values than their defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import modelsurgeon as ms
from tests.onnx.passes.mixed_nets import SIZE, mixed_net

EXACT = 1e-5
CUT = 2e-3  # compress on matrices of the rank asked for, some of them rounded to float16


def stolen(model: ir.Model, **how: object) -> ms.Operation:
    """Steal from a model into itself."""
    return ms.steal(model, model, **how)  # type: ignore[arg-type]


VERBS: dict[str, Callable[..., ms.Operation]] = {
    "bn fold": ms.bn.fold,
    "bn freeze": ms.bn.freeze,
    "bn freeze to norm": partial(ms.bn.freeze, form="batchnorm"),
    "bn sanitize": ms.bn.sanitize,
    "clean": ms.clean,
    "equalize": ms.equalize,
    "prune": ms.prune,
    "fc2conv": ms.fc2conv,
    "reverse": partial(ms.fc2conv, reverse=True),
    "im2col": partial(ms.fc2conv, reverse=True, im2col=True),
    "pool2conv": ms.pool2conv,
    "steal": stolen,
    "compress": partial(ms.compress, rank=2, method="svd"),
}


def feeds(model: ir.Model, seed: int) -> list[dict[str, np.ndarray]]:
    """The input alone, and with other values for all the inputs that have defaults."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2, 3, SIZE, SIZE)).astype(np.float32)
    others = {
        str(value.name): np.asarray(0.5 + rng.random(value.shape.numpy()), np.float32)
        for value in model.graph.inputs
        if value.name != "x"
    }
    return [{"x": x}, {"x": x, **others}] if others else [{"x": x}]


def outputs(model: ir.Model, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, feed))


def moved(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The feed with other roundings of its numbers: what that changes is the net's own noise."""
    return {name: np.asarray(values * np.float32(1 + 2e-7)) for name, values in feed.items()}


def worst_error(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """The largest relative L2 error; maps of one position count as vectors."""
    return max(
        float(np.linalg.norm(a.ravel() - b.ravel()) / max(np.linalg.norm(a), 1e-20))
        for a, b in zip(before, after, strict=True)
    )


def check(verb: str, seed: int) -> int:
    """Assert that a verb keeps the outputs of one net; the number of layers that it edits."""
    model = mixed_net(seed, rank=2 if verb == "compress" else None)
    done = VERBS[verb](model, compare=False)
    for feed in feeds(model, seed):
        before = outputs(model, feed)
        error, noise = (
            worst_error(before, outputs(done.model, feed)),
            worst_error(before, outputs(model, moved(feed))),
        )
        assert error < max(CUT if verb == "compress" else EXACT, 10 * noise), (
            f"{verb} on mixed_net({seed}): {error}"
        )
    assert all(edit.skipped is None or edit.skipped for edit in done.edits)
    return sum(edit.skipped is None for edit in done.edits)


@pytest.mark.parametrize("verb", VERBS)
def test_outputs_unchanged_whatever_form_constants_have(verb: str) -> None:
    edited = sum(check(verb, seed) for seed in range(12))
    assert edited or verb == "bn sanitize"


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_outputs_unchanged_on_many_nets(verb: str) -> None:
    assert sum(check(verb, seed) for seed in range(100, 500)) or verb == "bn sanitize"
