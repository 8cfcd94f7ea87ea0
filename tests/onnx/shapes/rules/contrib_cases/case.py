"""One node with its inputs, as a model."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

MICROSOFT = "com.microsoft"
NCHWC = "com.microsoft.nchwc"

Content = int | list[int] | list[list[int]]
Attribute = int | float | str | list[int] | list[float] | list[str]


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """An input whose content is part of the model."""

    array: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """One node: its inputs (None where one is left out), its attributes and its number of outputs."""

    op: str
    inputs: tuple[np.ndarray | Fixed | None, ...]
    attributes: dict[str, Attribute] = field(default_factory=dict)
    outputs: tuple[bool, ...] = (True,)
    domain: str = MICROSOFT
    macs: int | None = None
    opset: int = 21

    def __str__(self) -> str:
        """Operator and what is varied."""
        shapes = ",".join(
            "-" if one is None else "x".join(map(str, (one.array if isinstance(one, Fixed) else one).shape))
            for one in self.inputs
        )
        return f"{self.op}({shapes}){self.attributes or ''}"

    @property
    def depends_on_content(self) -> bool:
        """Whether the length of a cache is the content of a graph input."""
        return self.op == "GroupQueryAttention" and not isinstance(self.inputs[6], Fixed)

    @property
    def feed(self) -> dict[str, np.ndarray]:
        """The contents of the graph's inputs."""
        return {f"i{k}": one for k, one in enumerate(self.inputs) if isinstance(one, np.ndarray)}

    def model(self, open_axes: int = 0) -> onnx.ModelProto:
        """The model; of its inputs this many of the first axes are open, named after their sizes."""
        names = ["" if one is None else f"i{k}" for k, one in enumerate(self.inputs)]
        outs = [f"o{k}" if used else "" for k, used in enumerate(self.outputs)]
        node = helper.make_node(self.op, names, outs, domain=self.domain, **self.attributes)
        graph = helper.make_graph(
            [node],
            "g",
            [
                helper.make_tensor_value_info(
                    name,
                    helper.np_dtype_to_tensor_dtype(array.dtype),
                    [f"n{size}" if axis < open_axes else size for axis, size in enumerate(array.shape)],
                )
                for name, array in self.feed.items()
            ],
            [_output(out, typed=self.op == "MultiHeadAttention" and out == "o3") for out in outs if out],
            [
                onnx.numpy_helper.from_array(one.array, f"i{k}")
                for k, one in enumerate(self.inputs)
                if isinstance(one, Fixed)
            ],
        )
        opsets = [
            helper.make_opsetid("", self.opset),
            helper.make_opsetid(MICROSOFT, 1),
            helper.make_opsetid(NCHWC, 1),
        ]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _output(name: str, *, typed: bool) -> onnx.ValueInfoProto:
    """An output without a shape; with a type where onnxruntime can't infer it."""
    return (
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        if typed
        else onnx.ValueInfoProto(name=name)
    )


def f(*shape: int, dtype: type = np.float32) -> np.ndarray:
    """Ones."""
    return np.ones(shape, dtype)


def i32(*values: Content) -> np.ndarray:
    """Integers of 32 bits; a single one is a scalar."""
    return np.array(values if len(values) != 1 else values[0], np.int32)


def i64(*values: Content) -> np.ndarray:
    """Integers of 64 bits; a single one is a scalar."""
    return np.array(values if len(values) != 1 else values[0], np.int64)


def u8(*shape: int) -> np.ndarray:
    """Ones of 8 bits without sign."""
    return np.ones(shape, np.uint8)


def i8(*shape: int) -> np.ndarray:
    """Ones of 8 bits."""
    return np.ones(shape, np.int8)


def fixed(array: np.ndarray) -> Fixed:
    """The array as an initializer."""
    return Fixed(array=array)


SCALE = fixed(np.float32(0.5))
ZERO = fixed(np.uint8(3))
ZERO_I8 = fixed(np.int8(3))


def case(
    op: str,
    *inputs: np.ndarray | Fixed | None,
    outputs: int | tuple[int, ...] = 1,
    domain: str = MICROSOFT,
    macs: int | None = None,
    imports: int = 21,
    **attributes: Attribute,
) -> Case:
    """One case; outputs is a number, or which of them are used."""
    used = (True,) * outputs if isinstance(outputs, int) else tuple(map(bool, outputs))
    return Case(
        op=op, inputs=inputs, attributes=attributes, outputs=used, domain=domain, macs=macs, opset=imports
    )
