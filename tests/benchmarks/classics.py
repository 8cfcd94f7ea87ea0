"""VGG-16 and ResNet-50 with random weights of decaying spectra, and images as inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from modelsurgeon.layers import Array

DECAY = 0.7  # of a spectrum: the k-th variance is (1 + k) ** -DECAY
SMOOTH = 0.6  # correlation of neighboring taps; that of neighboring pixels is .97

Attributes = dict[str, object] | None


class Builder:
    """Builds a graph node by node."""

    def __init__(self, size: int, *, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []
        kind = ir.TensorType(ir.DataType.FLOAT)
        self.x = ir.Value(name="x", type=kind, shape=ir.Shape((1, 3, size, size)))

    def conv(self, x: ir.Value, out: int, into: int, kernel: int = 3, stride: int = 1) -> ir.Value:
        weight = like_trained(self.rng, out, into, kernel)
        pad = kernel // 2
        geometry = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        bias = self.rng.normal(scale=0.05, size=out).astype("f4")
        return self.node("Conv", [x, self.stored(weight), self.stored(bias)], geometry)

    def node(self, op: str, inputs: Sequence[ir.Value], attributes: Attributes = None) -> ir.Value:
        made = ir.node(op, inputs, attributes or {}, name=f"{op.lower()}{len(self.nodes)}")
        made.outputs[0].name = f"v{len(self.nodes)}"
        self.nodes.append(made)
        return made.outputs[0]

    def stored(self, array: Array) -> ir.Value:
        value = ir.Value(name=f"w{len(self.weights)}", const_value=ir.tensor(array))
        self.weights.append(value)
        return value

    def done(self, y: ir.Value, features: int, classes: int = 1000) -> ir.Model:
        flat = self.node("Flatten", [self.node("GlobalAveragePool", [y])])
        head = self.rng.normal(scale=features**-0.5, size=(features, classes)).astype("f4")
        last = self.node("MatMul", [flat, self.stored(head)])
        last.type = ir.TensorType(ir.DataType.FLOAT)
        graph = ir.Graph(
            [self.x], [last], nodes=self.nodes, initializers=self.weights, opset_imports={"": 17}, name="net"
        )
        return ir.Model(graph, ir_version=8)


def like_trained(rng: np.random.Generator, out: int, into: int, kernel: int) -> Array:
    """He-scaled noise with decaying spectra over outputs and inputs, and correlated neighboring taps."""
    taps = SMOOTH ** np.abs(np.subtract.outer(range(kernel), range(kernel)))
    noise = rng.normal(size=(out, into, kernel, kernel))
    coloured = np.einsum("oiyx,yt,xs->oits", noise, *[np.linalg.cholesky(taps).T] * 2)
    for axis, size in ((0, out), (1, into)):
        basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
        root = basis * (1.0 + np.arange(size)) ** (-DECAY / 2)
        coloured = np.moveaxis(np.tensordot(root, coloured, (1, axis)), 0, axis)
    return (coloured * np.sqrt(2 / (into * kernel**2)) / coloured.std()).astype("f4")


def vgg16(size: int = 224) -> ir.Model:
    """The thirteen convolutions of VGG-16 with their pooling: 15.3 GMACs at 224 x 224."""
    net = Builder(size)
    y, into = net.x, 3
    for out, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            y, into = net.node("Relu", [net.conv(y, out, into)]), out
        y = net.node("MaxPool", [y], {"kernel_shape": [2, 2], "strides": [2, 2]})
    return net.done(y, into)


def resnet50(size: int = 224) -> ir.Model:
    """The 53 convolutions of ResNet-50 at 224 x 224, batch norm folded: 4.1 GMACs."""
    net = Builder(size)
    y = net.node("Relu", [net.conv(net.x, 64, 3, 7, 2)])
    y = net.node("MaxPool", [y], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})
    into = 64
    for stage, (width, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            a = net.node("Relu", [net.conv(y, width, into, 1)])
            b = net.node("Relu", [net.conv(a, width, width, 3, stride)])
            c = net.node("Mul", [net.conv(b, 4 * width, width, 1), net.stored(np.float32(0.3))])
            side = net.conv(y, 4 * width, into, 1, stride) if not block else y
            y, into = net.node("Relu", [net.node("Add", [c, side])]), 4 * width
    return net.done(y, into)


def images(count: int, size: int = 224, *, seed: int = 1) -> Array:
    """Random fields whose amplitude falls as 1 / frequency, as in photographs."""
    rng = np.random.default_rng(seed)
    row, column = np.meshgrid(*[np.fft.fftfreq(size)] * 2, indexing="ij")
    falling = 1 / np.maximum(np.hypot(row, column), 1 / size)
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(count, 3, size, size))) * falling).real
    return np.asarray(field / field.std(), dtype="f4")
