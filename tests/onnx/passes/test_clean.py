"""Cleaning: nothing that changes a value is removed, everything else is, and outputs keep name and bits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import modelsurgeon as ms
from modelsurgeon.onnx.check import check
from tests import zoo

RULES = ("no-op", "cancels", "duplicate-node", "dead-node", "dead-weight", "idle-nodes")
SWAP = "Transpose <perm = [0, 2, 1]>"
CONSTANTS = {
    "same": np.int64([2, 3, 4]), "copy": np.int64([0, -1, 4]), "other": np.int64([3, 2, 4]),
    "flat": np.int64([2, 12]), "back": np.int64([2, 3, 4]), "row": np.int64([1, 2, 3, 4]),
    "nothing": np.zeros(6, np.int64), "some": np.int64([0, 0, 0, 0, 0, 1]), "axis0": np.int64([0]),
    "zero": np.float32(0), "negzero": np.float32(-0.0), "one": np.float32(1), "ones": zoo.ones(3, 4),
    "nan": np.float32(np.nan), "wide": zoo.ones(5, 2, 3, 4), "mixed": np.float32([1, 1, 2, 1]),
    "start": np.int64([0, 0]), "end": np.int64([2**62, 2**62]), "axes": np.int64([0, 2]),
    "less": np.int64([2**62, 3]), "one_each": np.int64([1, 1, 1]), "scale": np.float32([1, 2, 3, 4]),
    "last": np.float32([[[1, 2, 3]]]), "yes": np.array(True), "no": np.array(False),
    "half": np.float32(0.5),
}  # fmt: skip
REMOVED = {
    "an identity": "p = Identity (a)",
    "a cast to its own type": "p = Cast <to = 1> (a)",
    "a cast like its own type": "p = CastLike (a, zero)",
    "a reshape to the same shape": "p = Reshape (a, same)",
    "a reshape that copies sizes": "p = Reshape (a, copy)",
    "a computed reshape": "s = Shape (a) p = Reshape (a, s)",
    "an expand": "p = Expand (a, one_each)",
    "a tile": "p = Tile (a, one_each)",
    "an identical order": "p = Transpose <perm = [0, 1, 2]> (a)",
    "a pad of nothing": "p = Pad (a, nothing)",
    "a slice of everything": "p = Slice (a, start, end, axes)",
    "a concat of one": "p = Concat <axis = 1> (a)",
    "a maximum of one": "p = Max (a)",
    "dropout": "p = Dropout (a)",
    "dropout that is off": "p = Dropout (a, half, no)",
    "a sum with zero": "p = Add (zero, a)",
    "a sum with the other zero": "p = Add (a, negzero)",
    "a difference from zero": "p = Sub (a, zero)",
    "a product with one": "p = Mul (a, ones)",
    "a quotient": "p = Div (a, one)",
    "transposed back": "t = Transpose <perm = [2, 0, 1]> (a) p = Transpose <perm = [1, 2, 0]> (t)",
    "transposed back by default": "t = Transpose (a) p = Transpose (t)",
    "cast back": "t = Cast <to = 11> (a) p = Cast <to = 1> (t)",
    "reshaped back": "t = Reshape (a, flat) p = Reshape (t, back)",
    "squeezed back": "t = Unsqueeze (a, axis0) p = Squeeze (t, axis0)",
    "reshaped back in three": "t = Reshape (a, flat) u = Reshape (t, row) p = Squeeze (u, axis0)",
    "a chain": "t = Identity (a) u = Cast <to = 1> (t) v = Mul (u, one) p = Identity (v)",
    "around a function": "t = SWAP (a) r = Relu (t) p = SWAP (r)",
    "around a bias": "t = SWAP (a) r = Add (t, last) "
    "p = SWAP (r)",
    "around a residual": "b = Neg (a) t = SWAP (a) u = SWAP (b) "
    "r = Mul (t, u) c = Clip (r, zero, one) p = SWAP (c)",
    "around two outputs": "t = Transpose <perm = [1, 2, 0]> (a) r = Relu (t) "
    "u = Transpose <perm = [2, 0, 1]> (r) n = Neg (r) v = Transpose <perm = [2, 0, 1]> (n) p = Add (u, v)",
    "unused": "t = Neg (a) u = Exp (t) p = Abs (a)",
    "repeated": "t = Sin (a) u = Sin (a) p = Mul (t, u)",
    "repeated in a row": "t = Sin (a) u = Sin (a) v = Exp (t) w = Exp (u) p = Mul (v, w)",
}  # fmt: skip
KEPT = {
    "a cast that rounds": "t = Cast <to = 10> (a) p = Cast <to = 1> (t)",
    "a cast": "t = Cast <to = 11> (a) q = Cast <to = 10> (t) p = Cast <to = 1> (q)",
    "transposed further": "t = Transpose <perm = [2, 0, 1]> (a) p = Transpose <perm = [2, 0, 1]> (t)",
    "a transpose": "p = Transpose (a)",
    "a reshape": "p = Reshape (a, other)",
    "a pad": "p = Pad (a, some)",
    "a slice": "p = Slice (a, start, less, axes)",
    "a negative": "p = Sub (zero, a)",
    "a reciprocal": "p = Div (one, a)",
    "a larger shape": "p = Mul (a, wide)",
    "one factor of four": "p = Mul (a, mixed)",
    "a sum of two": "p = Sum (a, a)",
    "a zero whose sign is seen": "q = Add (a, zero) p = Reciprocal (q)",
    "another zero whose sign is seen": "q = Sub (a, negzero) p = Div (one, q)",
    "an expand by a shape of another": "s = Shape (z) p = Expand (a, s)",
    "not a number": "p = Mul (a, nan)",
    "around a softmax": "t = SWAP (a) r = Softmax (t) p = SWAP (r)",
    "around a use": "t = SWAP (a) r = Relu (t) q = SWAP (r) "
    "s = ReduceSum (r) p = Add (q, s)",
    "around another order": "t = Transpose <perm = [1, 2, 0]> (a) r = Relu (t) "
    "p = Transpose <perm = [1, 2, 0]> (r)",
    "random values": "t = RandomNormalLike <seed = 1.0> (a) u = RandomNormalLike <seed = 1.0> (a) "
    "p = Add (t, u)",
}  # fmt: skip


def net(body: str, sizes: str = "2, 3, 4", opset: int = 19) -> ir.Model:
    """`a` is computed from x, `p` from `a` by the body, and y from `p`. SWAP is a Transpose of two axes."""
    body = body.replace("SWAP", SWAP)
    used = {name: array for name, array in CONSTANTS.items() if name in body.replace(",", " ").replace(
        "(", " ").replace(")", " ").split()}  # fmt: skip
    nodes = f"a = Ceil (x) {body} y = Exp (p) w0 = Neg (z)"
    text = f"g (float[{sizes}] x, float[{sizes}] z) => (float y, float w0) {{ {nodes} }}"
    return zoo.model(text, opset=opset, **used)


def feeds(*sizes: int) -> dict[str, np.ndarray]:
    """Inputs with zeros of both signs, with infinity and NaN."""
    rng = np.random.default_rng(5)
    x, z = (rng.normal(size=sizes).astype(np.float32) * 2 for _ in range(2))
    x.ravel()[:4] = [0.0, -0.0, np.inf, np.nan]
    return {"x": x, "z": z}


def outputs(model: ir.Model, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(None, feed))


def ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes() if node.op_type != "Constant")


def cleaned(model: ir.Model, *feed: dict[str, np.ndarray]) -> ir.Model:
    """The cleaned model; asserts what holds for every model."""
    before = ir.to_proto(model).SerializeToString()
    done = ms.clean(model, compare=False)
    assert ir.to_proto(model).SerializeToString() == before
    assert [v.name for v in done.model.graph.outputs] == [v.name for v in model.graph.outputs]
    for each in feed:
        for a, b in zip(outputs(model, each), outputs(done.model, each), strict=True):
            assert a.dtype == b.dtype
            assert np.array_equal(a, b, equal_nan=True)
    again = ms.clean(done.model, compare=False)
    assert not [edit for edit in again.edits if edit.skipped is None]
    assert not check(done.model, select=RULES).findings
    return done.model


@pytest.mark.parametrize("name", REMOVED)
@pytest.mark.parametrize("opset", [19, 17])
def test_removed(name: str, opset: int) -> None:
    model = net(REMOVED[name], opset=opset)
    done = cleaned(model, feeds(2, 3, 4))
    assert len(list(done.graph)) < len(list(model.graph))
    for op in (
        "Identity",
        "Cast",
        "Reshape",
        "Transpose",
        "Expand",
        "Tile",
        "Pad",
        "Slice",
        "Dropout",
        "Concat",
    ):
        assert not ops(done)[op]


@pytest.mark.parametrize("name", KEPT)
def test_kept(name: str) -> None:
    model = net(KEPT[name])
    seen = () if name == "random values" else (feeds(2, 3, 4),)
    if "another" in name and "expand" in name:
        model = net(KEPT[name], "N, 3, 4")
        few = {"x": feeds(1, 3, 4)["x"], "z": feeds(2, 3, 4)["z"]}
        seen = (feeds(2, 3, 4), few)
    assert ops(cleaned(model, *seen)) == ops(model)


@pytest.mark.parametrize("body", ["p = Reshape (a, copy)", "s = Shape (a) p = Reshape (a, s)",
                                  "t = Unsqueeze (a, axis0) p = Squeeze (t, axis0)",
                                  "p = Slice (a, start, end, axes)"])  # fmt: skip
def test_open_sizes(body: str) -> None:
    model = net(body, "N, M, 4")
    done = cleaned(model, feeds(2, 3, 4), feeds(5, 1, 4))
    assert len(list(done.graph)) < len(list(model.graph))


def test_a_shape_that_fits_the_given_size_only_is_kept() -> None:
    model = net("p = Reshape (a, same)", "N, M, K")
    done = ms.clean(model, shapes={"x": (2, 3, 4), "z": (2, 3, 4)}, compare=False)
    assert ops(done.model) == ops(model)


def test_a_constant_that_a_caller_may_override_is_kept() -> None:
    text = "g (float[2, 3] x, float one, int64[2] same) => (float y) " \
        "{ a = Mul (x, one) b = Reshape (a, same) y = Exp (b) }"  # fmt: skip
    model = zoo.model(text, one=np.float32(1), same=np.int64([2, 3]))
    assert ops(ms.clean(model, compare=False).model) == ops(model)


OUTPUTS = {
    "of a node": ("a = Exp (x) y = Identity (a) z = Neg (a)", 2),
    "of an input": ("y = Identity (x) z = Neg (y)", 2),
    "of an output": ("y = Exp (x) z = Cast <to = 1> (y)", 2),
    "of a weight": ("y = Identity (w) z = Add (x, y)", 2),
    "of two no-ops": ("a = Exp (x) y = Identity (a) z = Identity (a)", 2),
    "of repeated nodes": ("y = Exp (x) z = Exp (x)", 2),
    "of a repeated node": ("a = Exp (x) y = Exp (x) b = Neg (a) c = Abs (y) z = Add (b, c)", 4),
    "before transposes": ("t = Transpose (x) y = Relu (t) z = Transpose (y)", 3),
    "after transposes": ("t = Transpose (x) r = Relu (t) y = Transpose (r) z = Neg (y)", 4),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_keep_their_names(name: str) -> None:
    body, count = OUTPUTS[name]
    weights = {"w": zoo.ones(3, 3)} if "(w" in body else {}
    model = zoo.model(f"g (float[3, 3] x) => (float[3, 3] y, float[3, 3] z) {{ {body} }}", **weights)
    x = {"x": np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)}
    done = ms.clean(model, compare=False).model
    assert len(list(done.graph)) == count
    for a, b in zip(outputs(model, x), outputs(done, x), strict=True):
        assert np.array_equal(a, b)
    assert [(v.name, str(v.dtype), str(v.shape)) for v in done.graph.outputs] == [
        (v.name, str(v.dtype), str(v.shape)) for v in model.graph.outputs
    ]


def test_of_two_equal_outputs_one_is_computed() -> None:
    model = zoo.model("g (float[3, 3] x) => (float[3, 3] y, float[3, 3] z) { y = Exp (x) z = Exp (x) }")
    assert ops(ms.clean(model, compare=False).model) == {"Exp": 1, "Identity": 1}


def test_branches_are_cleaned_and_names_in_two_branches_are_told_apart() -> None:
    branches = (
        "then_branch = t () => (float[2, 3] p) { i = Identity (x) h = Neg (i) p = Reshape (h, s) }",
        "else_branch = e () => (float[3, 2] q) { i = Neg (x) h = Transpose (i) q = Reshape (h, r) }",
    )
    text = f"g (float[2, 3] x, bool c) => (float y) {{ v = If (c) <{', '.join(branches)}> y = Exp (v) }}"
    model = zoo.model(text, s=np.int64([2, 3]), r=np.int64([3, 2]))
    done = ms.clean(model, compare=False)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    for c in (True, False):
        feed = {"x": x, "c": np.array(c)}
        assert np.array_equal(outputs(model, feed)[0], outputs(done.model, feed)[0])
    assert not ops(done.model)["Identity"]


@pytest.mark.parametrize(
    "make", [zoo.classifier, zoo.branches, zoo.loop, zoo.scan, zoo.functions, zoo.quantized]
)
def test_models_of_the_zoo_are_clean(make: object) -> None:
    model = make()  # type: ignore[operator]
    assert not [edit for edit in ms.clean(model, compare=False).edits if edit.skipped is None]


def test_left_out_layers_stay() -> None:
    model = net("p = Identity (a)")
    [edit] = ms.clean(model, compare=False, skip=["p"]).edits
    assert edit.skipped == "left out as asked (--skip)"


STEPS = [
    "Identity ({0})", "Cast <to = 1> ({0})", "Reshape ({0}, same)", "Transpose <perm = [0, 2, 1]> ({0})",
    "Transpose <perm = [0, 2, 1]> ({0})", "Transpose <perm = [0, 2, 1]> ({0})", "Add ({0}, zero)",
    "Mul ({0}, one)", "Relu ({0})", "Neg ({0})", "Reciprocal ({0})", "Add ({0}, {1})", "Max ({0}, {1})",
    "Mul ({0}, scale)", "Sub (last, {0})", "Unsqueeze ({0}, axis0)", "Squeeze ({0}, axis0)", "Exp ({0})",
    "Cast <to = 11> ({0})", "Dropout ({0})", "Softmax ({0})", "PRelu ({0}, scale)", "Clip ({0}, zero, one)",
]  # fmt: skip


def random_net(seed: int) -> ir.Model:
    """A random graph of steps on values of one shape; steps that don't fit are left out."""
    rng = np.random.default_rng(seed)
    values, lines = ["x", "z"], []
    kinds = {"x": ("f", (3, 3, 4)), "z": ("f", (3, 3, 4))}
    for number in range(int(rng.integers(4, 16))):
        step, name = STEPS[rng.integers(len(STEPS))], f"v{number}"
        first, second = (values[-1 - min(int(rng.geometric(0.5)) - 1, len(values) - 1)] for _ in range(2))
        kind = result(step, kinds[first], kinds[second])
        if kind is not None:
            lines.append(f"{name} = {step.format(first, second)}")
            values.append(name)
            kinds[name] = kind
    names = sorted({values[-1], *(str(v) for v in rng.choice(values, 2))} - {"x", "z"}) or ["v"]
    if names == ["v"]:
        lines.append("v = Exp (x)")
    declared = ", ".join(f"{'double' if kinds.get(n, 'f')[0] == 'd' else 'float'} {n}" for n in names)
    used = {key: array for key, array in CONSTANTS.items() if any(f"{key}" in line for line in lines)}
    used["same"], used["scale"] = np.int64([3, 3, 4]), np.float32([1, 2, 3, 4])
    used["last"] = np.float32([[[1], [2], [3]]])
    text = f"g (float[3, 3, 4] x, float[3, 3, 4] z) => ({declared}) {{ {' '.join(lines)} }}"
    model = zoo.model(text, opset=17, **used)
    for value in model.graph.outputs:
        value.shape = None
    return model


