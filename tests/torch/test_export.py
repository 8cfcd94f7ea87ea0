"""Exports: names, a plain graph, nothing printed, and the module's outputs."""

from __future__ import annotations

import logging
import re
import sys
import time
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch", reason="torch isn't installed")
pytest.importorskip("onnxscript", reason="onnxscript isn't installed")

import torch
from torch import nn

from modelsurgeon.errors import BadData, BadModel, SurgeryError
from modelsurgeon.onnx import run, shapes
from modelsurgeon.onnx.graph.names import layer_names
from modelsurgeon.onnx.layers.sites import editable_copy
from modelsurgeon.onnx.layers.sites import sites as graph_sites
from modelsurgeon.torch.call import bind, forward, named_outputs
from modelsurgeon.torch.export import ExportWarning, export
from modelsurgeon.torch.sites import sites as module_sites

LINEAR = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


class Net(nn.Module):
    """Each kind of layer, with and without bias, on two and three axes, and modules that export removes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=(1, 2), padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.body = nn.Sequential(
            nn.Dropout(), nn.Conv2d(8, 8, (3, 1), groups=4, padding="same"), nn.Identity()
        )
        self.up = nn.ConvTranspose2d(8, 4, 3, stride=2, groups=2, bias=False)
        self.rows = nn.Linear(13, 6)
        self.bare_rows = nn.Linear(6, 6, bias=False)
        self.head = nn.Linear(6, 5)
        self.bare_head = nn.Linear(5, 5, bias=False)

    def forward(self, image: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
        x = self.up(self.body(self.norm(self.stem(image)).relu()))
        x = self.bare_rows(self.rows(x.mean(1))).mean(1)
        x = self.bare_head(self.head(x))
        return x if scale is None else x * scale


IMAGE = torch.linspace(-1, 1, 3 * 12 * 12).reshape(1, 3, 12, 12)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def graph(net: Net) -> ir.Model:
    """The net's export, for tests that only look at it."""
    return export(net, IMAGE)


def weights(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape or ()) for name, value in model.graph.initializers.items()}


def assert_same_outputs(module: nn.Module, model: ir.Model, feed: Mapping[str, np.ndarray]) -> None:
    want = named_outputs(forward(module, bind(module, feed)))
    got = run.runner(model, optimize=False)(feed)
    assert list(got) == list(want)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value.numpy(), rtol=0, atol=1e-5, err_msg=name)


def test_outputs_equal_the_modules(net: Net, graph: ir.Model) -> None:
    assert_same_outputs(net, graph, {"image": IMAGE.numpy()})


def test_layers_are_named_as_their_modules(net: Net, graph: ir.Model) -> None:
    names = {name for node, name in layer_names(graph).items() if node.op_type in LINEAR}
    found, left = module_sites(net, example=IMAGE)
    assert not left
    assert names == {site.name for site in found} == {site.name for site in graph_sites(graph)[0]}


def test_other_nodes_are_named_as_their_modules_too(graph: ir.Model) -> None:
    named = {node.name: node.op_type for node in graph.graph}
    assert named["norm"] == "BatchNormalization"
    assert len(named) == len(list(graph.graph))


