"""Layers with the same input, such as query, key and value, as one site: they share all but the last factor.

Their weights, concatenated along the outputs, are one matrix. Its parts use much the same subspace of the
input, so at equal cost its error is lower than that of a factorization of each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.layers.operators import weight_input_index
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.surgery.site import Call

NAME_PIECES = re.compile(r"[./:]|[^./:]+")  # separators, and what is between them


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedInputSite:
    """A `surgery.site.Site` of several layers with the same input, in the order of the model."""

    sites: Sequence[OnnxSite]
    producers: None = None

    @property
    def name(self) -> str:
        """Joint name of the layers, common parts once: `layers.0.{query,key,value}`."""
        return joint_name(self.members)

    @property
    def members(self) -> list[str]:
        """Names of the layers."""
        return [site.name for site in self.sites]

    @property
    def nodes(self) -> list[ir.Node]:
        """Nodes of all layers."""
        return [node for site in self.sites for node in site.nodes]

    @property
    def calls(self) -> Sequence[Call]:
        """Calls of each of the layers; they have the same input, so the same calls."""
        return self.sites[0].calls

    @property
    def extra_params(self) -> int:
        """Sum of the layers' extra params."""
        return sum(site.extra_params for site in self.sites)

    @property
    def input_names(self) -> list[str]:
        """Name of the shared input tensor."""
        return self.sites[0].input_names

    def rows(self, x: Array) -> Array:
        """The shared input as `(n, channels, *space)`."""
        return self.sites[0].rows(x)

    @property
    def layer(self) -> Layer:
        """The weights concatenated along the outputs, each scaled to about the same norm."""
        layers = [site.layer for site in self.sites]
        scales = _scales(layers)
        weight = np.concatenate([layer.weight * s for layer, s in zip(layers, scales, strict=True)])
        biases = [layer.bias * s for layer, s in zip(layers, scales, strict=True) if layer.bias is not None]
        return replace(layers[0], weight=weight, bias=np.concatenate(biases) if biases else None)

    def replace(self, chain: Sequence[Layer]) -> None:
        """Replace all layers by the chain: its last factor is split, the factors before it are shared."""
        layers = [site.layer for site in self.sites]
        last_factors = _split_last_factor(chain[-1], layers)
        first, *others = self.sites
        outputs = first.insert_chain([*chain[:-1], last_factors[0]])
        for site, last_factor in zip(others, last_factors[1:], strict=True):
            if len(chain) > 1:
                site.replace_input(outputs[-2])
            site.insert_chain([last_factor])


def shared_input_sites(sites: Sequence[OnnxSite]) -> list[SharedInputSite]:
    """Groups of two and more matrices of one kind with the same input tensor, each as one site."""
    groups: dict[object, list[OnnxSite]] = {}
    for site in sites:
        node = site.nodes[0]
        if len(site.nodes) == 1 and node.op_type not in RECURRENT:
            groups.setdefault((node.op_type, weight_input_index(node), *site.input_names), []).append(site)
    alike: dict[object, list[OnnxSite]] = {}
    for key, group in groups.items():
        for site in group if len(group) > 1 else ():
            if (layer := site.layer).is_matrix:
                alike.setdefault((key, _shared_properties(layer)), []).append(site)
    return [SharedInputSite(sites=group) for group in alike.values() if len(group) > 1]


def _shared_properties(layer: Layer) -> tuple[object, ...]:
    """Properties that layers must have in common to be factorized as one."""
    return layer.kernel, layer.stride, layer.padding, layer.weight.dtype, layer.bias is None


def _scales(layers: Sequence[Layer]) -> list[Array]:
    """Factors that bring all weights to about the same norm; powers of two, so that nothing is rounded."""
    norms = [float(np.linalg.norm(layer.weight.astype(np.float64))) or 1.0 for layer in layers]
    median = float(np.median(norms))
    return [
        np.exp2(np.round(np.log2(median / norm))).astype(layer.weight.dtype)
        for layer, norm in zip(layers, norms, strict=True)
    ]


def _split_last_factor(last: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """The last factor of a joint chain, split along the outputs into one for each layer, unscaled."""
    boundaries = np.cumsum([layer.out_channels for layer in layers])[:-1]
    scales = _scales(layers)
    weights = np.split(last.weight, boundaries)
    biases = [None] * len(layers) if last.bias is None else np.split(last.bias, boundaries)
    return [
        replace(last, weight=weight / s, bias=None if bias is None else bias / s)
        for weight, bias, s in zip(weights, biases, scales, strict=True)
    ]


def joint_name(names: Sequence[str]) -> str:
    """Join several names into one, their common parts outside of braces.

    >>> joint_name(["net.0.query", "net.0.key"])
    'net.0.{query,key}'
    """
    split = [NAME_PIECES.findall(name) for name in names]
    prefix = _common_prefix(split)
    rest = [pieces[prefix:] for pieces in split]
    suffix = _common_prefix([pieces[::-1] for pieces in rest])
    inside = ",".join("".join(pieces[: len(pieces) - suffix]) for pieces in rest)
    return "".join(split[0][:prefix]) + f"{{{inside}}}" + "".join(rest[0][len(rest[0]) - suffix :])


def _common_prefix(rows: Sequence[Sequence[str]]) -> int:
    """Number of first entries that are the same in all rows."""
    return len(list(takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))))
