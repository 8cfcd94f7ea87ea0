"""Rules about numbers in weights: a finding where they are broken, none where zeros or infinity are usual."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.check import check
from tests import zoo
from tests.onnx.lint.nets import found, one

RNG = np.random.default_rng(1)
NORM = "y = BatchNormalization (x, scale, shift, mean, var)"
RULES = ("not-finite", "batchnorm-broken", "zero-weight")


def weight(*shape: int, **odd: float) -> np.ndarray:
    """Random numbers; `odd` replaces the first of them."""
    array = RNG.normal(size=shape).astype(np.float32)
    for number in odd.values():
        array.flat[0] = number
    return array


def norm(**changed: np.ndarray) -> ir.Model:
    parts = {name: zoo.ones(4) for name in ("scale", "shift", "mean", "var")}
    return one(NORM, "1, 4, 3, 3", **(parts | changed))


def rules(model: ir.Model) -> set[str]:
    """The rules of this file that find something."""
    return {finding.rule for rule in RULES for finding in found(model, rule)}


LAYERS = {
    "MatMul": ("y = MatMul (x, w)", "2, 4", (4, 4)),
    "Gemm": ("y = Gemm <transB = 1> (x, w)", "2, 4", (3, 4)),
    "Conv": ("y = Conv (x, w)", "1, 4, 5, 5", (3, 4, 3, 3)),
    "ConvTranspose": ("y = ConvTranspose (x, w)", "1, 4, 5, 5", (4, 3, 3, 3)),
    "transposed": ("t = Transpose (w) y = MatMul (x, t)", "2, 4", (4, 4)),
    "LayerNormalization": ("y = LayerNormalization (x, w)", "2, 4", (4,)),
    "InstanceNormalization": ("y = InstanceNormalization (x, w, b)", "1, 4, 5, 5", (4,)),
    "RNN": ("y = RNN <hidden_size = 4> (x, w, r)", "3, 2, 4", (1, 4, 4)),
    "branch": ("c = Constant <value = bool {1}> () y = If (c) <"
               "then_branch = t () => (float p) { p = MatMul (x, w) },"
               " else_branch = e () => (float q) { q = Neg (x) }>", "2, 4", (4, 4)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_broken_weights_of_layers(name: str) -> None:
    body, shape, size = LAYERS[name]
    others = {"b": np.zeros(4, np.float32), "r": weight(1, 4, 4)}
    assert not rules(one(body, shape, w=weight(*size), **others))
    for number in (np.nan, np.inf, -np.inf):
        assert rules(one(body, shape, w=weight(*size, odd=number), **others)) == {"not-finite"}
    assert rules(one(body, shape, w=np.zeros(size, np.float32), **others)) == {"zero-weight"}


def test_an_embedding_of_zeros() -> None:
    text = "g (int64[2] i) => (float y) { y = Gather (w, i) }"
    assert not rules(zoo.model(text, w=weight(3, 4)))
    assert rules(zoo.model(text, w=np.zeros((3, 4), np.float32))) == {"zero-weight"}


def test_the_finding_counts_and_names() -> None:
    [entry] = found(one("y = MatMul (x, w)", "2, 4", w=weight(4, 4, odd=np.nan)), "not-finite")
    assert (entry.severity, entry.layer) == ("error", "y")
    assert entry.message == "1 of 16 numbers of its weight 'w' are NaN"


@pytest.mark.parametrize(
    "body",
    [
        "y = Gemm (x, w, zeros)",
        "y = Add (x, mask)",  # a mask is infinite by design
        "y = PRelu (x, zeros)",
        "m = MatMul (x, w) y = Add (m, zeros)",
        "y = Where (flags, x, mask)",
    ],
)
def test_usual_zeros_and_infinities(body: str) -> None:
    constants = {"w": weight(4, 4), "zeros": np.zeros(4, np.float32), "flags": np.ones((4, 4), np.bool_)}
    mask = np.where(np.tri(4) > 0, 0, -np.inf).astype(np.float32)
    assert not rules(one(body, "4, 4", mask=mask, **constants))


def test_nan_in_a_mask() -> None:
    assert rules(one("y = Add (x, w)", "4, 4", w=weight(4, 4, odd=np.nan))) == {"not-finite"}


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"var": np.float32([1, -1e-6, 1, -2])}, "batchnorm-broken"),
        ({"var": np.float32([1, np.nan, 1, 1])}, "batchnorm-broken"),
        ({"mean": np.float32([1, np.inf, 1, 1])}, "batchnorm-broken"),
        ({"scale": np.zeros(4, np.float32)}, "zero-weight"),
        ({"scale": np.float32([1, np.nan, 1, 1])}, "not-finite"),
        ({"shift": np.zeros(4, np.float32), "mean": np.zeros(4, np.float32)}, None),
        ({"var": np.zeros(4, np.float32), "scale": np.float32([0, 1, 1, 1])}, None),
    ],
)
def test_parameters_of_batch_norm(changed: dict[str, np.ndarray], rule: str | None) -> None:
    assert rules(norm(**changed)) == ({rule} if rule else set())


def test_bn_sanitize_mends_what_is_broken() -> None:
    broken = norm(var=np.float32([1, -1, np.nan, 1]))
    [entry] = found(broken, "batchnorm-broken", weights=True)
    assert entry.message == "its variance is below zero in 1 and NaN or infinite in 1 of 4 channels"
    assert "bn sanitize" in entry.advice
    mended = ms.bn.sanitize(broken, compare=False).model
    assert not rules(mended)


def test_quantized_zeros() -> None:
    built = zoo.quantized()
    assert not rules(built)
    built.graph.initializers["wq"].const_value = ir.tensor(np.zeros((4, 3), np.int8), name="wq")
    assert rules(built) == {"zero-weight"}


def test_half_precision_is_read() -> None:
    built = zoo.model(
        "g (float16[2, 4] x) => (float16 y) { y = MatMul (x, w) }", w=weight(4, 4, odd=np.inf).astype("f2")
    )
    assert rules(built) == {"not-finite"}


def test_no_weight_is_read_unless_asked() -> None:
    """All rules without --read-weights run, and that of batch norms finds what to fold."""
    model = one("c = Conv (x, w) y = BatchNormalization (c, b, b, b, b)", "1, 64, 8, 8", b=zoo.ones(64))
    read: list[str] = []

    def numbers() -> ir.Tensor:
        read.append("w")
        return ir.Tensor(weight(64, 64, 3, 3))

    stored = ir.LazyTensor(numbers, ir.DataType.FLOAT, ir.Shape([64, 64, 3, 3]), name="w")
    value = ir.Value(name="w", shape=stored.shape, type=ir.TensorType(stored.dtype), const_value=stored)
    model.graph.initializers.add(value)
    model.graph[0].replace_input_with(1, value)
    assert {finding.rule for finding in check(model).findings} == {"bn-not-folded"}
    assert not read
    check(model, weights=True)
    assert read
