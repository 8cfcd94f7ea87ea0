"""The context of a pass: an editable copy of a model, with its names, its shapes and the user's choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import onnx_ir as ir

from modelsurgeon.data import Batches
from modelsurgeon.layers import Array
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph import edit
from modelsurgeon.onnx.graph.names import body_values, free_name, is_inside_body, layer_names, main_values
from modelsurgeon.onnx.layers.operators import Size
from modelsurgeon.surgery.edits import Edit, check_globs, exclusion_reason


@dataclass(frozen=True, kw_only=True, eq=False)
class PassContext:
    """A copy of the caller's model that a pass edits in place.

    only, skip: globs on layer names. given, dims: shapes and symbols that the user fixed.
    batches: samples for passes that measure or fit. provider: the execution provider for runs.
    inferred_in_place: whether the values of `model` have their inferred shapes already.
    """

    model: ir.Model
    only: Sequence[str] = ()
    skip: Sequence[str] = ()
    given: Mapping[str, Sequence[int]] | None = None
    dims: Mapping[str, int] | None = None
    batches: Batches | None = None
    provider: str = "cpu"
    inferred_in_place: bool = False

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.model.graph

    @cached_property
    def names(self) -> Mapping[ir.Node, str]:
        """The name of every node as `info` prints it, in file order; to be read before the first edit."""
        return layer_names(self.model)

    @cached_property
    def taken(self) -> set[str]:
        """Names of nodes and values in use."""
        return edit.taken_names(self.model)

    @cached_property
    def measured(self) -> ir.Model:
        """A copy with the shapes of all values inferred, as far as model and user fix them."""
        return self.model if self.inferred_in_place else shapes.bound(self.model, self.given, self.dims)

    def trial(self) -> PassContext:
        """The same context on a copy of the model, to try an edit; for use before the first edit."""
        copy = replace(self, model=self.model.clone())
        vars(copy)["measured"] = self.measured
        return copy

    @cached_property
    def _inferred(self) -> Mapping[str, ir.Value]:
        return main_values(self.measured)

    @cached_property
    def _inferred_inside(self) -> Mapping[str, ir.Value]:
        return body_values(self.measured)

    def inferred(self, value: ir.Value) -> ir.Value:
        """The value with its inferred type and shape; to be read before the value is renamed."""
        inside = is_inside_body(value, self.graph)
        return (self._inferred_inside if inside else self._inferred).get(str(value.name), value)

    def size(self, value: ir.Value | None) -> Size | None:
        """Shape of a value in numbers; None where model and user leave a size open."""
        if value is not None and value.const_value is not None:
            return tuple(int(n) for n in value.const_value.shape.numpy())
        return None if value is None else shapes.sizes(self.inferred(value))

    def ndim(self, value: ir.Value | None) -> int | None:
        """Number of axes of a value; None where it isn't known."""
        shape = None if value is None else self.inferred(value).shape
        return None if shape is None else shape.rank()

    def skip_reason(self, layer: str) -> str | None:
        """The reason why the user wants this layer skipped; None where it is to be edited."""
        return exclusion_reason(layer, self.only, self.skip)

    def check_globs(self) -> None:
        """Raise BadPlan for a glob of the user that matches no layer's name."""
        check_globs(self.names.values(), (*self.only, *self.skip))

    def free(self, name: str) -> str:
        """The name, with a number appended where it is in use; in use from now on."""
        return free_name(name, self.taken)

    def store(self, name: str, array: Array) -> ir.Value:
        """A new initializer of the main graph, under that name or a free one like it."""
        return edit.add_initializer(self.graph, name, array, self.taken)

    def replace(self, node: ir.Node, new: Sequence[ir.Node]) -> None:
        """Replace a node of the main graph by others, see `onnx.graph.edit.replace_node`."""
        edit.replace_node(self.graph, node, new, self.names.get(node, node.op_type), self.taken)


Pass = Callable[[PassContext], list[Edit]]
