"""Where linear layers stand in a graph, and how a chain takes their place.

Nodes that apply one weight in the same way are one site: the weight is factorized once, and its factors are
shared as the weight was. What can't be replaced is an edit with the reason.
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
from modelsurgeon.onnx.graph.constants import constant_array, stored_source
from modelsurgeon.onnx.graph.edit import free, store, taken_names
from modelsurgeon.onnx.graph.names import layer_names, nodes_of
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.layers.operators import Size, holds_layer, weight_place
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import Call, ChannelProducers


@dataclass(frozen=True, kw_only=True, eq=False)
class AbsorbedNorm:
    """The batch norm that alone takes what a layer gives. params: that it alone holds.

    gained: params that the layer gains when it takes the norm up: a bias, where it had none.
    """

    affine: Affine
    params: int
    gained: int


@dataclass(frozen=True, kw_only=True, eq=False)
class OnnxSite:
    """Nodes of the main graph that apply one layer.

    sizes: shapes of their data inputs, where the model fixes them. taken: names in use. producers: see
    `channels.narrow.channel_producers`. norm: of the only node, where the layer stands for both, and a chain
    takes the place of both; see `batchnorm.absorb`.
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
        """The layer as it stands; a weight in external data is mapped, and read where it is used."""
        layer = operators.read(self.nodes[0], self.sizes[0])
        return layer if self.norm is None else batchnorm.behind(layer, self.norm.affine)

    @property
    def extra_params(self) -> int:
        """Those of its batch norm, less what the layer gains by it."""
        return 0 if self.norm is None else self.norm.params - self.norm.gained

    @property
    def given(self) -> ir.Value:
        """What the first node, or its norm behind it, hands on."""
        given = self.nodes[0].outputs[0]
        return given if self.norm is None else given.consumers()[0].outputs[0]

    @property
    def entries(self) -> list[str]:
        """The tensors that the nodes are fed with."""
        return [_name(_data(node)) for node in self.nodes]

    def rows(self, x: Array) -> Array:
        """What one of them holds as `(n, channels, *space)`."""
        if self.nodes[0].op_type in ("Conv", "ConvTranspose"):
            return x
        if weight_place(self.nodes[0]) == 0:
            x = np.swapaxes(x, -1, -2)
        return x.reshape(-1, x.shape[-1])

    @property
    def members(self) -> Sequence[str]:
        """It is one layer; see `shared_inputs` for several."""
        return ()

    def replace(self, chain: Sequence[Layer]) -> None:
        """Put the chain in place of every node; its weights are stored once."""
        self.put(chain)

    def feed(self, value: ir.Value) -> None:
        """Let every node take another tensor."""
        for node in self.nodes:
            node.replace_input_with(1 - weight_place(node), value)

    def put(self, chain: Sequence[Layer]) -> list[ir.Value]:
        """Replace the nodes, and their norm, by the chain; what each layer gives, for the first node."""
        if len(chain) == 1:  # the one layer is called as the old one was
            self.taken.difference_update({self.name, *(str(node.name) for node in self.nodes)})
        names = [self.name] if len(chain) == 1 else [f"{self.name}.{i}" for i in range(len(chain))]
        stored = [
            self._stored(name, link, last=link is chain[-1]) for name, link in zip(names, chain, strict=True)
        ]
        given, *_ = [self._rewrite(node, chain, names, stored) for node in self.nodes]
        return given

    def _rewrite(
        self,
        node: ir.Node,
        chain: Sequence[Layer],
        names: Sequence[str],
        stored: Sequence[tuple[ir.Value, ir.Value | None]],
    ) -> list[ir.Value]:
        x = _data(node)
        new: list[ir.Node] = []
        given: list[ir.Value] = []
        for name, link, (weight, bias) in zip(names, chain, stored, strict=True):
            for made in operators.write(node, link, x, weight, bias, last=link is chain[-1]):
                x = made.outputs[0]
                made.name, x.name = free(name, self.taken), free(f"{name}.out", self.taken)
                made.metadata_props.update(node.metadata_props)
                new.append(made)
            given.append(x)
        for value in new[-1].outputs[1:]:
            value.name = free(f"{self.name}.out", self.taken)
        gone = [node] if self.norm is None else [node, *node.outputs[0].consumers()]
        now = new[-1].outputs
        old = gone[-1].outputs[: len(now)]  # a norm may have more, which nothing takes
        ir.convenience.replace_nodes_and_values(self.graph, node, gone, new, old, now)
        return given

    def _store(self, name: str, array: Array) -> ir.Value:
        return store(self.graph, name, array, self.taken)

    def _stored(self, name: str, link: Layer, *, last: bool) -> tuple[ir.Value, ir.Value | None]:
        """Weight and bias of a link; where the bias is the one that the node already has, that one."""
        node = self.nodes[0]
        weight = self._store(f"{name}.weight", operators.weight_as_stored(node, link, last=last))
        bias = operators.bias_as_stored(node, link, last=last)
        if bias is None:
            return weight, None
        old = node.inputs[2] if len(node.inputs) > 2 else None
        array = constant_array(old)
        same = array is not None and np.array_equal(array, bias)
        return weight, old if same else self._store(f"{name}.bias", bias)


