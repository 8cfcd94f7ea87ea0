"""A torch module that is edited in place, and compared with a copy of the original."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modelsurgeon import data as samples
from modelsurgeon.data import Batches, Input
from modelsurgeon.data.samples import NOISE_SAMPLES
from modelsurgeon.errors import BadData, BadModel, UnknownShape, UnsupportedLayer
from modelsurgeon.layers import Array
from modelsurgeon.plugins import in_one_line
from modelsurgeon.shared_settings import SharedSetting
from modelsurgeon.surgery.edits import FactorizationEdit
from modelsurgeon.surgery.site import InputPairs, NodeCost, Run
from modelsurgeon.torch import layer_inputs
from modelsurgeon.torch.call import bind, evaluating, forward, named_outputs, noise
from modelsurgeon.torch.layers import LAYER_TYPES, RECURRENT_TYPES
from modelsurgeon.torch.sites import TorchSite, sites


class TorchModel:
    """A `surgery.site.EditableModel` of torch.

    data: samples, as for `compress`; the first one fixes the sizes. shapes: of forward's parameters, where
    there is no data. With neither, sizes are assumed at stated defaults and nothing is compared. batch:
    samples per feed, where they come as one array.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        data: Any = None,  # noqa: ANN401 - see data.batches
        shapes: Mapping[str, Sequence[int]] | None = None,
        batch: int | None = None,
        skip_bad: bool = False,
    ) -> None:
        """Find the layers, and keep a copy of the module as it is."""
        self._module = module
        self._original = _copied(module)
        self._data = _as_feeds(data, module)
        self._shapes = shapes
        self._batch = batch
        self._skip_bad = skip_bad
        self._example = (
            _first_feed(self._data) if self._data is not None else noise(module, shapes) if shapes else None
        )
        self.sites, self.skipped = sites(module, example=self._example)
        self.names = [
            name
            for name, part in module.named_modules()
            if isinstance(part, (*LAYER_TYPES, *RECURRENT_TYPES))
        ]

    def fresh_copy(self) -> TorchModel:
        """A second `TorchModel` on a copy of the original module."""
        return TorchModel(
            _copied(self._original),
            data=self._data,
            shapes=self._shapes,
            batch=self._batch,
            skip_bad=self._skip_bad,
        )

    def reset(self) -> None:
        """Undo all edits: register the original modules again."""
        for site in self.sites:
            for parent, child in site.owners:
                parent.register_module(child, site.module)

    @property
    def shared_input_sites(self) -> list[TorchSite]:
        """Empty: layers of a module don't share factors."""
        return []

    def remove_channels(self, names: Sequence[str]) -> list[FactorizationEdit]:
        """Do nothing: a module doesn't show which layers' outputs another layer reads."""
        del names
        return []

    @property
    def notes(self) -> list[str]:
        """Notes for the report: sizes that were assumed."""
        if self._example is not None:
            return []
        return ["MACs are of maps of 224 x 224 (128 in 1-D and 3-D): pass data or shapes for the real ones"]

    def total(self, resource: str) -> int:
        """MACs or params of the module; resource: "macs" or "params". UnknownShape for MACs without sizes."""
        if resource == "params":
            return _params(self._module)
        if self._example is None:
            raise UnknownShape("a budget in MACs needs the sizes of the inputs: pass data or shapes")
        return _counted_macs(self._module, self._example)

    def totals(self) -> dict[str, Any]:
        """MACs, params, their bytes, and how many are running statistics; without an example, no MACs."""
        weights = list(_weights(self._module))
        size = sum(value.numel() * value.element_size() for value in weights)
        stats = sum(value.numel() for value in _running_statistics(self._module))
        macs = {} if self._example is None else {"macs": self.total("macs")}
        return {**macs, "params": self.total("params"), "param_bytes": size, "bn_stats": stats}

    def node_costs(self) -> Sequence[NodeCost]:
        """None: torch counts the MACs of the whole module."""
        return ()

    @property
    def random_operators(self) -> Sequence[str]:
        """None that is known beforehand: a module in eval mode is taken for deterministic until it is run."""
        return ()

    def batches(self, seed: int) -> Batches | None:
        """The samples, or seeded noise of the given shapes; None where there are neither."""
        if self._data is not None:
            return samples.batches(self._data, self._inputs(), batch=self._batch, skip_bad=self._skip_bad)
        if self._shapes:
            return samples.noise(self._inputs(), samples=NOISE_SAMPLES, seed=seed)
        return None

    def runner(self, *, reference: bool = False, scores: bool = False) -> Run:  # noqa: ARG002
        """A function that runs the module in eval mode; `reference`: on one thread, without oneDNN."""

        def run(feed: Mapping[str, Any]) -> dict[str, Array]:
            with _other_execution() if reference else nullcontext():
                outputs = named_outputs(forward(self._module, bind(self._module, feed)))
            return {name: _numpy(value) for name, value in outputs.items()}

        return run

    def layer_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[str, Array]]:
        """Inputs of the named sites, as (site name, array), from one forward pass for each feed."""
        parts = {site.name: site.module for site in self.sites if site.name in names}
        for feed in feeds:
            yield from layer_inputs.recorded_inputs(self._module, parts, feed)

    def paired_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[TorchSite, InputPairs]]:
        """Named sites with their inputs in both modules, from forward passes that end at the site."""
        chosen = {site.name: site for site in self.sites if site.name in names}
        parts = {name: site.module for name, site in chosen.items()}
        calls = layer_inputs.call_order(self._module, parts, next(iter(feeds)))
        for name in dict.fromkeys(calls):
            ours = self._original, self._original.get_submodule(name)
            theirs = self._module, parts[name]
            once = feeds if calls.count(name) == 1 else ()
            yield chosen[name], partial(layer_inputs.input_pairs, ours, theirs, once)

    def layer_timer(self) -> None:
        """None: single layers are timed on the export, which is what gets deployed."""

    def latency(self, other: Any, data: Batches, *, repeats: int = 50) -> None:  # noqa: ANN401 - as the port
        """None: latency is measured on the export."""

    def tidy(self) -> None:
        """Nothing: replaced modules are gone."""

    def finish(self) -> nn.Module:
        """The caller's own module.

        Raises UnsupportedLayer where an edit wrote NaN or an infinite number that wasn't in the module.
        """
        broken = next((name for name, value in _weights_by_name(self._module) if not _is_finite(value)), None)
        if broken is not None and all(_is_finite(value) for _, value in _weights_by_name(self._original)):
            layer, _, tensor = broken.rpartition(".")
            raise UnsupportedLayer(
                f"tensor {tensor!r} of layer {layer!r} would hold NaN or infinite numbers, and the module "
                "held none: leave the layer out (--skip), or give other samples"
            )
        return self._module

    def _inputs(self) -> list[Input]:
        """Inputs as in the example, the number of samples left open."""
        return [
            Input(name=name, dtype=np.asarray(v).dtype, shape=(None, *np.shape(v)[1:]))
            for name, v in (self._example or {}).items()
        ]


