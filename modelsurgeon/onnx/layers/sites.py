"""The linear layers of a graph as sites, and their replacement by chains.

Nodes that apply one weight in the same way are one site: the weight is factorized once, and its factors are
shared as the weight was. A layer that can't be replaced is returned as a skipped edit with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import UnsupportedLayer
from modelsurgeon.layers import Array, Layer, batchnorm
from modelsurgeon.layers.batchnorm import Affine
from modelsurgeon.onnx import shapes
from modelsurgeon.onnx.graph.constants import constant_array, stored_source, why_unreadable
from modelsurgeon.onnx.graph.edit import add_initializer, taken_names
from modelsurgeon.onnx.graph.names import free_name, layer_names, nodes_with_functions
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import Size, holds_layer, weight_input_index
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Call, ChannelProducers


@dataclass(frozen=True, kw_only=True, eq=False)
class AbsorbedNorm:
    """A batch norm that is the only consumer of a layer's output. params: those that nothing else uses.

    gained: params that the layer gains when it absorbs the norm: a bias, where it had none.
    """

    affine: Affine
    params: int
    gained: int


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxSite:
    """Nodes of the main graph that apply one layer.

    sizes: shapes of their data inputs, where the model fixes them. taken: names in use. producers: see
    `channels.narrow.channel_producers`. norm: the batch norm after the only node, where `layer` is both
    composed and a chain replaces both; see `onnx.passes.batchnorm.absorb`.
    """

    name: str
    graph: ir.Graph
    nodes: Sequence[ir.Node]
    sizes: Sequence[Size | None]
    calls: Sequence[Call]
    taken: set[str] = field(repr=False)
    producers: ChannelProducers | None = None
    norm: AbsorbedNorm | None = None

    @property
    def layer(self) -> Layer:
        """The layer, its norm absorbed; a weight in external data is memory-mapped and read when used."""
        layer = operators.read(self.nodes[0], self.sizes[0])
        return layer if self.norm is None else batchnorm.fold_output_affine(layer, self.norm.affine)

    @property
    def extra_params(self) -> int:
        """Params of the absorbed batch norm, less those that the layer gains by it."""
        return 0 if self.norm is None else self.norm.params - self.norm.gained

    @property
    def output(self) -> ir.Value:
        """Output of the first node, or of the norm after it."""
        output = self.nodes[0].outputs[0]
        return output if self.norm is None else output.consumers()[0].outputs[0]

    @property
    def input_names(self) -> list[str]:
        """Names of the nodes' data inputs."""
        return [_name(_data_input(node)) for node in self.nodes]

    def rows(self, x: Array) -> Array:
        """A data input as `(n, channels, *space)`."""
        if self.nodes[0].op_type in ("Conv", "ConvTranspose"):
            return x
        if weight_input_index(self.nodes[0]) == 0:
            x = np.swapaxes(x, -1, -2)
        return x.reshape(-1, x.shape[-1])

    @property
    def members(self) -> Sequence[str]:
        """Empty: the site is one layer; see `shared_inputs` for several."""
        return ()

    def replace(self, chain: Sequence[Layer]) -> None:
        """Replace every node by the chain; its weights are stored once."""
        self.insert_chain(chain)

    def replace_input(self, value: ir.Value) -> None:
        """Connect the data input of every node to another tensor."""
        for node in self.nodes:
            node.replace_input_with(1 - weight_input_index(node), value)

    def insert_chain(self, chain: Sequence[Layer]) -> list[ir.Value]:
        """Replace the nodes, and their norm, by the chain; return its layers' outputs at the first node."""
        if len(chain) == 1:  # the one layer keeps the old one's name
            self.taken.difference_update({self.name, *(str(node.name) for node in self.nodes)})
        names = [self.name] if len(chain) == 1 else [f"{self.name}.{i}" for i in range(len(chain))]
        stored = [
            self._store_params(name, layer, last=layer is chain[-1])
            for name, layer in zip(names, chain, strict=True)
        ]
        outputs, *_ = [self._rewrite(node, chain, names, stored) for node in self.nodes]
        return outputs

    def _rewrite(
        self,
        node: ir.Node,
        chain: Sequence[Layer],
        names: Sequence[str],
        stored: Sequence[tuple[ir.Value, ir.Value | None]],
    ) -> list[ir.Value]:
        x = _data_input(node)
        new: list[ir.Node] = []
        outputs: list[ir.Value] = []
        for name, layer, (weight, bias) in zip(names, chain, stored, strict=True):
            for written in operators.write(node, layer, x, weight, bias, last=layer is chain[-1]):
                x = written.outputs[0]
                written.name, x.name = free_name(name, self.taken), free_name(f"{name}.out", self.taken)
                written.metadata_props.update(node.metadata_props)
                new.append(written)
            outputs.append(x)
        for value in new[-1].outputs[1:]:
            value.name = free_name(f"{self.name}.out", self.taken)
        replaced = [node] if self.norm is None else [node, *node.outputs[0].consumers()]
        new_outputs = new[-1].outputs
        old_outputs = replaced[-1].outputs[: len(new_outputs)]  # a norm may have more, all unused
        ir.convenience.replace_nodes_and_values(self.graph, node, replaced, new, old_outputs, new_outputs)
        return outputs

    def _store(self, name: str, array: Array) -> ir.Value:
        return add_initializer(self.graph, name, array, self.taken)

    def _store_params(self, name: str, layer: Layer, *, last: bool) -> tuple[ir.Value, ir.Value | None]:
        """Store weight and bias of a layer; a bias equal to the node's own is reused."""
        node = self.nodes[0]
        weight = self._store(f"{name}.weight", operators.weight_as_stored(node, layer, last=last))
        bias = operators.bias_as_stored(node, layer, last=last)
        if bias is None:
            return weight, None
        old = node.inputs[2] if len(node.inputs) > 2 else None
        array = constant_array(old)
        same = array is not None and np.array_equal(array, bias)
        return weight, old if same else self._store(f"{name}.bias", bias)


