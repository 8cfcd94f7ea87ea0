"""Reference MACs of a model, counted from a run; shares no code with the package.

The profile of onnxruntime lists every executed kernel, in branches, loop bodies and functions too, with its
input and output shapes. The MACs follow from these by the definition of each operator.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Ran:
    """An executed kernel, with the shapes of its inputs and outputs without the omitted ones."""

    op: str
    inputs: list[Shape]
    outputs: list[Shape]
    attributes: Mapping[str, object]


def ran(model: ModelProto, feed: Mapping[str, np.ndarray], folder: Path) -> list[Ran]:
    """Every kernel of one inference, without fusion and prepacking."""
    attributes = {
        node.name: {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        for node in model.graph.node
    }
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    session.run(None, dict(feed))
    events = json.loads(Path(session.end_profiling()).read_text())
    return [
        Ran(
            op=event["args"]["op_name"],
            inputs=shapes(event["args"]["input_type_shape"]),
            outputs=shapes(event["args"]["output_type_shape"]),
            attributes=attributes.get(event["name"].removesuffix("_kernel_time"), {}),
        )
        for event in events
        if event["name"].endswith("_kernel_time")
    ]


def shapes(listed: list[dict[str, list[int]]]) -> list[Shape]:
    return [tuple(size) for one in listed for size in one.values()]


def conv(one: Ran, weight: int = 1) -> int:
    """Each output element is a sum over the elements of one filter."""
    return prod(one.outputs[0]) * prod(one.inputs[weight]) // one.inputs[weight][0]


def transposed(one: Ran) -> int:
    """Each input element is multiplied by all filters of its channel."""
    x, w = one.inputs[:2]
    return prod(x) * prod(w) // w[0]


def matmul(one: Ran) -> int:
    return prod(one.outputs[0]) * one.inputs[0][-1]


def gemm(one: Ran) -> int:
    """From m x k, k x n and m x n, transposed or not: (m k)(k n)(m n) is (m k n) squared."""
    return isqrt(prod(one.inputs[0]) * prod(one.inputs[1]) * prod(one.outputs[0]))


def recurrent(one: Ran) -> int:
    """Every weight is used once per position of each sequence."""
    x, w, r = one.inputs[:3]
    return x[0] * x[1] * (prod(w) + prod(r))


def einsum(one: Ran) -> int:
    """Contracts arrays of ones from left to right; the sum of each result is its number of MACs."""
    equation = str(np.array(one.attributes["equation"]).astype(str)).replace(" ", "")
    left, _, right = equation.partition("->")
    terms, total, held = left.split(","), 0, np.ones(one.inputs[0])
    have = terms[0]
    for place, term in enumerate(terms[1:], start=1):
        later = set(right).union(*terms[place + 1 :])
        keep = "".join(sorted((set(have) | set(term)) & later))
        total += int(np.einsum(f"{have},{term}->{keep}", held, np.ones(one.inputs[place])).sum())
        held = np.ones(
            [dict(zip(have + term, (*held.shape, *one.inputs[place]), strict=True))[c] for c in keep]
        )
        have = keep
    return total


def heads(one: Ran) -> int:
    """Query (batch, heads, length, size) times all present keys, then times the values."""
    q, k = one.inputs[:2]
    batch, count, length, size = q
    keys = one.outputs[1][2] if len(one.outputs) > 1 else k[2]
    return batch * count * length * keys * (size + one.outputs[0][3])


def flat(one: Ran) -> int:
    """As `heads` with (batch, length, heads * size); the number of heads cancels out."""
    batch, length, width = one.inputs[0]
    keys = one.outputs[1][2] if len(one.outputs) > 1 else one.inputs[1][1]
    return batch * length * keys * (width + one.outputs[0][2])


def grouped(one: Ran) -> int:
    """GroupQueryAttention: the present cache is (batch, groups, keys, size)."""
    batch, length, width = one.outputs[0]
    return 2 * batch * length * width * one.outputs[1][2]


def projected(one: Ran) -> int:
    """One projection to queries, keys and values, then attention over the positions."""
    (batch, length, _), weight = one.inputs[:2]
    return batch * length * prod(weight) + 2 * batch * length * length * one.outputs[0][2]


def attention(one: Ran) -> int:
    if "qkv_hidden_sizes" in one.attributes or len(one.inputs[1]) == 2:
        return projected(one)
    return heads(one) if len(one.inputs[0]) == 4 else flat(one)


def n_bits(one: Ran) -> int:
    return prod(one.inputs[0]) * int(str(one.attributes["N"]))


MACS: dict[str, Callable[[Ran], int]] = {
    "Attention": attention,
    "Conv": conv,
    "ConvInteger": conv,
    "ConvTranspose": transposed,
    "DeformConv": conv,
    "DynamicQuantizeLSTM": recurrent,
    "DynamicQuantizeMatMul": matmul,
    "Einsum": einsum,
    "FusedConv": conv,
    "FusedGemm": gemm,
    "FusedMatMul": gemm,
    "GRU": recurrent,
    "Gemm": gemm,
    "GroupQueryAttention": grouped,
    "LSTM": recurrent,
    "MatMul": matmul,
    "MatMulInteger": matmul,
    "MatMulIntegerToFloat": matmul,
    "MatMulNBits": n_bits,
    "MultiHeadAttention": flat,
    "QLinearConv": lambda one: conv(one, 3),
    "QGemm": matmul,
    "QLinearMatMul": matmul,
    "RNN": recurrent,
}


def macs(kernels: list[Ran]) -> int:
    """MACs of all executed kernels."""
    return sum(MACS[one.op](one) for one in kernels if one.op in MACS)
