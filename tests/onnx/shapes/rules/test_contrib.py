"""Shapes and costs of onnxruntime's own operators equal those of its runs, with fixed and with open sizes."""

from __future__ import annotations

from functools import cache
from math import ceil, floor

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx_shape_inference import registry
from onnxruntime.capi import onnxruntime_pybind11_state as onnxruntime_state

from modelsurgeon.layers.onnx_names import MICROSOFT_DOMAIN, NCHWC_DOMAIN
from modelsurgeon.onnx.costs.registry import COSTS
from modelsurgeon.onnx.info import analyze
from modelsurgeon.onnx.shapes import bound, sizes
from modelsurgeon.onnx.shapes.rules import register
from tests import zoo
from tests.onnx.shapes.rules.contrib_cases import CASES, Case

# Outputs whose shapes depend on the content of inputs.
DATA_DEPENDENT = {
    *(("Unique", "o0"), ("Unique", "o2"), ("Tokenizer", "o0"), ("DynamicTimeWarping", "o0")),
    ("BifurcationDetector", "o0"),
}
# Operators with a kernel for CPUs that no case runs.
NOT_RUN = {
    "BeamSearch": "its decoder is a graph",
    "GreedySearch": "its decoder is a graph",
    "Sampling": "its decoder is a graph",
    "WhisperBeamSearch": "its decoder is a graph",
    "SparseAttention": "past and present must be one buffer",
    "SparseToDenseMatMul": "its input is sparse",
}
CONVOLUTIONS = {"FusedConv": 1, "Conv": 1, "QLinearConv": 3}  # the input that is the weight


