"""Shape rules of the operators that make maps or take them."""

from __future__ import annotations

import onnx_ir as ir
from onnx import TypeProto, helper
from onnx_shape_inference import ShapeInferenceContext

from modelsurgeon.onnx.graph.map_types import map_type, set_map_type
from modelsurgeon.onnx.shapes.rules.registration import register_missing

ML_DOMAIN = "ai.onnx.ml"
CAST_TYPES = {
    "TO_FLOAT": ir.DataType.FLOAT,
    "TO_STRING": ir.DataType.STRING,
    "TO_INT64": ir.DataType.INT64,
}


def register() -> None:
    """Add the rules to the registry."""
    for op, rule in (("ZipMap", _zip), ("CastMap", _cast), ("DictVectorizer", _vectorize)):
        register_missing(ML_DOMAIN, op, rule)


def _zip(_: ShapeInferenceContext, node: ir.Node) -> None:
    """A map from label to number for each row."""
    key = ir.DataType.INT64 if "classlabels_int64s" in node.attributes else ir.DataType.STRING
    number = helper.make_tensor_type_proto(ir.DataType.FLOAT.value, None)
    kind = helper.make_sequence_type_proto(helper.make_map_type_proto(key.value, number))
    set_map_type(node.outputs[0], kind)


def _cast(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A row of the map's numbers: as many as it has, or as an attribute says."""
    is_sparse = node.attributes.get_string("map_form", "DENSE") == "SPARSE"
    size = node.attributes.get_int("max_map", 1) if is_sparse else ctx.new_symbolic_dim()
    dtype = CAST_TYPES.get(node.attributes.get_string("cast_to", "TO_FLOAT"), ir.DataType.FLOAT)
    ctx.set_shape_and_dtype(node.outputs[0], ir.Shape([1, size]), dtype)


def _vectorize(ctx: ShapeInferenceContext, node: ir.Node) -> None:
    """A row with a number for each entry of the vocabulary."""
    words = next(
        (
            node.attributes[name]
            for name in ("string_vocabulary", "int64_vocabulary")
            if name in node.attributes
        ),
        None,
    )
    shape = None if words is None else ir.Shape([1, len(words.value)])
    ctx.set_shape_and_dtype(node.outputs[0], shape, _value_dtype(node.inputs[0]))


def _value_dtype(value: ir.Value | None) -> ir.DataType | None:
    kind: TypeProto | None = None if value is None else map_type(value)
    element = 0 if kind is None else kind.map_type.value_type.tensor_type.elem_type
    return ir.DataType(element) if element else None
