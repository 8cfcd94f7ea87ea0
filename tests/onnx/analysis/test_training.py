"""Training memory: kept activations, compared with what torch.autograd saves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn
from torch.nn import functional

from modelsurgeon.inspection.training_memory import TrainingMemory
from modelsurgeon.onnx.info import analyze
from tests import zoo

Net = Callable[[torch.Tensor], torch.Tensor]


def plan(built: ir.Model) -> TrainingMemory:
    found = analyze(built, training=True)
    section = found.sections["training"]
    assert isinstance(section, TrainingMemory)
    assert section.as_dict()["activations"] == sum(one.bytes for one in section.kept)
    return section


def saved(run: Callable[[], torch.Tensor], without: list[torch.Tensor]) -> int:
    """Bytes of the storages that autograd saves, without those of weights and statistics."""
    storages: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)  # so that its storage isn't reused
        return tensor

    held: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run()
    assert output.requires_grad
    known = {tensor.untyped_storage().data_ptr() for tensor in without}
    return sum(size for place, size in storages.items() if place not in known)


ELEMENTWISE = {
    "Relu (a)": torch.relu,
    "Sigmoid (a)": torch.sigmoid,
    "Tanh (a)": torch.tanh,
    "Exp (a)": torch.exp,
    "Gelu (a)": functional.gelu,
    "HardSwish (a)": functional.hardswish,
    "Elu (a)": functional.elu,
    "LeakyRelu (a)": functional.leaky_relu,
    "Softmax (a)": lambda a: torch.softmax(a, -1),
    "LogSoftmax (a)": lambda a: torch.log_softmax(a, -1),
    "Erf (a)": torch.erf,
    "Log (a)": torch.log,
    "Sqrt (a)": torch.sqrt,
    "Reciprocal (a)": torch.reciprocal,
    "Neg (a)": torch.neg,
    "Abs (a)": torch.abs,
    "Softplus (a)": functional.softplus,
    "Mish (a)": functional.mish,
    "Add (a, x)": lambda a, x: a + x,
    "Sub (a, a)": lambda a: a - a,
    "Mul (a, a)": lambda a: a * a,
    "Mul (a, x)": lambda a, x: a * x,
    "Div (x, a)": lambda a, x: x / a,
    "Div (a, x)": lambda a, x: a / x,
    "Concat <axis = 0> (a, a)": lambda a: torch.cat([a, a]),
    "Transpose <perm = [1, 0]> (a)": lambda a: a.T,
    "ReduceSum (a)": lambda a: a.sum(),
    "ReduceMean (a)": lambda a: a.mean(),
    "Max (a, x)": lambda a, x: torch.maximum(a, x),
    "MatMul (a, a)": lambda a: a @ a,
    "Where (c, a, x)": lambda a, x: torch.where(x > 0, a, x),
}


@pytest.mark.parametrize("text", ELEMENTWISE)
def test_an_operator_keeps_what_autograd_saves(text: str) -> None:
    """The operator follows a MatMul, which keeps x, so its input `a` requires a gradient."""
    built = zoo.model(
        f"g (float[8, 8] x, bool[8, 8] c) => (float y) {{ a = MatMul (x, w) y = {text} }}",
        w=zoo.ones(8, 8),
        opset=22,
    )
    function = ELEMENTWISE[text]
    x, w = torch.rand(8, 8) + 1, torch.rand(8, 8, requires_grad=True)
    needs_x = text.count(" x)") or "(x," in text
    found = saved(lambda: function(x @ w, x) if needs_x or "Where" in text else function(x @ w), [w])
    assert plan(built).activations == found


class Convolutional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.second, self.last = nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = functional.max_pool2d(torch.relu(self.norm(self.first(x))), 2)
        h = torch.relu(self.second(h) + h)
        return self.last(functional.adaptive_avg_pool2d(h, 1).flatten(1))


def test_a_residual_net_keeps_what_autograd_saves() -> None:
    net = Convolutional().train()
    x = torch.rand(4, 3, 16, 16)
    text = """
        g (float[4, 3, 16, 16] x) => (float y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            n = BatchNormalization (a, s, t, m, v)
            r = Relu (n)
            p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
            d = Conv <pads = [1, 1, 1, 1]> (p, w2, b2)
            e = Add (d, p)
            h = Relu (e)
            q = GlobalAveragePool (h)
            f = Flatten (q)
            y = Gemm <transB = 1> (f, w3, b3)
        }
    """
    arrays = {key: value.detach().numpy() for key, value in net.state_dict().items()}
    names = {
        "w1": "first.weight",
        "b1": "first.bias",
        "w2": "second.weight",
        "b2": "second.bias",
        "s": "norm.weight",
        "t": "norm.bias",
        "m": "norm.running_mean",
        "v": "norm.running_var",
        "w3": "last.weight",
        "b3": "last.bias",
    }
    found = plan(zoo.model(text, **{key: arrays[name] for key, name in names.items()}))
    assert found.activations == saved(lambda: net(x), [*net.parameters(), *net.buffers()])
    trained = sum(weight.numel() for weight in net.parameters())
    assert (found.weights.trained, found.weights.gradients) == (trained, 4 * trained)
    assert found.weights.stored == 4 * (trained + 16)
    assert found.total("adam") - found.total("sgd-momentum") == 4 * trained


def test_attention_keeps_what_autograd_saves() -> None:
    """Attention as MatMul and Softmax, as in most exports; scores are scaled by a constant."""
    text = """
        g (float[16, 8] x) => (float y) {
            q = MatMul (x, wq)
            k = MatMul (x, wk)
            v = MatMul (x, wv)
            t = Transpose <perm = [1, 0]> (k)
            s = MatMul (q, t)
            z = Div (s, scale)
            p = Softmax (z)
            o = MatMul (p, v)
            y = MatMul (o, wo)
        }
    """
    weights = {name: zoo.ones(8, 8) for name in ("wq", "wk", "wv", "wo")}
    found = plan(zoo.model(text, **weights, scale=np.float32(2)))
    wq, wk, wv, wo = (torch.rand(8, 8, requires_grad=True) for _ in range(4))
    x = torch.rand(16, 8)

    def run() -> torch.Tensor:
        scores = (x @ wq) @ (x @ wk).T / 2
        return torch.softmax(scores, -1) @ (x @ wv) @ wo

    assert found.activations == saved(run, [wq, wk, wv, wo])


def test_a_tensor_that_two_nodes_need_is_kept_once() -> None:
    built = zoo.model(
        "g (float[4] x) => (float y) { a = Mul (x, w) b = Relu (a) c = Sigmoid (b) y = Mul (b, c) }",
        w=zoo.ones(4),
    )
    by = {one.name: one.by for one in plan(built).kept}
    assert by == {"x": ("a",), "b": ("b", "y"), "c": ("c", "y")}


def test_a_view_keeps_its_base_tensor() -> None:
    text = """
        g (float[2, 8] x) => (float y) {
            a = MatMul (x, w) r = Relu (a) f = Flatten (r) u, v = Split <axis = 1> (f) y = MatMul (u, w2)
        }
    """
    kept = plan(zoo.model(text, w=zoo.ones(8, 8), w2=zoo.ones(4, 3))).kept
    assert {one.name: one.bytes for one in kept} == {"x": 64, "r": 64}


def test_nodes_without_a_gradient_keep_nothing() -> None:
    built = zoo.model(
        "g (float[4] x) => (float y) { a = Exp (x) b = Relu (a) y = Mul (b, w) }", w=zoo.ones(4)
    )
    assert [one.name for one in plan(built).kept] == ["b"]


def test_a_loop_keeps_each_iteration() -> None:
    assert [(one.name, one.bytes) for one in plan(zoo.loop()).kept] == [("s", 32)]
    body = "h = Relu (s) z = MatMul (h, w)"
    assert [(one.name, one.bytes) for one in plan(zoo.loop(body=body)).kept] == [("h", 5 * 32)]


def test_only_the_counted_branch_keeps_tensors() -> None:
    assert [(one.name, one.bytes) for one in plan(zoo.branches()).kept] == [("x", 32), ("h", 40)]


def test_operators_without_a_rule_are_named() -> None:
    built = zoo.model("g (float[4] x) => (float[4] y) { a = Mul (x, w) y = Hardmax (a) }", w=zoo.ones(4))
    found = plan(built)
    assert [one.name for one in found.kept] == ["x", "a", "y"]
    assert found.notes == ["Hardmax assumed to save all inputs and outputs, as there is no rule for them"]


def test_half_precision_has_master_weights() -> None:
    built = zoo.model(
        "g (float16[2, 4] x) => (float16 y) { y = MatMul (x, w) }", w=np.ones((4, 3), np.float16)
    )
    weights = plan(built).weights
    assert (weights.stored, weights.gradients, weights.master, weights.state) == (24, 24, 48, 48)


def test_quantized_weights_are_not_trained() -> None:
    found = plan(zoo.quantized())
    assert found.weights.trained == 0
    assert not found.kept
    assert found.notes == ["2 quantized weights aren't trained"]


def test_a_chain_is_recomputed_in_segments() -> None:
    """16 MatMuls in sequence, each keeps its input; the optimum is about 2 sqrt(16) tensors."""
    text = " ".join(f"a{n + 1} = MatMul (a{n}, w)" for n in range(16))
    built = zoo.model(f"g (float[1, 8] a0) => (float a16) {{ {text} }}", w=zoo.ones(8, 8))
    found = plan(built)
    assert found.activations == 16 * 32
    again = found.recomputation
    assert again is not None
    # kept: the input and three boundaries; largest: the tensors between two boundaries
    assert (len(again.boundaries), again.kept, again.largest) == (3, 4 * 32, 3 * 32)
    assert found.total("adam", recompute=True) == found.total("adam") - 9 * 32
    assert again.macs == int(again.boundaries[-1][1:]) * 64


def test_recomputation_of_parallel_chains() -> None:
    """Two parallel chains join only at the end."""
    one, two = (" ".join(f"{c}{n + 1} = MatMul ({c}{n}, w)" for n in range(9)) for c in "ab")
    text = f"g (float[1, 8] a0, float[1, 8] b0) => (float y) {{ {one} {two} y = Add (a9, b9) }}"
    found = plan(zoo.model(text, w=zoo.ones(8, 8)))
    assert found.recomputation is None or found.recomputation.activations < found.activations
    tables = found.tables()
    assert tables[0].total is not None
    assert tables[0].total["sgd-momentum"] == found.total("sgd-momentum")


def test_a_mask_that_every_block_needs_is_kept() -> None:
    text = " ".join(f"b{n} = Add (a{n}, m) a{n + 1} = MatMul (b{n}, w)" for n in range(16))
    built = zoo.model(
        f"g (float[1, 8] a0, float[1, 8] i) => (float a16) {{ m = Neg (i) {text} }}", w=zoo.ones(8, 8)
    )
    again = plan(built).recomputation
    assert again is not None
    assert again.kept == (len(again.boundaries) + 2) * 32  # b0, which depends on no weight, and m


@pytest.mark.parametrize("form", ["text", "csv", "markdown", "html"])
def test_a_model_with_nothing_to_train_has_tables(form: str) -> None:
    section = plan(zoo.model("g (float[2, 10] x) => (float y) { y = Softmax (x) }"))
    assert section.total("adam") == 0
    sums, _ = section.tables()
    assert sums.rows == []
    assert "Memory to train" in sums.markdown()
    assert "0" in getattr(sums, form)() or form == "csv"
