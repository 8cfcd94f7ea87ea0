"""The execution of a model whose difference from another one is the noise floor of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelsurgeon.onnx.run.execute import Run, runner

if TYPE_CHECKING:
    import onnx_ir as ir


def other_execution(
    model: ir.Model, *, optimize: bool = True, provider: str = "cpu", outputs: Sequence[str] = ()
) -> Run:
    """A run of the model under another legal execution than `runner` with the same `optimize`.

    Both round in another order, and by how much they differ is the noise floor. Optimizations are on where
    those of the other run are off; where they are off here, a single thread adds in one order.
    """
    threads = 1 if optimize else None
    return runner(model, outputs=outputs, provider=provider, optimize=not optimize, threads=threads)
