"""Constants that are told from weights by what they hold: masks of scores, and states of zeros.

Only values in such places are looked at, and first only a few of their entries.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from modelsurgeon.errors import BadModel
from modelsurgeon.layers.onnx_names import STANDARD_DOMAINS
from modelsurgeon.onnx.analysis.settings.steering import MICROSOFT, Use
from modelsurgeon.onnx.graph.constant_folding import constant_tensor
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor

Array = NDArray[np.generic]

# Inputs that are the state before the first step, or what a Scatter writes into.
STATE_INPUTS: dict[str, frozenset[int]] = {
    "CausalConvWithState": frozenset({3}),
    "DecoderAttention": frozenset({6, 7}),
    "DecoderMaskedMultiHeadAttention": frozenset({5, 6}),
    "DecoderMaskedSelfAttention": frozenset({4}),
    "DeepCpuAttnLstm": frozenset({5, 6}),
    "DynamicQuantizeLSTM": frozenset({5, 6}),
    "GRU": frozenset({5}),
    "GatedDeltaNet": frozenset({6}),
    "GroupQueryAttention": frozenset({3, 4}),
    "LSTM": frozenset({5, 6}),
    "LinearAttention": frozenset({3}),
    "MultiHeadAttention": frozenset({6, 7}),
    "QAttention": frozenset({8}),
    "RNN": frozenset({5}),
    "Scatter": frozenset({0}),
    "ScatterElements": frozenset({0}),
    "ScatterND": frozenset({0}),
    "SparseAttention": frozenset({3, 4}),
    "VarlenCausalConvWithState": frozenset({4}),
}
# The same for attention, whose inputs differ by domain.
PAST_INPUTS = {("", "Attention"): frozenset({4, 5}), (MICROSOFT, "Attention"): frozenset({4})}
# Operators that only move their first input, or all of them, to another place.
MOVING_OPERATORS = frozenset(
    (
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split"),
        *("Squeeze", "Tile", "Transpose", "Unsqueeze"),
    )
)
STATE_OPERATORS = MOVING_OPERATORS | {*STATE_INPUTS, "Attention", "Loop", "Scan"}
# Inputs at which an attention operator adds a mask to its scores, by domain.
MASK_INPUTS = {
    ("", "Attention"): frozenset({3}),
    (MICROSOFT, "Attention"): frozenset({3, 5}),
    (MICROSOFT, "DecoderMaskedMultiHeadAttention"): frozenset({3, 4}),
    (MICROSOFT, "DecoderMaskedSelfAttention"): frozenset({3, 5}),
    (MICROSOFT, "GroupQueryAttention"): frozenset({10}),
    (MICROSOFT, "LongformerAttention"): frozenset({3}),
    (MICROSOFT, "MultiHeadAttention"): frozenset({4, 5}),
    (MICROSOFT, "PackedAttention"): frozenset({5}),
    (MICROSOFT, "PackedMultiHeadAttention"): frozenset({6}),
}
# Operators between a mask and the Softmax of the scores that it is added to.
ON_THE_WAY_TO_SOFTMAX = frozenset(
    (
        *("Add", "Cast", "CastLike", "Clip", "Concat", "Div", "Expand", "Flatten", "Gather", "GatherND"),
        *("Identity", "Max", "Min", "Mul", "Pad", "Reshape", "Slice", "Squeeze", "Sub", "Tanh", "Tile"),
        *("Transpose", "Trilu", "Unsqueeze", "Where"),
    )
)
SOFTMAX_OPERATORS = frozenset({"Softmax", "LogSoftmax", "BiasSoftmax"})
MASK_OPERATORS = ON_THE_WAY_TO_SOFTMAX | {"BiasSoftmax"} | {op for _, op in MASK_INPUTS}
MAX_STEPS = 10
MASKING = -50.0  # added to a score, it leaves a share below float32's accuracy
SAMPLED_ENTRIES = 1024  # at the start, the middle and the end of a tensor
MAX_READ_ELEMENTS = 2**22


def is_mask(value: ir.Value, shape: Sequence[int], uses: Sequence[Use]) -> bool:
    """Whether a value is added to scores, or scales them, and holds only 0, 1 and what masks a score."""
    if len(shape) < 2 or min(shape[-2:]) < 2:
        return False
    if not all(_is_on_the_way(node, index) for node, index in uses) or not _reach_softmax(uses):
        return False
    entries = _sample(value)
    if entries is None:
        return False
    numbers = entries.astype(np.float64)
    low, one = numbers <= MASKING, numbers == 1
    if not np.all((numbers == 0) | low | one) or low.any() == one.any():
        return False
    return not one.all() or any(node.op_type == "Trilu" for node, _ in value.uses())


def is_initial_state(value: ir.Value, uses: Sequence[Use]) -> bool:
    """Whether a value is a state before the first step, or an empty past, and holds zeros only."""
    return all(_becomes_state(node, index) for node, index in uses) and _is_zero(value)


def _is_on_the_way(node: ir.Node, index: int) -> bool:
    if index in MASK_INPUTS.get((_domain(node), node.op_type), ()):
        return True
    if node.op_type == "BiasSoftmax":
        return index == 1
    return node.op_type in ON_THE_WAY_TO_SOFTMAX and node.domain in STANDARD_DOMAINS


def _domain(node: ir.Node) -> str:
    return "" if node.domain in STANDARD_DOMAINS else node.domain


def _reach_softmax(uses: Sequence[Use]) -> bool:
    """Whether every use leads to a Softmax, through operators that keep a mask a mask."""
    return all(_leads_to_softmax(node, index) for node, index in uses)


def _leads_to_softmax(node: ir.Node, index: int) -> bool:
    if index in MASK_INPUTS.get((_domain(node), node.op_type), ()) or node.op_type == "BiasSoftmax":
        return True
    seen, front = {node}, [node]
    for _ in range(MAX_STEPS):
        reached = list(_consumers(front))
        if any(_is_score_use(user, place) for user, place in reached):
            return True
        front = [
            user
            for user, _ in dict(reached).items()
            if user.op_type in ON_THE_WAY_TO_SOFTMAX and user not in seen
        ]
        seen.update(front)
    return False


def _is_score_use(node: ir.Node, index: int) -> bool:
    return node.op_type in SOFTMAX_OPERATORS or index in MASK_INPUTS.get((_domain(node), node.op_type), ())


def _consumers(front: Collection[ir.Node]) -> Iterator[Use]:
    for node in front:
        for value in node.outputs:
            yield from value.uses()


def _becomes_state(node: ir.Node, index: int) -> bool:
    """Whether an input is a state, or is only moved to where it is one."""
    reached: list[Use] = [(node, index)]
    for _ in range(MAX_STEPS):
        moved = [user for user, place in dict.fromkeys(reached) if not _is_state(user, place)]
        if not moved:
            return True
        if not all(_moves(user) for user in moved):
            return False
        reached = list(_consumers(moved))
    return False


def _moves(node: ir.Node) -> bool:
    """Whether a node only moves its input, and its results aren't those of the graph."""
    if node.op_type not in MOVING_OPERATORS or node.domain not in STANDARD_DOMAINS:
        return False
    return all(value.uses() and not value.is_graph_output() for value in node.outputs)


