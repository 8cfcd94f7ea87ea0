"""Stealing between graphs: matching layers are copied, skips have a reason, heads keep old logits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx import run
from tests import zoo


def net(seed: int, *, names: str = "abc", classes: int = 5, wide: int = 8, head: str = "gemm") -> ir.Model:
    """A convolution, a batch norm and a head, named by the letters of `names`."""
    draw = np.random.default_rng(seed)
    a, b, c = names
    ends = {
        "gemm": f"y = Gemm <transB = 1> (f, {c}w, {c}b)",
        "matmul": f"p = MatMul (f, {c}w) y = Add (p, {c}b)",
        "conv": f"y = Conv (g, {c}w, {c}b)",
    }
    shapes = {"gemm": (classes, wide), "matmul": (wide, classes), "conv": (classes, wide, 1, 1)}
    built = zoo.model(
        f"""
        g (float[N, 3, 6, 6] x) => (float y) {{
            o = Conv (x, {a}w) n = BatchNormalization (o, {b}s, {b}t, {b}m, {b}v) r = Relu (n)
            g = GlobalAveragePool (r) f = Flatten (g) {ends[head]}
        }}
        """,
        **{
            f"{a}w": draw.normal(size=(wide, 3, 3, 3)).astype(np.float32),
            **{f"{b}{p}": np.abs(draw.normal(size=wide)).astype(np.float32) for p in "stmv"},
            f"{c}w": draw.normal(size=shapes[head]).astype(np.float32),
            f"{c}b": draw.normal(size=classes).astype(np.float32),
        },
    )
    linear = iter((a, c))
    for node in built.graph:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            node.name = next(linear)
        elif node.op_type == "BatchNormalization":
            node.name = b
    return built


X = np.random.default_rng(9).normal(size=(4, 3, 6, 6)).astype(np.float32)


def outputs(model: ir.Model) -> np.ndarray:
    return np.asarray(run.runner(model, optimize=False, threads=1)({"x": X})["y"])


def match_or_reason(done: ms.Stolen) -> dict[str, object]:
    return {edit.layer: edit.skipped or edit.details.get("by") for edit in done.edits}


@pytest.mark.parametrize(("names", "by"), [("abc", "name"), ("xyz", "structure")])
def test_same_structure_is_copied(names: str, by: str) -> None:
    donor, recipient = net(1), net(2, names=names)
    done = ms.steal(donor, recipient)
    assert set(match_or_reason(done).values()) == {by}
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"
    assert np.array_equal(outputs(done.model), outputs(donor))
    assert "3 of 3 layers with weights have some from the donor" in done.notes


def test_transposed_weight_is_copied() -> None:
    donor = net(1)
    for node in donor.graph:
        if node.op_type == "Gemm":
            turned = node.inputs[1].const_value.numpy().T.copy()  # type: ignore[union-attr]
            node.inputs[1].const_value = ir.tensor(turned)  # type: ignore[union-attr]
            node.inputs[1].shape = ir.Shape(turned.shape)  # type: ignore[union-attr]
            node.attributes.pop("transB")
    assert np.array_equal(outputs(ms.steal(donor, net(2)).model), outputs(donor))


@pytest.mark.parametrize("grow", [{}, {"c": 9}])
def test_names_and_attributes_are_unchanged(grow: dict[str, int]) -> None:
    donor, recipient = net(1), net(2)
    made = ms.steal(donor, recipient, grow=grow).model
    assert set(made.graph.initializers) == set(recipient.graph.initializers)
    assert [str(node.attributes) for node in made.graph] == [str(node.attributes) for node in recipient.graph]
    done = ms.steal(donor, recipient)
    assert set(done.frozen) == set(recipient.graph.initializers)


def test_layer_map_is_used() -> None:
    done = ms.steal(net(1), net(2, names="xyz"), given={"z": "c"}, only=["z"])
    assert match_or_reason(done) == {"x": LEFT_OUT, "y": LEFT_OUT, "z": "map"}
    assert done.frozen
    assert len(done.frozen) == 2


LEFT_OUT = "not among those asked for (--only)"


def test_other_sizes_need_partial() -> None:
    donor, recipient = net(1, wide=6), net(2)
    skipped = ms.steal(donor, recipient, compare=False)
    assert "its weight is (8, 3, 3, 3), the donor's (6, 3, 3, 3)" in str(match_or_reason(skipped)["a"])
    assert "not compared" in skipped.notes
    done = ms.steal(donor, recipient, partial=True, compare=False)
    mine, theirs, old = (
        next(node.inputs[1].const_value.numpy() for node in m.graph if node.op_type == "Conv")  # type: ignore[union-attr]
        for m in (done.model, donor, recipient)
    )
    assert np.array_equal(mine[:6], theirs)
    assert np.array_equal(mine[6:], old[6:])
    assert not done.frozen


def test_recurrent_node_is_copied_whole() -> None:
    def recurrent(seed: int) -> ir.Model:
        draw = np.random.default_rng(seed)
        shapes = {"w": (1, 12, 2), "r": (1, 12, 3), "b": (1, 24)}
        return zoo.model(
            "g (float[4, 1, 2] x) => (float y) { y, h = LSTM <hidden_size = 3> (x, w, r, b) }",
            **{name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()},
        )

    done = ms.steal(recurrent(1), recurrent(2))
    assert len(done.edits) == 1
    assert done.comparison is not None
    assert done.comparison.verdict == "identical"
    assert len(done.frozen) == 3


def test_partial_copy_of_depthwise_layers() -> None:
    def depthwise(wide: int) -> ir.Model:
        weight = np.full((wide, 1, 3, 3), wide, np.float32)
        text = f"g (float[1, {wide}, 6, 6] x) => (float y) {{ y = Conv <group = {wide}> (x, w) }}"
        return zoo.model(text, w=weight)

    done = ms.steal(depthwise(3), depthwise(5), partial=True)
    [node] = done.model.graph
    assert node.inputs[1].const_value.numpy()[:, 0, 0, 0].tolist() == [3, 3, 3, 5, 5]  # type: ignore[union-attr]
    assert "not compared: donor and recipient take different inputs" in done.notes


def test_operator_missing_in_the_donor() -> None:
    recipient = zoo.model(
        "g (float[N, 3, 6, 6] x) => (float y) { y = PRelu (x, s) }", s=np.ones((3, 1, 1), np.float32)
    )
    [edit] = ms.steal(net(1), recipient, compare=False).edits
    assert edit.skipped == "the donor has no PRelu with weights"


@pytest.mark.parametrize("head", ["gemm", "matmul", "conv"])
@pytest.mark.parametrize("init", ["zero", "mean", "random"])
def test_a_grown_head_keeps_the_old_logits(head: str, init: str) -> None:
    donor = net(1, head=head)
    done = ms.steal(donor, donor, grow={"c": 9}, grow_init=init)  # type: ignore[arg-type]
    assert outputs(done.model).shape[1] == 9
    assert np.allclose(outputs(done.model)[:, :5], outputs(donor), rtol=0, atol=1e-6)
    assert done.comparison is not None
    assert done.comparison.worst < 1e-6
    if init == "zero":
        assert not outputs(done.model)[:, 5:].any()


def test_recipient_with_all_classes() -> None:
    donor = net(1)
    done = ms.steal(donor, net(2, classes=9), grow={"c": 9}, grow_init="mean")
    assert np.allclose(outputs(done.model)[:, :5], outputs(donor), rtol=0, atol=1e-6)


def test_labels_reorder_old_classes() -> None:
    donor = net(1)
    labels = {"donor": list("ABCDE"), "recipient": list("EXDCYBA")}
    done = ms.steal(donor, donor, grow={"c": 7}, labels=labels)
    assert np.allclose(outputs(done.model)[:, [6, 5, 3, 2, 0]], outputs(donor), rtol=0, atol=1e-6)
    assert done.comparison is not None
    assert done.comparison.worst < 1e-6


def test_new_rows_are_fitted_to_labeled_data() -> None:
    """Of the two new logits, the one of a sample's class is the larger, for samples of new classes."""
    donor = net(1)
    draw = np.random.default_rng(4)
    centres = draw.normal(size=(7, 3, 6, 6)) * 3
    classes = np.repeat(np.arange(7), 6)
    x = (centres[classes] + 0.01 * draw.normal(size=(42, 3, 6, 6))).astype(np.float32)
    done = ms.steal(donor, donor, grow={"c": 7}, grow_init="fit", data={"x": x}, classes=classes.tolist())
    y = run.runner(done.model)({"x": x})["y"]
    bad = np.concatenate([np.full_like(x[:1], np.nan), x])
    held = {"x": bad, "label": np.concatenate([[0], classes])}
    skipped = ms.steal(donor, donor, grow={"c": 7}, grow_init="fit", data=held, skip_bad=True)
    assert np.allclose(run.runner(skipped.model)({"x": x})["y"], y, atol=1e-5)
    new = classes >= 5
    assert (y[new][:, 5:].argmax(axis=1) == classes[new] - 5).all()
    assert np.allclose(outputs(done.model)[:, :5], outputs(donor), rtol=0, atol=1e-6)


