"""Params of a graph that was exported from a PyTorch module: those of the module, each once.

What the exporter makes of a parameter is no guide: it slices and joins parameters and adds constants. The
export therefore records the parameters behind each constant (`modelsurgeon.torch.exported_params`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from modelsurgeon.layers.onnx_names import MODULE_PARAMS_KEY, ORIGINS_KEY
from modelsurgeon.onnx.graph.traversal import bodies

Size = tuple[int, int]  # elements, bytes


@dataclass(frozen=True, kw_only=True)
class ModuleParams:
    """Parameters of the module that a graph was exported from; none for any other graph.

    exported: whether an export has recorded them. sizes: of each parameter. unused: those that no constant of
    the export is made from. divided: those of which an edit has replaced a part, so that each remaining part
    counts for itself.
    """

    exported: bool
    sizes: Mapping[str, Size] = field(default_factory=dict)
    unused: Mapping[str, Size] = field(default_factory=dict)
    divided: frozenset[str] = frozenset()
    counted: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: ir.Model) -> ModuleParams:
        """The parameters that the export recorded."""
        if MODULE_PARAMS_KEY not in model.graph.meta:
            return cls(exported=False)
        recorded = model.graph.meta[MODULE_PARAMS_KEY]
        present = Counter(
            name
            for graph in (model.graph, *bodies(model))
            for value in graph.initializers.values()
            for name in value.meta.get(ORIGINS_KEY, ())
        )
        return cls(
            exported=True,
            sizes={name: (elements, size) for name, (elements, size, _) in recorded.items()},
            unused={name: (elements, size) for name, (elements, size, uses) in recorded.items() if not uses},
            divided=frozenset(name for name, (*_, uses) in recorded.items() if present[name] < uses),
        )

    def made(self, value: ir.Value) -> bool:
        """Whether a constant in use is made from parameters of the module."""
        return self.exported and bool(value.meta.get(ORIGINS_KEY)) and bool(value.uses())

    def is_other_constant(self, value: ir.Value) -> bool:
        """Whether a constant is a buffer of the module, or the exporter's own."""
        return self.exported and value.meta.get(ORIGINS_KEY) == ()

    def size(self, value: ir.Value, own: Size) -> Size:
        """Elements and bytes that a constant adds to the params. own: its own size.

        A constant that isn't made from parameters counts as it is; of several constants made from one
        parameter, the first that is asked for counts the whole parameter.
        """
        origins = value.meta.get(ORIGINS_KEY) if self.exported else None
        if not origins or not self.divided.isdisjoint(origins):
            return own
        new = [self.sizes[name] for name in origins if name not in self.counted]
        self.counted.update(origins)
        return sum(elements for elements, _ in new), sum(size for _, size in new)
