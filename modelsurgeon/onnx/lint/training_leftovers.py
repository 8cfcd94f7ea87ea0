"""Rules about what training left in a net: dropout, batch norm, weights that are inputs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from modelsurgeon.onnx.graph.frozen_inputs import FIRST_IR_VERSION_WITHOUT_LISTING, defaulted_inputs
from modelsurgeon.onnx.graph.randomness import dropout_mode, dropout_ratio
from modelsurgeon.onnx.lint.net import Net
from modelsurgeon.onnx.lint.registry import Hit, rule
from modelsurgeon.report.formatting import percent, show


@rule(
    "dropout-active",
    "error",
    summary="dropout is active: the outputs are random",
    advice="Export the net in eval mode, or set training_mode of {layer} to false.",
)
def dropout_active(net: Net) -> Iterator[Hit]:
    """A Dropout in training mode: training_mode is true, or before opset 7 is_test isn't 1.

    Every run then zeroes other values, so that outputs differ from run to run.
    """
    for node, row in net.nodes("Dropout", uncounted=True):
        ratio = dropout_ratio(node)
        if dropout_mode(node, _opset(net)) == "training":
            yield Hit(
                layer=row.name,
                message="is in training mode and zeroes values at random"
                + (f", {percent(ratio)} of them" if ratio else ""),
                evidence={} if ratio is None else {"ratio": ratio},
            )


@rule(
    "dropout-switchable",
    "note",
    summary="dropout that an input or a computed flag switches on",
    advice="Fix training_mode of {layer} to false for inference, or export the net in eval mode.",
)
def dropout_switchable(net: Net) -> Iterator[Hit]:
    """training_mode of a Dropout is a graph input or is computed, so a run may have random outputs."""
    for node, row in net.nodes("Dropout", uncounted=True):
        if dropout_mode(node, _opset(net)) == "unknown":
            yield Hit(
                layer=row.name, message="does nothing or zeroes values at random, as training_mode says"
            )


@rule(
    "dropout-left",
    "note",
    summary="dropout that does nothing was left in",
    advice="Remove it, as some runtimes copy the map for it: "
    "`modelsurgeon extract MODEL -o OUT --outputs {outputs}`",
)
def dropout_left(net: Net) -> Iterator[Hit]:
    """A Dropout in inference mode, or with a ratio of 0: its output is its input.

    One that may be in training mode isn't reported here.
    """
    for node, row in net.nodes("Dropout", uncounted=True):
        if dropout_mode(node, _opset(net)) == "inference":
            yield Hit(
                layer=row.name,
                message="its output is its input",
                otherwise="Export the net in eval mode, so that {layer} isn't written.",
            )


@rule(
    "batchnorm-training",
    "error",
    summary="batch norm takes its statistics from the batch",
    advice="Export the net in eval mode, or fix the norm at its stored statistics: "
    "`modelsurgeon bn freeze MODEL -o OUT --training`",
)
def batchnorm_training(net: Net) -> Iterator[Hit]:
    """A BatchNormalization in training mode: the output for a sample depends on the others in its batch.

    training_mode is 1, or outputs are used that exist in training only, or before opset 7 is_test isn't 1.
    """
    for node, row in net.nodes("BatchNormalization", uncounted=True):
        if _is_training(net, node):
            yield Hit(layer=row.name, message="normalizes by the mean and variance of each batch")


@rule(
    "bn-not-folded",
    "note",
    summary="batch norm next to a linear layer that could absorb it",
    advice="`modelsurgeon bn fold MODEL -o OUT`",
)
def bn_not_folded(net: Net) -> Iterator[Hit]:
    """A batch norm that `bn fold` folds into the linear layer before it, or else into the one after it.

    The verb's own pass decides, on a copy; whether the folded numbers stay finite is known where weights are
    read. Folding is exact: it scales the weight's outputs (or inputs, where the layer has no padding) and
    shifts the bias. onnxruntime does so when it loads a model; other runtimes and tools that quantize don't.
    """
    order = {row.name: number for number, row in enumerate(net.rows)}
    norms = [*net.nodes("BatchNormalization")]
    folds = net.verbs.folds if net.verbs is not None and norms else {}
    for _, row in norms:
        if (into := folds.get(row.name)) is not None:
            side = "before" if order.get(into, -1) < order[row.name] else "after"
            yield Hit(
                layer=row.name,
                message=f"folds into {into!r} {side} it, exactly: {show(row.flops, 'count')} FLOPs less",
                badness=row.flops or 0,
                evidence={"flops": row.flops, "params": row.params},
            )


@rule(
    "weights-are-inputs",
    "note",
    summary="weights are graph inputs, which a caller may override",
    advice="Fix them with --freeze-inputs, which every verb takes that edits: "
    "`modelsurgeon prune MODEL -o OUT --freeze-inputs`",
)
def weights_are_inputs(net: Net) -> Iterator[Hit]:
    """Inputs with a default, as old exporters list every weight: no runtime folds and no verb edits these.

    Up to IR version 3 every weight had to be listed and none could be overridden: those aren't reported.
    """
    names = [str(value.name) for value in defaulted_inputs(net.model)]
    if names and net.model.ir_version >= FIRST_IR_VERSION_WITHOUT_LISTING:
        others = f", and so are {len(names) - 1} more" if len(names) > 1 else ""
        yield Hit(
            layer=names[0],
            message=f"is an input with a default{others}: a caller may override it",
            evidence={"inputs": len(names)},
        )


def _opset(net: Net) -> int:
    return net.model.opset_imports.get("", 1)


def _is_training(net: Net, node: ir.Node) -> bool:
    from modelsurgeon.onnx.passes.batchnorm.nodes import is_training  # imports scipy, which info doesn't need

    return is_training(net.model, node)
