"""The one place through which every edited model goes before anybody gets it.

Inputs and outputs keep name, type, known sizes, doc string and metadata of the original, unless the edit
changed them on purpose. Shapes that the file declares are those that the model gives: where the edit moved
one, it is inferred again, and one that nothing confirms is dropped. The IR version isn't raised.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.onnx.declarations.moved import Dim, InferredShapes, Movement, movement
from modelsurgeon.onnx.declarations.twins import Twins, all_nodes, node_twin, twins
from modelsurgeon.onnx.graph.map_types import copy_map_type, map_type
from modelsurgeon.onnx.io import promises
from modelsurgeon.onnx.io.validate_text import quoted
from modelsurgeon.onnx.shapes import data_inputs

LISTED_WEIGHTS_VERSION = 3  # the last IR version in which all initializers are inputs, too


def restore_declarations(
    edited: ir.Model, original: ir.Model, *, measured: ir.Model | None = None, cut: bool = False
) -> None:
    """Make an edited model declare what it gives and keep what the original said, in place.

    measured: a bound copy of the original, where there is one. cut: whether inputs and outputs were chosen
    anew. Raises BadModel where an input or an output can't be kept, and where sizes don't fit any more.
    """
    known = twins(edited.graph, original.graph)
    before = InferredShapes.of(original, measured)
    _restore_texts(edited, known)
    _declare_new_inputs(edited, original, known, before)
    _lay_down_old_shapes(edited, known)
    found = movement(edited, known, before)
    _check_sizes(found)
    _declare(edited, found)
    _restore_ir_version(edited, original)
    promises.keep(edited, original, cut=cut)


def _check_sizes(found: Movement) -> None:
    """Raise BadModel for a node that could run before the edit and can't run now."""
    for name, reason in found.after.impossible.items():
        if name not in found.before.impossible:
            raise BadModel(
                f"the edit would leave sizes that don't fit at {quoted(name)}: {reason}; "
                "leave the layers before it out (--skip)"
            )


def _restore_texts(edited: ir.Model, known: Twins) -> None:
    """Give values and nodes the doc strings and metadata that the original has for them."""
    for value, twin in known.items():
        if value.doc_string is None:
            value.doc_string = twin.doc_string
        if twin.metadata_props:
            value.metadata_props.update({**twin.metadata_props, **value.metadata_props})
    for node in all_nodes(edited.graph):
        old = node_twin(node, known)
        if old is None or old.op_type != node.op_type:
            continue
        if node.doc_string is None:
            node.doc_string = old.doc_string
        if old.metadata_props:
            node.metadata_props.update({**old.metadata_props, **node.metadata_props})


def _declare_new_inputs(edited: ir.Model, original: ir.Model, known: Twins, before: InferredShapes) -> None:
    """Declare tensors that became inputs as the original declares them, or else as it computes them."""
    symbols = _input_symbols(original)
    for value in data_inputs(edited):
        old = known.get(value)
        if old is not None and old.producer() is not None:
            _declare_type(value, old, before)
            declared = _copy(old.shape)
            value.shape = _readable(before.shape(old), symbols) if declared is None else declared


def _lay_down_old_shapes(edited: ir.Model, known: Twins) -> None:
    """Give computed values the shapes that the original declares, for what inference can't follow."""
    for node in all_nodes(edited.graph):
        old = node_twin(node, known)
        same = old is not None and old.op_identifier() == node.op_identifier()
        for value in node.outputs:
            value.shape = _copy(known[value].shape) if same and value in known else None


def _declare(edited: ir.Model, found: Movement) -> None:
    """Declare types and shapes of all values as they are after the edit."""
    symbols, outputs = _input_symbols(edited), set(edited.graph.outputs)
    declares = any(old.shape and old.producer() and not old.is_graph_output() for old in found.known.values())
    for graph in (edited.graph, *edited.graph.subgraphs()):
        for value in graph.initializers.data.values():
            if value.const_value is not None and value.shape != value.const_value.shape:
                value.shape = ir.Shape(value.const_value.shape.numpy())
        for node in graph:
            for value in node.outputs:
                wanted = value in outputs or (declares and value not in found.known)
                _declare_value(value, found, symbols, wanted=wanted)
        if graph is not edited.graph:
            for value in graph.inputs:
                value.shape = _new_shape(value, value.shape, found, symbols)
    if found.moved:
        _forget_inside_functions(edited)


