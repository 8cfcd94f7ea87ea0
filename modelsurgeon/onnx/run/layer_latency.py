"""How long a layer takes, and the chains that could take its place: each alone, in a model of its own.

Times depend on shapes and geometry, not on the numbers in a weight: a chain is timed before it is factorized,
and layers that are alike share one measurement. Each chain runs in turn with the layer; what is kept is the
layer's time and the median ratio to it, so that a machine that slows down for a while slows both.
A layer alone converts its map to the runtime's own layout and back, which neighbours in a net do once for
all; the chain pays the same, so the difference of the two is true. What follows a layer and is fused with it
follows the last factor, and is fused with that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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

TIMED_THREADS = 1  # as many as repeat best
MIN_ROUNDS, MAX_ROUNDS = 3, 15  # rounds of layer and chain,
ENOUGH_SECONDS = 0.05  # seconds after which no more than the least are run

Chain = Sequence[Layer]


class LayerTimer:
    """Times chains with one provider; see `surgery.Clock`."""

    def __init__(self, provider: str) -> None:
        """Nothing is timed yet."""
        self._provider = provider
        self._ledger = cache_for(provider, TIMED_THREADS)

    def __call__(self, layer: Layer, chains: Sequence[Chain], calls: Sequence[Call]) -> list[float] | None:
        """Milliseconds of the layer and of every chain over all calls; None where they can't be run."""
        found = np.zeros(1 + len(chains))
        try:
            for call, times in Counter(calls).items():
                found += times * np.array(self._timed(layer, chains, call))
        except SurgeryError:
            return None
        return [float(ms) for ms in found]

    def _timed(self, layer: Layer, chains: Sequence[Chain], call: Call) -> list[float]:
        """The same for one call; what isn't known yet is measured."""
        known, whole = self._ledger, chain_key([layer], call)
        keys = [chain_key(chain, call) for chain in chains]
        unknown = {key: chain for key, chain in zip(keys, chains, strict=True) if key not in known}
        if unknown or whole not in known:
            yardstick = self._timer([layer], call)
            yardstick.runs(1, 0.0)
            pairs = {key: _pairs(self._timer(chain, call), yardstick) for key, chain in unknown.items()}
            own = [ms for found in pairs.values() for _, ms in found] or yardstick.runs(MIN_ROUNDS, 0.0)
            ms = known[whole] if whole in known else median(own)
            known.add({whole: ms, **{key: ms * _ratio(found) for key, found in pairs.items()}})
        return [known[key] for key in (whole, *keys)]

    def _timer(self, chain: Chain, call: Call) -> Timer:
        feed = {"x": normal_noise(_shape(chain, call), chain[0].weight.dtype)}
        return Timer.of(standalone(chain, call), feed, TIMED_THREADS, self._provider)


def standalone(chain: Chain, call: Call) -> ir.Model:
    """A model of nothing but the chain, at the size and the positions of one call, filled with noise.

    Raises UnsupportedLayer for a stack of matrices: what applies it knows how they are stacked.
    """
    if any(link.groups > 1 and not link.kernel for link in chain):
        raise UnsupportedLayer("a stack of matrices is timed in its net alone")
    kind = ir.TensorType(ir.DataType.from_numpy(chain[0].weight.dtype))
    x = ir.Value(name="x", type=kind, shape=ir.Shape(_shape(chain, call)))
    stand_in = ir.node("Gemm", [x])  # of convolutions nothing is asked but their geometry
    nodes: list[ir.Node] = []
    weights: list[ir.Value] = []
    value = x
    for place, link in enumerate(with_random_weights(chain)):
        weight = _stored(f"w{place}", operators.weight_as_stored(stand_in, link))
        bias = None if link.bias is None else _stored(f"b{place}", link.bias)
        made = operators.write(stand_in, link, value, weight, bias)
        value = made[-1].outputs[0]
        nodes += made
        weights += [weight] if bias is None else [weight, bias]
    for place, node in enumerate(nodes):
        node.name = node.outputs[0].name = f"n{place}"
    value.type = kind
    graph = ir.Graph([x], [value], nodes=nodes, initializers=weights, opset_imports={"": 17}, name="chain")
    return ir.Model(graph, ir_version=8)


def _shape(chain: Chain, call: Call) -> tuple[int, ...]:
    """Of the data."""
    size, positions = call
    return positions, chain[0].in_channels, *size


def chain_key(chain: Chain, call: Call) -> str:
    """All that a chain's time depends on, in one line."""
    size, positions = call
    return f"{positions} x {'x'.join(map(str, size))}: {' '.join(map(_link, chain))}"


def _link(link: Layer) -> str:
    geometry = (link.stride, link.padding, link.dilation, link.groups, link.transposed, link.output_padding)
    plain = str(geometry).replace(" ", "")
    return f"{link.weight.dtype}{list(link.weight.shape)}{plain}{'b' * (link.bias is not None)}".replace(
        " ", ""
    )


def _pairs(chain: Timer, layer: Timer) -> list[tuple[float, float]]:
    """Milliseconds of both, in turn, once the chain has run and its memory is there."""
    chain.runs(1, 0.0)
    found: list[tuple[float, float]] = []
    began = perf_counter()
    while len(found) < MIN_ROUNDS or (len(found) < MAX_ROUNDS and perf_counter() - began < ENOUGH_SECONDS):
        found.append((chain.runs(1, 0.0)[0], layer.runs(1, 0.0)[0]))
    return found


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return median(chain / layer for chain, layer in pairs)


def _stored(name: str, array: Array) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(array, name=name))
