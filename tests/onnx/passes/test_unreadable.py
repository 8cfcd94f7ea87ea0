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
from modelsurgeon.onnx.graph.constants import constant_array
from tests.onnx.passes.mixed_nets import SIZE, mixed_net
from tests.zoo import model

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
    rng = np.random.default_rng(0)
    return {
        name: np.asarray(values * (1 + rng.choice([-2e-7, 2e-7], values.shape)), np.float32)
        for name, values in feed.items()
    }


def worst_error(before: list[np.ndarray], after: list[np.ndarray]) -> float:
    """The largest relative L2 error; maps of one position count as vectors."""
    return max(
        float(np.linalg.norm(a.ravel() - b.ravel()) / max(np.linalg.norm(a), 1e-20))
        for a, b in zip(before, after, strict=True)
    )


def check(verb: str, seed: int, *, foreign: float = 0) -> int:
    """Assert that a verb keeps the outputs of one net; the number of layers that it edits."""
    model = mixed_net(seed, rank=2 if verb == "compress" else None, foreign=foreign)
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


# name: nodes that make the weight w of a MatMul (x, w), what is stored, and the opset
STEPS: dict[str, tuple[str, dict[str, np.ndarray], int]] = {
    "a reshape that copies sizes": (
        "w = Reshape (k, s)",
        {"k": np.ones((4, 3, 2), np.float32), "s": np.array([0, -1])},
        17,
    ),
    "a reshape that keeps zeros": (
        "e = Reshape <allowzero = 1> (k, s) w = Concat <axis = 1> (e, m)",
        {"k": np.ones((0, 4)), "s": np.array([4, 0]), "m": np.ones((4, 6))},
        17,
    ),
    "text": ("w = Cast <to = 1> (k)", {"k": np.array([["1.5"] * 6] * 4)}, 17),
    "8 bits": ("h = Cast <to = 17> (k) w = Cast <to = 1> (h)", {"k": np.full((4, 6), 1e5)}, 19),
    "float16 that overflows": (
        "h = Cast <to = 10> (k) w = Cast <to = 1> (h)",
        {"k": np.full((4, 6), 7e4)},
        17,
    ),
}


@pytest.mark.parametrize("verb", ["equalize", "prune", "bn fold", "compress", "fc2conv", "clean"])
@pytest.mark.parametrize("case", STEPS)
def test_a_weight_that_nodes_make_is_read_as_it_runs(case: str, verb: str) -> None:
    body, stored, opset = STEPS[case]
    weights = {n: a.astype(np.float32) if a.dtype == np.float64 else a for n, a in stored.items()}
    net = model(
        f"g (float[3, 4] x) => (float y) {{ {body} h2 = MatMul (x, w) y = Mul (h2, c) }}",
        opset=opset,
        c=np.arange(1, 7, dtype=np.float32),
        **weights,
    )
    done = VERBS[verb](net, compare=False)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    before, after = outputs(net, {"x": x}), outputs(done.model, {"x": x})
    np.testing.assert_allclose(after[0], before[0], rtol=1e-4, atol=1e-4)


# These have no kernel in onnxruntime. name: the nodes, what is stored, the sum of the weight or None
OLD_STEPS: dict[str, tuple[str, np.ndarray, float | None]] = {
    "a reshape to an attribute": ("w = Reshape <shape = [0, 6]> (k)", np.ones((4, 2, 3), np.float32), 24),
    "a type by name": ('w = Cast <to = "FLOAT"> (k)', np.ones((4, 6)), None),
}


@pytest.mark.parametrize("case", OLD_STEPS)
def test_steps_of_old_opsets_are_read_or_left(case: str) -> None:
    body, stored, total = OLD_STEPS[case]
    net = model(f"g (float[3, 4] x) => (float y) {{ {body} y = MatMul (x, w) }}", opset=4, k=stored)
    found = constant_array(net.graph[-1].inputs[1])
    assert (None if found is None else (found.shape, found.sum())) == (total and ((4, 6), total))
    for verb in VERBS.values():
        assert len(verb(net, compare=False).model.graph) >= 1


@pytest.mark.parametrize("verb", VERBS)
def test_operators_of_other_domains_are_none_of_onnx(verb: str) -> None:
    assert sum(check(verb, seed, foreign=0.1) for seed in range(5)) or verb in ("bn sanitize", "compress")


def test_recalibrated_nets_run_whatever_form_constants_have() -> None:
    edited = 0
    for seed in range(6):
        net = mixed_net(seed, foreign=0.1)
        (feed, *_) = feeds(net, seed)
        done = ms.bn.recalibrate(net, data=feed, compare=False)
        assert all(np.isfinite(output).all() for output in outputs(done.model, feed))
        edited += sum(edit.skipped is None for edit in done.edits)
    assert edited


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_operators_of_other_domains_on_many_nets(verb: str) -> None:
    assert sum(check(verb, seed, foreign=0.15) for seed in range(500, 700)) or verb == "bn sanitize"
