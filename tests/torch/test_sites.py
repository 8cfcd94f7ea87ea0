"""Sites of modules: which are found, what replaces them, and one case for each reason to skip a module."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

pytest.importorskip("torch", reason="torch isn't installed")

import torch
from torch import nn
from torch.nn.utils import parametrizations

from modelsurgeon.errors import BadData
from modelsurgeon.factorize import METHODS
from modelsurgeon.layers import Layer
from modelsurgeon.surgery.apply import apply_plan
from modelsurgeon.surgery.plan import FULL_RANK, Plan, PlanStep
from modelsurgeon.torch.layers import module_of
from modelsurgeon.torch.sites import PROBE_SIZES, TorchSite, sites
from tests import conv
from tests.strategies import layers


class Net(nn.Module):
    """Convolutions with all their geometry, and a Linear on three axes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=(1, 2), padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2, dilation=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, groups=2, output_padding=1)
        self.head = nn.Linear(14, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.up(self.deep(self.norm(self.stem(x)))).mean(1))


X = torch.ones(2, 3, 12, 20)


def only_site(module: nn.Module, **how: object) -> TorchSite:
    found, left = sites(nn.Sequential(module), **how)
    assert not left
    return found[0]


def reasons(module: nn.Module, **how: object) -> dict[str, str | None]:
    return {edit.layer: edit.skipped for edit in sites(module, **how)[1]}


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_every_layer_is_found_with_name_and_calls() -> None:
    found, left = sites(Net(), example=X)
    assert {site.name: site.calls for site in found} == {
        "stem": [((12, 20), 2)],
        "deep.0": [((12, 10), 2)],
        "up": [((8, 6), 2)],
        "head": [((), 36)],
    }
    assert not left


def test_sizes_are_defaults_without_an_example() -> None:
    calls = {site.name: site.calls for site in sites(Net())[0]}
    assert calls["stem"] == [(PROBE_SIZES[2], 1)] == [((224, 224), 1)]
    assert calls["head"] == [((), 1)]


@given(layers().map(lambda layer: replace(layer, padding=tuple((min(p),) * 2 for p in layer.padding))))
def test_replacing_a_layer_by_itself_is_exact(layer: Layer) -> None:
    net = nn.Sequential(module_of(layer), nn.Identity())
    rng = np.random.default_rng(1)
    x = torch.tensor(rng.normal(size=(2, layer.in_channels, *conv.sizes(layer))))
    want = net(x)
    (site,), _ = sites(net, example=x)
    before = net[0]
    site.replace([site.layer])
    assert type(net[0]) is type(before)
    assert net[0] is not before
    assert torch.equal(net(x), want)


@pytest.mark.parametrize("method", METHODS)
def test_a_full_rank_plan_keeps_the_outputs(method: str) -> None:
    net = Net().double().eval()
    want = net(X.double())
    found, _ = sites(net, example=X.double())
    edits = apply_plan(Plan({site.name: PlanStep(method=method, rank=FULL_RANK) for site in found}), found)
    assert any(edit.skipped is None for edit in edits)
    torch.testing.assert_close(net(X.double()), want, rtol=0, atol=1e-8)


def test_a_chain_is_a_sequential_of_ordinary_modules_in_the_same_place() -> None:
    net = Net()
    names = [name for name, _ in net.named_children()]
    (site,) = [site for site in sites(net)[0] if site.name == "deep.0"]
    site.replace(METHODS["tucker2"](site.layer, 2))
    assert [name for name, _ in net.named_children()] == names
    chain = net.deep[0]
    assert type(chain) is nn.Sequential
    assert {type(link) for link in chain} == {nn.Conv2d}
    assert set(chain.state_dict()) == {"0.weight", "1.weight", "2.weight", "2.bias"}
    assert [link.groups for link in chain] == [2, 2, 2]
    assert chain[1].dilation == (2, 2)


@pytest.mark.parametrize("method", METHODS)
def test_all_factors_train(method: str) -> None:
    torch.manual_seed(0)
    net = Net()
    found, _ = sites(net, example=X)
    apply_plan(Plan({site.name: PlanStep(method=method, rank=2) for site in found}), found)
    before = state(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    net(torch.randn(4, 3, 12, 20)).square().sum().backward()
    optimizer.step()
    still = [name for name, _ in net.named_parameters() if torch.equal(net.state_dict()[name], before[name])]
    # A batch norm cancels a bias before it: the gradient of the bias is only rounding.
    assert not [name for name in still if not name.startswith("stem")]
    assert "stem.0.weight" not in still


def test_new_modules_keep_dtype_and_flags() -> None:
    net = nn.Sequential(nn.Conv1d(4, 4, 3, dtype=torch.bfloat16)).eval()
    net[0].weight.requires_grad = False
    (site,), _ = sites(net)
    site.replace(METHODS["svd"](site.layer, 2))
    assert {p.dtype for p in net.parameters()} == {torch.bfloat16}
    flags = {name: p.requires_grad for name, p in net.named_parameters()}
    assert flags == {"0.0.weight": False, "0.1.weight": False, "0.1.bias": True}
    assert not any(part.training for part in net.modules())


def test_no_side_effects_of_an_example() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()
            self.drop = nn.Dropout()
            self.register_buffer("count", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count += 1
            return self.net(self.drop(x)) + torch.rand(())

    net = Counting()
    net.net.eval()
    before, flags, random = state(net), [part.training for part in net.modules()], torch.get_rng_state()
    sites(net, example=X)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [part.training for part in net.modules()] == flags
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())
    assert all(value.grad is None for value in net.parameters())


@pytest.mark.parametrize("example", [X, X.numpy(), X.double().numpy(), [X], (X,), {"x": X}, {"x": X.numpy()}])
def test_an_example_in_each_form(example: object) -> None:
    found, _ = sites(Net(), example=example)
    assert found[0].calls == [((12, 20), 2)]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"y": X}, "doesn't fit Net: missing a required argument: 'x'; it takes x"),
        ([X, X], "too many positional arguments"),
        (torch.ones(2, 4, 12, 20), "Net fails on the example: Given groups=1.* got 4 channels"),
    ],
)
def test_an_example_that_does_not_fit(example: object, message: str) -> None:
    with pytest.raises(BadData, match=f"(?s){message}"):
        sites(Net(), example=example)


