"""The port of a framework: protocols of a model whose layers can be replaced, and of its sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from modelsurgeon.data import Batches
from modelsurgeon.layers import Array, Layer
from modelsurgeon.surgery.edits import FactorizationEdit

# One use of a layer: spatial input size, and number of positions it is applied at besides.
Call = tuple[tuple[int, ...], int]
# From inputs to outputs, each by name.
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]
# From a layer, chains that could replace it, and its calls, to milliseconds of the layer and of each chain,
# in this order, measured on one thread; None where they can't be run.
LayerTiming = Callable[[Layer, Sequence[Sequence[Layer]], Sequence[Call]], list[float] | None]


class InputPair(NamedTuple):
    """Inputs `(n, channels, *space)` of a layer for one feed, in the original model and in the current one.

    residual: what is added to the layer's outputs, in the original model and in the current one, each
    `(n, out, *space)`, where these outputs are used by that addition alone. None elsewhere, and where what is
    added is computed after the layer.
    """

    original: Array
    current: Array
    residual: tuple[Array, Array] | None = None


InputPairs = Callable[[], Iterator[InputPair]]


@dataclass(frozen=True, kw_only=True)
class ChannelProducers:
    """The layers that produce a layer's input channels, and for no other layer.

    layers: their names. macs, params: what one channel costs in all of them together.
    """

    layers: Sequence[str]
    macs: float
    params: float


class Site(Protocol):
    """A place in a model where a linear layer is and can be replaced."""

    @property
    def name(self) -> str:
        """The layer's name, as `info` prints it."""

    @property
    def layer(self) -> Layer:
        """The layer that is there now; its weight is read at this call."""

    @property
    def extra_params(self) -> int:
        """Params besides those of `layer` that replacing it saves, such as those of an absorbed norm."""

    @property
    def calls(self) -> Sequence[Call]:
        """Every use of the layer: its spatial input size, and the number of positions it is applied at.

        Positions are the batch size, or the product of the leading axes of a fully connected layer. Sizes
        that the model leaves open have their stated default.
        """

    @property
    def producers(self) -> ChannelProducers | None:
        """The layers that lose channels if this layer takes fewer; None where that isn't possible."""

    @property
    def members(self) -> Sequence[str]:
        """Names of the layers with shared input that form this site; empty where it is a single layer."""

    def replace(self, chain: Sequence[Layer]) -> None:
        """Replace the layer by the layers of `chain`, in order."""


class NodeCost(NamedTuple):
    """MACs and params of one node: its name, which is that of its layer if it has one, and its operator."""

    name: str
    operator: str
    macs: int
    params: int


SingleSite = TypeVar("SingleSite", bound=Site)
SharedSite = TypeVar("SharedSite", bound=Site)


class EditableModel(Protocol):
    """An opened model: the sites in it, and what measures, runs and times it."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all linear layers, in the order of the model."""

    @property
    def sites(self) -> Sequence[Site]:
        """The single layers that can be replaced, in the order of the model."""

    @property
    def shared_input_sites(self) -> Sequence[Site]:
        """Layers with shared input, taken as one: their chains share all but the last factor."""

    @property
    def skipped(self) -> Sequence[FactorizationEdit]:
        """An edit with the reason for each layer that can't be replaced."""

    @property
    def notes(self) -> Sequence[str]:
        """Sentences for the report on what was assumed, such as sizes."""

    @property
    def random_operators(self) -> Sequence[str]:
        """Operators that may give other values at every run, as far as the framework shows them."""

    def fresh_copy(self) -> EditableModel:
        """A copy of the model as it was before any edit; edits of one don't change the other."""

    def reset(self) -> None:
        """Undo every edit: put back all layers that were replaced."""

    def remove_channels(self, names: Sequence[str]) -> list[FactorizationEdit]:
        """Remove the input channels of the named layers whose weights are all zero; an edit per producer."""

    def total(self, resource: Literal["macs", "params"]) -> int:
        """MACs or params of the model with its edits. Raises UnknownShape where a size is needed."""

    def totals(self) -> dict[str, Any] | None:
        """All totals of the model with its edits, by name; None where its sizes aren't known."""

    def node_costs(self) -> Sequence[NodeCost]:
        """MACs and params of every node, of layers and others; empty where nodes aren't counted singly."""

    def batches(self, seed: int) -> Batches | None:
        """The caller's samples, or seeded noise where there are none; None where no size is known."""

    def runner(self, *, reference: bool = False, scores: bool = False) -> Run:
        """A function that runs the model, from inputs to outputs.

        reference: under another legal execution where the framework has one, such as without optimizations.
        scores: where the framework shows that an output is that of a final sigmoid or softmax, return its
        inputs in its place, those of a softmax about their mean.
        """

    def layer_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[str, Array]]:
        """Inputs `(n, channels, *space)` of the named sites, as (site name, array), feed by feed."""

    def paired_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[Site, InputPairs]]:
        """The named sites in the order in which they run, each with its inputs before and after the edits.

        The pairs are of the original model and of the current one, over all feeds. They can be iterated
        repeatedly until the next site is requested. A site may be replaced in between; later pairs include
        that. A site that is applied more than once has no pairs. Only graphs give residuals.
        """

    def layer_timer(self) -> LayerTiming | None:
        """A function that times single layers; None where the framework has none."""

    def latency(
        self,
        other: Any,  # noqa: ANN401 - one of its kind
        data: Batches,
        *,
        repeats: int = 50,
    ) -> dict[str, Any] | None:
        """Latency of this model and of another on one thread, run in turn; None where that isn't offered.

        `before` and `after` hold milliseconds, `speedup`, `p10` and `p90` ratios before / after. repeats:
        timed runs of each model.
        """

    def tidy(self) -> None:
        """Remove what the edits left unused; the model can be run, timed and edited further."""

    def finish(self) -> Any:  # noqa: ANN401 - an ir.Model or an nn.Module
        """The edited model: an ir.Model that is ready to be written, or the caller's own nn.Module.

        Raises UnsupportedLayer where an edit wrote NaN or an infinite number that wasn't in the model.
        """


def in_model_order(
    sites: Sequence[SingleSite], shared: Sequence[SharedSite]
) -> list[SingleSite | SharedSite]:
    """Sites in the order of the model, each shared-input site before the first of its members."""
    first = {site.members[0]: site for site in shared}
    return [found for site in sites for found in (first.get(site.name), site) if found is not None]


def all_sites(model: EditableModel) -> list[Site]:
    """All sites that a plan may name, in the order of the model."""
    return in_model_order(model.sites, model.shared_input_sites)


def find_site(model: EditableModel, name: str) -> Site:
    """The site of that name, single or with shared input."""
    return next(site for site in all_sites(model) if site.name == name)
