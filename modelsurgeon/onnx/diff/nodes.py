"""The nodes of a model as `diff` compares them: row, attributes, operands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from modelsurgeon.inspection.rows import LayerRow
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.matching.alignment import Item
from modelsurgeon.onnx.analysis.measured import MeasuredModel
from modelsurgeon.onnx.graph.attributes import non_default_attributes
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.graph.dataflow import GRAPH_ATTRIBUTES
from modelsurgeon.onnx.io.long_lists import MIN_LENGTH, LongList
from modelsurgeon.onnx.io.long_lists import digest as long_digest
from modelsurgeon.report.formatting import show

Shape = Sequence[int]
# Two operands may change places without any change of the result, not even of its rounding.
COMMUTATIVE_OPERATORS = frozenset(
    {"Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Equal", "Max", "Mean", "Min", "Mul", "Or"}
    | {"Sum", "Xor"}
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Operand:
    """An input of a node, or an output of a graph. value: None where it is left out.

    constant: its digest, None where it isn't constant. shape: None where it isn't known.
    """

    value: ir.Value | None
    constant: str | None = None
    shape: Shape | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class DiffNode:
    """A node under comparison. attributes: as text. operands: inputs, without those left out at the end."""

    node: ir.Node
    row: LayerRow
    attributes: Mapping[str, str]
    operands: Sequence[Operand]

    @property
    def constants(self) -> list[ir.Value]:
        """Its inputs that are constant."""
        values = [operand.value for operand in self.operands if operand.constant is not None]
        return [behind_identity(value) for value in values if value is not None]

    @property
    def item(self) -> Item:
        """Name, operator and traits, by which nodes of the two models are paired."""
        traits = (
            self.row.output_shapes,
            self.row.input_shapes,
            self.row.params,
            tuple(self.attributes.items()),
        )
        return Item(name=self.row.name, op=self.row.op, traits=traits)


@dataclass(frozen=True, kw_only=True)
class Digest:
    """Digest of a tensor: type, shape and, if `read`, the SHA-256 of its bytes."""

    read: bool

    def __call__(self, tensor: ir.TensorProtocol) -> str:
        """The digest as text, equal for equal tensors."""
        kind = f"{tensor.dtype.name.lower()} {show(tensor.shape.numpy(), 'shape')}"
        return f"{kind} {hashlib.sha256(_content(tensor)).hexdigest()[:16]}" if self.read else kind


def _content(tensor: ir.TensorProtocol) -> bytes:
    if tensor.dtype != ir.DataType.STRING:
        return tensor.tobytes()
    texts = np.asarray(tensor.numpy(), object).ravel()
    return repr([text if isinstance(text, bytes) else str(text).encode() for text in texts]).encode()


def diff_nodes(measured: MeasuredModel, digest: Digest) -> Iterator[DiffNode]:
    """Every node except Constant; constants are compared as inputs of the nodes that use them."""
    for run, row in zip(measured.node_runs, measured.rows, strict=True):
        if not is_constant_node(run.node):
            yield DiffNode(
                node=run.node,
                row=row,
                attributes=dict(attribute_texts(run.node, measured.fully_bound.opset_imports, digest)),
                operands=[*_operands(run.node, row, digest)],
            )


def is_commutative(node: ir.Node) -> bool:
    """Whether the node has two operands that may change places."""
    standard = node.domain in STANDARD_DOMAINS
    return standard and node.op_type in COMMUTATIVE_OPERATORS and len(present_inputs(node)) == 2


def is_constant_node(node: ir.Node | None) -> bool:
    """Whether the node is a Constant."""
    return node is not None and node.op_type == "Constant" and node.domain in STANDARD_DOMAINS


def is_identity(node: ir.Node) -> bool:
    """Whether the node is an Identity."""
    return node.op_type == "Identity" and node.domain in STANDARD_DOMAINS and len(node.outputs) == 1


def behind_identity(value: ir.Value) -> ir.Value:
    """The value that reaches `value` through nodes of the kind Identity."""
    while (node := value.producer()) is not None and is_identity(node) and node.inputs[0] is not None:
        value = node.inputs[0]
    return value


def constant_digest(value: ir.Value | None, digest: Digest) -> str | None:
    """The digest of an initializer or of the output of a Constant; None where `value` is neither.

    An Identity between is transparent.
    """
    if value is None:
        return None
    value = behind_identity(value)
    producer = value.producer()
    if is_constant_node(producer) or value.is_initializer():
        tensor = constant_tensor(value)
        if tensor is not None:
            return digest(tensor)
    if producer is not None and is_constant_node(producer):
        texts = [
            f"{name}={_attribute_text(attr, digest)}" for name, attr in sorted(producer.attributes.items())
        ]
        return f"constant unknown {' '.join(texts)}"
    return None


def present_inputs(node: ir.Node) -> list[ir.Value | None]:
    """Inputs of a node, None for those left out, without those left out at the end."""
    values = [value if value is not None and value.name != "" else None for value in node.inputs]
    while values and values[-1] is None:
        values.pop()
    return values


def _operands(node: ir.Node, row: LayerRow, digest: Digest) -> Iterator[Operand]:
    shapes = iter(row.input_shapes)
    for value in present_inputs(node):
        constant = constant_digest(value, digest)
        yield Operand(value=value, constant=constant, shape=None if value is None else next(shapes, None))


def attribute_texts(node: ir.Node, opsets: Mapping[str, int], digest: Digest) -> Iterator[tuple[str, str]]:
    """Attributes as name and text, without graphs, whose nodes are compared by themselves."""
    for attribute in non_default_attributes(node, opsets):
        if attribute.is_ref():
            yield attribute.name, f"attribute {attribute.ref_attr_name}"
        elif attribute.type not in GRAPH_ATTRIBUTES:
            yield attribute.name, _attribute_text(attribute, digest)


def _attribute_text(attribute: ir.Attr, digest: Digest) -> str:
    if attribute.type == ir.AttributeType.TENSOR:
        return digest(attribute.as_tensor())
    if attribute.type == ir.AttributeType.TENSORS:
        return ", ".join(map(digest, attribute.as_tensors()))
    return _value_text(attribute.value)


def _value_text(value: Any) -> str:  # noqa: ANN401
    """An attribute's value as text; floats in the fewest digits of float32, the type that the file stores."""
    if isinstance(value, tuple | list | LongList):
        if len(value) >= MIN_LENGTH:
            return long_digest(value)
        return f"[{', '.join(map(_value_text, value))}]"
    return str(np.float32(value)) if isinstance(value, float) else str(value)