def editable_copy(model: ir.Model) -> ir.Model:
    """A copy to operate on; tensors are shared with `model`, which stays as it is.

    IR version 3 lists initializers among the graph's inputs; from version 4 on they stand on their own.
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
        """measured: the model with shapes inferred and, as far as the user wishes, bound (`shapes.bound`)."""
        known = shapes.bound(model)
        return cls(fixed=_sizes(known, defaults=False), assumed=_sizes(measured or known))


def sites(
    model: ir.Model, sizes: ValueShapes | None = None
) -> tuple[list[OnnxSite], list[FactorizationEdit]]:
    """Every layer of an editable model that can be replaced, and, as edits, those that can't and why.

    sizes: where they are known already.
    """
    names = layer_names(model)
    taken = taken_names(model)
    sizes = sizes or ValueShapes.of(model)
    fixed, assumed = sizes.fixed, sizes.assumed
    found: list[OnnxSite] = []
    skipped: list[FactorizationEdit] = []
    for group in _groups(model):
        name = names[group[0]]
        try:
            layer = _replaceable(model, group, fixed)
        except UnsupportedLayer as reason:
            skipped += [FactorizationEdit(layer=names[node], skipped=str(reason)) for node in group]
            continue
        data = [_data(node) for node in group]
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


def _groups(model: ir.Model) -> list[list[ir.Node]]:
    """Linear nodes in file order; those that share a constant weight are together."""
    groups: dict[object, list[ir.Node]] = {}
    for node in nodes_of(model):
        if holds_layer(node):
            groups.setdefault(stored_source(node.inputs[weight_place(node)]) or node, []).append(node)
    return list(groups.values())


def _replaceable(model: ir.Model, group: Sequence[ir.Node], fixed: Mapping[str, Size]) -> Layer:
    """The layer that all nodes of a group apply; UnsupportedLayer with the reason where there isn't one."""
    for node in group:
        _check_place(model, node)
    weight = stored_source(group[0].inputs[weight_place(group[0])])
    if weight is None:
        raise UnsupportedLayer(why_not_constant(group[0]))
    check_uses(weight, set(group))
    layers = [operators.read(n, fixed.get(_name(_data(n)))) for n in group]
    _check_type(layers[0])
    if len({_use(node, layer) for node, layer in zip(group, layers, strict=True)}) > 1:
        raise UnsupportedLayer("its weight is shared by nodes that apply it in different ways")
    return layers[0]


def _check_place(model: ir.Model, node: ir.Node) -> None:
    if node.graph is not model.graph:
        raise UnsupportedLayer("it stands in a subgraph or function, not in the main graph")


def why_not_constant(node: ir.Node) -> str:
    """The reason why the weight of a linear node is no stored constant."""
    weight = node.inputs[weight_place(node)]
    producer = None if weight is None else weight.producer()
    if producer is not None and producer.op_type == "DequantizeLinear":
        return "its weight is quantised"
    if weight is not None and weight.is_graph_input():
        return "its weight is a graph input, which a caller may override"
    return "its weight is computed at run time"


def check_uses(weight: ir.Value, nodes: set[ir.Node]) -> None:
    """Raise UnsupportedLayer unless the weight serves these nodes alone, be it through Identity or Cast."""
    forms = [weight]
    for form in forms:
        if form.is_graph_output():
            raise UnsupportedLayer("its weight is a graph output")
        for user, place in form.uses():
            if user in nodes and place == weight_place(user):
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


def _use(node: ir.Node, layer: Layer) -> tuple[object, ...]:
    """What two nodes must have in common to be one layer, besides the stored weight."""
    bias = [_name(value) for value in node.inputs[2:4]]
    geometry = (layer.stride, layer.padding, layer.dilation, layer.groups, layer.output_padding)
    return node.op_type, weight_place(node), *bias, layer.weight.shape, layer.weight.strides, geometry


def _sizes(model: ir.Model, *, defaults: bool = True) -> dict[str, Size]:
    """Name -> shape of every value whose shape is known."""
    dims = shapes.default_dims(model) if defaults else {}
    values: Iterable[ir.Value] = [*model.graph.inputs, *(v for n in model.graph for v in n.outputs)]
    known = {_name(value): shapes.sizes(value, dims) for value in values}
    return {name: size for name, size in known.items() if size is not None}


def _data(node: ir.Node) -> ir.Value:
    value = node.inputs[1 - weight_place(node)]
    if value is None:
        raise UnsupportedLayer("its data input is left out")
    return value


def _name(value: ir.Value | None) -> str:
    return "" if value is None or value.name is None else value.name
