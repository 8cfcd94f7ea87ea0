"""A torch module as an ONNX graph that still knows the names of its modules.

torch's exporter is run without its optimizer, which folds batch norms into convolutions and loses names on
the way. What is done to the graph here changes no weight: dead nodes go, constants are computed, and each
layer's node is called as its module, so that one plan fits the module and the graph.
"""

from __future__ import annotations

import ast
import inspect
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch import nn

from modelsurgeon.errors import BadModel, SurgeryError
from modelsurgeon.plugins import in_one_line
from modelsurgeon.torch.call import Call, Example, bind, evaluating, forward, named_outputs
from modelsurgeon.torch.layers import LAYER_TYPES

LOWEST_OPSET = 18  # below it the graph goes through a converter that forgets where nodes came from
BATCH_SYMBOL = "batch"  # the symbol of a dynamic batch
LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
# Folded whatever their size: they only move elements. Anything else stays where its result would be large.
DATA_MOVERS = frozenset({"Concat", "Gather", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
SCOPES = "pkg.torch.onnx.name_scopes"
# Local paths and the exporter's own notes: nothing that a model should carry along.
PRIVATE_METADATA = ("pkg.torch.onnx.stack_trace", "pkg.torch.onnx.fx_node", optimizer.FOLDED_FROM_KEY)


class ExportWarning(UserWarning):
    """The exported graph is not what the module does now."""


def export(
    module: nn.Module, example: Example, *, dynamic_batch: bool = False, opset: int | None = None
) -> ir.Model:
    """The graph that `module` runs on `example`, in eval mode; its weights are copies.

    Inputs are named as forward's parameters. Outputs are named by their keys where forward returns a mapping,
    `output` if there is one, else `output_0`, `output_1`, ... Batch norms stay. The node of a layer has the
    qualified name of its module; where a module is called again, `#2` and so on is added.

    example: see `call.bind`. dynamic_batch: the first axis of every input stays open. opset: of the default
    domain, 18 or more; torch's own choice if None. Raises BadData where the example doesn't fit, BadModel
    where torch can't export the module; warns with ExportWarning if the module is in train mode.
    """
    if opset is not None and opset < LOWEST_OPSET:
        raise SurgeryError(
            f"opset {opset}: torch's names survive from opset {LOWEST_OPSET} on; ask for that or more"
        )
    if module.training:
        warnings.warn(
            "the module is in train mode; it is exported as it is in eval mode", ExportWarning, stacklevel=2
        )
    call = bind(module, example)
    shapes = None
    if dynamic_batch:
        call = _with_batch(call)
        shapes = _open_batch(module, call)
    outputs = list(named_outputs(forward(module, call)))
    model = _exported(module, call, shapes, opset)
    inputs = [value.name for value in model.graph.inputs]
    _tidy(model)
    _name_ends(model.graph, inputs, outputs)
    _name_nodes(model, module)
    _detach(model)
    return model


def _exported(module: nn.Module, call: Call, shapes: Mapping[str, Any] | None, opset: int | None) -> ir.Model:
    args, kwargs = call
    with evaluating(module), _quiet():
        try:
            program: Any = torch.onnx.export(
                module,
                args,
                kwargs=kwargs,
                dynamic_shapes=shapes,  # type: ignore[arg-type]
                opset_version=opset,
                dynamo=True,
                optimize=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise BadModel(
                f"torch can't export {type(module).__name__}: {in_one_line(_root(error))}"
            ) from error
    return program.model  # type: ignore[no-any-return]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the exporter says to itself (progress, deprecations, graphs that failed) from the user."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def _root(error: BaseException) -> BaseException:
    """What went wrong first, below the exporter's pages of advice."""
    return error if error.__cause__ is None else _root(error.__cause__)


def _with_batch(call: Call) -> Call:
    """The call with a batch of 2 in place of 1, which torch would take for a constant."""
    args, kwargs = call
    return tuple(map(_doubled, args)), {name: _doubled(value) for name, value in kwargs.items()}


def _doubled(value: object) -> object:
    single = isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == 1
    return torch.cat([value, value]) if single else value  # type: ignore[list-item]


def _open_batch(module: nn.Module, call: Call) -> dict[str, Any]:
    bound = inspect.signature(module.forward).bind(*call[0], **call[1])
    return {name: _open_axis(value) for name, value in bound.arguments.items()}


def _open_axis(value: object) -> object:
    if isinstance(value, list | tuple):
        return type(value)(map(_open_axis, value))
    if isinstance(value, Mapping):
        return {key: _open_axis(part) for key, part in value.items()}
    return {0: BATCH_SYMBOL} if isinstance(value, torch.Tensor) and value.ndim else None


def _tidy(model: ir.Model) -> None:
    """Inline functions, compute constants, drop what is dead, and keep every weight once."""
    common.InlinePass()(model)
    own = set(model.graph.initializers.values())
    _fold_transposed(model.graph)
    optimizer.fold_constants(
        model, onnx_shape_inference=False, output_size_limit=2**62, should_fold=_should_fold
    )
    _drop_made_up_biases(model.graph, own)
    for tidy in (
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedOpsetsPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.OutputFixPass(),
        common.NameFixPass(),
    ):
        tidy(model)
    for node in model.graph.all_nodes():
        for key in PRIVATE_METADATA:
            node.metadata_props.pop(key, None)


def _drop_made_up_biases(graph: ir.Graph, own: Collection[ir.Value]) -> None:
    """The exporter gives zeros to some convolutions that have no bias: no weight of the module's `own`."""
    for node in graph.all_nodes():
        if node.op_type in {"Conv", "ConvTranspose"} and len(node.inputs) == 3:
            bias = node.inputs[2]
            zeros = bias is not None and bias.const_value is not None and not bias.const_value.numpy().any()
            if zeros and bias not in own:
                node.resize_inputs(2)


def _should_fold(node: ir.Node) -> bool | None:
    """True, False, or None for the folder's own judgement: small constants only."""
    if node.op_type == "Transpose":  # one that `_fold_transposed` has left
        return not any(value is not None and value.is_initializer() for value in node.inputs)
    return True if node.op_type in DATA_MOVERS else None


def _fold_transposed(graph: ir.Graph) -> None:
    """Turn weights around for good, as a Linear on more than two axes wants them: MatMul(x, weight.T).

    A weight that is also used as it is, such as a tied embedding, stays one weight and keeps its node.
    """
    for value in list(graph.initializers.values()):
        nodes = [use.node for use in value.uses()]
        turns = {tuple(node.attributes.get_ints("perm", ())) for node in nodes if node.op_type == "Transpose"}
        if len(turns) == 1 and all(node.op_type == "Transpose" for node in nodes):
            _turn(graph, value, nodes, turns.pop() or None)


def _turn(graph: ir.Graph, value: ir.Value, nodes: list[ir.Node], perm: tuple[int, ...] | None) -> None:
    if value.const_value is None or value.name is None:
        return
    name = f"{value.name}.T"
    array = value.const_value.numpy().transpose(perm)
    turned = ir.val(name, const_value=ir.Tensor(array, dtype=value.const_value.dtype, name=name))
    graph.initializers.add(turned)
    for node in nodes:
        ir.convenience.replace_all_uses_with(node.outputs[0], turned)
        graph.remove(node, safe=True)
    del graph.initializers[value.name]


def _name_ends(graph: ir.Graph, inputs: Sequence[str | None], outputs: Sequence[str]) -> None:
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = f"modelsurgeon.{name}"  # out of the way of an output of this name
    if len(outputs) == len(graph.outputs):
        for value, name in zip(graph.outputs, outputs, strict=True):
            value.name = name
    for value, name in zip(graph.inputs, inputs, strict=True):
        value.name = name


def _name_nodes(model: ir.Model, module: nn.Module) -> None:
    """Call nodes as the innermost modules they come from: the n-th one of a module is `name#n`.

    Where a module becomes several kinds of nodes, only the one that is the layer is called so.
    """
    parts = module.named_modules(remove_duplicate=False)
    innermost = {path for path, part in parts if not part._modules or isinstance(part, LAYER_TYPES)}
    nodes: dict[str, list[ir.Node]] = {}
    for node in model.graph.all_nodes():
        if (path := _path(node)) in innermost and path:
            nodes.setdefault(path, []).append(node)
    for path, made in nodes.items():
        for count, node in enumerate(_main(made), start=1):
            node.name = path if count == 1 else f"{path}#{count}"


def _main(nodes: list[ir.Node]) -> list[ir.Node]:
    """The layers among the nodes of one module; all of them where they are of one kind."""
    layers = [node for node in nodes if node.op_type in LINEAR]
    return layers or (nodes if len({node.op_type for node in nodes}) == 1 else [])


def _path(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    return scopes[-2] if len(scopes) > 1 else ""


def _detach(model: ir.Model) -> None:
    """Copy the weights, so that training the module leaves the graph as it is."""
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is not None:
            value.const_value = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=name)