def test_a_layer_with_a_submodule_keeps_its_name() -> None:
    class Padded(nn.Conv1d):
        def __init__(self) -> None:
            super().__init__(2, 2, 3)
            self.pad = nn.ZeroPad1d((1, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(self.pad(x))

    graph = export(nn.Sequential(Padded()).eval(), torch.ones(1, 2, 5)).graph
    assert {node.name: node.op_type for node in graph} == {"0.pad": "Pad", "0": "Conv"}


def test_decomposed_modules_keep_node_names() -> None:
    model = export(nn.Sequential(nn.GroupNorm(2, 4)).eval(), torch.ones(1, 4, 3))
    assert len(list(model.graph)) > 1
    assert all(str(node.name).startswith("node_") for node in model.graph)


def test_module_and_graph_have_the_same_sites(net: Net, graph: ir.Model) -> None:
    others = {site.name: site for site in graph_sites(editable_copy(graph))[0]}
    for site in module_sites(net, example=IMAGE)[0]:
        other, layer = others[site.name], site.layer
        assert sum(layer.macs(*call) for call in site.calls) == sum(layer.macs(*call) for call in other.calls)
        np.testing.assert_array_equal(other.layer.weight, layer.weight)
        geometry = ("stride", "padding", "dilation", "groups", "transposed", "output_padding")
        assert [getattr(other.layer, key) for key in geometry] == [getattr(layer, key) for key in geometry]


def test_weights_keep_names_and_are_stored_once(net: Net, graph: ir.Model) -> None:
    found = {name: shape for name, shape in weights(graph).items() if not name.startswith("val_")}
    expected = {name: tuple(value.shape) for name, value in net.state_dict().items() if value.ndim}
    for name in ("rows.weight", "bare_rows.weight"):  # stored transposed for MatMul
        expected[f"{name}.T"] = expected.pop(name)[::-1]
    assert found == expected


def test_the_graph_has_no_functions_or_dead_nodes(graph: ir.Model) -> None:
    assert type(graph) is ir.Model
    assert not graph.functions
    kinds = [node.op_type for node in graph.graph]
    assert kinds.count("BatchNormalization") == 1
    assert not {"Identity", "Dropout", "Constant", "Transpose"} & set(kinds)
    assert all(value.uses() for value in graph.graph.initializers.values())


def test_no_stack_traces_or_paths(graph: ir.Model) -> None:
    proto = ir.to_proto(graph).SerializeToString()
    assert b"stack_trace" not in proto
    assert __file__.encode() not in proto


def test_inputs_and_outputs_have_the_modules_names() -> None:
    class Named(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, object]:
            return {"sum": left + right, "parts": (left * 2, [right * 3])}

    feed = {"right": np.ones((2, 3), np.float32), "left": np.zeros((2, 3), np.float32)}
    model = export(Named().eval(), feed)
    assert [value.name for value in model.graph.inputs] == ["left", "right"]
    assert [value.name for value in model.graph.outputs] == ["sum", "parts.0", "parts.1.0"]
    assert_same_outputs(Named().eval(), model, feed)


@pytest.mark.parametrize(
    ("outputs", "names"),
    [(lambda x: x + 1, ["output"]), (lambda x: (x + 1, x * 2), ["output_0", "output_1"])],
)
def test_unnamed_outputs(outputs: object, names: list[str]) -> None:
    class Forward(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return outputs(x)

    assert [value.name for value in export(Forward().eval(), torch.ones(2)).graph.outputs] == names


def test_an_input_that_is_the_output() -> None:
    model = export(nn.Sequential(nn.Identity()).eval(), torch.ones(2))
    assert_same_outputs(nn.Identity(), model, {"input": np.ones(2, np.float32)})


def test_an_optional_input() -> None:
    feed = {"image": IMAGE.numpy(), "scale": np.full(5, 2, np.float32)}
    module = Net().eval()
    assert_same_outputs(module, export(module, feed), feed)


def test_dynamic_batch_of_any_size() -> None:
    module = Net().eval()
    model = export(module, IMAGE, dynamic_batch=True)
    assert str(model.graph.inputs[0].shape) == "[batch,3,12,12]"
    for batch in (1, 3):
        assert_same_outputs(module, model, {"image": np.resize(IMAGE.numpy(), (batch, 3, 12, 12))})


def test_batch_one_is_not_specialized() -> None:
    class Rows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(x.shape[0] if x.shape[0] > 1 else 1, -1)

    model = export(Rows().eval(), torch.ones(1, 3, 4), dynamic_batch=True)
    assert_same_outputs(Rows().eval(), model, {"x": np.ones((3, 3, 4), np.float32)})


def test_a_fixed_batch_cant_be_dynamic() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.ones(2, 3)

    with pytest.raises(BadModel, match=r"torch can't export Fixed: .*tracing inferred a static"):
        export(Fixed().eval(), torch.ones(2, 3), dynamic_batch=True)


@pytest.mark.parametrize("opset", [18, 22])
def test_opset_and_names_are_kept(opset: int) -> None:
    model = export(Net().eval(), IMAGE, opset=opset)
    assert model.opset_imports[""] == opset
    assert "stem" in layer_names(model).values()


def test_an_opset_that_would_lose_names_is_refused() -> None:
    with pytest.raises(SurgeryError, match=r"opset 13: .* from opset 18 on"):
        export(Net().eval(), IMAGE, opset=13)


class Shared(nn.Module):
    """One Linear called twice, one under two names, and one tied to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(7, 4)
        self.twice = nn.Linear(4, 4)
        self.one = nn.Linear(4, 4)
        self.other = self.one
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.other(self.one(self.twice(self.twice(self.words(ids))))))


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_shared_weights_stay_shared_under_one_name(shape: tuple[int, ...]) -> None:
    module = Shared().eval()
    ids = np.arange(int(np.prod(shape))).reshape(shape)
    model = export(module, {"ids": ids})
    assert_same_outputs(module, model, {"ids": ids})
    assert sum(int(np.prod(shape)) for shape in weights(model).values()) == sum(
        p.numel() for p in module.parameters()
    )
    found, left = module_sites(module, example={"ids": ids})
    graph, graph_left = graph_sites(model)
    assert [site.name for site in found] == [site.name for site in graph] == ["twice", "one"]
    assert [edit.layer for edit in left] == [edit.layer for edit in graph_left] == ["head"]


def test_large_recurrent_weights_are_folded() -> None:
    module = nn.LSTM(96, 64).eval()
    model = export(module, torch.ones(2, 1, 96))
    (lstm,) = [node for node in model.graph if node.op_type == "LSTM"]
    assert all(value is None or value.is_initializer() for value in lstm.inputs[1:])
    assert_same_outputs(module, model, {"input": np.ones((2, 1, 96), np.float32)})


def test_a_batch_norm_without_running_statistics() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    assert_same_outputs(module, export(module, x), {"input": x})


def test_the_graph_is_a_copy() -> None:
    module = Net().eval()
    model = export(module, IMAGE)
    before = {name: value.const_value.numpy().copy() for name, value in model.graph.initializers.items()}
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    for name, array in before.items():
        np.testing.assert_array_equal(model.graph.initializers[name].const_value.numpy(), array)


def test_all_shapes_are_inferred(graph: ir.Model) -> None:
    model = shapes.bound(graph)
    assert all(value.shape is not None for node in model.graph for value in node.outputs)


def test_train_mode_is_warned_of_and_restored(capfd: pytest.CaptureFixture[str]) -> None:
    module = Net().train()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.warns(ExportWarning, match="in train mode; it is exported as it is in eval mode"):
        model = export(module, IMAGE)
    assert module.training
    assert module.stem.training
    assert not module.norm.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert_same_outputs(module, model, {"image": IMAGE.numpy()})
    assert capfd.readouterr() == ("", "")


def test_stdout_stays_clean_if_the_export_fails(capfd: pytest.CaptureFixture[str]) -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 1 if x.sum() > 0 else x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(
            BadModel, match=r"torch can't export Branch: Could not guard on data-dependent"
        ) as raised:
            export(Branch().eval(), torch.ones(2))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (torch.ones(1, 4, 12, 12), "Net fails on the example: Given groups=1"),
        ({"picture": IMAGE}, "the example doesn't fit Net: missing a required argument: 'image'"),
    ],
)
def test_an_example_that_does_not_fit(example: object, message: str) -> None:
    with pytest.raises(BadData, match=re.escape(message)):
        export(Net().eval(), example)


def test_a_convolution_without_bias_gets_none() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 5, 3)).eval()
    bias = net[1].bias
    assert isinstance(bias, nn.Parameter)
    nn.init.zeros_(bias)  # zeros, but a parameter of the module
    graph = export(net, torch.zeros(1, 3, 8, 8)).graph
    assert set(graph.initializers) == {"0.weight", "1.weight", "1.bias"}


def test_other_threads_print_log_and_warn_as_ever(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    streams, handlers = (sys.stdout, sys.stderr), list(logging.getLogger("torch").handlers)
    filters, said = list(warnings.filters), 0
    with ThreadPoolExecutor(2) as pool, pytest.warns(UserWarning, match="another thread's") as warned:
        exports = [pool.submit(export, Net().eval(), IMAGE) for _ in range(2)]
        while not all(done.done() for done in exports):
            print("another thread's")
            logging.getLogger("service").error("another thread's")
            warnings.warn("another thread's", UserWarning, stacklevel=1)
            said += 1
            time.sleep(0.05)
    assert [len(done.result().graph) for done in exports] == [len(exports[0].result().graph)] * 2
    assert (sys.stdout, sys.stderr) == streams
    assert capfd.readouterr() == ("another thread's\n" * said, "")
    assert [record.name for record in caplog.records].count("service") == said
    assert sum("another" in str(each.message) for each in warned) == said
    assert logging.root.manager.disable == logging.NOTSET
    assert [list(handler.filters) for handler in handlers] == [[] for _ in handlers]
    assert warnings.filters == filters