def _declare_value(value: ir.Value, found: Movement, symbols: Collection[str], *, wanted: bool) -> None:
    """Declare one computed value. wanted: whether it needs a declaration that the original doesn't have."""
    old = found.known.get(value)
    if old is not None and (old.type is not None or map_type(old) is not None or wanted):
        _declare_type(value, old, found.before)
    if found.has_other_type(value) or (value.type is None and map_type(value) is None and wanted):
        _declare_type(value, found.after.values.get(value, value), found.after)
    declared = None if old is None else old.shape
    if declared is None and not wanted:
        value.shape = None
    elif declared is None:
        value.shape = _readable(found.after.shape(value), symbols)
    else:
        shape = _new_shape(value, declared, found, symbols)
        value.shape = value.shape if shape is None else shape


def _new_shape(
    value: ir.Value, declared: ir.Shape | None, found: Movement, symbols: Collection[str]
) -> ir.Shape | None:
    """The declared shape with inferred sizes along axes that the edit moved, and where it was never true.

    None where nothing is known of it any more.
    """
    inferred = found.after.shape(value)
    if declared is None or inferred is None or value in found.unconfirmed:
        return _copy(declared) if value not in found.unconfirmed else None
    readable = _readable(inferred, symbols)
    if len(inferred) != len(declared) or readable is None:
        return readable
    dims = [
        new if _contradicts(old, new) or (value in found.moved and not found.keeps(value, axis)) else old
        for axis, (old, new) in enumerate(zip(declared, readable, strict=True))
    ]
    return ir.Shape(dims)


def _contradicts(declared: Dim, inferred: Dim) -> bool:
    return isinstance(declared, int) and isinstance(inferred, int) and declared != inferred


def _declare_type(value: ir.Value, old: ir.Value, inferred: InferredShapes) -> None:
    """Give a value the type of another one: as it is declared, or else as it is inferred."""
    for source in (old, inferred.values.get(old)):
        if source is None:
            continue
        if map_type(source) is not None:
            copy_map_type(source, value)
            return
        if source.type is not None:
            value.type = source.type
            return


def _readable(shape: ir.Shape | None, symbols: Collection[str]) -> ir.Shape | None:
    """A shape in numbers and symbols that the inputs declare; other sizes are open."""
    if shape is None:
        return None
    return ir.Shape([dim if isinstance(dim, int) or str(dim) in symbols else None for dim in shape])


def _copy(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else shape.copy()


def _input_symbols(model: ir.Model) -> set[str]:
    dims = [dim for value in data_inputs(model) for dim in value.shape or ()]
    return {dim.value for dim in dims if isinstance(dim, ir.SymbolicDim) and dim.value}


def _forget_inside_functions(edited: ir.Model) -> None:
    """Drop the shapes that functions declare for their values: calls may get others now."""
    for function in edited.functions.values():
        for node in function.all_nodes():
            for value in node.outputs:
                value.shape = None


def _restore_ir_version(edited: ir.Model, original: ir.Model) -> None:
    """Give the model the original's IR version; up to 3, the weights are inputs again, in the old order."""
    if edited.ir_version == original.ir_version:
        return
    edited.ir_version = original.ir_version
    graph, before = edited.graph, original.graph
    weights = graph.initializers
    every = all(value.is_graph_input() for value in before.initializers.values())
    listed = {value.name: value for value in (*weights.values(), *graph.inputs)}
    old = [listed[value.name] for value in before.inputs if value.name in listed]
    new = [value for value in listed.values() if value not in set(old)]
    inputs = set(graph.inputs)
    graph.inputs[:] = [*old, *(value for value in new if value in inputs or every)]
