"""Batch norms of modules: folded, frozen and recalibrated in place, and folded as on the export."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import modelsurgeon as ms

SHAPES = {"input": (2, 3, 8, 8)}


def stirred(module: nn.Module) -> nn.Module:
    """The module in eval mode with random batch norm parameters and statistics."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None:
            for value in (part.running_mean, part.running_var, *part.parameters()):
                nn.init.uniform_(value, 0.5, 1.5)
    return module.eval()


def net() -> nn.Module:
    torch.manual_seed(0)  # every call gives the same weights
    layers = [
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.ConvTranspose2d(6, 4, 2, stride=2, groups=2), nn.BatchNorm2d(4, affine=False),
        nn.Flatten(), nn.Linear(4 * 144, 5), nn.BatchNorm1d(5),
    ]  # fmt: skip
    return stirred(nn.Sequential(*layers))


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


def test_norms_fold_into_the_layers_before() -> None:
    module = net()
    done = ms.bn.fold(module, shapes=SHAPES)
    assert done.model is module
    assert [(edit.layer, edit.details["into"]) for edit in done.edits] == [("1", "0"), ("4", "3"), ("7", "6")]
    assert norms(module) == 0
    assert done.comparison is not None
    assert 0 < done.comparison.worst < 2e-6
    assert all(value.requires_grad for value in module.parameters())


@pytest.mark.slow
def test_a_module_and_its_export_are_folded_alike() -> None:
    graph = ms.bn.fold(_exported(net()), shapes=SHAPES).model
    module = net()
    ms.bn.fold(module, shapes=SHAPES)
    assert ms.compare(_exported(module), graph, shapes=SHAPES).worst < 2e-6


def _exported(module: nn.Module) -> object:
    from modelsurgeon.api.models import graph

    return graph(module, shapes=SHAPES)


class Apart(nn.Module):
    """A convolution and a batch norm, called by the given forward."""

    def __init__(self, forward: Callable[[Apart, Tensor], Tensor], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.conv, self.norm, self.way = nn.Conv2d(3, 6, 3), norm or nn.BatchNorm2d(6), forward

    def forward(self, input: Tensor) -> Tensor:
        return self.way(self, input)


def plain(self: Apart, x: Tensor) -> Tensor:
    return self.norm(self.conv(x))  # type: ignore[no-any-return]


def beside(self: Apart, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.norm(y) + y  # type: ignore[no-any-return]


def returned(self: Apart, x: Tensor) -> Tensor:
    y = self.conv(x)
    return self.norm(y), y  # type: ignore[return-value]


def twice(self: Apart, x: Tensor) -> Tensor:
    return self.norm(self.conv(x)) + self.norm(self.conv(2 * x))  # type: ignore[no-any-return]


def behind_relu(self: Apart, x: Tensor) -> Tensor:
    return self.norm(self.conv(x).relu())  # type: ignore[no-any-return]


def never(self: Apart, x: Tensor) -> Tensor:
    return self.conv(x)  # type: ignore[no-any-return]


class Odd(nn.BatchNorm2d):
    """A batch norm with a forward of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Apart(beside), "has other uses"),
        (Apart(returned), "has other uses"),
        (Apart(twice), "called more than once"),
        (Apart(behind_relu), "no layer that can be replaced"),
        (Apart(never), "never calls it"),
        (Apart(plain, Odd(6)), "forward of its own"),
        (Apart(plain, nn.BatchNorm2d(6, track_running_stats=False)), "keeps no running statistics"),
    ],
)
def test_skipped_norms_have_a_reason(module: nn.Module, reason: str) -> None:
    (edit,) = ms.bn.fold(stirred(module), shapes=SHAPES, compare=False).edits
    assert reason in str(edit.skipped)
    assert norms(module) == 1


def test_training_mode_hooks_and_skip_are_reasons() -> None:
    module = net()
    module[1].train()
    module[4].register_forward_hook(lambda *_: None)
    reasons = [edit.skipped for edit in ms.bn.fold(module, shapes=SHAPES, skip=["7"]).edits]
    assert [
        word in str(reason) for word, reason in zip(("training", "hooks", "--skip"), reasons, strict=True)
    ]
    assert norms(module) == 3


def test_an_exceeded_tolerance_restores_the_module() -> None:
    module = net()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ms.ToleranceExceeded, match="bn fold changed the outputs"):
        ms.bn.fold(module, shapes=SHAPES, tolerance=1e-12)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_frozen_norms_ignore_train_mode() -> None:
    module = net()
    done = ms.bn.freeze(module, shapes=SHAPES)
    assert norms(module) == 0
    assert done.comparison is not None
    assert done.comparison.worst < 1e-6
    x = torch.ones(2, 3, 8, 8)
    assert torch.equal(module.train()(x), module.eval()(x))
    with pytest.raises(ms.UnsupportedLayer, match="a module has one form"):
        ms.bn.freeze(net(), form="batchnorm", shapes=SHAPES)


def test_recalibration_equals_one_large_batch() -> None:
    """In training mode with momentum 1, torch stores the statistics of its batch in all layers at once."""
    data = np.random.default_rng(0).normal(size=(8, 3, 8, 8)).astype(np.float32)
    ours, theirs = net(), net()
    done = ms.bn.recalibrate(ours, data=data)
    assert [edit.layer for edit in done.edits] == ["1", "4", "7"]
    for part in theirs.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.momentum = 1.0
    with torch.no_grad():
        theirs.train()(torch.tensor(data))
    for edit in done.edits:
        a, b = (dict(module.named_modules())[edit.layer] for module in (ours, theirs))
        count = edit.details["values"]
        assert torch.allclose(a.running_mean, b.running_mean, atol=1e-6)  # type: ignore[arg-type]
        assert torch.allclose(a.running_var * count / (count - 1), b.running_var, rtol=1e-4)  # type: ignore[operator, arg-type]
    module = net()
    before = module[1].running_var.half()
    done = ms.bn.recalibrate(module.half(), data=data * np.float32(3e4), compare=False)
    assert done.edits[0].skipped == "its statistics aren't finite in float16"
    assert torch.equal(module[1].running_var, before)
    with pytest.raises(ms.BadData, match="can't be made from noise"):
        ms.bn.recalibrate(net(), shapes=SHAPES)
    with pytest.raises(ms.UnknownShape, match="fixes no input shapes"):
        ms.bn.fold(net())
