"""Two models run on the same samples and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelsurgeon.api.models import Model
    from modelsurgeon.comparison.compare import Comparison
from modelsurgeon.api.models import Dims, Shapes, graph
from modelsurgeon.api.samples import feeds


def compare(
    a: Model,
    b: Model,
    data: Any = None,  # noqa: ANN401 - see data.batches
    *,
    samples: int | None = None,
    batch: int | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    per_layer: bool = False,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    provider: str = "cpu",
) -> Comparison:
    """Whether two models give the same answers to the same samples, held against the noise of A itself.

    data: whatever `data.batches` takes; without it, seeded noise is drawn and the result says so.
    samples: at most so many of data, or how many are drawn. batch: samples a feed, where A leaves that open.
    tolerance: relative L2 up to which an output counts as the same. per_layer: also the outputs of the layers
    that both models have. shapes, dims: sizes that A leaves open. Raises BadModel, BadData, UnknownShape.
    """
    from modelsurgeon.comparison.compare import compare as compare_runs
    from modelsurgeon.onnx.run import runner

    ours, theirs = graph(a, shapes=shapes), graph(b, shapes=shapes)
    batches, notes = feeds(ours, data, samples=samples, batch=batch, seed=seed, shapes=shapes, dims=dims)
    outputs = _layer_outputs(ours, theirs) if per_layer else ()
    return compare_runs(
        runner(ours, provider=provider, outputs=outputs),
        runner(theirs, provider=provider, outputs=outputs),
        batches,
        rerun_a=runner(ours, provider=provider, outputs=outputs, optimize=False, threads=1),
        tolerance=tolerance,
        providers=(provider, provider),
        notes=notes,
    )


def _layer_outputs(a: ir.Model, b: ir.Model) -> list[str]:
    """The outputs of A's linear layers, in its main graph, that B computes too."""
    from modelsurgeon.onnx.graph.names import LINEAR

    computed = {value.name for node in b.graph for value in node.outputs}
    found = [str(node.outputs[0].name) for node in a.graph if node.op_type in LINEAR]
    return [name for name in found if name in computed]
