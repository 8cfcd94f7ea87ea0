"""Latency of a layer and of the chains that could replace it, each timed alone in a model of its own.

Times depend on shapes and geometry, not on the values of a weight: a chain is timed before it is factorized,
and layers of the same shapes and geometry share one measurement. Each chain runs in turn with the layer; the
layer's time and the chain's median ratio to it are kept, so that a machine that is slow for a while slows
both. A layer alone converts its map to the runtime's own layout and back, which a whole model does once for
several layers; the chain does the same, so the difference of the two times is right. An operator that is
fused with the layer is fused with the last factor of the chain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter

import numpy as np
import onnx_ir as ir

from modelsurgeon.errors import SurgeryError, UnsupportedLayer
from modelsurgeon.layers import Array, Layer
from modelsurgeon.layers.random_weights import normal_noise, with_random_weights
from modelsurgeon.onnx.layers import operators
from modelsurgeon.onnx.run.latency_cache import cache_for
from modelsurgeon.onnx.run.timing import Timer
from modelsurgeon.surgery.site import Call

TIMED_THREADS = 1  # the times of one thread vary least
MIN_ROUNDS, MAX_ROUNDS = 3, 15  # rounds in which a chain and its layer are timed in turn
MAX_ROUNDS_SECONDS = 0.05  # after the fewest rounds, none starts later than this

Chain = Sequence[Layer]


class LayerTimer:
    """Times layers and chains with one provider; see `surgery.site.LayerTiming`."""

    def __init__(self, provider: str) -> None:
        """Open the cache of the provider's times."""
        self._provider = provider
        self._cache = cache_for(provider, TIMED_THREADS)

    def __call__(self, layer: Layer, chains: Sequence[Chain], calls: Sequence[Call]) -> list[float] | None:
        """Milliseconds of the layer and of every chain over all calls; None where they can't be run."""
        total = np.zeros(1 + len(chains))
        try:
            for call, count in Counter(calls).items():
                total += count * np.array(self._times_of_call(layer, chains, call))
        except SurgeryError:
            return None
        return [float(ms) for ms in total]

    def _times_of_call(self, layer: Layer, chains: Sequence[Chain], call: Call) -> list[float]:
        """Milliseconds of the layer and of every chain for one call; those not in the cache are measured."""
        known, layer_key = self._cache, chain_key([layer], call)
        keys = [chain_key(chain, call) for chain in chains]
        unknown = {key: chain for key, chain in zip(keys, chains, strict=True) if key not in known}
        if unknown or layer_key not in known:
            layer_timer = self._timer([layer], call)
            layer_timer.runs(1, 0.0)
            pairs = {
                key: paired_times(self._timer(chain, call), layer_timer) for key, chain in unknown.items()
            }
            if not pairs:
                pairs[layer_key] = [(ms, ms) for ms in layer_timer.runs(MIN_ROUNDS, 0.0)]
            ms, times = median_times(pairs, known.get(layer_key))
            known.add({layer_key: ms, **times})
        return [known[key] for key in (layer_key, *keys)]

    def _timer(self, chain: Chain, call: Call) -> Timer:
        feed = {"x": normal_noise(_input_shape(chain, call), chain[0].weight.dtype)}
        return Timer.of(standalone(chain, call), feed, TIMED_THREADS, self._provider)


def standalone(chain: Chain, call: Call) -> ir.Model:
    """A model of the chain alone, with random weights, at the spatial size and the positions of one call.

    Raises UnsupportedLayer for a stack of matrices: only the node that applies it defines how it is stacked.
    """
    if any(layer.groups > 1 and not layer.kernel for layer in chain):
        raise UnsupportedLayer("a stack of matrices can only be timed inside its model")
    dtype = ir.TensorType(ir.DataType.from_numpy(chain[0].weight.dtype))
    x = ir.Value(name="x", type=dtype, shape=ir.Shape(_input_shape(chain, call)))
    placeholder = ir.node("Gemm", [x])  # the node in whose place the layers are written
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []
    value = x
    for index, layer in enumerate(with_random_weights(chain)):
        weight = _initializer(f"w{index}", operators.weight_as_stored(placeholder, layer))
        bias = None if layer.bias is None else _initializer(f"b{index}", layer.bias)
        written = operators.write(placeholder, layer, value, weight, bias)
        value = written[-1].outputs[0]
        nodes += written
        weights += [weight] if bias is None else [weight, bias]
    for index, node in enumerate(nodes):
        node.name = node.outputs[0].name = f"n{index}"
    value.type = dtype
    graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 17}, name="chain")
    return ir.Model(graph, ir_version=8)


def _input_shape(chain: Chain, call: Call) -> tuple[int, ...]:
    """Shape of the data: `(positions, channels, *space)`."""
    size, positions = call
    return positions, chain[0].in_channels, *size


def chain_key(chain: Chain, call: Call) -> str:
    """Key of a chain's time: shapes, dtypes and geometry of its layers and of the call, in one line."""
    size, positions = call
    return f"{positions} x {'x'.join(map(str, size))}: {' '.join(map(_layer_key, chain))}"


def _layer_key(layer: Layer) -> str:
    geometry = (
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
        layer.transposed,
        layer.output_padding,
    )
    plain = str(geometry).replace(" ", "")
    return f"{layer.weight.dtype}{list(layer.weight.shape)}{plain}{'b' * (layer.bias is not None)}".replace(
        " ", ""
    )


def paired_times(chain: Timer, layer: Timer) -> list[tuple[float, float]]:
    """Milliseconds of the chain and of the layer, run in turn, after a first run that allocates memory."""
    chain.runs(1, 0.0)
    times: list[tuple[float, float]] = []
    began = perf_counter()
    while len(times) < MIN_ROUNDS or (
        len(times) < MAX_ROUNDS and perf_counter() - began < MAX_ROUNDS_SECONDS
    ):
        times.append((chain.runs(1, 0.0)[0], layer.runs(1, 0.0)[0]))
    return times


def median_times(
    pairs: Mapping[str, Sequence[tuple[float, float]]], layer_ms: float | None = None
) -> tuple[float, dict[str, float]]:
    """Milliseconds of the layer and of every chain: medians, which a few disturbed runs don't change.

    pairs: for each chain, its milliseconds and those of the layer, run in turn. layer_ms: those of the layer
    where they are known.
    """
    ms = median(layer for times in pairs.values() for _, layer in times) if layer_ms is None else layer_ms
    return ms, {key: ms * median(chain / layer for chain, layer in times) for key, times in pairs.items()}


def _initializer(name: str, array: Array) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(array, name=name))
