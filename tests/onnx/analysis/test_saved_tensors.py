"""Tensors saved for backward: which of its inputs and outputs torch.autograd keeps, for every operator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch.nn import functional

from modelsurgeon.onnx.analysis.saved_tensors import ExtraTensor, saved_for_backward
from modelsurgeon.onnx.shapes import bound
from tests import zoo

Function = Callable[..., torch.Tensor]

ELEMENTWISE: dict[str, Function] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Celu": functional.celu,
    "Clip": lambda x: torch.clamp(x, 0, 1),
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Elu": functional.elu,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Gelu": functional.gelu,
    'Gelu <approximate = "tanh">': lambda x: functional.gelu(x, approximate="tanh"),
    "HardSigmoid": functional.hardsigmoid,
    "HardSwish": functional.hardswish,
    "LeakyRelu": functional.leaky_relu,
    "Log": torch.log,
    "LogSoftmax": lambda x: functional.log_softmax(x, -1),
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Selu": functional.selu,
    "Shrink": functional.hardshrink,
    "Shrink <bias = 0.5>": functional.softshrink,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softmax": lambda x: functional.softmax(x, -1),
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Swish": functional.silu,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "ThresholdedRelu": lambda x: functional.threshold(x, 1.0, 0.0),
    'Pad <mode = "reflect">': lambda x: functional.pad(x, (0, 0, 1, 1, 1, 1), mode="reflect"),
    "Pad": lambda x: functional.pad(x, (0, 0, 1, 1, 1, 1)),
    "LayerNormalization": lambda x: functional.layer_norm(x, (4,)),
    "InstanceNormalization": functional.instance_norm,
    "AveragePool <kernel_shape = [2, 2]>": lambda x: functional.avg_pool2d(x, 2, stride=1),
    "MaxPool <kernel_shape = [2, 2]>": lambda x: functional.max_pool2d(x, 2, stride=1),
    "GlobalAveragePool": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "GlobalMaxPool": lambda x: functional.adaptive_max_pool2d(x, 1),
    "Transpose": lambda x: x.permute(3, 2, 1, 0),
}
REDUCTIONS: dict[str, Function] = {
    "ReduceL1": lambda x: x.norm(1, 1),
    "ReduceL2": lambda x: x.norm(2, 1),
    "ReduceLogSumExp": lambda x: x.logsumexp(1),
    "ReduceMax": lambda x: x.amax(1),
    "ReduceMean": lambda x: x.mean(1),
    "ReduceMin": lambda x: x.amin(1),
    "ReduceProd": lambda x: x.prod(1),
    "ReduceSum": lambda x: x.sum(1),
    "ReduceSumSquare": lambda x: (x * x).sum(1),
}
BINARY: dict[str, Function] = {
    "Add": torch.add,
    "Div": torch.div,
    "MatMul": torch.matmul,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mod <fmod = 1>": torch.fmod,
    "Mul": torch.mul,
    "Pow": torch.pow,
    "PRelu": lambda x, y: torch.ops.aten._prelu_kernel(x, y),
    "Sub": torch.sub,
}
MORE_INPUTS = {"Pad": ", pads", "LayerNormalization": ", four", "InstanceNormalization": ", three, three"}


def saved_by_torch(run: Function, *inputs: torch.Tensor) -> Counter[str]:
    """What autograd saves: inputs by number, the output, and the number of elements of other tensors."""
    held: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = run(*inputs)
    places = {tensor.data_ptr(): f"input {number}" for number, tensor in enumerate(inputs)}
    places = {output.data_ptr(): "output"} | places
    found = {places.get(tensor.data_ptr(), "more"): tensor for tensor in held}
    more = {tensor.data_ptr(): tensor.numel() for tensor in held if tensor.data_ptr() not in places}
    return Counter(name for name in found if name != "more") + Counter(more=sum(more.values()))


def saved_here(op: str, shape: str, count: int) -> Counter[str]:
    """What the rules say, in the same words."""
    name = op.split(" ")[0]
    inputs = ", ".join("xyz"[:count]) + MORE_INPUTS.get(name, "")
    axes = ", axes" if name.startswith("Reduce") else ""
    text = f"g (float[{shape}] x, float[{shape}] y) => (float z) {{ z = {op} ({inputs}{axes}) }}"
    constants = {"axes": [1], "pads": [0, 1, 1, 0, 0, 1, 1, 0], "four": zoo.ones(4), "three": zoo.ones(3)}
    used = {key: value for key, value in constants.items() if f", {key}" in text}
    model = bound(zoo.model(text, opset=24, version=10, **used))
    [node] = model.graph
    found: Counter[str] = Counter()
    for saved in saved_for_backward(node, lambda value: value is not None and not value.is_initializer()):
        if isinstance(saved, ExtraTensor):
            found["more"] += int(torch.Size(saved.shape).numel())
        elif not saved.is_initializer():
            found["output" if saved is node.outputs[0] else f"input {list(node.inputs).index(saved)}"] = 1
    return found


def numbers(*shape: int, first: float = 0.1) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 0.8 + first).requires_grad_()


@pytest.mark.parametrize("op", ELEMENTWISE)
def test_operators_of_one_input(op: str) -> None:
    x = numbers(2, 3, 4, 4, first=1.1 if op == "Acosh" else 0.1)
    assert saved_here(op, "2, 3, 4, 4", 1) == saved_by_torch(ELEMENTWISE[op], x)


@pytest.mark.parametrize("op", REDUCTIONS)
def test_reductions(op: str) -> None:
    assert saved_here(op, "2, 3, 4", 1) == saved_by_torch(REDUCTIONS[op], numbers(2, 3, 4))


@pytest.mark.parametrize("op", BINARY)
def test_operators_of_two_inputs(op: str) -> None:
    assert saved_here(op, "4, 4", 2) == saved_by_torch(BINARY[op], numbers(4, 4), numbers(4, 4, first=0.2))