def _is_state(node: ir.Node, index: int) -> bool:
    if index in STATE_INPUTS.get(node.op_type, ()):
        return True
    if node.op_type == "Attention" and index in PAST_INPUTS.get((_domain(node), node.op_type), ()):
        return True
    if node.domain in STANDARD_DOMAINS and node.op_type == "Loop":
        return index > 1
    if node.domain in STANDARD_DOMAINS and node.op_type == "Scan":
        return index < len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)
    return False


def _is_zero(value: ir.Value) -> bool:
    entries = _sample(value)
    if entries is None or np.any(entries.astype(np.float64)):
        return False
    if (producer := value.producer()) is not None and producer.op_type == "ConstantOfShape":
        return True
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > MAX_READ_ELEMENTS:
        return False
    return tensor.size <= len(entries) or not np.any(np.asarray(tensor.numpy()).astype(np.float64))


def _sample(value: ir.Value) -> Array | None:
    """Entries of a constant: all of a small one, else some; None where they can't be read."""
    producer = value.producer()
    if producer is not None and producer.op_type == "ConstantOfShape":
        filled = producer.attributes.get("value")
        return np.zeros(1, np.float32) if filled is None else np.asarray(filled.as_tensor().numpy()).ravel()
    tensor = constant_tensor(value)
    if tensor is None or tensor.dtype == ir.DataType.STRING:
        return None
    try:
        if isinstance(tensor, StoredTensor) and tensor.dtype.bitwidth >= 8:
            return np.concatenate(list(_stored_blocks(tensor)))
        return np.asarray(tensor.numpy()).ravel()
    except (OSError, BadModel):
        return None


def _stored_blocks(tensor: StoredTensor) -> Iterator[Array]:
    layout = np.dtype(tensor.dtype.numpy()).newbyteorder("<")
    count = min(tensor.size, SAMPLED_ENTRIES)
    for start in sorted({0, (tensor.size - count) // 2, tensor.size - count}):
        read = tensor.file.read(tensor.offset + start * layout.itemsize, count * layout.itemsize)
        yield read.view(layout)
