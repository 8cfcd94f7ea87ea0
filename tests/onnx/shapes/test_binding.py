"""Names of open axes: what is a name, what an expression; either name binds; no name makes a size 0."""

from __future__ import annotations

import keyword
import re

import onnx_ir as ir
import pytest
import sympy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelsurgeon.errors import UnknownShape
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, default_dims, sizes, symbols
from modelsurgeon.onnx.shapes.binding import name_open_dims
from modelsurgeon.onnx.shapes.dimension_expressions import expression_symbols
from tests import zoo

# What exporters and people write as the name of one size.
NAMES = (
    *("batch-size", "seq-len", "N-1", "seq_len-1", "input-length", "a-b-c", "batch/seq", "N/2", "N//2", "2N"),
    *("batch.size", "batch:0", "unk__123", "x[0]", "batch size", "batch 'x'", 'the "N"', "N,", "f(N)", "N*"),
    *("E", "I", "pi", "S", "N", "O", "Q", "Min", "Max", "floor", "Symbol", "lambda", "None_", "zoo", "oo"),
    *("größe", "批次", "ñ-1", "N²", "٣a", "_d0", "_d1", "grows_0", "x_0", "0*N", "N - N", "N - 2*N", "a\tb"),
    *(
        "N**2",
        "9**9**9*N",
        "N%2",
        "(N-1)",
        "past+-",
        "n" * 300,
        "-".join("abcdefgh" * 20),
        "Max",
        "{N}",
        "é" * 9,
    ),
)
EXPRESSIONS = {
    "past + new": {"past": 2, "new": 3},
    "past+new": {"past": 2, "new": 3},
    "past_sequence_length + 1": {"past_sequence_length": 4},
    "5*N": {"N": 1},
    "s0 - 1": {"s0": 6},
    "floor(N/2)": {"N": 10},
    "Max(1, N)": {"N": 5},
    "floor((H - 1)/2) + 1": {"H": 10},
}


def projection(*dims: int | str | None) -> ir.Model:
    """A matrix product for each dimension: 128 MACs for each row."""
    inputs = ", ".join(f"float[1, 16] in_{index}" for index in range(len(dims)))
    body = " ".join(f"y_{index} = MatMul (in_{index}, w)" for index in range(len(dims)))
    outputs = ", ".join(f"float[?, 8] y_{index}" for index in range(len(dims)))
    built = zoo.model(f"g ({inputs}) => ({outputs}) {{ {body} }}", w=zoo.ones(16, 8))
    for value, dim in zip(built.graph.inputs, dims, strict=True):
        value.shape = ir.Shape([dim, 16])
    return built


def macs_at(model: ir.Model, size: int) -> object:
    """The formula of the MACs with this size for every symbol."""
    found = analyze(model)
    names = {name: sympy.Symbol(name) for name in found.defaults}
    return sympy.sympify(found.formulas["macs"], locals=names).subs(dict.fromkeys(names.values(), size))


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_size(name: str) -> None:
    model = projection(name)
    assert analyze(model).totals.macs == 128
    [symbol] = symbols(bound(model))
    assert sizes(bound(model, dims={symbol: 7}).graph.outputs[0]) == (7, 8)
    assert sizes(bound(model, {"in_0": (7, 16)}).graph.outputs[0]) == (7, 8)
    if any(letter.isalpha() for letter in name):
        assert analyze(model, dims={name: 7}).totals.macs == 7 * 128


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_an_expression_is_made_from_its_symbols(text: str) -> None:
    model = projection(text)
    assert set(symbols(bound(model))) == EXPRESSIONS[text].keys()
    assert analyze(model, dims=EXPRESSIONS[text]).totals.macs == 5 * 128
    assert analyze(model).totals.macs > 0


@pytest.mark.parametrize(
    ("text", "others"),
    [("N-1", ("N",)), ("seq_len-1", ("seq_len",)), ("a-b", ("a", "b")), ("N/2", ("N",)), ("N//2", ("N",))],
)
def test_a_sign_without_spaces_counts_where_its_parts_are_sizes_elsewhere(
    text: str, others: tuple[str, ...]
) -> None:
    model = projection(text, *others)
    assert symbols(bound(model)) == sorted(others)
    assert 0 not in [layer.macs for layer in analyze(model).layers]
    assert len(symbols(bound(projection(text, "other")))) == 2


def test_a_symbol_is_solved_from_the_size_of_an_expression() -> None:
    model = projection("N - 1", "N")
    assert default_dims(bound(model, {"in_0": (4, 16)})) == {}
    assert sizes(bound(model, {"in_0": (4, 16)}).graph.inputs[1]) == (5, 16)


def test_a_size_at_which_a_dimension_is_no_size_is_refused() -> None:
    with pytest.raises(UnknownShape, match=re.escape("N - 1 of input 'in_0' is -1, which is no size")):
        bound(projection("N - 1"), dims={"N": 0})
    with pytest.raises(UnknownShape, match=re.escape("N/2 of input 'in_0' is 3/2, which is no size")):
        bound(projection("N/2", "N"), dims={"N": 3})


def test_equal_names_are_one_size_and_different_names_are_two() -> None:
    assert len(symbols(bound(projection("batch-size", "batch-size")))) == 1
    assert len(symbols(bound(projection("batch-size", "batch_size", "batch.size")))) == 3
    assert len(symbols(bound(projection("None", "None", "?", "?", None, None, 0, 0)))) == 8


def test_both_names_of_a_dimension_bind_it_once() -> None:
    model = projection("batch-size")
    assert sizes(bound(model, dims={"batch-size": 7, "batch_size": 7}).graph.inputs[0]) == (7, 16)
    with pytest.raises(UnknownShape, match="are one dimension, bound to"):
        bound(model, dims={"batch-size": 7, "batch_size": 8})


def test_an_axis_of_0_is_open() -> None:
    model = projection(0)
    assert analyze(model).totals.macs == 128
    assert analyze(model, shapes={"in_0": (3, 16)}).totals.macs == 3 * 128


def test_an_empty_input_of_resize_is_left_out() -> None:
    text = "g (float[1, 1, 4, 4] x, float[0] roi) => (float y) { y = Resize (x, roi, s) }"
    opened = bound(zoo.model(text, s=zoo.ones(4)))
    assert symbols(opened) == []
    assert sizes(opened.graph.inputs[1]) == (0,)


names = st.one_of(
    st.text(max_size=30),
    st.text(st.sampled_from("abN_-./: 12"), max_size=12),
    st.sampled_from(keyword.kwlist),
)


@settings(max_examples=50)
@given(text=names, other=names)
@example(text="lambda", other="in")
@example(text="a", other="a ")
@example(text="a", other="a_")
def test_any_names_count_as_a_plain_name_does(text: str, other: str) -> None:
    model = projection(text, other)
    if not any(expression_symbols(name, {text, other}) for name in (text, other)):
        assert analyze(model).totals.macs == 2 * 128
        assert macs_at(model, 5) == 10 * 128


@given(text=names)
def test_open_dims_are_named_once_and_stay_as_they_are(text: str) -> None:
    model = projection(text, "N")
    name_open_dims(list(model.graph.inputs))
    before = [str(value.shape) for value in model.graph.inputs]
    assert name_open_dims(list(model.graph.inputs)) == {}
    assert [str(value.shape) for value in model.graph.inputs] == before