class Twice(nn.Module):
    """One Linear under two names, called three times at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner = nn.ModuleList([self.first])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner[0](self.first(self.first(x))[:1])


def test_a_shared_module_is_one_layer_replaced_everywhere() -> None:
    net = Twice()
    x = torch.randn(3, 4)
    found, left = sites(net, example=x)
    assert [(site.name, site.calls) for site in found] == [("first", [((), 3), ((), 3), ((), 1)])]
    assert not left
    want = net(x)
    found[0].replace(METHODS["svd"](found[0].layer, 4))
    assert net.first is net.inner[0]
    torch.testing.assert_close(net(x), want)


def test_a_subclass_without_a_forward_of_its_own_is_a_layer() -> None:
    class Named(nn.Linear):
        pass

    assert only_site(Named(3, 2)).layer.weight.shape == (2, 3)


class OwnForward(nn.Conv1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2


class OwnConvolution(nn.Conv1d):
    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(x, weight / 2, bias)


def patched() -> nn.Module:
    module = nn.Linear(2, 2)
    module.forward = lambda x: x
    return module


def hooked() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_forward_hook(lambda _module, _args, output: output * 2)
    return module


def extended() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_buffer("scale", torch.ones(()))
    return module


def pruned() -> nn.Module:
    from torch.nn.utils import prune

    return prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5)


def weight_normed() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older of two kinds, deprecated and still in use
        return nn.utils.weight_norm(nn.Linear(2, 2))


def quantized() -> nn.Module:
    from torch.ao.nn.quantized import Linear

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Linear(2, 2)


def scripted() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: nn.Conv1d(2, 2, 3, padding=1, padding_mode="circular"), "it pads with 'circular' values"),
        (lambda: nn.Conv2d(2, 2, (3, 2), padding="same"), "padding 'same' of an even kernel is uneven"),
        (lambda: parametrizations.weight_norm(nn.Linear(2, 2)), "it is parametrized"),
        (lambda: parametrizations.spectral_norm(nn.Conv1d(2, 2, 3)), "it is parametrized"),
        (weight_normed, "weight is computed anew at each use"),
        (pruned, "weight is computed anew at each use"),
        (lambda: nn.LazyLinear(2), "it is lazy and has no weight yet"),
        (quantized, "Linear is none of torch's Linear, Conv and ConvTranspose modules"),
        (scripted, "RecursiveScriptModule is none of torch's"),
        (hooked, "hooks are registered on it"),
        (extended, "holds more than a weight and a bias"),
        (lambda: OwnForward(2, 2, 1), "OwnForward is a subclass of Conv1d with a forward of its own"),
        (lambda: OwnConvolution(2, 2, 1), "OwnConvolution is a subclass of Conv1d with a forward of its own"),
        (lambda: nn.LSTM(2, 2), "multiplied inside torch's own loop: export the model"),
        (lambda: nn.GRUCell(2, 2), "multiplied inside torch's own loop: export the model"),
        (patched, "its forward was replaced on this module"),
        (lambda: nn.Linear(2, 2, dtype=torch.complex64), "weight is complex64"),
        (lambda: nn.Linear(2, 2, device="meta"), "weight is on the meta device"),
    ],
)
def test_skipped_modules_have_a_reason(make: Callable[[], nn.Module], reason: str) -> None:
    found, left = sites(nn.Sequential(make()))
    assert not found
    assert [edit.layer for edit in left] == ["0"]
    assert reason in (left[0].skipped or "")


def test_tied_weights_are_skipped() -> None:
    net = nn.ModuleDict({"words": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    net["head"].weight = net["words"].weight
    assert reasons(net) == {"head": "its weight or bias belongs to several modules: words, head"}


def test_a_model_that_is_one_layer_is_skipped() -> None:
    assert reasons(nn.Linear(2, 2)) == {"Linear": "it is the whole model: put it into an nn.Sequential"}


def test_uncalled_modules_are_skipped() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.spare = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    assert reasons(Spare(), example=torch.ones(1, 2)) == {"spare": "the model never calls it on the example"}


def test_weights_read_elsewhere_are_skipped() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(x)).to(self.one.weight.dtype) @ torch.stack([self.two.weight])[0]

    reason = "its weight is read outside of its own forward, too"
    assert reasons(Reader(), example=torch.ones(1, 2)) == {"one": reason, "two": reason}


def test_a_call_with_output_size_is_skipped() -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose1d(2, 2, 3, stride=2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.up(x, output_size=(1, 2, 10))

    (reason,) = reasons(Sized(), example=torch.ones(1, 2, 4)).values()
    assert reason == "it is called with more than its input, such as an output_size"


@pytest.mark.parametrize("how", [{}, {"example": torch.ones(2, 3, 8)}])
def test_layers_of_fused_attention_are_skipped(how: dict[str, object]) -> None:
    net = nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0), nn.Linear(8, 2))
    found, _ = sites(net, **how)
    assert [site.name for site in found] == ["1"]
    assert {name: str(reason).split()[0] for name, reason in reasons(net, **how).items()} == {
        "0.self_attn.out_proj": "MultiheadAttention",
        "0.linear1": "TransformerEncoderLayer",
        "0.linear2": "TransformerEncoderLayer",
    }
