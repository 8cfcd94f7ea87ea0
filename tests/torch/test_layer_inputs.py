"""Layer inputs recorded by hooks, compared with those of an explicit forward."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from modelsurgeon.torch import layer_inputs
from modelsurgeon.torch.model import TorchModel


class Net(nn.Module):
    """Two layers, defined in reverse order of their calls."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 3)
        self.first = nn.Conv2d(2, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu().mean(dim=(2, 3)))


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(4, 2, 5, 5)).astype(np.float32)


def test_inputs_are_recorded_in_call_order(data: np.ndarray) -> None:
    net = Net()
    seen = layer_inputs.recorded_inputs(net, {"last": net.last, "first": net.first}, {"x": data})
    assert [name for name, _ in seen] == ["first", "last"]
    np.testing.assert_array_equal(seen[0][1], data)
    with torch.no_grad():
        between = net.first(torch.tensor(data)).relu().mean(dim=(2, 3))
    np.testing.assert_allclose(seen[1][1], between, atol=1e-6)


def test_replaced_layers_change_the_inputs_of_later_ones(data: np.ndarray) -> None:
    net = Net()
    before = deepcopy(net)
    editable = TorchModel(net, data=data)
    names, apart = [], []
    for site, pairs in editable.paired_inputs(["last", "first"], editable.batches(0)):
        names.append(site.name)
        apart.append(max(float(np.abs(x - now).max()) for x, now, _ in pairs()))
        layer = site.layer
        site.replace([layer.like(2 * layer.weight, axes=range(len(layer.kernel)), bias=layer.bias)])
    assert names == ["first", "last"]
    assert apart[0] == 0 and apart[1] > 0.01
    torch.testing.assert_close(net.first.weight, 2 * before.first.weight)


def test_nothing_after_the_layer_is_run(data: np.ndarray) -> None:
    class Breaks(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            try:
                self.first(x)
            except Exception as error:  # as some forwards do
                raise AssertionError from error
            raise AssertionError("it went on")

    net = Breaks()
    np.testing.assert_array_equal(layer_inputs.first_input(net, net.first, {"x": data}), data)
    assert not net.first._forward_pre_hooks


def test_a_sample_without_a_batch_axis_gets_one() -> None:
    assert layer_inputs.rows(nn.Conv2d(2, 3, 1), torch.ones(2, 4, 4)).shape == (1, 2, 4, 4)
    assert layer_inputs.rows(nn.Linear(3, 1), torch.ones(2, 5, 3)).shape == (10, 3)
