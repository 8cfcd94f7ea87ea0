"""What the verbs would do to a model, so that advice names one only where it does what it is named for.

The verbs' own passes run on a copy. Unless weights may be read, that copy has other numbers in place of all
large tensors, the parameters of batch norms excepted: which layers a pass edits follows from the graph, and
only overflow and NaN in a weight from its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import SurgeryError
from modelsurgeon.onnx.graph.constant_folding import MAX_FOLDED_ELEMENTS, constant_tensor
from modelsurgeon.onnx.graph.constants import stored_source
from modelsurgeon.onnx.graph.traversal import graphs, replace_tensors
from modelsurgeon.onnx.shapes import open_shapes

if TYPE_CHECKING:
    from modelsurgeon.onnx.layers.sites import OnnxSite
    from modelsurgeon.onnx.passes.context import PassContext
    from modelsurgeon.surgery.edits import Edit

# The property of Verbs with the layers that a verb edits.
EDITED = {
    "bn fold": "folds",
    "bn freeze": "frozen",
    "bn sanitize": "sanitized",
    "clean": "cleaned",
    "compress": "compressed",
    "extract": "extracted",
}
NORM_PARAMETERS = range(1, 5)  # inputs of a BatchNormalization: scale, shift, mean, variance


@dataclass(frozen=True, kw_only=True, eq=False)
class Verbs:
    """What each verb would do to a model; every pass runs on a copy of its own, made when it is needed.

    reads_weights: whether weights may be read. inferred: whether `model` was bound in place, without sizes of
    the user, so that its values have their shapes.
    """

    model: ir.Model
    reads_weights: bool = False
    inferred: bool = False

    @cached_property
    def folds(self) -> Mapping[str, str]:
        """Layers into which `bn fold` folds batch norms, by the names of the norms."""
        from modelsurgeon.onnx.passes.batchnorm.fold import fold

        return {edit.layer: str(edit.details["into"]) for edit in self._done(fold)}

    @cached_property
    def frozen(self) -> frozenset[str]:
        """Batch norms that `bn freeze --training` edits."""
        from modelsurgeon.onnx.passes.batchnorm.nodes import freeze

        return frozenset(edit.layer for edit in self._done(lambda context: freeze(context, training=True)))

    @cached_property
    def sanitized(self) -> frozenset[str]:
        """Batch norms that `bn sanitize` repairs."""
        from modelsurgeon.onnx.passes.batchnorm.health import sanitize

        return frozenset(edit.layer for edit in self._done(sanitize))

    @cached_property
    def cleaned(self) -> frozenset[str]:
        """Nodes that `clean` removes."""
        from modelsurgeon.onnx.passes.clean import clean

        return frozenset(edit.layer for edit in self._done(clean))

    @cached_property
    def extracted(self) -> frozenset[str]:
        """Nodes and weights that `extract` with all outputs of the model leaves out, by name."""
        from modelsurgeon.onnx.passes.extract import extract

        context = self._context()
        names = dict(context.names)
        before = {*names.values(), *_weight_names(context.model)}
        try:
            extract(context, [str(value.name) for value in self.model.graph.outputs])
        except SurgeryError:
            return frozenset()
        left = {names[node] for graph in graphs(context.model) for node in graph if node in names}
        return frozenset(before - left - _weight_names(context.model))

    @cached_property
    def compressed(self) -> frozenset[str]:
        """Layers that `compress` can replace by a chain with fewer MACs or params."""
        from modelsurgeon.onnx.layers.sites import ValueShapes, sites

        copy = self._copy()
        try:
            found, _ = sites(copy, ValueShapes.of_bound(copy, self.model) if self.inferred else None)
        except SurgeryError:
            return frozenset()
        return frozenset(site.name for site in found if _has_cheaper_chain(site))

    def does(self, verb: str, layer: str) -> bool:
        """Whether a verb does something about a layer; a verb that isn't known here does."""
        attribute = EDITED.get(verb)
        return attribute is None or layer in getattr(self, attribute)

    def _done(self, work: Callable[[PassContext], list[Edit]]) -> list[Edit]:
        """Edits of a pass, without those that skip a layer."""
        try:
            return [edit for edit in work(self._context()) if edit.skipped is None]
        except SurgeryError:
            return []

    def _context(self) -> PassContext:
        from modelsurgeon.onnx.passes.context import PassContext

        return PassContext(model=self._copy(), inferred_in_place=self.inferred)

    def _copy(self) -> ir.Model:
        """A copy of the model as it was loaded, with its shapes if they are known."""
        from modelsurgeon.onnx.layers.sites import editable_copy

        copy = editable_copy(self.model)
        if self.inferred:
            _open_again(self.model, copy)
        if not self.reads_weights:
            kept = {id(tensor) for tensor in _norm_parameters(copy)}
            replace_tensors(copy, lambda tensor: tensor if id(tensor) in kept else _stand_in(tensor))
        return copy


def _open_again(model: ir.Model, copy: ir.Model) -> None:
    """Take the sizes and constants that a copy owes to binding and folding out of it; shapes stay."""
    shape_of = open_shapes(model)
    inputs = {value.name: value for value in copy.graph.inputs}
    for value in model.graph.inputs:
        if value.name in inputs:
            inputs[value.name].shape = shape_of(value)
    for node, copied in zip(model.graph, copy.graph, strict=True):
        for value, output in zip(node.outputs, copied.outputs, strict=True):
            output.shape = shape_of(value)
            if node.op_type != "Constant":
                output.const_value = None


def _has_cheaper_chain(site: OnnxSite) -> bool:
    from modelsurgeon.factorize import METHODS, suited
    from modelsurgeon.factorize.rank import break_even
    from modelsurgeon.layers import chain_macs

    layer, call = site.layer, site.calls[0]
    return any(
        break_even(METHODS[name], layer, lambda chain: chain_macs(chain, *call)) > 0
        for name in suited(layer, [*METHODS])
    )


def _stand_in(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """A tensor of the same type and shape with one small number everywhere, which takes no memory."""
    shape = tuple(int(size) for size in tensor.shape.numpy())
    if prod(shape) <= MAX_FOLDED_ELEMENTS or not tensor.dtype.is_floating_point():
        return tensor
    number = np.asarray(1 / 16, tensor.dtype.numpy())
    return ir.Tensor(np.broadcast_to(number, shape), dtype=tensor.dtype, name=tensor.name)


def _norm_parameters(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """The stored tensors behind scale, shift, mean and variance of all batch norms."""
    for graph in graphs(model):
        for node in graph:
            if node.op_type == "BatchNormalization":
                values = [stored_source(node.inputs[at]) for at in NORM_PARAMETERS if at < len(node.inputs)]
                yield from (tensor for value in values if (tensor := constant_tensor(value)) is not None)


def _weight_names(model: ir.Model) -> set[str]:
    return {str(value.name) for graph in graphs(model) for value in graph.initializers.values()}
