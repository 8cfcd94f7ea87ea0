"""Random small nets whose constants come in every form that a file has: stored, made by nodes, overridable.

`mixed_net(seed)` is a net of layers, norms, shifts, factors and poolings. Each of its constants is written in
a form drawn from FORMS, and some channels are dead or equal, so that every verb has something to edit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

FORMS = (
    *("node", "reshape", "unsqueeze", "cast", "identity", "input", "product", "joined", "shared", "output"),
    *("dequantized", "captured", "twice cast"),
)
SIZE = 8


@dataclass(kw_only=True)
class _Writer:
    """Nodes, initializers, inputs and outputs of a graph that grows.

    share: of constants in drawn forms.

    rank: of all kernels, as matrices `(out, -1)`.
    """

    rng: np.random.Generator
    forms: tuple[str, ...]
    share: float
    rank: int | None
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    shared: dict[tuple[int, ...], str] = field(default_factory=dict)
    count: int = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def add(self, op: str, *inputs: str, **attributes: object) -> str:
        output = self.name(op.lower())
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes))
        return output

    def store(self, array: np.ndarray) -> str:
        name = self.name("c")
        self.stored.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def constant(self, array: np.ndarray | np.float32) -> str:
        """A constant in a form drawn at random; its numbers may be rounded by that form."""
        array = np.asarray(array, np.float32)
        form = str(self.rng.choice(self.forms)) if self.rng.random() < self.share else "stored"
        if form == "shared" and array.shape in self.shared:
            return self.shared[array.shape]
        return _WRITERS[form](self, array)


def _node(w: _Writer, array: np.ndarray) -> str:
    return w.add("Constant", value=numpy_helper.from_array(array))


def _input(w: _Writer, array: np.ndarray) -> str:
    name = w.store(array)
    w.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    return name


def _shared(w: _Writer, array: np.ndarray) -> str:
    w.shared[array.shape] = w.store(array)
    return w.shared[array.shape]


def _output(w: _Writer, array: np.ndarray) -> str:
    name = w.store(array)
    w.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape))
    return name


def _joined(w: _Writer, array: np.ndarray) -> str:
    if not array.ndim or array.shape[0] < 2:
        return w.store(array)
    return w.add("Concat", w.store(array[:1]), w.store(array[1:]), axis=0)


def _dequantized(w: _Writer, array: np.ndarray) -> str:
    scale = np.float32(max(float(np.abs(array).max(initial=0)), 1e-3) / 100)
    numbers = np.round(array / scale).astype(np.int8)
    return w.add("DequantizeLinear", w.store(numbers), w.store(scale))


def _captured(w: _Writer, array: np.ndarray) -> str:
    """A stored constant that the branches of an If read, too; the If's result is a further output."""
    name, result = w.store(array), w.name("if")
    branches = [
        helper.make_graph(
            [helper.make_node(op, [name], [f"{result}_{op}"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{result}_{op}", TensorProto.FLOAT, None)],
        )
        for op in ("Neg", "Abs")
    ]
    condition = w.store(np.array(True))
    w.nodes.append(
        helper.make_node("If", [condition], [result], then_branch=branches[0], else_branch=branches[1])
    )
    w.outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, array.shape))
    return name


_WRITERS: dict[str, Callable[[_Writer, np.ndarray], str]] = {
    "stored": lambda w, a: w.store(a),
    "node": _node,
    "reshape": lambda w, a: w.add("Reshape", w.store(a.ravel()), w.store(np.array(a.shape, np.int64))),
    "unsqueeze": lambda w, a: (
        w.add("Unsqueeze", w.store(a[..., 0]), w.store(np.array([-1])))
        if a.ndim and a.shape[-1] == 1
        else w.add("Squeeze", w.store(a[None]), w.store(np.array([0])))
    ),
    "cast": lambda w, a: w.add("Cast", w.store(a.astype(np.float16)), to=TensorProto.FLOAT),
    "identity": lambda w, a: w.add("Identity", w.store(a)),
    "input": _input,
    "product": lambda w, a: w.add("Mul", w.store(a), w.store(np.full(a.shape, 1.5, np.float32))),
    "joined": _joined,
    "shared": _shared,
    "output": _output,
    "dequantized": _dequantized,
    "captured": _captured,
    "twice cast": lambda w, a: w.add(
        "Cast", w.add("Cast", w.store(a), to=TensorProto.FLOAT16), to=TensorProto.FLOAT
    ),
}


def mixed_net(
    seed: int, *, forms: tuple[str, ...] = FORMS, depth: int = 6, rank: int | None = None, foreign: float = 0
) -> ir.Model:
    """A random net; the first layer, `depth` random blocks, a head.

    rank: of its kernels, if not full. foreign: the share of nodes that bear the name of their operator, but
    are functions of another domain, which do something else.
    """
    rng = np.random.default_rng(seed)
    w = _Writer(rng=rng, forms=forms, share=float(rng.uniform(0, 0.6)), rank=rank)
    w.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3, SIZE, SIZE)))
    y, channels = _conv(w, "x", 3)
    for _ in range(depth):
        y, channels = _BLOCKS[rng.integers(len(_BLOCKS))](w, y, channels)
    y = _head(w, y, channels)
    w.outputs.insert(0, helper.make_tensor_value_info(y, TensorProto.FLOAT, None))
    # Form "output" lists stored constants among the outputs.
    graph = helper.make_graph(w.nodes, "mixed", w.inputs, w.outputs, w.stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for node in proto.graph.node:
        runs = node.op_type not in ("Constant", "If")  # which onnxruntime takes for its own in any domain
        if foreign and runs and rng.random() < foreign:
            make_foreign(proto, node)
    return ir.from_proto(proto)


def make_foreign(proto: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """Replace a node by a call of a function of its operator's name, with a tangent after it."""
    node.domain = f"local{len(proto.functions)}"
    inputs = [f"i{place}" for place, _ in enumerate(node.input)]
    body = helper.make_node(node.op_type, [n and i for n, i in zip(node.input, inputs, strict=True)], ["t"])
    body.attribute.extend(node.attribute)
    del node.attribute[:]
    last = helper.make_node("Tanh" if node.op_type != "Cast" else "Identity", ["t"], ["o"])
    opset = helper.make_opsetid("", 17)
    proto.functions.append(
        helper.make_function(node.domain, node.op_type, inputs, ["o"], [body, last], [opset])
    )
    proto.opset_import.append(helper.make_opsetid(node.domain, 1))


def _kernel(w: _Writer, out: int, into: int, size: int) -> np.ndarray:
    """Uneven weights; one row is zero, and two are equal."""
    weight = w.rng.normal(size=(out, into, size, size)) * 10 ** w.rng.uniform(-1.5, 1.5, (out, 1, 1, 1))
    weight /= np.sqrt(into) * size
    if w.rank is not None:
        weight = (w.rng.normal(size=(out, w.rank)) @ weight[: w.rank].reshape(-1, into * size**2)).reshape(
            weight.shape
        )
    if out > 3:
        weight[0], weight[2] = 0, weight[1]
    return weight


def _per_channel(w: _Writer, channels: int, *shape: int) -> np.ndarray:
    values = w.rng.normal(size=channels)
    values[2] = values[1]
    return values.reshape(channels, *shape)


def _conv(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    out, size = int(w.rng.integers(4, 8)), int(w.rng.choice([1, 3]))
    inputs = [x, w.constant(_kernel(w, out, channels, size))]
    if w.rng.random() < 0.6:
        inputs.append(w.constant(_per_channel(w, out)))
    return w.add("Conv", *inputs, pads=[size // 2] * 4), out


def _depthwise(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    return w.add("Conv", x, w.constant(_kernel(w, channels, 1, 3)), group=channels, pads=[1] * 4), channels


def _conv_norm(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    y, out = _conv(w, x, channels)
    return w.add("Relu", _norm(w, y, out)[0]), out


def _norm(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    parts = [_per_channel(w, channels), _per_channel(w, channels), _per_channel(w, channels)]
    parts.append(np.abs(_per_channel(w, channels)) + 0.1)
    return w.add("BatchNormalization", x, *(w.constant(part) for part in parts)), channels


def _shift(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    shape = (1, 1) if w.rng.random() < 0.8 else (SIZE, SIZE)
    values = _per_channel(w, channels, 1, 1) * np.ones(shape)
    pair = [x, w.constant(values if w.rng.random() < 0.8 else np.float32(0.3))]
    return w.add(str(w.rng.choice(["Add", "Sub"])), *(pair if w.rng.random() < 0.7 else pair[::-1])), channels


def _factor(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    op = str(w.rng.choice(["Mul", "Div", "PRelu"]))
    return w.add(op, x, w.constant(np.abs(_per_channel(w, channels, 1, 1)) + 0.2)), channels


def _activation(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    op = str(w.rng.choice(["Relu", "Relu", "LeakyRelu", "Sigmoid", "Abs", "Identity", "Dropout"]))
    return w.add(op, x), channels


def _residual(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    side = w.add("Conv", x, w.constant(_kernel(w, channels, channels, 1)))
    return w.add(str(w.rng.choice(["Add", "Max", "Sub"])), x, w.add("Relu", side)), channels


def _concatenated(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    side, more = _conv(w, x, channels)
    return w.add("Concat", x, side, axis=1), channels + more


def _pool(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    op = str(w.rng.choice(["AveragePool", "MaxPool"]))
    return w.add(op, x, kernel_shape=[3, 3], pads=[1] * 4), channels


def _clip(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    return w.add(
        "Clip", x, "" if w.rng.random() < 0.5 else w.store(np.float32(0)), w.store(np.float32(6))
    ), channels


def _last_axis(w: _Writer, x: str, channels: int) -> tuple[str, int]:
    """A norm as factors and shifts on the last axis, between Transposes, as exporters of NHWC write it."""
    y = w.add("Transpose", x, perm=[0, 2, 3, 1])
    y = w.add("Mul", y, w.constant(_per_channel(w, channels)))
    y = w.add("Add", y, w.constant(_per_channel(w, channels)))
    return w.add("Transpose", w.add("Relu", y), perm=[0, 3, 1, 2]), channels


def _head(w: _Writer, x: str, channels: int) -> str:
    inputs = [_kernel(w, channels, 6, 1)[..., 0, 0], _per_channel(w, 6)]
    if w.rng.random() < 0.3:  # a convolution over the whole map
        whole = w.add("Conv", x, w.constant(_kernel(w, 6, channels, SIZE)), w.constant(_per_channel(w, 6)))
        hidden = w.add("Flatten", whole)
    else:
        flat = w.add("Flatten", w.add("GlobalAveragePool", x))
        hidden = w.add("Gemm", flat, *(w.constant(array) for array in inputs))
    product = w.add("MatMul", w.add("Relu", hidden), w.constant(_kernel(w, 6, 5, 1)[..., 0, 0]))
    return w.add("Add", product, w.constant(_per_channel(w, 5)))


_BLOCKS = (
    *(
        _conv,
        _conv,
        _conv_norm,
        _conv_norm,
        _depthwise,
        _norm,
        _shift,
        _shift,
        _factor,
        _activation,
        _activation,
        _residual,
    ),
    *(_concatenated, _pool, _clip, _last_axis),
)
