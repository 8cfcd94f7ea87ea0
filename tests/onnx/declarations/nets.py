"""Small nets whose files say something that an edit may lose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

from tests import zoo

Build = Callable[[], ir.Model]
DRAW = np.random.default_rng(3)


def drawn(*shape: int) -> np.ndarray:
    """A random weight."""
    return DRAW.normal(size=shape).astype(np.float32)


def norm(channels: int, name: str = "n") -> dict[str, np.ndarray]:
    """Scale, shift, mean and variance of a batch norm."""
    parts = {
        "s": drawn(channels),
        "b": drawn(channels),
        "m": drawn(channels),
        "v": drawn(channels) ** 2 + 0.5,
    }
    return {name + key: array for key, array in parts.items()}


def ends_in_norm() -> ir.Model:
    """A batch norm computes the output."""
    return zoo.model(
        "g (float[N, 4, 12, 12] x) => (float[N, 8, 10, 10] y) {"
        " c = Conv (x, w) y = BatchNormalization (c, ns, nb, nm, nv) }",
        w=drawn(8, 4, 3, 3),
        **norm(8),
    )


def ends_in_subsampling() -> ir.Model:
    """A pooling that only subsamples computes the output; its input is an output, too."""
    return zoo.model(
        "g (float[N, 4, 12, 12] x) => (float[N, 8, 5, 5] y, float[N, 8, 10, 10] r) {"
        " c = Conv (x, w) r = Relu (c)"
        " y = MaxPool <kernel_shape = [1, 1], strides = [2, 2]> (c) }",
        w=drawn(8, 4, 3, 3),
    )


def ends_in_average() -> ir.Model:
    """A pooling that becomes a convolution computes the output."""
    return zoo.model(
        "g (float[N, 4, 12, 12] x) => (float[N, 4, 6, 6] y) {"
        " y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x) }",
    )


def dead_channels() -> ir.Model:
    """Dead channels in front of an operator that nobody knows, whose output has a declared shape."""
    first = drawn(8, 4, 3, 3)
    first[[2, 5]] = 0
    return zoo.model(
        "g (float[N, 4, 12, 12] x) => (float[N, 5, 8, 8] y, float[N, 5, 8, 8] u) {"
        " c = Conv (x, a) r = Relu (c) z = Conv (r, b) y = local.Post (z) u = Conv (y, e) }",
        a=first,
        b=drawn(5, 8, 3, 3),
        e=drawn(5, 5, 1, 1),
    )


def unknown_behind_head() -> ir.Model:
    """An operator that nobody knows works on a classifier's scores."""
    return zoo.model(
        "g (float[1, 6, 8, 8] x) => (float[1, 5] y) { f0 = Flatten (x) z = Gemm (f0, f) y = local.Post (z) }",
        f=drawn(384, 5),
    )


def merged_behind_unknown_ranks() -> ir.Model:
    """Repeated nodes on a value whose rank isn't known, in front of an operator that nobody knows."""
    return zoo.model(
        "g (float[N, 6] w, bool c) => (float[N, 5] y) {"
        " h = Relu (w) i = Neg (h) j = Abs (i) k = Exp (j) x = Relu (k) a = If (c) <"
        "  then_branch = one () => (float[] p) { p = Relu (x) },"
        "  else_branch = two () => (float[] q) { q = Unsqueeze (x, axis) }"
        " > u = Unsqueeze (a, axis) v = Unsqueeze (a, axis) y = local.Post (u, v) }",
        axis=np.int64([0]),
    )


def unknown_in_the_middle() -> ir.Model:
    """Two operators that nobody knows between layers; all shapes are declared."""
    return declared(
        zoo.model(
            "g (float[1, 6, 8, 8] x) => (float[1, 5] y) <float[1, 6, 8, 8] p, float[1, 7] q> {"
            " c = Conv (x, w) r = Relu (c) p = local.Pre (r) f0 = Flatten (p) z = Gemm (f0, f)"
            " q = local.Post (z) y = Gemm (q, h) }",
            w=drawn(6, 6, 1, 1),
            f=drawn(384, 7),
            h=drawn(7, 5),
        )
    )


