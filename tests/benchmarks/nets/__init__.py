"""The nets of the accuracy benchmark."""

from __future__ import annotations

from tests.benchmarks.nets import digits, kinds, photos, reading, sentences
from tests.benchmarks.subjects import Net

NETS: tuple[Net, ...] = (*digits.NETS, *photos.NETS, *reading.NETS, *sentences.NETS, *kinds.NETS)