WRONG = {
    "there is no layer 'z' to grow": {"grow": {"z": 9}},
    "give labels": {"grow": {"c": 9}, "grow_init": "map"},
    "fitted to the mean features of labelled data": {"grow": {"c": 9}, "grow_init": "fit"},
    "the map names 'q'": {"given": {"q": "a"}},
}


@pytest.mark.parametrize("message", WRONG)
def test_invalid_plan_raises(message: str) -> None:
    with pytest.raises(ms.BadPlan, match=message):
        ms.steal(net(1), net(2), **WRONG[message])  # type: ignore[arg-type]


def test_history() -> None:
    donor = net(1)
    [line] = ms.history(ms.steal(donor, donor, grow={"c": 9}).model).as_dict()
    assert (line["verb"], line["arguments"]) == ("steal", {"grow": {"c": 9}, "grow_init": "zero"})


def two_outputs(first: str, second: str, kind: str = "float[N, 4]", last: str = "z = Neg (h)") -> ir.Model:
    """A layer with two outputs of these names, the second of which is -x w."""
    body = f"[dense] h = MatMul (x, w) {first} = Relu (h) {last.replace('z =', f'{second} =')}"
    return zoo.model(
        f"g (float[N, 4] x) => (float[N, 4] {first}, {kind} {second}) {{ {body} }}",
        w=np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32),
        one=np.array([1]),
    )