def editable_copy(model: ir.Model) -> ir.Model:
    """Copy the graph so that it can be edited; tensors are shared with `model`, which doesn't change.

    IR version 3 lists initializers among the graph's inputs; the copy has version 4, which doesn't.
    """
    copy = model.clone()
    if copy.ir_version < 4:
        copy.ir_version = 4
        kept = shapes.data_inputs(copy)
        copy.graph.inputs.clear()
        copy.graph.inputs.extend(kept)
    return copy


@dataclass(frozen=True, kw_only=True)
class ValueShapes:
    """Shapes of a model's values by name. fixed: those that the model fixes. assumed: at stated defaults."""

    fixed: Mapping[str, Size]
    assumed: Mapping[str, Size]

    @classmethod
    def of(cls, model: ir.Model, measured: ir.Model | None = None) -> ValueShapes:
        """Shapes of `model`. measured: the model with shapes inferred and bound as asked (`shapes.bound`)."""
        known = shapes.bound(model)
        return cls(fixed=_known_shapes(known, defaults=False), assumed=_known_shapes(measured or known))

    @classmethod
    def of_bound(cls, opened: ir.Model, measured: ir.Model) -> ValueShapes:
        """Shapes of a model that was bound twice: with its open sizes open, and at stated defaults."""
        return cls(
            fixed=_known_shapes(opened, defaults=False), assumed=_known_shapes(measured, defaults=False)
        )


def sites(
    model: ir.Model, sizes: ValueShapes | None = None
) -> tuple[list[OnnxSite], list[FactorizationEdit]]:
    """Sites of an editable model, and skipped edits, with the reason, of the layers that can't be replaced.

    sizes: shapes of the values; inferred where not given.
    """
    names = layer_names(model)
    taken = taken_names(model)
    sizes = sizes or ValueShapes.of(model)
    fixed, assumed = sizes.fixed, sizes.assumed
    found: list[OnnxSite] = []
    skipped: list[FactorizationEdit] = []
    for group in _groups_by_weight(model):
        name = names[group[0]]
        try:
            layer = _common_layer(model, group, fixed)
        except UnsupportedLayer as reason:
            skipped += [FactorizationEdit(layer=names[node], skipped=str(reason)) for node in group]
            continue
        data = [_data_input(node) for node in group]
        found.append(
            OnnxSite(
                name=name,
                graph=model.graph,
                nodes=group,
                sizes=[fixed.get(_name(x)) for x in data],
                calls=[
                    operators.call(n, layer, assumed.get(_name(x))) for n, x in zip(group, data, strict=True)
                ],
                taken=taken,
            )
        )
    return found, skipped


