"""Export a torch module as an ONNX graph that keeps the names of its modules.

torch's exporter is run without its optimizer, which folds batch norms into convolutions and loses names. The
clean-up of the graph changes no weight: dead nodes are removed, constants are folded, and each layer's node
is named as its module, so that one plan fits the module and the graph.
"""

from __future__ import annotations

import ast
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import Lock, get_ident
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn
from torch._decomp import decomposition_table

from modelsurgeon.errors import BadModel, SurgeryError
from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS, NAME_SCOPES_KEY
from modelsurgeon.plugins import in_one_line
from modelsurgeon.shared_settings import warnings_ignored
from modelsurgeon.torch.call import Call, Example, bind, evaluating, forward, named_outputs
from modelsurgeon.torch.exported_params import Origins, record_params, trace_origins
from modelsurgeon.torch.layers import LAYER_TYPES

MIN_OPSET = 18  # for a lower one torch runs a converter that loses the modules of the nodes
BATCH_SYMBOL = "batch"  # the symbol of a dynamic batch
# Folded at any size: they only move elements. Other operators aren't folded where the result would be large.
DATA_MOVERS = frozenset({"Concat", "Gather", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
# Beginnings of warnings about the exporter's own insides, which no user can do anything about.
EXPORTER_WARNINGS = (r"`isinstance\(treespec, LeafSpec\)`", "The tensor attributes? .* during export")
# Local paths and the exporter's own notes, which don't belong in a model.
PRIVATE_METADATA = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node", optimizer.FOLDED_FROM_KEY)
_ONE_AT_A_TIME = Lock()  # torch's exporter has state of the whole process, and fails in two threads at once


class ExportWarning(UserWarning):
    """The exported graph computes something else than the module in its present mode."""


def export(
    module: nn.Module, example: Example, *, dynamic_batch: bool = False, opset: int | None = None
) -> ir.Model:
    """Export the graph that `module` runs on `example` in eval mode; its weights are copies.

    Inputs are named as forward's parameters. Outputs are named by their keys where forward returns a mapping,
    `output` if there is one, else `output_0`, `output_1`, ... Batch norms stay. The node of a layer has the
    qualified name of its module; where a module is called again, `#2` and so on is added.

    example: see `call.bind`. dynamic_batch: the first axis of every input stays open. opset: of the default
    domain, 18 or more; torch's own choice if None. Raises BadData where the example doesn't fit, BadModel
    where torch can't export the module; warns with ExportWarning if the module is in train mode.
    """
    if opset is not None and opset < MIN_OPSET:
        raise SurgeryError(
            f"opset {opset}: torch's names survive from opset {MIN_OPSET} on; ask for that or more"
        )
    if module.training:
        warnings.warn(
            "the module is in train mode; it is exported as it is in eval mode", ExportWarning, stacklevel=2
        )
    call = bind(module, example)
    shapes = None
    if dynamic_batch:
        call = _with_batch(call)
        shapes = _dynamic_shapes(module, call)
    outputs = list(named_outputs(forward(module, call)))
    model = _exported(module, call, shapes, opset)
    inputs = [value.name for value in model.graph.inputs]
    common.InlinePass()(model)
    origins = trace_origins(model.graph, module)
    _clean_up(model, origins)
    record_params(model.graph, module, origins)
    _name_inputs_and_outputs(model.graph, inputs, outputs)
    _name_nodes(model, module)
    _copy_weights(model)
    return model


def _exported(module: nn.Module, call: Call, shapes: dict[str, Any] | None, opset: int | None) -> ir.Model:
    with _ONE_AT_A_TIME, evaluating(module), _without_torch_notes():
        try:
            program: Any = torch.onnx.export(
                _without_projections(module, call, shapes),
                call[0],
                kwargs=call[1],
                dynamic_shapes=shapes,
                opset_version=opset,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise BadModel(
                f"torch can't export {type(module).__name__}: {in_one_line(_root_cause(error))}"
            ) from error
    return program.model  # type: ignore[no-any-return]


def _without_projections(module: nn.Module, call: Call, shapes: dict[str, Any] | None) -> Any:  # noqa: ANN401
    """The module, or its program with LSTMs as steps where one has a projection.

    ONNX's LSTM has no projection, and torch's exporter leaves it out without a word.
    """
    if not any(isinstance(part, nn.LSTM) and part.proj_size for part in module.modules()):
        return module
    lstm = torch.ops.aten.lstm.input
    program = torch.export.export(module, *call, dynamic_shapes=shapes)
    return program.run_decompositions({lstm: decomposition_table[lstm]})


@contextmanager
def _without_torch_notes() -> Iterator[None]:
    """Context in which torch's own handlers print no records of this thread; other threads log as ever."""
    others = _OtherThreads()
    handlers = [*logging.getLogger("torch").handlers]
    for handler in handlers:
        handler.addFilter(others)
    try:
        with warnings_ignored(EXPORTER_WARNINGS):
            yield
    finally:
        for handler in handlers:
            handler.removeFilter(others)


class _OtherThreads(logging.Filter):
    """Passes the records of every thread but the one that made the filter."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.thread != self._thread


def _root_cause(error: BaseException) -> BaseException:
    """The first error of a chain of causes; the exporter wraps it in long advice."""
    return error if error.__cause__ is None else _root_cause(error.__cause__)


def _with_batch(call: Call) -> Call:
    """The call with a batch of 2 in place of 1, which torch would export as a constant."""
    args, kwargs = call
    return tuple(map(_doubled, args)), {name: _doubled(value) for name, value in kwargs.items()}


def _doubled(value: object) -> object:
    single = isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == 1
    return torch.cat([value, value]) if single else value  # type: ignore[list-item]


def _dynamic_shapes(module: nn.Module, call: Call) -> dict[str, Any]:
    bound = inspect.signature(module.forward).bind(*call[0], **call[1])
    return {name: _dynamic_axis(value) for name, value in bound.arguments.items()}


def _dynamic_axis(value: object) -> object:
    if isinstance(value, list | tuple):
        return type(value)(map(_dynamic_axis, value))
    if isinstance(value, Mapping):
        return {key: _dynamic_axis(part) for key, part in value.items()}
    return {0: BATCH_SYMBOL} if isinstance(value, torch.Tensor) and value.ndim else None


def _clean_up(model: ir.Model, origins: Origins) -> None:
    """Fold constants, remove dead nodes, and store every weight once."""
    module_weights = set(model.graph.initializers.values())
    _fold_transposes(model.graph)
    optimizer.fold_constants(
        model, onnx_shape_inference=False, output_size_limit=2**62, should_fold=partial(_should_fold, origins)
    )
    _drop_added_biases(model.graph, module_weights)
    for clean in (
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        clean(model)
    for node in model.graph.all_nodes():
        for key in PRIVATE_METADATA:
            node.metadata_props.pop(key, None)


def _drop_added_biases(graph: ir.Graph, module_weights: Collection[ir.Value]) -> None:
    """Remove the biases of zeros that the exporter adds to some convolutions without a bias."""
    for node in graph.all_nodes():
        if node.op_type in {"Conv", "ConvTranspose"} and len(node.inputs) == 3:
            bias = node.inputs[2]
            zeros = bias is not None and bias.const_value is not None and not bias.const_value.numpy().any()
            if zeros and bias not in module_weights:
                node.resize_inputs(2)


def _should_fold(origins: Origins, node: ir.Node) -> bool | None:
    """Whether to fold a node; None leaves it to the optimizer's own rule, small constants only.

    A layer that is applied to a constant, such as a first state of zeros, is not: the module runs it.
    """
    if node.op_type in LINEAR_OPERATORS and not all(
        origins.get(str(value.name)) for value in node.inputs if value
    ):
        return False
    if node.op_type == "Transpose":  # one that `_fold_transposes` has skipped
        return not any(value is not None and value.is_initializer() for value in node.inputs)
    return True if node.op_type in DATA_MOVERS else None


def _fold_transposes(graph: ir.Graph) -> None:
    """Store weights transposed where a Transpose is their only use, as in MatMul(x, weight.T) of a Linear.

    A weight that is also used as it is, such as a tied embedding, stays one weight and keeps its Transpose.
    """
    for value in list(graph.initializers.values()):
        nodes = [use.node for use in value.uses()]
        perms = {tuple(node.attributes.get_ints("perm", ())) for node in nodes if node.op_type == "Transpose"}
        if len(perms) == 1 and all(node.op_type == "Transpose" for node in nodes):
            _store_transposed(graph, value, nodes, perms.pop() or None)


def _store_transposed(
    graph: ir.Graph, value: ir.Value, nodes: list[ir.Node], perm: tuple[int, ...] | None
) -> None:
    if value.const_value is None or value.name is None:
        return
    name = f"{value.name}.T"
    array = value.const_value.numpy().transpose(perm)
    transposed = ir.val(name, const_value=ir.Tensor(array, dtype=value.const_value.dtype, name=name))
    graph.initializers.add(transposed)
    for node in nodes:
        ir.convenience.replace_all_uses_with(node.outputs[0], transposed)
        graph.remove(node, safe=True)
    del graph.initializers[value.name]


def _name_inputs_and_outputs(graph: ir.Graph, inputs: Sequence[str | None], outputs: Sequence[str]) -> None:
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = f"modelsurgeon.{name}"  # for now: an output may have this name
    if len(outputs) == len(graph.outputs):
        for value, name in zip(graph.outputs, outputs, strict=True):
            value.name = name
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name


def _name_nodes(model: ir.Model, module: nn.Module) -> None:
    """Name nodes after the innermost modules they come from: the n-th one of a module is `name#n`.

    Where a module becomes several kinds of nodes, only the one that is the layer gets the name.
    """
    parts = module.named_modules(remove_duplicate=False)
    innermost = {path for path, part in parts if not part._modules or isinstance(part, LAYER_TYPES)}
    nodes: dict[str, list[ir.Node]] = {}
    for node in model.graph.all_nodes():
        if (path := _module_path(node)) in innermost and path:
            nodes.setdefault(path, []).append(node)
    for path, exported in nodes.items():
        for count, node in enumerate(_layer_nodes(exported), start=1):
            node.name = path if count == 1 else f"{path}#{count}"


def _layer_nodes(nodes: list[ir.Node]) -> list[ir.Node]:
    """The linear layers among the nodes of one module; without any, all nodes if they are of one type."""
    layers = [node for node in nodes if node.op_type in LINEAR_OPERATORS]
    return layers or (nodes if len({node.op_type for node in nodes}) == 1 else [])


def _module_path(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(NAME_SCOPES_KEY, "[]"))
    return scopes[-2] if len(scopes) > 1 else ""


def _copy_weights(model: ir.Model) -> None:
    """Copy the weights, so that training the module doesn't change the graph."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None:
            value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=name)