def test_outputs_are_compared_by_name_then_by_position() -> None:
    donor, recipient = two_outputs("y", "z"), two_outputs("y", "z")
    recipient.graph.outputs.reverse()
    for made in (recipient, two_outputs("p", "q")):
        done = ms.steal(donor, made, tolerance=0)
        assert done.comparison is not None
        assert done.comparison.verdict == "identical"


@pytest.mark.parametrize(
    ("kind", "last", "words"),
    [
        (
            "float[N]",
            "z = ReduceSum <keepdims = 0> (h, one)",
            "floats of rank 2 and 'z' of the recipient floats",
        ),
        ("int64[N, 4]", "z = Cast <to = 7> (h)", "floats of rank 2 and 'z' of the recipient int64 of rank 2"),
    ],
)
@pytest.mark.parametrize("name", ["z", "other"])
def test_outputs_of_other_types_or_ranks_are_not_compared(
    kind: str, last: str, words: str, name: str
) -> None:
    recipient = two_outputs("y", "z", kind, last)
    done = ms.steal(two_outputs("y", name), recipient)
    assert done.comparison is None
    assert any(f"not compared: output '{name}' of the donor is {words}" in note for note in done.notes)
    with pytest.raises(ms.NoVerdict, match="not compared: output"):
        ms.steal(two_outputs("y", name), recipient, tolerance=0.1)
