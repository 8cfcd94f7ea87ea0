"""MACs of an exported graph, compared with torch's count of the module on the meta device."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.flop_counter import FlopCounterMode

from modelsurgeon.onnx.info import analyze
from modelsurgeon.torch.export import export


class Net(nn.Module):
    """Convolutions of every kind, dense layers on three axes, products of activations, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 5, groups=8, padding=2, dilation=1, bias=False)
        self.up = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.wide = nn.Conv1d(6, 16, 3, dilation=2)
        self.qkv = nn.Linear(16, 48)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.up(self.depthwise(self.stem(x)).relu())
        x = self.wide(x.mean(3)).transpose(1, 2)
        q, k, v = self.qkv(x).unflatten(2, (3, 4, 4)).permute(2, 0, 3, 1, 4)
        x = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return self.head(x @ (x.transpose(1, 2) @ x))


def test_an_export_has_the_macs_that_torch_counts() -> None:
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        Net().eval()(torch.empty(2, 3, 24, 20))
    graph = export(Net().eval(), (torch.zeros(2, 3, 24, 20),))
    found = analyze(graph)
    assert not found.uncounted
    assert 2 * found.totals.macs == counter.get_total_flops()