def _groups_by_weight(model: ir.Model) -> list[list[ir.Node]]:
    """Linear nodes in file order, grouped by the constant weight that they share."""
    groups: dict[object, list[ir.Node]] = {}
    for node in nodes_with_functions(model):
        if holds_layer(node):
            groups.setdefault(stored_source(node.inputs[weight_input_index(node)]) or node, []).append(node)
    return list(groups.values())


def _common_layer(model: ir.Model, group: Sequence[ir.Node], fixed: Mapping[str, Size]) -> Layer:
    """The layer that all nodes of a group apply; raises UnsupportedLayer with the reason if they differ."""
    for node in group:
        _check_in_main_graph(model, node)
    weight = stored_source(group[0].inputs[weight_input_index(group[0])])
    if weight is None:
        raise UnsupportedLayer(why_not_constant(group[0]))
    check_uses(weight, set(group))
    layers = [operators.read(n, fixed.get(_name(_data_input(n)))) for n in group]
    _check_type(layers[0])
    if len({_usage_key(node, layer) for node, layer in zip(group, layers, strict=True)}) > 1:
        raise UnsupportedLayer("its weight is shared by nodes that apply it in different ways")
    return layers[0]


def _check_in_main_graph(model: ir.Model, node: ir.Node) -> None:
    if node.graph is not model.graph:
        raise UnsupportedLayer("it is in a subgraph or function, not in the main graph")


def why_not_constant(node: ir.Node) -> str:
    """Reason why the weight of a linear node isn't a stored constant."""
    weight = node.inputs[weight_input_index(node)]
    producer = None if weight is None else weight.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return "its weight is quantized"
    return why_unreadable(weight, "weight")


def check_uses(weight: ir.Value, nodes: set[ir.Node]) -> None:
    """Raise UnsupportedLayer if other nodes use the weight, directly or through Identity or Cast."""
    forms = [weight]
    for form in forms:
        if form.is_graph_output():
            raise UnsupportedLayer("its weight is a graph output")
        for user, index in form.uses():
            if user in nodes and index == weight_input_index(user):
                continue
            passed_on = [v for v in user.outputs if stored_source(v) is weight]
            if not passed_on:
                raise UnsupportedLayer(
                    f"its weight is also used by {user.op_type} {user.name or ''}".rstrip()
                )
            forms += passed_on


def _check_type(layer: Layer) -> None:
    if layer.weight.dtype.kind in "iub":
        raise UnsupportedLayer(f"its weight is {layer.weight.dtype}: floating point is needed")
    if not layer.weight.size:
        raise UnsupportedLayer(f"its weight of shape {layer.weight.shape} is empty")


def _usage_key(node: ir.Node, layer: Layer) -> tuple[object, ...]:
    """Key that is equal for nodes that apply a stored weight in the same way: they are one layer."""
    bias = [_name(value) for value in node.inputs[2:4]]
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.output_padding)
    return node.op_type, weight_input_index(node), *bias, layer.weight.shape, layer.weight.strides, geometry


def _known_shapes(model: ir.Model, *, defaults: bool = True) -> dict[str, Size]:
    """Value name -> shape, where the shape is known."""
    dims = shapes.default_dims(model) if defaults else {}
    values: Iterable[ir.Value] = [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]
    known = {_name(value): shapes.sizes(value, dims) for value in values}
    return {name: size for name, size in known.items() if size is not None}


def _data_input(node: ir.Node) -> ir.Value:
    value = node.inputs[1 - weight_input_index(node)]
    if value is None:
        raise UnsupportedLayer("its data input is left out")
    return value


def _name(value: ir.Value | None) -> str:
    return "" if value is None or value.name is None else value.name
