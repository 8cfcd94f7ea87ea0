"""Which output of a model A is compared with which of B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelsurgeon.comparison.metrics import comparison_kind, flat
from modelsurgeon.errors import BadModel

KIND_NAMES = {"number": "floats", "i": "integers", "u": "integers", "b": "truth values"}
MAX_NAMED = 5  # outputs in a message


@dataclass(frozen=True, kw_only=True)
class LayerPair:
    """A tensor of A and the one of B that it is compared with. layer: A's layer; "" for an output."""

    a: str
    b: str
    layer: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputPairs:
    """The pairs of outputs, and of inner tensors. problem: why there is no verdict on them, or ""."""

    outputs: Sequence[LayerPair]
    layers: Sequence[LayerPair] = field(default=())
    problem: str = ""

    @property
    def all(self) -> list[LayerPair]:
        """The pairs of outputs, then those of layers."""
        return [*self.outputs, *self.layers]

    @property
    def of_a_with_itself(self) -> list[LayerPair]:
        """A pair of each output of A with itself."""
        return [LayerPair(a=pair.a, b=pair.a) for pair in self.outputs]

    @property
    def of_b_with_itself(self) -> list[LayerPair]:
        """A pair of each output of B with itself."""
        return [LayerPair(a=pair.b, b=pair.b) for pair in self.outputs]

    @property
    def notes(self) -> list[str]:
        """A sentence for each output that is compared with one of another name."""
        return [
            f"output {pair.b} of B is compared with {pair.a} of A"
            for pair in self.outputs
            if pair.a != pair.b
        ]


def pair_outputs(
    a: Mapping[str, Any], b: Mapping[str, Any], layers: Sequence[LayerPair] = (), *, by_position: bool = False
) -> OutputPairs:
    """The outputs of A and B that are compared, paired by name; by_position: the remaining ones in order.

    a, b: what both give, by name; tensors of `layers` are no outputs. Without by_position, outputs without a
    partner are a problem. Raises BadModel for different numbers of outputs, for none, and for two of one
    position that differ in type or rank.
    """
    inner_a, inner_b = {pair.a for pair in layers}, {pair.b for pair in layers}
    ours = [name for name in a if name not in inner_a]
    theirs = [name for name in b if name not in inner_b]
    if not ours or len(ours) != len(theirs):
        raise BadModel(f"A gives {_listed(ours)} and B gives {_listed(theirs)}: as many outputs are needed")
    pairs = [LayerPair(a=name, b=name) for name in ours if name in theirs]
    left = [name for name in ours if name not in theirs], [name for name in theirs if name not in ours]
    if by_position:
        others = iter(zip(*left, strict=True))
        partner = dict(_checked(one, other, a[one], b[other]) for one, other in others)
        return OutputPairs(
            outputs=[LayerPair(a=name, b=partner.get(name, name)) for name in ours], layers=layers
        )
    problem = (
        f"outputs have no partner of the same name: {_names(left[0])} in A, {_names(left[1])} in B; "
        "rename them, or pair them by position (--by-position)"
    )
    return OutputPairs(outputs=pairs, layers=layers, problem=problem if left[0] else "")


def _checked(one: str, other: str, a: Any, b: Any) -> tuple[str, str]:  # noqa: ANN401 - whatever models give
    """The pair of names, if both are of one type and rank. Raises BadModel otherwise."""
    forms = _form(a), _form(b)
    if forms[0] != forms[1]:
        raise BadModel(
            f"output {one!r} of A is {forms[0]} and {other!r} of B, at its position, {forms[1]}: they aren't "
            "compared; give both models the same output names"
        )
    return one, other


def _form(value: Any) -> str:  # noqa: ANN401
    """Type and rank in words, equal for outputs that can be compared."""
    arrays = flat(value)
    if len(arrays) != 1 or isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__}"
    kind = comparison_kind(arrays[0])
    return f"{KIND_NAMES.get(kind, 'texts')} of rank {arrays[0].ndim}"


def _names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:MAX_NAMED])}{', ...' if len(names) > MAX_NAMED else ''}"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} output{'' if len(names) == 1 else 's'} ({_names(names)})"
