"""The loop of every edit, once: what stands at a site, and what a plan puts in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from modelsurgeon.data import Batches
from modelsurgeon.layers import Array, Layer
from modelsurgeon.surgery.edits import FactorizationEdit

Call = tuple[tuple[int, ...], int]
Run = Callable[[Mapping[str, Any]], Mapping[str, Any]]
# A layer, chains that could take its place, and its calls, to milliseconds of the layer and of each chain,
# measured on one thread; None where they can't be run.
LayerTiming = Callable[[Layer, Sequence[Sequence[Layer]], Sequence[Call]], list[float] | None]


class InputPair(NamedTuple):
    """What a layer was fed in the model as it was, and is fed now: `(n, channels, *space)`.

    residual: where the layer's outputs go into a sum and nowhere else, what is added to them there, as it was
    and as it is now: `(n, out, *space)`. None elsewhere, and where that is made after the layer.
    """

    original: Array
    current: Array
    residual: tuple[Array, Array] | None = None


InputPairs = Callable[[], Iterator[InputPair]]


@dataclass(frozen=True, kw_only=True)
class ChannelProducers:
    """What makes a layer's input channels, for nobody else. macs, params: of all that makes one channel."""

    layers: Sequence[str]
    macs: float
    params: float


class Site(Protocol):
    """The whole port of a framework: a place where a linear layer stands."""

    @property
    def name(self) -> str:
        """The layer's name, as `info` prints it."""

    @property
    def layer(self) -> Layer:
        """The layer as it stands there now; its weight is read when asked for."""

    @property
    def extra_params(self) -> int:
        """Params that go with the layer besides its own: `layer` stands for something more than itself."""

    @property
    def calls(self) -> Sequence[Call]:
        """Every use of the layer: its spatial input size, and the positions it is applied at besides.

        Positions are the batch size, or the leading axes of a fully connected layer. What the model leaves
        open is at its stated default.
        """

    @property
    def producers(self) -> ChannelProducers | None:
        """What could be narrower if this layer took fewer channels; None where that isn't possible."""

    @property
    def members(self) -> Sequence[str]:
        """The layers, by name, that stand here side by side as one; empty where there is one alone."""

    def replace(self, chain: Sequence[Layer]) -> None:
        """Put the layers of `chain`, in order, where the one layer stood."""


One = TypeVar("One", bound=Site)
Several = TypeVar("Several", bound=Site)


class EditableModel(Protocol):
    """A model on the table: the sites in it, and what it takes to see whether it survived."""

    @property
    def names(self) -> Sequence[str]:
        """Names of all linear layers, in the order of the model."""

    @property
    def sites(self) -> Sequence[Site]:
        """Where a chain can take a layer's place."""

    @property
    def shared_input_sites(self) -> Sequence[Site]:
        """Layers that are fed the same, taken as one: a chain in its place shares all but the last factor."""

    @property
    def skipped(self) -> Sequence[FactorizationEdit]:
        """The layers that can't be replaced, and why."""

    @property
    def notes(self) -> Sequence[str]:
        """What was assumed, in words for the report."""

    def fresh_copy(self) -> EditableModel:
        """The model as it was before any edit, on a table of its own."""

    def reset(self) -> None:
        """Put every layer back that stood here at first."""

    def remove_channels(self, names: Sequence[str]) -> list[FactorizationEdit]:
        """Drop the channels that the named layers take with weights of zero alone; an edit for each maker."""

    def total(self, resource: Literal["macs", "params"]) -> int:
        """What the whole model costs as it stands; raises UnknownShape where a size is needed."""

    def totals(self) -> dict[str, Any] | None:
        """All totals as the model stands; None where its sizes aren't known."""

    def batches(self, seed: int) -> Batches | None:
        """The caller's samples, or seeded noise where there are none; None where no size is known."""

    def runner(self, *, reference: bool = False) -> Run:
        """A function from inputs to outputs; `reference`: under another legal execution, or the same."""

    def layer_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[str, Array]]:
        """What the named sites are fed, one after another and feed by feed: `(n, channels, *space)`."""

    def paired_inputs(self, names: Sequence[str], feeds: Batches) -> Iterator[tuple[Site, InputPairs]]:
        """The named sites in the order in which they run, each with what it was fed and what it is fed now.

        The pairs are of the model as it was and as it stands, over all feeds; they may be gone through more
        than once, until the next site is asked for. What stands beside is told by graphs alone. A site may
        be replaced in between, and later pairs show that. A site that is applied more than once has none.
        """

    def layer_timer(self) -> LayerTiming | None:
        """What times single layers; None where that isn't offered."""

    def latency(
        self,
        other: Any,  # noqa: ANN401 - one of its kind
        data: Batches,
        *,
        repeats: int = 50,
    ) -> dict[str, Any] | None:
        """This model and another side by side on one thread; None where that isn't offered."""

    def finish(self) -> Any:  # noqa: ANN401 - an ir.Model or an nn.Module
        """The model itself, nothing dead left in it."""


def in_model_order(sites: Sequence[One], unions: Sequence[Several]) -> list[One | Several]:
    """Sites in the order of the model, each union before the first of its parts."""
    first = {union.members[0]: union for union in unions}
    return [each for site in sites for each in (first.get(site.name), site) if each is not None]


def all_sites(model: EditableModel) -> list[Site]:
    """All that a plan may name."""
    return in_model_order(model.sites, model.shared_input_sites)


def find_site(model: EditableModel, name: str) -> Site:
    """The site or union of that name."""
    return next(site for site in all_sites(model) if site.name == name)
