"""Nodes of random attributes and sizes, drawn anew for each seed, as models that onnxruntime may run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from onnx import ModelProto, ValueInfoProto, helper, numpy_helper

from tests.onnx.shapes.rules.ran import Array

T = TypeVar("T")
Attributes = dict[str, object]
Drawn = tuple[list[Array | None], Attributes, int]

LARGEST = (2**31 - 1, 2**63 - 1, -(2**31), -(2**63))
EQUATIONS = (
    *("ij,jk->ik", "bij,bjk", "...ij,...jk->...ik", "ii->i", "i,j->ij", "bhwc,hkc->bhwk", "ij->ji"),
    *("...ij->...ji", "ij,ij->", "b...d,de->b...e", "ji"),
)


@dataclass(frozen=True, kw_only=True)
class RandomNode:
    """One node: its inputs (None where one is left out), its attributes and its number of outputs."""

    op: str
    opset: int
    inputs: dict[str, Array]
    model: ModelProto

    @property
    def first(self) -> Array:
        """The first input, which isn't a constant."""
        return next(iter(self.inputs.values()))


class Draw(random.Random):
    """Random sizes, axes and tensors."""

    def sizes(self, count: int, low: int = 1, high: int = 9) -> list[int]:
        """So many sizes."""
        return [self.randint(low, high) for _ in range(count)]

    def some(self, **given: object) -> Attributes:
        """Some of the attributes."""
        return {name: value for name, value in given.items() if self.random() < 0.6}

    def axis(self, rank: int) -> int:
        """An axis, counted from either end."""
        return self.randint(-rank, rank - 1)

    def axes(self, rank: int, fewest: int = 1) -> list[int]:
        """Different axes in any order, some counted from the end."""
        chosen = self.sample(range(rank), self.randint(fewest, rank))
        return [axis - rank * (self.random() < 0.3) for axis in chosen]

    def tensor(self, low: int = 1, high: int = 4, *, largest: int = 9) -> Array:
        """Floats of a random shape of so many axes."""
        return floats(*self.sizes(self.randint(low, high), 1, largest))

    def below(self, end: int, shape: list[int]) -> Array:
        """Integers below the end, or as far from it."""
        return np.array([self.randrange(-end, end) for _ in range(np.prod(shape, dtype=int))]).reshape(shape)

    def window(self, kernel: list[int]) -> Attributes:
        """Attributes of a window, but for its size."""
        found = self.some(strides=self.sizes(len(kernel), 1, 3), dilations=self.sizes(len(kernel), 1, 2))
        if self.random() < 0.25:
            found["auto_pad"] = self.choice(["VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET"])
        elif self.random() < 0.7:
            found["pads"] = self.sizes(2 * len(kernel), 0, 2)
        return found


