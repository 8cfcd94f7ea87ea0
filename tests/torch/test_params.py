"""Params of a module: the module's own parameters, each once, whatever the exporter makes of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

import modelsurgeon as ms
from modelsurgeon.layers.onnx_names import MODULE_PARAMS_KEY
from modelsurgeon.onnx.run import runner
from modelsurgeon.torch.export import export


class Applied(nn.Module):
    """A module whose forward is a given function of its parts."""

    def __init__(self, apply: Callable[[Applied, torch.Tensor], torch.Tensor], **parts: object) -> None:
        super().__init__()
        self.apply_parts = apply
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.apply_parts(self, x)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))


def low_rank(net: Applied, x: torch.Tensor) -> torch.Tensor:
    """A weight that forward makes of two parameters."""
    return functional.linear(x, net.b @ net.a)


def steps(net: Applied, x: torch.Tensor) -> torch.Tensor:
    """A cell from a first state of zeros."""
    state = torch.zeros(x.shape[1], 8), torch.zeros(x.shape[1], 8)
    for part in x:
        state = net.cell(part, state)
    return state[0]


def tied() -> nn.Module:
    net = Applied(lambda net, x: net.out(net.embedding(x.long().abs() % 7)), embedding=nn.Embedding(7, 8))
    net.out = nn.Linear(8, 7, bias=False)
    net.out.weight = net.embedding.weight
    return net


# torch says so of an LSTM with a projection.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

ROWS, MAP = (3, 8), (2, 4, 6, 6)
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(8, 5), ROWS),
    "shared": (lambda: Applied(lambda net, x: net.part(net.part(x)), part=nn.Linear(8, 8)), ROWS),
    "tied": (tied, ROWS),
    "conv-norm": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8), nn.PReLU()), MAP),
    "norms": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True)), MAP),
    "layer-norm": (lambda: nn.Sequential(nn.LayerNorm(8), nn.LayerNorm(8, elementwise_affine=False)), ROWS),
    "transposed": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), MAP),
    "bilinear": (lambda: Applied(lambda net, x: net.part(x, x), part=nn.Bilinear(8, 8, 3)), ROWS),
    "lstm": (
        lambda: Applied(
            lambda net, x: net.part(x)[0],
            part=nn.LSTM(8, 4, num_layers=2, bidirectional=True, batch_first=True),
        ),
        (2, 5, 8),
    ),
    "lstm-projection": (
        lambda: Applied(lambda net, x: net.part(x)[0], part=nn.LSTM(8, 16, proj_size=4)),
        (2, 5, 8),
    ),
    "gru": (lambda: Applied(lambda net, x: net.part(x)[0], part=nn.GRU(8, 4)), (2, 5, 8)),
    "cell": (lambda: Applied(steps, cell=nn.LSTMCell(8, 8)), (3, 2, 8)),
    "attention": (
        lambda: Applied(
            lambda net, x: net.part(x, x, x, need_weights=False)[0], part=nn.MultiheadAttention(8, 2)
        ),
        (2, 5, 8),
    ),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (2, 5, 8)),
    "weight-norm": (lambda: parametrizations.weight_norm(nn.Linear(8, 5)), ROWS),
    "low-rank": (lambda: Applied(low_rank, a=parameter(2, 8), b=parameter(5, 2)), ROWS),
    "entries": (lambda: Applied(lambda net, x: x * net.w[0] + x * net.w[1], w=parameter(2)), ROWS),
    "part": (lambda: Applied(lambda net, x: x @ net.w[:, :3], w=parameter(8, 6)), ROWS),
    "scalar": (lambda: Applied(lambda net, x: x * net.w, w=parameter()), ROWS),
    "functional": (
        lambda: Applied(
            lambda net, x: torch.einsum("bchw,cd->bdhw", functional.conv2d(x, net.w), net.a),
            w=parameter(5, 4, 3, 3),
            a=parameter(5, 6),
        ),
        MAP,
    ),
    "constants": (
        lambda: Applied(
            lambda net, x: functional.interpolate(net.part(x), scale_factor=2) * torch.full((6, 1), 0.5),
            part=nn.Conv2d(4, 4, 4),
        ),
        MAP,
    ),
    "buffer": (
        lambda: Applied(lambda net, x: net.part(x + net.p), part=nn.Linear(8, 8), p=torch.ones(3, 8)),
        ROWS,
    ),
    "frozen": (lambda: nn.Linear(8, 5).requires_grad_(requires_grad=False), ROWS),
    "unused": (
        lambda: Applied(lambda net, x: net.part(x), part=nn.Linear(8, 8), dead=nn.Linear(50, 50)),
        ROWS,
    ),
}


def own_params(net: nn.Module) -> int:
    """Elements of the parameters, and of the statistics of batch norms."""
    norms = [part for part in net.modules() if isinstance(part, nn.BatchNorm2d)]
    statistics = sum(norm.running_mean.numel() + norm.running_var.numel() for norm in norms)
    return sum(one.numel() for one in net.parameters()) + statistics


@pytest.mark.parametrize("name", NETS)
def test_params_are_those_of_the_module(name: str) -> None:
    make, shape = NETS[name]
    net = make().eval()
    analysis = ms.info(net, {_input(net): shape})
    assert analysis.totals.params == own_params(net)
    unused = sum(one.numel() for one in net.dead.parameters()) if name == "unused" else 0
    assert sum(row.params for row in analysis.layers) == analysis.totals.params - unused
    assert [note for note in analysis.notes if "no layer uses" in note] == (
        ["params include 2.55 k that no layer uses (dead.weight, dead.bias)"] if unused else []
    )


def _input(net: nn.Module) -> str:
    """The name of the first parameter of forward."""
    return net.forward.__code__.co_varnames[1]


def test_bytes_are_those_of_the_parameters_type() -> None:
    net = nn.Linear(8, 5).to(torch.float16).eval()
    model = export(net, torch.zeros(3, 8, dtype=torch.float16))
    assert ms.info(model).totals.param_bytes == 2 * 45


def test_a_parameter_that_an_edit_has_divided_counts_by_its_remaining_parts() -> None:
    torch.manual_seed(0)
    net = Applied(lambda net, x: x @ net.w[:, :32] + (x @ net.w[:, 32:]).relu(), w=parameter(32, 64)).eval()
    model = export(net, torch.zeros(5, 32))
    assert model.graph.meta[MODULE_PARAMS_KEY] == {"w": (32 * 64, 4 * 32 * 64, 2)}
    first = next(row.name for row in ms.info(model).layers if row.op == "MatMul")
    result = ms.compress(model, rank=4, only=[first], compare=False)
    assert result.before["params"] == 32 * 64
    assert result.after["params"] == 32 * 32 + 2 * 4 * 32


def test_the_projection_of_an_lstm_is_exported() -> None:
    """torch's own exporter leaves it out."""
    torch.manual_seed(0)
    net = Applied(lambda net, x: net.part(x)[0], part=nn.LSTM(8, 16, proj_size=4, batch_first=True)).eval()
    x = torch.randn(2, 5, 8)
    model = export(net, x)
    assert ms.info(model).totals.macs == 2 * 5 * (4 * 16 * (8 + 4) + 16 * 4)
    (output,) = runner(model)({"x": x.numpy()}).values()
    assert torch.allclose(net(x), torch.from_numpy(output), atol=1e-6)
