"""Two models run on the same samples and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modelsurgeon.api.models import Dims, Shapes, graph
from modelsurgeon.api.samples import feeds
from modelsurgeon.arguments import Count, Seed, Tolerance, checked

if TYPE_CHECKING:
    import onnx_ir as ir

    from modelsurgeon.api.models import Model
    from modelsurgeon.comparison.compare import Comparison


@checked
def compare(
    a: Model,
    b: Model,
    data: Any = None,  # noqa: ANN401 - see data.batches
    *,
    samples: Count | None = None,
    batch: Count | None = None,
    seed: Seed = 0,
    tolerance: Tolerance | None = None,
    per_layer: bool = False,
    shapes: Shapes | None = None,
    dims: Dims | None = None,
    provider: str = "cpu",
) -> Comparison:
    """Whether two models give the same outputs for the same samples, within the noise of A itself.

    The noise floor is the difference of A from itself under another legal execution: optimizations off, one
    thread. Errors are relative L2 norms, over all samples.

    data: whatever `data.batches` takes; without it, seeded noise is drawn and the result says so. samples: at
    most so many of data, or how many are drawn. batch: samples per feed, where A leaves that open. seed: of
    the noise. tolerance: relative L2 up to which outputs count as the same, 1e-5 by default. per_layer: also
    compare the outputs of the linear layers that both models have. shapes, dims: sizes that A leaves open.
    provider: where both run. Raises BadModel, BadData, UnknownShape, and Unavailable for a missing provider.
    """
    from modelsurgeon.comparison.compare import compare as compare_runs
    from modelsurgeon.onnx.run import runner
    from modelsurgeon.onnx.run.noise_floor import other_execution

    ours, theirs = graph(a, shapes=shapes), graph(b, shapes=shapes)
    batches, notes = feeds(ours, data, samples=samples, batch=batch, seed=seed, shapes=shapes, dims=dims)
    outputs = _layer_outputs(ours, theirs) if per_layer else ()
    return compare_runs(
        runner(ours, provider=provider, outputs=outputs),
        runner(theirs, provider=provider, outputs=outputs),
        batches,
        rerun_a=other_execution(ours, provider=provider, outputs=outputs),
        tolerance=tolerance,
        providers=(provider, provider),
        notes=notes,
    )


def _layer_outputs(a: ir.Model, b: ir.Model) -> list[str]:
    """The outputs of A's linear layers, in its main graph, that B computes too."""
    from modelsurgeon.layers.onnx_names import LINEAR_OPERATORS

    computed = {value.name for node in b.graph for value in node.outputs}
    found = [str(node.outputs[0].name) for node in a.graph if node.op_type in LINEAR_OPERATORS]
    return [name for name in found if name in computed]
