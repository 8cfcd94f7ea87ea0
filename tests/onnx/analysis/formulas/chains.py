"""Random models whose sizes are computed from sizes: operators in a chain, on one or two open axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx.helper as make
from hypothesis import strategies as st
from numpy.typing import ArrayLike

WIDTH = 8
Choose = Callable[[Sequence[object]], object]


@dataclass(kw_only=True)
class Chain:
    """Builds a model around one tensor. draw: chooses one of several values."""

    draw: st.DrawFn
    opset: int = 18
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def one_of(self, *values: object) -> object:
        return self.draw(st.sampled_from(values))

    def constant(self, array: ArrayLike, dtype: type = np.int64) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """The name of the first output; others end in _1, _2 ..."""
        name = f"v{len(self.nodes)}"
        names = [name, *(f"{name}_{place}" for place in range(1, outputs))]
        self.nodes.append(make.make_node(op, inputs, names, name=f"{op}_{name}", **attributes))
        return name

    def size(self, tensor: str, axis: int) -> str:
        """A scalar or a vector of one entry: the size of an axis."""
        index = self.constant(axis if self.draw(st.booleans()) else [axis])
        entry = self.add("Gather", self.add("Shape", tensor), index, axis=0)
        return self.add("Reshape", entry, self.constant([1]))

    def computed(self, tensor: str, axis: int) -> str:
        """A vector of one entry, computed from the size of an axis in up to three steps."""
        entry = self.size(tensor, axis)
        for _ in range(self.number(0, 3)):
            entry = self.arithmetic(entry)
        return entry

    def arithmetic(self, entry: str) -> str:
        kind = self.one_of(
            "Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "select", "float", "neg", "equal", "prod"
        )
        few = self.constant([self.number(1, 5)])
        if kind == "select":
            condition = self.add(str(self.one_of("Greater", "Less", "GreaterOrEqual", "Equal")), entry, few)
            if self.draw(st.booleans()):
                condition = self.add("Not", condition)
            return self.add("Where", condition, entry, self.constant([self.number(1, 9)]))
        if kind == "float":
            real = self.add("Cast", entry, to=onnx.TensorProto.FLOAT)
            factor = self.constant([self.one_of(0.5, 2.0, 0.7, 1.5, 0.1, 0.25)], np.float32)
            real = self.add(str(self.one_of("Mul", "Div")), real, factor)
            real = self.add(op, real) if (op := str(self.one_of("Floor", "Ceil", ""))) else real
            return self.add("Cast", real, to=onnx.TensorProto.INT64)
        if kind == "neg":
            period = self.constant([self.number(2, 5)])
            return self.add("Add", self.add("Mod", self.add("Neg", entry), period), entry)
        if kind == "equal":
            same = self.add("Cast", self.add("Equal", entry, few), to=onnx.TensorProto.INT64)
            return self.add("Add", entry, same)
        if kind == "prod":
            both = self.add("Concat", entry, few, axis=0)
            return self.add("ReduceProd", both, keepdims=1)
        return self.add(str(kind), entry, few)

    def positive(self, entry: str) -> str:
        return self.add("Max", self.add("Min", entry, self.constant([40])), self.constant([1]))


def _slice(chain: Chain, x: str) -> str:
    step = chain.one_of(1, 1, 1, 2, 3, -1, -2)
    far = [2**63 - 1, -(2**63), 100, -100]
    start, end = (
        chain.constant([value])
        for value in (chain.one_of(*range(-7, 8), *far), chain.one_of(*range(-7, 10), *far))
    )
    if chain.draw(st.booleans()):
        end = chain.computed(x, 1)
    return chain.add("Slice", x, start, end, chain.constant([1]), chain.constant([step]))


def _pad(chain: Chain, x: str) -> str:
    if chain.draw(st.booleans()):
        pads = chain.constant([0, chain.number(-2, 3), 0, 0, chain.number(-2, 3), 0])
    else:
        period = chain.constant([chain.number(2, 5)])
        size = chain.size(x, 1)
        missing = chain.add("Mod", chain.add("Sub", period, chain.add("Mod", size, period)), period)
        pads = chain.add("Concat", chain.constant([0, 0, 0, 0]), missing, chain.constant([0]), axis=0)
    return chain.add("Pad", x, pads)


def _windows(chain: Chain, x: str) -> str:
    """Window partition as in Swin: pad to a multiple, split into windows, multiply, join."""
    taps = chain.number(2, 4)
    window, size = chain.constant([taps]), chain.size(x, 1)
    missing = chain.add("Mod", chain.add("Sub", window, chain.add("Mod", size, window)), window)
    padded = chain.add(
        "Pad", x, chain.add("Concat", chain.constant([0] * 4), missing, chain.constant([0]), axis=0)
    )
    count = chain.add("Div", chain.size(padded, 1), window)
    shape = chain.add("Concat", chain.constant([-1]), count, window, chain.constant([WIDTH]), axis=0)
    parts = chain.add("Reshape", padded, shape)
    parts = chain.add("MatMul", parts, chain.add("Transpose", parts, perm=[0, 1, 3, 2]))
    parts = chain.add("MatMul", parts, chain.add("Reshape", padded, shape))
    joined = chain.add(
        "Reshape",
        parts,
        chain.constant([0, -1, WIDTH])
        if taps == 0
        else chain.add("Concat", chain.size(x, 0), chain.constant([-1, WIDTH]), axis=0),
    )
    return chain.add("Slice", joined, chain.constant([0]), size, chain.constant([1]))


def _spatial(chain: Chain, x: str) -> str:
    """A convolution or a pooling along the axis."""
    y = chain.add("Transpose", x, perm=[0, 2, 1])
    taps, stride = chain.number(1, 4), chain.number(1, 3)
    attributes: dict[str, object] = {"strides": [stride]}
    pad = chain.one_of("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    attributes["auto_pad"] = pad
    if pad == "NOTSET":
        attributes["pads"] = [chain.number(0, taps - 1), chain.number(0, taps - 1)]
    op = str(chain.one_of("Conv", "MaxPool", "AveragePool"))
    if op != "AveragePool" and pad in ("NOTSET", "VALID"):
        attributes["dilations"] = [chain.number(1, 2)]
    if op == "Conv":
        y = chain.add(op, y, chain.constant(np.ones((WIDTH, WIDTH, taps)), np.float32), **attributes)
    else:
        if pad == "NOTSET":
            attributes["ceil_mode"] = chain.number(0, 1)
        y = chain.add(op, y, kernel_shape=[taps], **attributes)
    return chain.add("Transpose", y, perm=[0, 2, 1])


def _split(chain: Chain, x: str) -> str:
    count = chain.number(2, 3)
    name = chain.add("Split", x, outputs=count, axis=1, num_outputs=count)
    return str(chain.one_of(name, *(f"{name}_{place}" for place in range(1, count))))


def _concat(chain: Chain, x: str) -> str:
    part = chain.add(
        "Slice", x, chain.constant([0]), chain.constant([chain.number(1, 4)]), chain.constant([1])
    )
    return chain.add("Concat", x, part, axis=1)


def _tile(chain: Chain, x: str) -> str:
    return chain.add("Tile", x, chain.constant([1, chain.number(1, 3), 1]))


def _resize(chain: Chain, x: str) -> str:
    y = chain.add("Unsqueeze", x, chain.constant([1]))
    if chain.draw(st.booleans()):
        scale = chain.one_of(2.0, 0.5, 1.5, 0.7, 0.1, 1.1, 3.0)
        y = chain.add("Resize", y, "", chain.constant([1, 1, scale, 1], np.float32), mode="nearest")
    else:
        size = chain.positive(chain.computed(x, 1))
        sizes = chain.add(
            "Concat", chain.size(x, 0), chain.constant([1]), size, chain.constant([WIDTH]), axis=0
        )
        y = chain.add("Resize", y, "", "", sizes, mode="nearest")
    return chain.add("Squeeze", y, chain.constant([1]))


def _fresh(chain: Chain, x: str) -> str:
    """A tensor whose size is computed."""
    size = chain.positive(chain.computed(x, 1))
    shape = chain.add("Concat", chain.size(x, 0), size, chain.constant([WIDTH]), axis=0)
    kind = chain.one_of("ConstantOfShape", "Expand", "Range")
    if kind == "ConstantOfShape":
        return chain.add("ConstantOfShape", shape)
    if kind == "Expand":
        return chain.add("Expand", chain.constant(np.ones((1, 1, WIDTH)), np.float32), shape)
    scalar = chain.add("Squeeze", size)
    step = chain.number(1, 3)
    numbers = chain.add("Range", chain.constant(0), scalar, chain.constant(step))
    row = chain.add(
        "Unsqueeze", chain.add("Cast", numbers, to=onnx.TensorProto.FLOAT), chain.constant([0, 2])
    )
    return chain.add("Mul", row, chain.constant(np.ones((1, 1, WIDTH)), np.float32))


def _attention(chain: Chain, x: str) -> str:
    return chain.add("MatMul", chain.add("MatMul", x, chain.add("Transpose", x, perm=[0, 2, 1])), x)


def _stretched(chain: Chain, x: str) -> str:
    """A sum with a tensor of one position: its axis is stretched."""
    part = chain.add("ReduceMean", x, chain.constant([1]), keepdims=1)
    return chain.add("Add", part, x)


def _joined(chain: Chain, x: str) -> str:
    """Batch and positions in one axis, and back."""
    flat = chain.add("Reshape", x, chain.constant([-1, WIDTH]))
    flat = chain.add("MatMul", flat, chain.constant(np.ones((WIDTH, WIDTH)), np.float32))
    shape = chain.add("Concat", chain.size(x, 0), chain.size(x, 1), chain.constant([WIDTH]), axis=0)
    return chain.add("Reshape", flat, shape)


def _best(chain: Chain, x: str) -> str:
    count = chain.add("Min", chain.computed(x, 1), chain.constant([chain.number(1, 9)]))
    count = chain.add("Max", chain.add("Min", count, chain.size(x, 1)), chain.constant([0]))
    return chain.add("TopK", x, count, outputs=2, axis=1)


STEPS = (
    _attention, _best, _concat, _fresh, _joined, _pad, _resize, _slice, _slice, _spatial, _spatial, _split,
    _stretched, _tile, _windows,
)  # fmt: skip


def build(chain: Chain, steps: Sequence[Callable[[Chain, str], str]]) -> onnx.ModelProto:
    x = "x"
    for step in steps:
        x = step(chain, x)
    y = chain.add("MatMul", x, chain.constant(np.ones((WIDTH, 4)), np.float32))
    graph = make.make_graph(
        chain.nodes,
        "chain",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", "L", WIDTH])],
        [make.make_tensor_value_info(y, onnx.TensorProto.FLOAT, None)],
        chain.constants,
    )
    return make.make_model(graph, opset_imports=[make.make_opsetid("", chain.opset)], ir_version=8)


@st.composite
def chains(draw: st.DrawFn, longest: int = 3) -> onnx.ModelProto:
    """A model with the open axes N and L."""
    chain = Chain(draw=draw)
    return build(chain, draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=longest)))