def head(version: int = 8) -> ir.Model:
    """A map that is flattened for two fully connected layers; all shapes are declared."""
    return declared(
        zoo.model(
            "g (float[N, 3, 8, 8] x) => (float[N, 5] y, float[N, 20] l) {"
            " c = Conv <pads = [1, 1, 1, 1]> (x, w, wb) n = BatchNormalization (c, ns, nb, nm, nv)"
            " r = Relu (n) p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)"
            " f0 = Flatten (p) a = Gemm (f0, f1, g1) l = Relu (a) z = Gemm (l, f2, g2)"
            " y = Softmax <axis = 1> (z) }",
            version=version,
            w=drawn(8, 3, 3, 3),
            wb=drawn(8),
            **norm(8),
            f1=drawn(128, 20),
            g1=drawn(20),
            f2=drawn(20, 5),
            g2=drawn(5),
        )
    )


def old_head() -> ir.Model:
    """A file of IR version 3, which lists its weights among the inputs."""
    proto = ir.to_proto(head(version=3))
    weights = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in proto.graph.initializer
    ]
    inputs = [*weights[:3], *proto.graph.input, *weights[3:]]
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    return ir.from_proto(proto)


def weights_as_inputs() -> ir.Model:
    """A file of a later IR version with weights that callers may replace; one isn't used."""
    proto = ir.to_proto(head())
    listed = [tensor for tensor in proto.graph.initializer if tensor.name in ("wb", "f2")]
    spare = onnx.numpy_helper.from_array(drawn(2), "spare")
    proto.graph.initializer.append(spare)
    proto.graph.input.extend(
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in (*listed, spare)
    )
    return ir.from_proto(proto)


def half() -> ir.Model:
    """A head in half precision."""
    arrays = {"w": drawn(8, 3, 3, 3), **norm(8), "f": drawn(288, 5)}
    return zoo.model(
        "g (float16[N, 3, 8, 8] x) => (float16[N, 5] y) {"
        " c = Conv (x, w) n = BatchNormalization (c, ns, nb, nm, nv) r = Relu (n) f0 = Flatten (r)"
        " y = MatMul (f0, f) }",
        **{name: array.astype(np.float16) for name, array in arrays.items()},
    )


def passed_through() -> ir.Model:
    """Outputs that are inputs and weights; one input that nothing needs."""
    return zoo.model(
        "g (float[N, 4] x, float[M, 2] z, int64[1] unused) => (float[N, 3] y, float[M, 2] z, float[4, 3] w) {"
        " h = MatMul (x, w) y = Add (h, b) }",
        w=drawn(4, 3),
        b=drawn(3),
    )


def sequences() -> ir.Model:
    """A sequence and an optional of maps that a batch norm computes are outputs."""
    return zoo.model(
        "g (float[N, 4, 6, 6] x) => (seq(float[N, 8, 4, 4]) s, optional(float[N, 8, 4, 4]) o) {"
        " c = Conv (x, w) n = BatchNormalization (c, ns, nb, nm, nv)"
        " s = SequenceConstruct (n, c) o = Optional (n) }",
        w=drawn(8, 4, 3, 3),
        **norm(8),
    )


