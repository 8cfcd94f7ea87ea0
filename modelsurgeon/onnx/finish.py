"""The one way by which every edited model leaves, whatever verb edited it."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from modelsurgeon.onnx.declarations import restore_declarations
from modelsurgeon.onnx.graph.nonfinite import check_finite


def finish(
    edited: ir.Model,
    original: ir.Model,
    *,
    tidy: bool = True,
    measured: ir.Model | None = None,
    cut: bool = False,
) -> None:
    """Make an edited model fit to be written, in place: it declares what the original did, and what is true.

    tidy: remove nodes and weights that nothing uses. measured: a bound copy of the original, where there is
    one. cut: whether inputs and outputs were chosen anew. Raises UnsupportedLayer for NaN or an infinite
    number that the edit wrote, BadModel where inputs, outputs or sizes don't hold.
    """
    if tidy:
        RemoveUnusedNodesPass()(edited)
    check_finite(edited, original)
    restore_declarations(edited, original, measured=measured, cut=cut)