Kind = tuple[str, tuple[int, ...]]


def result(step: str, first: Kind, second: Kind) -> Kind | None:
    """Type and shape of a step's result; None where it doesn't fit."""
    dtype, shape = first
    op = step.split(" ", maxsplit=1)[0]
    results: dict[str, Kind] = {
        "Cast": ("d" if "11" in step else "f", shape),
        "Unsqueeze": (dtype, (1, *shape)),
        "Squeeze": (dtype, shape[1:]),
        "Transpose": (dtype, (shape[0], *shape[:0:-1])),
    }
    needs_double = op in ("Cast", "Identity", "Transpose", "Relu", "Neg", "Dropout")
    fits = (
        (dtype == "f" or needs_double)
        and len(shape) == (4 if op == "Squeeze" else 3)
        and ("{1}" not in step or first == second)
        and ("scale" not in step or shape[2] == 4)
        and ("last" not in step or shape[1] == 3)
    )
    return results.get(op, (dtype, (3, 3, 4) if op == "Reshape" else shape)) if fits else None


def check_random(seed: int) -> int:
    model = random_net(seed)
    feed = feeds(3, 3, 4)
    done = ms.clean(model, compare=False)
    for a, b in zip(outputs(model, feed), outputs(done.model, feed), strict=True):
        assert a.shape == b.shape, seed
        assert np.array_equal(a, b, equal_nan=True), seed
    assert not [e for e in ms.clean(done.model, compare=False).edits if e.skipped is None], seed
    assert not check(done.model, select=RULES).findings, seed
    return len(list(model.graph)) - len(list(done.model.graph))


def test_random_nets_keep_their_outputs() -> None:
    assert sum(check_random(seed) for seed in range(60)) > 60


@pytest.mark.slow
def test_many_random_nets_keep_their_outputs() -> None:
    assert sum(check_random(seed) for seed in range(1000, 3000)) > 2000
