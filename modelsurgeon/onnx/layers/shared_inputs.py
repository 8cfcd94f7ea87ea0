"""Layers that are fed the same, such as query, key and value, cut as one: they share all but the last factor.

Side by side they are one matrix with as many outputs as all of them. What its parts take from the input is
much alike, so at equal cost its error is lower than with a cut for each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array, Layer
from modelsurgeon.onnx.layers.operators import weight_place
from modelsurgeon.onnx.layers.recurrent import RECURRENT
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.surgery.site import Call

NAME_PIECES = re.compile(r"[./:]|[^./:]+")  # of a name


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedInputSite:
    """A `surgery.Site` of several, in the order of the model."""

    sites: Sequence[OnnxSite]
    producers: None = None

    @property
    def name(self) -> str:
        """The names of all, with what they have in common said once: `layers.0.{query,key,value}`."""
        return joint_name(self.members)

    @property
    def members(self) -> list[str]:
        """The names of all."""
        return [site.name for site in self.sites]

    @property
    def nodes(self) -> list[ir.Node]:
        """The nodes of all."""
        return [node for site in self.sites for node in site.nodes]

    @property
    def calls(self) -> Sequence[Call]:
        """As of each."""
        return self.sites[0].calls

    @property
    def extra_params(self) -> int:
        """Those of all."""
        return sum(site.extra_params for site in self.sites)

    @property
    def entries(self) -> list[str]:
        """The tensor that they are fed with."""
        return self.sites[0].entries

    def rows(self, x: Array) -> Array:
        """As of each."""
        return self.sites[0].rows(x)

    @property
    def layer(self) -> Layer:
        """The weights one below the other, each scaled so that all are alike in size."""
        layers = [site.layer for site in self.sites]
        scales = _scales(layers)
        weight = np.concatenate([each.weight * s for each, s in zip(layers, scales, strict=True)])
        biases = [each.bias * s for each, s in zip(layers, scales, strict=True) if each.bias is not None]
        return replace(layers[0], weight=weight, bias=np.concatenate(biases) if biases else None)

    def replace(self, chain: Sequence[Layer]) -> None:
        """Put the chain in place of all: its last factor is split, what comes before it is shared."""
        layers = [site.layer for site in self.sites]
        ends = _split(chain[-1], layers)
        first, *others = self.sites
        made = first.put([*chain[:-1], ends[0]])
        for site, end in zip(others, ends[1:], strict=True):
            if len(chain) > 1:
                site.feed(made[-2])
            site.put([end])


def shared_input_sites(sites: Sequence[OnnxSite]) -> list[SharedInputSite]:
    """Matrices of one kind that are fed the same tensor, as far as there are several."""
    groups: dict[object, list[OnnxSite]] = {}
    for site in sites:
        node = site.nodes[0]
        if len(site.nodes) == 1 and node.op_type not in RECURRENT:
            groups.setdefault((node.op_type, weight_place(node), *site.entries), []).append(site)
    alike: dict[object, list[OnnxSite]] = {}
    for key, group in groups.items():
        for site in group if len(group) > 1 else ():
            if (layer := site.layer).is_matrix:
                alike.setdefault((key, _use(layer)), []).append(site)
    return [SharedInputSite(sites=group) for group in alike.values() if len(group) > 1]


def _use(layer: Layer) -> tuple[object, ...]:
    """What layers must have in common to be one."""
    return layer.kernel, layer.stride, layer.padding, layer.weight.dtype, layer.bias is None


def _scales(layers: Sequence[Layer]) -> list[Array]:
    """Powers of two, which round nothing, that bring all weights to about the same norm."""
    norms = [float(np.linalg.norm(each.weight.astype(np.float64))) or 1.0 for each in layers]
    middle = float(np.median(norms))
    return [
        np.exp2(np.round(np.log2(middle / norm))).astype(each.weight.dtype)
        for each, norm in zip(layers, norms, strict=True)
    ]


def _split(last: Layer, layers: Sequence[Layer]) -> list[Layer]:
    """The last factor of a union's chain, as those of its parts."""
    at = np.cumsum([each.out_channels for each in layers])[:-1]
    scales = _scales(layers)
    weights = np.split(last.weight, at)
    biases = [None] * len(layers) if last.bias is None else np.split(last.bias, at)
    return [
        replace(last, weight=weight / s, bias=None if bias is None else bias / s)
        for weight, bias, s in zip(weights, biases, scales, strict=True)
    ]


def joint_name(names: Sequence[str]) -> str:
    """Several names as one, their common parts outside of braces.

    >>> together(["net.0.query", "net.0.key"])
    'net.0.{query,key}'
    """
    split = [NAME_PIECES.findall(name) for name in names]
    before = _common_prefix(split)
    left = [pieces[before:] for pieces in split]
    behind = _common_prefix([pieces[::-1] for pieces in left])
    inside = ",".join("".join(pieces[: len(pieces) - behind]) for pieces in left)
    return "".join(split[0][:before]) + f"{{{inside}}}" + "".join(left[0][len(left[0]) - behind :])


def _common_prefix(rows: Sequence[Sequence[str]]) -> int:
    """How many of their first entries are the same in all."""
    return len(list(takewhile(lambda each: len(set(each)) == 1, zip(*rows, strict=False))))
