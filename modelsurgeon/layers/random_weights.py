"""Chains with random weights, for measuring latency before anything is factorized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from modelsurgeon.layers.layer import Array, Layer

NOISE_NUMBERS = 4099  # repeated to fill an array; a prime, so that no two channels are equal


def with_random_weights(chain: Sequence[Layer]) -> list[Layer]:
    """The chain with random weights, scaled so that outputs are about as large as inputs. Biases stay."""
    return [replace(link, weight=_noise_weights(link)) for link in chain]


def normal_noise(shape: Sequence[int], dtype: np.dtype[np.generic], scale: float = 1.0) -> Array:
    """Normal noise of a shape, the same in every call."""
    numbers = np.random.default_rng(0).normal(scale=scale, size=NOISE_NUMBERS)
    return np.resize(numbers.astype(dtype), shape)


def _noise_weights(link: Layer) -> Array:
    return normal_noise(link.weight.shape, link.weight.dtype, float(max(1, link.weight[0].size)) ** -0.5)