def floats(*shape: int) -> Array:
    return np.linspace(0, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def integers(*values: int) -> Array:
    return np.array(values, np.int64)


DRAWS: dict[str, Callable[[Draw, str], Drawn]] = {}


def draws(*ops: str) -> Callable[[Callable[[Draw, str], Drawn]], Callable[[Draw, str], Drawn]]:
    """Register how nodes of these operators are drawn."""

    def register(draw: Callable[[Draw, str], Drawn]) -> Callable[[Draw, str], Drawn]:
        DRAWS.update(dict.fromkeys(ops, draw))
        return draw

    return register


def random_node(op: str, seed: int) -> RandomNode:
    """A node of this operator; one that contradicts itself is possible."""
    draw = Draw(f"{op} {seed}")
    opset = 9 if op == "Upsample" else draw.choice([23, 20, 18, 17, 13])
    given, attributes, outputs = DRAWS[op](draw, op)
    names = ["" if value is None else f"i{index}" for index, value in enumerate(given)]
    inputs = {name: np.asarray(value) for name, value in zip(names, given, strict=True) if value is not None}
    node = helper.make_node(op, names, [f"o{index}" for index in range(outputs)], **attributes)
    first, *constants = inputs
    graph = helper.make_graph(
        [node],
        "g",
        [
            helper.make_tensor_value_info(
                first, helper.np_dtype_to_tensor_dtype(inputs[first].dtype), inputs[first].shape
            )
        ],
        [ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(inputs[name], name) for name in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return RandomNode(op=op, opset=opset, inputs=inputs, model=model)


@draws("Conv")
def _(draw: Draw, _: str) -> Drawn:
    kernel, groups = draw.sizes(draw.randint(1, 3), 1, 3), draw.choice([1, 1, 2])
    channels, wide = groups * draw.randint(1, 3), groups * draw.randint(1, 3)
    maps = floats(draw.randint(1, 3), channels, *draw.sizes(len(kernel), 3, 9))
    return [maps, floats(wide, channels // groups, *kernel)], {"group": groups, **draw.window(kernel)}, 1


@draws("ConvTranspose")
def _(draw: Draw, _: str) -> Drawn:
    kernel, groups = draw.sizes(draw.randint(1, 2), 1, 4), draw.choice([1, 1, 2])
    channels = groups * draw.randint(1, 2)
    maps = floats(draw.randint(1, 2), channels, *draw.sizes(len(kernel), 2, 6))
    found = draw.window(kernel)
    strides = found.setdefault("strides", [1] * len(kernel))
    if draw.random() < 0.4:
        found["output_padding"] = [draw.randint(0, stride - 1) for stride in strides]
    if draw.random() < 0.3:
        pairs = zip(maps.shape[2:], strides, strict=True)
        found["output_shape"] = [size * stride + draw.randint(0, 1) for size, stride in pairs]
    return [maps, floats(channels, draw.randint(1, 3), *kernel)], {"group": groups, **found}, 1


@draws("MaxPool", "AveragePool", "LpPool")
def _(draw: Draw, op: str) -> Drawn:
    kernel = draw.sizes(draw.randint(1, 3), 1, 3)
    found = {"kernel_shape": kernel, **draw.window(kernel), **draw.some(ceil_mode=1)}
    if str(found.get("auto_pad")).startswith("SAME"):
        found.pop("dilations", None)  # onnxruntime doesn't follow the specification
    if op == "AveragePool":
        found |= draw.some(count_include_pad=1)
    maps = floats(*draw.sizes(2, 1, 3), *draw.sizes(len(kernel), 3, 11))
    return [maps], found, draw.randint(1, 2) if op == "MaxPool" else 1


@draws("GlobalAveragePool", "GlobalMaxPool")
def _(draw: Draw, _: str) -> Drawn:
    return [draw.tensor(3, 5)], {}, 1


@draws("Resize")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(2, 4)
    axes, found = list(range(data.ndim)), draw.some(mode=draw.choice(["nearest", "linear"]))
    if draw.random() < 0.5:
        axes = [axis % data.ndim for axis in draw.axes(data.ndim)]  # negative ones, see docs/shape-rules.md
        found["axes"] = axes
    if draw.random() < 0.5:
        policies = "stretch", "not_larger", "not_smaller"
        found |= draw.some(keep_aspect_ratio_policy=draw.choice(policies))
        return [data, None, None, integers(*draw.sizes(len(axes), 1, 12))], found, 1
    factors = 0.5, 0.6, 0.7, 1, 1.3, 1.6, 2, 1 / 3, 2 / 3, 3 / 7, 2.1
    return [data, None, np.array([draw.choice(factors) for _ in axes], np.float32)], found, 1


@draws("Upsample")
def _(draw: Draw, _: str) -> Drawn:
    scales = [1, 1, draw.choice([1, 1.3, 2, 1.7]), draw.choice([1, 2.5, 3, 1.1])]
    return [draw.tensor(4, 4), np.array(scales, np.float32)], draw.some(mode="linear"), 1


@draws("Pad")
def _(draw: Draw, _: str) -> Drawn:
    data, axes = floats(*draw.sizes(draw.randint(1, 4), 4, 8)), None
    count = data.ndim
    if draw.random() < 0.4:
        axes = integers(*draw.axes(data.ndim))
        count = len(axes)
    pads = integers(*draw.sizes(2 * count, -1, 3))
    return [data, pads, None, axes], {"mode": draw.choice(["constant", "reflect", "edge", "wrap"])}, 1


@draws("Slice")
def _(draw: Draw, _: str) -> Drawn:
    data = floats(*draw.sizes(draw.randint(1, 3), 3, 9))
    axes = draw.axes(data.ndim)
    starts, ends = ([draw.choice([*LARGEST, *draw.sizes(4, -12, 12)]) for _ in axes] for _ in range(2))
    steps = [draw.choice([1, 1, 2, 3, -1, -2]) for _ in axes]
    return [data, *(integers(*values) for values in (starts, ends, axes, steps))], {}, 1


@draws("Split")
def _(draw: Draw, _: str) -> Drawn:
    data = floats(*draw.sizes(draw.randint(1, 3), 2, 9))
    axis = draw.axis(data.ndim)
    size = data.shape[axis]
    if draw.random() < 0.5:
        count = draw.randint(1, size)
        return [data], {"axis": axis, "num_outputs": count}, count
    first = draw.randint(0, size)
    return [data, integers(first, size - first)], {"axis": axis}, 2


@draws("Squeeze")
def _(draw: Draw, _: str) -> Drawn:
    shape = [draw.choice([1, 1, 3]) for _ in range(draw.randint(1, 5))]
    ones = [axis for axis, size in enumerate(shape) if size == 1]
    if not ones or draw.random() < 0.3:
        return [floats(*shape)], {}, 1
    chosen = draw.sample(ones, draw.randint(1, len(ones)))
    return [floats(*shape), integers(*(axis - len(shape) * draw.randint(0, 1) for axis in chosen))], {}, 1


@draws("Unsqueeze")
def _(draw: Draw, _: str) -> Drawn:
    data, added = draw.tensor(0, 3), draw.randint(1, 3)
    rank = data.ndim + added
    chosen = draw.sample(range(rank), added)
    return [data, integers(*(axis - rank * draw.randint(0, 1) for axis in chosen))], {}, 1


@draws("Flatten")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(0, 4)
    return [data], draw.some(axis=draw.randint(-data.ndim, data.ndim)), 1


@draws("Reshape")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(1, 4, largest=6)
    target = draw.sample(data.shape, data.ndim)
    if draw.random() < 0.6:
        target[draw.axis(data.ndim)] = -1
    kept = zip(target, data.shape, strict=True)
    target = [0 if size == own and draw.random() < 0.5 else size for size, own in kept]
    if draw.random() < 0.3:
        target.insert(draw.randint(0, data.ndim), 1)
    return [data, integers(*target)], draw.some(allowzero=0), 1


@draws("Transpose")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(1, 5)
    return [data], draw.some(perm=draw.sample(range(data.ndim), data.ndim)), 1


@draws("Concat")
def _(draw: Draw, _: str) -> Drawn:
    shape = draw.sizes(draw.randint(1, 4))
    axis, parts = draw.axis(len(shape)), []
    for _ in range(draw.randint(1, 4)):
        shape[axis] = draw.randint(1, 5)
        parts.append(floats(*shape))
    return [*parts], {"axis": axis}, 1


@draws("Gather", "GatherElements")
def _(draw: Draw, op: str) -> Drawn:
    data = floats(*draw.sizes(draw.randint(1, 4), 2, 6))
    axis, shape = draw.axis(data.ndim), [*data.shape]
    shape[axis] = draw.randint(1, 7)
    shape = draw.sizes(draw.randint(0, 3), 1, 4) if op == "Gather" else shape
    return [data, draw.below(data.shape[axis], shape)], {"axis": axis}, 1


@draws("GatherND")
def _(draw: Draw, _: str) -> Drawn:
    data = floats(*draw.sizes(draw.randint(2, 4), 2, 4))
    batches = draw.randint(0, data.ndim - 1)
    shape = [*data.shape[:batches], *draw.sizes(draw.randint(0, 2), 1, 3)]
    return [data, draw.below(2, [*shape, draw.randint(1, data.ndim - batches)])], {"batch_dims": batches}, 1


@draws(*(f"Reduce{kind}" for kind in ("Mean", "Sum", "Max", "L2", "LogSumExp", "Prod", "SumSquare")))
def _(draw: Draw, _: str) -> Drawn:
    data, flags = draw.tensor(), draw.some(keepdims=draw.randint(0, 1), noop_with_empty_axes=1)
    axes = integers(*draw.axes(data.ndim, fewest=0)) if draw.random() < 0.75 else None
    return [data, axes], flags, 1


@draws("ArgMax", "ArgMin")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    return [data], draw.some(axis=draw.axis(data.ndim), keepdims=draw.randint(0, 1), select_last_index=1), 1


@draws("Softmax", "LogSoftmax", "Hardmax")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    return [data], draw.some(axis=draw.axis(data.ndim)), 1


@draws("CumSum")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    return [data, np.array(draw.axis(data.ndim))], draw.some(exclusive=1, reverse=1), 1


@draws("TopK")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    axis = draw.axis(data.ndim)
    return [data, integers(draw.randint(0, data.shape[axis]))], {"axis": axis}, 2


@draws("OneHot")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.below(3, draw.sizes(draw.randint(1, 3)))
    depth = draw.choice([integers(4), np.array(4)])
    return [data, depth, floats(2)], draw.some(axis=draw.axis(data.ndim + 1)), 1


@draws("Tile")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(largest=4)
    return [data, integers(*draw.sizes(data.ndim, 0, 3))], {}, 1


@draws("Expand")
def _(draw: Draw, _: str) -> Drawn:
    shape = [draw.choice([1, 1, 3, 4]) for _ in range(draw.randint(1, 3))]
    target = [draw.choice([1, size]) if size > 1 else draw.randint(1, 5) for size in shape]
    before = draw.sizes(draw.randint(0, 2), 1, 3)
    return [floats(*shape), integers(*before, *target[0 if before else draw.randrange(len(shape)) :])], {}, 1


@draws("MatMul")
def _(draw: Draw, _: str) -> Drawn:
    batch, inner = draw.sizes(draw.randint(0, 2), 1, 3), draw.randint(1, 5)
    one = [*batch, draw.randint(1, 5), inner] if draw.random() < 0.8 else [inner]
    kept = batch[draw.randint(0, len(batch)) :]
    other = [*kept, inner, draw.randint(1, 5)] if draw.random() < 0.8 else [inner]
    return [floats(*one), floats(*other)], {}, 1


@draws("Gemm")
def _(draw: Draw, _: str) -> Drawn:
    (rows, inner, columns), a, b = draw.sizes(3), draw.randint(0, 1), draw.randint(0, 1)
    one = floats(*((inner, rows) if a else (rows, inner)))
    other = floats(*((columns, inner) if b else (inner, columns)))
    bias = draw.choice([None, floats(columns), floats(1, columns), floats(1)])
    return [one, other, bias], {"transA": a, "transB": b}, 1


@draws("Einsum")
def _(draw: Draw, _: str) -> Drawn:
    equation = draw.choice(EQUATIONS)
    of = dict(zip("ijkbhwcde", draw.sizes(9, 2, 5), strict=True))
    terms = [term.replace("...", "b" * ("b" not in term)) for term in equation.split("->")[0].split(",")]
    return [floats(*map(of.__getitem__, term)) for term in terms], {"equation": equation}, 1


@draws("DepthToSpace", "SpaceToDepth")
def _(draw: Draw, op: str) -> Drawn:
    block = draw.randint(1, 3)
    if op == "DepthToSpace":
        maps = floats(draw.randint(1, 2), block**2 * draw.randint(1, 3), *draw.sizes(2, 1, 5))
        return [maps], {"blocksize": block, **draw.some(mode="CRD")}, 1
    return (
        [floats(*draw.sizes(2, 1, 3), *(block * size for size in draw.sizes(2, 1, 3)))],
        {"blocksize": block},
        1,
    )


@draws("RoiAlign")
def _(draw: Draw, _: str) -> Drawn:
    count = draw.randint(1, 4)
    sizes = draw.some(output_height=draw.randint(1, 4), output_width=draw.randint(1, 4))
    return [floats(2, draw.randint(1, 3), 8, 8), floats(count, 4), np.zeros(count, np.int64)], sizes, 1


@draws("Col2Im")
def _(draw: Draw, _: str) -> Drawn:
    rank = draw.randint(1, 3)
    kernel, image = draw.sizes(rank, 1, 3), draw.sizes(rank, 5, 7)
    strides, dilations, pads = draw.sizes(rank, 1, 2), draw.sizes(rank, 1, 2), draw.sizes(2 * rank, 0, 1)
    padding = [begin + end for begin, end in zip(pads[:rank], pads[rank:], strict=True)]
    counts = [
        (size + padded - dilation * (taps - 1) - 1) // stride + 1
        for size, padded, dilation, taps, stride in zip(
            image, padding, dilations, kernel, strides, strict=True
        )
    ]
    columns = floats(draw.randint(1, 2), draw.randint(1, 3) * int(np.prod(kernel)), int(np.prod(counts)))
    found = {"pads": pads, "strides": strides, "dilations": dilations}
    return [columns, integers(*image), integers(*kernel)], found, 1


@draws("CenterCropPad")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    axes = draw.axes(data.ndim)
    return [data, integers(*draw.sizes(len(axes)))], {"axes": axes}, 1


@draws("MaxUnpool")
def _(draw: Draw, _: str) -> Drawn:
    kernel = draw.sizes(draw.randint(1, 2), 1, 3)
    pooled = floats(1, draw.randint(1, 2), *draw.sizes(len(kernel), 1, 4))
    found = {"kernel_shape": kernel, **draw.some(strides=draw.sizes(len(kernel), 1, 3))}
    return [pooled, np.zeros(pooled.shape, np.int64)], found, 1


@draws("GRU", "LSTM", "RNN")
def _(draw: Draw, op: str) -> Drawn:
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[op]
    hidden, features, length, batch = draw.sizes(4, 1, 5)
    direction = draw.choice(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    weights = floats(ways, gates * hidden, features), floats(ways, gates * hidden, hidden)
    found = {"hidden_size": hidden, "direction": direction}
    return [floats(length, batch, features), *weights], found, draw.randint(1, 3 if op == "LSTM" else 2)


@draws("LayerNormalization")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor()
    axis = draw.axis(data.ndim)
    return [data, floats(*data.shape[axis:])], {"axis": axis}, draw.randint(1, 3)


@draws("BatchNormalization")
def _(draw: Draw, _: str) -> Drawn:
    channels = draw.randint(1, 4)
    data = floats(2, channels, *draw.sizes(draw.randint(0, 3)))
    return [data, *(floats(channels) for _ in range(4))], {}, 1


@draws("Add", "Mul", "Max", "Less", "PRelu", "Mod")
def _(draw: Draw, op: str) -> Drawn:
    shape = draw.sizes(draw.randint(1, 4))
    other = [draw.choice([1, size, size]) for size in shape][draw.randrange(len(shape)) :]
    pair = floats(*shape), floats(*other)
    return (
        [*(pair if op == "PRelu" or draw.random() < 0.7 else reversed(pair))],
        {"fmod": 1} if op == "Mod" else {},
        1,
    )


@draws("Where")
def _(draw: Draw, _: str) -> Drawn:
    shape = draw.sizes(3)
    parts = [[draw.choice([1, size]) for size in shape][draw.randint(0, 2) :] for _ in range(3)]
    return [floats(*parts[0]) > 0.5, floats(*parts[1]), floats(*parts[2])], {}, 1


@draws("STFT")
def _(draw: Draw, _: str) -> Drawn:
    window = draw.randint(4, 16)
    signal = floats(draw.randint(1, 2), draw.randint(20, 60), 1)
    given = draw.choice([[floats(window)], [None, np.array(window)], [floats(window), np.array(window)]])
    return [signal, np.array(draw.randint(1, 8)), *given], draw.some(onesided=draw.randint(0, 1)), 1


@draws("DFT")
def _(draw: Draw, _: str) -> Drawn:
    signal = floats(*draw.sizes(draw.randint(2, 3), 2, 9), draw.choice([1, 2]))
    points = draw.choice([None, np.array(draw.randint(2, 9))])
    return [signal, points], draw.some(onesided=draw.randint(0, 1), inverse=draw.randint(0, 1)), 1


@draws("Compress")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.tensor(1, 3)
    axis = draw.choice([None, draw.axis(data.ndim)])
    longest = data.size if axis is None else data.shape[axis]
    kept = np.array(draw.sizes(draw.randint(1, longest + 2), 0, 1), bool)
    return [data, kept], {} if axis is None else {"axis": axis}, 1


@draws("Unique")
def _(draw: Draw, _: str) -> Drawn:
    data = draw.below(2, draw.sizes(draw.randint(1, 3))).astype(np.float32)
    return [data], draw.some(axis=draw.axis(data.ndim)), draw.randint(1, 4)


@draws("NonZero", "Shape", "Size", "Trilu")
def _(draw: Draw, op: str) -> Drawn:
    ends = {"start": draw.randint(-5, 5), "end": draw.randint(-5, 5)}
    return [draw.tensor(2, 4)], draw.some(**ends) if op == "Shape" else {}, 1