@cache
def run(case: Case) -> dict[str, np.ndarray]:
    """The outputs of onnxruntime, without optimizations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = case.model().SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, case.feed), strict=True))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shapes_types_and_macs_are_those_of_the_run(case: Case) -> None:
    for open_axes in (0, 1, 9):
        model = bound(ir.from_proto(case.model(open_axes)))
        dims = {f"n{size}": size for array in case.feed.values() for size in array.shape}
        for value in model.graph.outputs:
            array, found = run(case)[str(value.name)], sizes(value, dims)
            known = ir.DataType.STRING if array.dtype == object else ir.DataType.from_numpy(array.dtype)
            assert value.dtype == known
            if found is None:
                assert (case.op, value.name) in DATA_DEPENDENT or open_axes > 1 or case.depends_on_content
            else:
                assert found == array.shape
    analysis = analyze(ir.from_proto(case.model()))
    if not analysis.uncounted:
        assert case.macs is None or analysis.totals.macs == case.macs
        if case.op in CONVOLUTIONS:
            weight = case.inputs[CONVOLUTIONS[case.op]]
            shape = (weight if isinstance(weight, np.ndarray) else weight.array).shape
            assert analysis.totals.macs == run(case)["o0"].size * int(np.prod(shape[1:]))


@pytest.mark.parametrize("case", [case for case in CASES if case.feed], ids=str)
def test_the_formula_of_an_open_first_axis_gives_the_fixed_total(case: Case) -> None:
    found, right = analyze(ir.from_proto(case.model(1))), analyze(ir.from_proto(case.model()))
    dims = {f"n{size}": size for array in case.feed.values() for size in array.shape}
    functions = {"Max": max, "Min": min, "floor": floor, "ceiling": ceil}
    for key in found.formulas.keys() & {"macs", "flops"}:
        assert eval(found.formulas[key], {**functions, **dims}) == getattr(right.totals, key)  # noqa: S307
    fits = not any("default sizes" in note for note in found.notes)
    assert "macs" in found.formulas or not found.defaults or right.uncounted or not fits


@pytest.mark.parametrize(
    ("call", "inputs"),
    [
        ("y = com.microsoft.NhwcMaxPool <kernel_shape = [7, 2]> (x)", ("uint8[1, 4, 4, 2] x",)),
        ("y = com.microsoft.MaxpoolWithMask <kernel_shape = [2, 7]> (x, m)",
         ("float[1, 2, 4, 4] x", "int32[1, 2, 4, 4] m")),
        ("y = com.microsoft.QLinearAveragePool <kernel_shape = [7, 2], channels_last = 1> (x, s, z, s, z)",
         ("uint8[1, 4, 4, 2] x", "float s", "uint8 z")),
        ("y = com.microsoft.UnfoldTensor <size = 5> (x)", ("float[1, 4] x",)),
        ("y = com.microsoft.FusedMatMul <transBatchA = 1> (x, w)", ("float[4, 2, 5] x", "float[2, 6, 3] w")),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_have_no_shape_and_no_cost(call: str, inputs: tuple[str, ...]) -> None:
    assert shapes_of(call, *inputs) == [None]
    assert analyze(zoo.model(f"g ({', '.join(inputs)}) => (float y) {{ {call} }}")).uncounted


@cache
def kernels() -> frozenset[tuple[str, str]]:
    """Domain and type of the operators that this build of onnxruntime runs on CPUs."""
    return frozenset(
        (kernel.domain, kernel.op_name)
        for kernel in onnxruntime_state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
    )


OWN_DOMAINS = (MICROSOFT_DOMAIN, NCHWC_DOMAIN)
OWN_KERNELS = sorted(kernel for kernel in kernels() if kernel[0] in OWN_DOMAINS)


@pytest.mark.parametrize(("domain", "op"), OWN_KERNELS)
def test_every_operator_that_onnxruntime_runs_is_swept_and_has_a_rule_and_a_cost(
    domain: str, op: str
) -> None:
    register()
    assert registry.get(domain, op, version=1) is not None
    assert (domain, op) in COSTS
    assert (op in NOT_RUN) != any(case.op == op and case.domain == domain for case in CASES)


@pytest.mark.parametrize(("domain", "op"), sorted(key for key in COSTS if key[0] in OWN_DOMAINS))
def test_every_operator_with_a_cost_has_a_rule(domain: str, op: str) -> None:
    register()
    assert registry.get(domain, op, version=1) is not None


def shapes_of(call: str, *inputs: str, opset: int = 17) -> list[list[str] | None]:
    """Shapes of the outputs of one call of an operator of com.microsoft."""
    outputs = [name.strip() for name in call.partition("=")[0].split(",")]
    declared = ", ".join(f"float {name}" for name in outputs)
    model = bound(zoo.model(f"g ({', '.join(inputs)}) => ({declared}) {{ {call} }}", opset=opset))
    return [None if value.shape is None else list(map(str, value.shape)) for value in model.graph.outputs]


@pytest.mark.parametrize("points", [8, 10, 64])
def test_real_transforms_have_the_sizes_of_numpy(points: int) -> None:
    signal = np.zeros((2, 3, points))
    spectrum = np.fft.rfft(signal)
    call = "y = com.microsoft.Rfft <signal_ndim = 1> (x)"
    assert shapes_of(call, f"float[2, 3, {points}] x") == [[*map(str, spectrum.shape), "2"]]
    call = "y = com.microsoft.Irfft <signal_ndim = 1> (x)"
    assert shapes_of(call, f"float[2, 3, {spectrum.shape[-1]}, 2] x") == [list(map(str, signal.shape))]


@pytest.mark.parametrize(
    ("call", "inputs", "right"),
    [
        ("y = com.microsoft.QLinearReduceMean <axes = [1], keepdims = 0> (x, s, z, s, z)",
         ("uint8[2, N, 4] x", "float s", "uint8 z"), ["2", "4"]),
        ("y = com.microsoft.QLinearReduceMean <axes = [-1], keepdims = 1> (x, s, z, s, z)",
         ("uint8[2, N, 4] x", "float s", "uint8 z"), ["2", "N", "1"]),
        ("y = com.microsoft.ReduceSumInteger <axes = [0, 1], keepdims = 0> (x)", ("int8[2, N, 4] x",), ["4"]),
        ("y = com.microsoft.IsAllFinite (x, x)", ("float[2, N] x",), []),
        ("y = com.microsoft.TorchEmbedding (w, x)", ("float[9, 8] w", "int64[2, N] x"), ["2", "N", "8"]),
        ("y = com.microsoft.MultiHeadAttention <num_heads = 4> (q)",
         ("float[2, N, 4, 3, 8] q",), ["2", "N", "32"]),
        ("y = com.microsoft.MultiHeadAttention <num_heads = 4> (q, k)",
         ("float[2, N, 32] q", "float[2, 6, 4, 2, 8] k"), ["2", "N", "32"]),
        ("y = com.microsoft.PackedMultiHeadAttention <num_heads = 4> (q)",
         ("float[N, 4, 3, 8] q",), ["N", "32"]),
    ],
)  # fmt: skip
def test_operators_for_other_devices_have_the_documented_shapes(
    call: str, inputs: tuple[str, ...], right: list[str]
) -> None:
    assert shapes_of(call, *inputs) == [right]


@pytest.mark.parametrize("op", ["BeamSearch", "GreedySearch"])
def test_generated_sequences_have_the_length_that_an_input_gives(op: str) -> None:
    inputs = "x, n, n, k, k" if op == "BeamSearch" else "x, n"
    model = zoo.model(
        f"g (int32[B, T] x) => (int32 y) {{ y = com.microsoft.{op} ({inputs}) }}",
        n=np.array([20], np.int32),
        k=np.array([3], np.int32),
    )
    (value,) = bound(model).graph.outputs
    assert list(map(str, value.shape or ())) == (["B", "3", "20"] if op == "BeamSearch" else ["B", "20"])


def test_attention_with_a_sparse_cache_keeps_its_buffer() -> None:
    call = "y, k, v = com.microsoft.SparseAttention <num_heads = 4, kv_num_heads = 2, sparse_block_size = 16>"
    inputs = ("float[1, S, 64] x", "float[1, 2, 32, 8] c", "int32[1, 3] r", "int32 t", "int32[1] u")
    assert shapes_of(f"{call} (x, , , c, c, r, r, t, u)", *inputs) == [
        ["1", "S", "32"],
        ["1", "2", "32", "8"],
        ["1", "2", "32", "8"],
    ]