def labels() -> ir.Model:
    """A classifier of the traditional kind behind a layer: its second output is a sequence of maps."""
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "w"], ["z"], name="fc"),
            helper.make_node("Softmax", ["z"], ["p"], axis=1, name="soft"),
            helper.make_node("ArgMax", ["p"], ["label"], axis=1, keepdims=0, name="best"),
            helper.make_node(
                "ZipMap", ["p"], ["scores"], domain="ai.onnx.ml", name="zip", classlabels_int64s=[0, 1, 2]
            ),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 6])],
        [
            helper.make_tensor_value_info("label", 7, ["N"]),
            helper.make_value_info(
                "scores",
                helper.make_sequence_type_proto(
                    helper.make_map_type_proto(7, helper.make_tensor_type_proto(1, []))
                ),
            ),
        ],
        [onnx.numpy_helper.from_array(drawn(6, 3), "w")],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    from modelsurgeon.onnx.io.files import from_proto

    return from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=8))


def captured() -> ir.Model:
    """Branches and a loop read maps of the graph around them; two branches use the same names."""
    return zoo.model(
        """
        g (float[N, 4, 6, 6] x, bool c) => (float[N, 8, 4, 4] y, float[N, 8, 4, 4] u) {
            h = Conv (x, w) n = BatchNormalization (h, ns, nb, nm, nv)
            y = If (c) <
                then_branch = one () => (float[N, 8, 4, 4] a) { q = Relu (n) a = Neg (q) },
                else_branch = two () => (float[N, 8, 4, 4] b) { q = Abs (n) b = Neg (q) }
            >
            three = Constant <value = int64 {3}> ()
            yes = Constant <value = bool {1}> ()
            u = Loop (three, yes, n) <
                body = b (int64 k, bool i, float[N, 8, 4, 4] s) => (bool o, float[N, 8, 4, 4] t) {
                    t = Add (s, n) o = Identity (i)
                }
            >
        }
        """,
        w=drawn(8, 4, 3, 3),
        **norm(8),
    )


def with_function() -> ir.Model:
    """A function of the file works on what a batch norm computes."""
    return zoo.model(
        """
        g (float[N, 4, 6, 6] x) => (float[N, 8, 4, 4] y) {
            h = Conv (x, w) n = BatchNormalization (h, ns, nb, nm, nv) y = local.twice (n)
        }
        <domain: "local", opset_import: ["" : 17]>
        twice (a) => (c) { b = Relu (a) c = Add (b, a) }
        """,
        w=drawn(8, 4, 3, 3),
        **norm(8),
    )


def run_time_sizes() -> ir.Model:
    """The output has as many rows as the input has positive elements."""
    return declared(
        zoo.model(
            "g (float[N, 6] x) => (float[found, 5] y, int64[2, found] place) {"
            " z = MatMul (x, w) r = Relu (z) place = NonZero (r)"
            " rows = Transpose <perm = [1, 0]> (place) f = Cast <to = 1> (rows) y = MatMul (f, v) }",
            w=drawn(6, 5),
            v=drawn(2, 5),
        )
    )


def same_names() -> ir.Model:
    """Two nodes have one name, and others none."""
    proto = ir.to_proto(head())
    for node in proto.graph.node:
        node.name = "twice" if node.op_type == "Gemm" else ""
    return ir.from_proto(proto)


def tail_of_dropout() -> ir.Model:
    """Dropout and Identity compute the outputs."""
    return declared(
        zoo.model(
            "g (float[N, 6] x) => (float[N, 5] y, float[N, 5] e) {"
            " z = Gemm (x, w) d = Dropout (z) y = Identity (d) e = Dropout (z) }",
            w=drawn(6, 5),
        )
    )


def declared(model: ir.Model) -> ir.Model:
    """The model with the shapes of all values declared, as exporters do."""
    return ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model), data_prop=True))


NETS: list[Build] = [
    *(zoo.classifier, zoo.branches, zoo.loop, zoo.scan, zoo.functions, zoo.padded, zoo.quantized),
    *(ends_in_norm, ends_in_subsampling, ends_in_average, dead_channels, unknown_behind_head),
    merged_behind_unknown_ranks,
    *(unknown_in_the_middle, head, old_head, weights_as_inputs, half, passed_through, sequences, labels),
    *(captured, with_function, run_time_sizes, same_names, tail_of_dropout),
]