def _weights_by_name(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers that are floating-point numbers."""
    yield from ((name, v) for name, v in module.state_dict().items() if torch.is_floating_point(v))


def _is_finite(value: torch.Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def _without_onednn() -> Callable[[], object]:
    """Switch oneDNN off, and return the function that switches it on again if it was on.

    torch.backends.mkldnn.flags does so too, and also warns about settings that this machine may lack.
    """
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    return lambda: torch._C._set_mkldnn_enabled(before)


def _thread_count() -> Callable[[], object]:
    """Return the function that gives torch the number of threads that it has now."""
    threads = torch.get_num_threads()
    return lambda: torch.set_num_threads(threads)


_WITHOUT_ONEDNN, _THREAD_COUNT = SharedSetting(_without_onednn), SharedSetting(_thread_count)


@contextmanager
def _other_execution() -> Iterator[None]:
    """Context with another valid execution of the same module: one thread, without oneDNN."""
    with _WITHOUT_ONEDNN, _THREAD_COUNT as restore_threads:
        torch.set_num_threads(1)  # of this thread, and of those that begin later
        try:
            yield
        finally:
            restore_threads()


def _copied(module: nn.Module) -> nn.Module:
    try:
        return deepcopy(module)
    except Exception as error:
        name = type(module).__name__
        raise BadModel(f"{name} can't be copied, to be compared with itself: {in_one_line(error)}") from error


def _as_feeds(data: Any, module: nn.Module) -> Any:  # noqa: ANN401
    """Data that can be read twice: Batches, feeds, or arrays by the names of forward's parameters."""
    if data is None or isinstance(data, Batches):
        return data
    if isinstance(data, str | Path):
        raise BadData("a module is compared on arrays or batches of them, not on a file: load it first")
    if isinstance(data, torch.Tensor | np.ndarray | Mapping):
        return _feed(data, module)
    if isinstance(data, Iterable):
        return [_feed(item, module) for item in data]
    raise BadData(f"data of type {type(data).__name__}: arrays by name, or an iterable of batches, is needed")


def _feed(item: Any, module: nn.Module) -> dict[str, Array]:  # noqa: ANN401
    """One batch as arrays by the names of forward's parameters."""
    if not isinstance(item, Mapping):
        values = list(item) if isinstance(item, list | tuple) else [item]
        item = dict(zip(inspect.signature(module.forward).parameters, values, strict=False))
    return {name: _numpy(value) for name, value in item.items()}


def _numpy(value: Any) -> Array:  # noqa: ANN401
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    array: Array = np.asarray(value)
    return array


def _first_feed(data: Any) -> dict[str, Array]:  # noqa: ANN401
    """The first feed; of arrays, the first sample."""
    if isinstance(data, Mapping):
        return {name: array[:1] for name, array in data.items()}
    feed = next(iter(data), None)
    if feed is None:
        raise BadData("the data holds no batch: at least one is needed")
    return dict(feed)


def _params(module: nn.Module) -> int:
    return sum(value.numel() for value in _weights(module))


def _weights(module: nn.Module) -> Iterator[torch.Tensor]:
    """Tensors that count as params, as in `info`: parameters and running statistics, without scalars."""
    yield from (value for value in module.parameters() if value.ndim)
    yield from _running_statistics(module)


def _running_statistics(module: nn.Module) -> Iterator[torch.Tensor]:
    for name, value in module.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var"):
            yield value


def _counted_macs(module: nn.Module, example: Mapping[str, Array]) -> int:
    """MACs of one forward pass, half of the FLOPs that torch counts on the meta device, without computing."""
    meta_copy = _copied(module).to("meta")
    args, kwargs = bind(meta_copy, dict(example))
    with evaluating(meta_copy), FlopCounterMode(display=False) as counter:
        meta_copy(*args, **kwargs)
    return int(counter.get_total_flops()) // 2
