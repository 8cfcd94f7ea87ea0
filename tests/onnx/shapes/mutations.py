"""Single nodes that run, changes of them, and whether onnxruntime and the table accept them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from modelsurgeon.onnx.shapes import bound
from modelsurgeon.onnx.shapes.impossible import impossible

MICROSOFT = "com.microsoft"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node that runs. shapes: of its inputs; the types of those that aren't float32 are in dtypes.

    values: contents by index, of int64 unless dtypes says otherwise; these inputs are constants, and so are
    those in constants, which are full of ones.
    """

    op: str
    shapes: tuple[tuple[int, ...], ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    dtypes: dict[int, type] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    outputs: int = 1
    opset: int = 17
    domain: str = ""

    def proto(self) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
        """The model of this node, and what to feed."""
        names = [f"i{number}" for number in range(len(self.shapes))]
        arrays = [self._array(number, shape) for number, shape in enumerate(self.shapes)]
        fixed = {*self.values, *self.constants}
        constants = [numpy_helper.from_array(arrays[number], names[number]) for number in sorted(fixed)]
        feed = {names[number]: array for number, array in enumerate(arrays) if number not in fixed}
        node = helper.make_node(
            self.op, names, [f"o{n}" for n in range(self.outputs)], domain=self.domain, **self.attributes
        )
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feed.items()
        ]
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
        graph = helper.make_graph([node], "g", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=9), feed

    def _array(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        if number in self.values:
            content = np.array(self.values[number], self.dtypes.get(number, np.int64))
            return np.resize(content, shape)
        return np.full(shape, 1 if number in self.dtypes else 0.5, self.dtypes.get(number, np.float32))

    def mutations(self, rng: Random) -> Iterator[Node]:
        """The node with another size, order or number of axes of one input, or another attribute."""
        for number, shape in enumerate(self.shapes):
            others = [
                (*shape[:axis], size, *shape[axis + 1 :])
                for axis in range(len(shape))
                for size in {max(1, shape[axis] - 1), shape[axis] + 1, 2 * shape[axis], 1} - {shape[axis]}
            ]
            others += [shape[1:], (2, *shape), tuple(rng.sample(shape, len(shape)))] if shape else []
            for other in others:
                yield replace(self, shapes=(*self.shapes[:number], other, *self.shapes[number + 1 :]))
        for name, value in self.attributes.items():
            if isinstance(value, int):
                for other in (value + 1, value + 7):
                    yield replace(self, attributes={**self.attributes, name: other})
            elif isinstance(value, list):
                for axis, change in ((axis, change) for axis in range(len(value)) for change in (1, 7)):
                    changed = [*value[:axis], value[axis] + change, *value[axis + 1 :]]
                    yield replace(self, attributes={**self.attributes, name: changed})
        for number, content in self.values.items():
            for axis, change in ((axis, change) for axis in range(len(content)) for change in (-1, 1, 5)):
                changed = [*content[:axis], content[axis] + change, *content[axis + 1 :]]
                yield replace(self, values={**self.values, number: changed})


def runs(node: Node) -> bool:
    """Whether onnxruntime runs the node, with its optimizations off."""
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto, feed = node.proto()
    try:
        session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        session.run(None, feed)
    except Exception:  # noqa: BLE001 - onnxruntime raises many kinds
        return False
    return True


def reason(node: Node) -> str | None:
    """Why the node can't run; None where it is thought to run."""
    return next(iter(impossible(bound(ir.from_proto(node.proto()[0]))).values()), None)
