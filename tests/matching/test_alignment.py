"""Alignment of two nets: by name, by chain, and by operator and traits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelsurgeon.matching.alignment import MAX_GAP_COMPARISONS, Item, Pair, align


def net(*layers: str) -> list[Item]:
    """Items from `name:op` or `name:op:trait`."""
    return [
        Item(name=name, op=op, traits=tuple(traits)) for name, op, *traits in (x.split(":") for x in layers)
    ]


def aligned(a: list[Item], b: list[Item]) -> list[str]:
    def names(net: list[Item], places: list[int]) -> str:
        return "+".join(net[place].name for place in places) or "-"

    return [f"{names(a, left)}={names(b, right)}" for left, right in align(a, b)]


NETS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d", "a.0", "a.1", "relu_1", "relu_2"]), st.sampled_from("CRG")
    ),
    unique_by=lambda pair: pair[0],
    max_size=8,
)


@given(a=NETS, b=NETS)
def test_every_layer_is_in_one_pair(a: list[tuple[str, str]], b: list[tuple[str, str]]) -> None:
    items = [[Item(name=name, op=op) for name, op in one] for one in (a, b)]
    pairs = align(*items)
    assert sorted(i for left, _ in pairs for i in left) == list(range(len(a)))
    assert sorted(j for _, right in pairs for j in right) == list(range(len(b)))
    assert all(len(left) <= 1 and (left or len(right) == 1) for left, right in pairs)


@given(a=NETS)
def test_a_net_is_aligned_with_itself(a: list[tuple[str, str]]) -> None:
    items = [Item(name=name, op=op) for name, op in a]
    assert align(items, items) == [([i], [i]) for i in range(len(a))]


def test_equal_names_pair_with_different_operators() -> None:
    assert aligned(net("x.a:Conv", "x.b:Gemm"), net("x.a:Gemm", "x.b:Gemm")) == ["x.a=x.a", "x.b=x.b"]


def test_a_chain_pairs_with_its_layer() -> None:
    a = net("stem:Conv", "act:Relu", "head:Gemm")
    b = net("stem.0:Conv", "stem.1:Conv", "act:Relu", "head.0:Gemm", "head.1:Gemm")
    assert aligned(a, b) == ["stem=stem.0+stem.1", "act=act", "head=head.0+head.1"]


def test_numbered_names_may_shift() -> None:
    """A Relu is inserted first; by names alone, each Relu would be paired with the one before it."""
    a = net("conv_0:Conv:8", "relu_0:Relu:8", "conv_1:Conv:16", "relu_1:Relu:16")
    b = net("relu_0:Relu:3", "conv_0:Conv:8", "relu_1:Relu:8", "conv_1:Conv:16", "relu_2:Relu:16")
    assert aligned(a, b) == ["-=relu_0", "conv_0=conv_0", "relu_0=relu_1", "conv_1=conv_1", "relu_1=relu_2"]


def test_renamed_layers_pair_by_operator_and_traits() -> None:
    a = net("a.x:Conv:8", "a.y:Relu:8", "a.z:Conv:16")
    b = net("b.x:Conv:8", "b.n:BatchNormalization:8", "b.y:Relu:8", "b.z:Conv:16")
    assert aligned(a, b) == ["a.x=b.x", "-=b.n", "a.y=b.y", "a.z=b.z"]


def test_removed_layers_keep_their_position() -> None:
    assert aligned(net("p:A", "q:B", "r:C", "s:D"), net("p:A", "s:D")) == ["p=p", "q=-", "r=-", "s=s"]
    assert aligned(net("q:B", "p:A"), net("p:A")) == ["q=-", "p=p"]


def test_reordered_layers_pair_by_name() -> None:
    assert sorted(aligned(net("p:A", "q:B", "r:C"), net("r:C", "p:A", "q:B"))) == ["p=p", "q=q", "r=r"]


def test_a_large_gap_is_aligned_too() -> None:
    size = int(MAX_GAP_COMPARISONS**0.5) + 50
    a = [Item(name=f"a.{n}x", op="Conv", traits=(n,)) for n in range(size)]
    b = [Item(name=f"b.{n}x", op="Conv", traits=(n,)) for n in range(size) if n != 7]
    pairs: list[Pair] = align(a, b)
    assert [pair for pair in pairs if not all(pair)] == [([7], [])]
    assert all(a[left[0]].traits == b[right[0]].traits for left, right in pairs if right)
