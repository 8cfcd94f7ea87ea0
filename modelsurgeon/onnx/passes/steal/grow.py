"""Heads with more classes than the donor's.

The rows of a head are its classes. Old classes keep their rows bit for bit, so their outputs stay the same up
to the rounding of a wider product; a bias in an Add after a MatMul grows with it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import BadPlan
from modelsurgeon.layers import Layer
from modelsurgeon.matching.head_rows import Growth, Rows, class_origins, fit_rows, grow_rows
from modelsurgeon.onnx.layers.sites import OnnxSite
from modelsurgeon.onnx.passes.context import PassContext
from modelsurgeon.onnx.passes.fc2conv.dynamic_inputs import forget_shapes
from modelsurgeon.onnx.passes.steal.parts import WeightedParts, stored_weights, write_layer
from modelsurgeon.surgery.edits import Edit


def grow(
    context: PassContext, site: OnnxSite, theirs: WeightedParts, source: str | None, growth: Growth
) -> Edit:
    """Grow a head to the requested number of classes; the donor's rows come first or at their labels.

    source: the donor's layer. Raises BadPlan where there is none, or its inputs differ.
    """
    size, action = growth.sizes[site.name], "grow"
    details = {"donor": source, "classes": size, "new_rows": growth.init}
    if source is None or source not in theirs.layers:
        raise BadPlan(f"no layer of the donor belongs to {site.name!r}: name one in a map (--map)")
    donor, own = theirs.layers[source].layer, site.layer
    if donor.weight.shape[1:] != own.weight.shape[1:]:
        raise BadPlan(
            f"{site.name!r} takes {own.weight.shape[1:]}, {source!r} of the donor {donor.weight.shape[1:]}: "
            "only a head with the same inputs grows"
        )
    rows = class_origins(size, donor.out_channels, growth.labels, growth.init)
    weight = grow_rows(donor.weight, rows, growth.init, growth.seed)
    bias = None if donor.bias is None else grow_rows(donor.bias, rows, growth.init, growth.seed + 1)
    layer = replace(own, weight=weight.astype(own.weight.dtype), bias=bias)
    layer = _fit_new_rows(context, site, layer, rows, growth) if growth.init == "fit" else layer
    behind = _bias_add(site)
    write_layer(context, site, layer)
    _grow_bias(context, behind, theirs, source, rows, growth)
    forget_shapes(context.model)
    return Edit(layer=site.name, action=action, details=details)


def _fit_new_rows(context: PassContext, site: OnnxSite, layer: Layer, rows: Rows, growth: Growth) -> Layer:
    if growth.means is None or layer.kernel:
        raise BadPlan("new rows are fitted to the mean features of labelled data (--data): give some")
    data = site.nodes[0].inputs[0]
    means = growth.means(context.model, "" if data is None else str(data.name), len(rows))
    weight, bias = fit_rows(layer.weight, layer.bias, rows, means)
    return replace(layer, weight=weight, bias=bias)


def _bias_add(site: OnnxSite) -> ir.Node | None:
    """The Add after a MatMul that holds its bias; None where there is none."""
    users = [node for node, _ in site.nodes[0].outputs[0].uses()]
    one = len(users) == 1 and users[0].op_type == "Add" and site.layer.bias is None
    return users[0] if one and stored_weights(users[0]) else None


def _grow_bias(
    context: PassContext, add: ir.Node | None, theirs: WeightedParts, source: str, rows: Rows, growth: Growth
) -> None:
    if add is None:
        return
    donor = _bias_add(theirs.layers[source])
    [(place, own)] = stored_weights(add).items()
    old = own if donor is None else next(iter(stored_weights(donor).values()))
    new = grow_rows(old.reshape(-1), rows, growth.init, growth.seed + 1).astype(own.dtype)
    add.replace_input_with(int(place), context.store("grown.bias", np.ascontiguousarray(new)))
