"""Sampling of maps, and signals: grids, boxes, frames, resizing."""

from __future__ import annotations

from collections.abc import Iterator

from modelsurgeon.onnx.shapes.requirements.axes import in_range
from modelsurgeon.onnx.shapes.requirements.registry import (
    Requirement,
    SizedNode,
    at_least,
    axes_count,
    divided_by,
    equal,
    impossible,
    least_axes,
    product,
    requires,
)


@requires("Resize", "Upsample")
def resize(op: SizedNode) -> Iterator[Requirement]:
    """A scale or size for each axis, or each of the axes named."""
    data = op.sizes()
    if data is None:
        return
    axes = op.integers("axes")
    count = len(data) if axes is None else len(axes)
    old = op.node.op_type == "Upsample" or op.opset < 11
    for index, name in ((1, "scales"),) if old else ((2, "scales"), (3, "sizes")):
        entries, content = op.sizes(index), op.constant(index)
        if entries is not None and (not entries or (len(entries) > 1 and not old)):
            yield impossible(f"its {name} have {len(entries)} axes, not 1")
        elif entries is not None and len(entries) == 1 and entries[0] != 0:
            yield equal(entries[0], count, f"it has {entries[0]} {name} for {count} axes")
        if content is not None and content.size and name == "scales" and content.min() <= 0:
            yield impossible(f"one of its scales is {content.min()}")


@requires("GridSample")
def grid_sample(op: SizedNode) -> Iterator[Requirement]:
    """A grid (batch, *map, axes) over maps (batch, channels, *map)."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    data, grid = shapes
    yield axes_count(grid, len(data), "its grid")
    if len(grid) == len(data) > 2:
        yield equal(grid[0], data[0], f"its grid has a batch of {grid[0]}, its input of {data[0]}")
        spatial = len(data) - 2
        yield equal(grid[-1], spatial, f"its grid has {grid[-1]} coordinates for {spatial} axes of a map")


@requires("RoiAlign")
def roi_align(op: SizedNode) -> Iterator[Requirement]:
    """Boxes (number, 4), each with the index of its image."""
    data, boxes, images = op.sizes(0), op.sizes(1), op.sizes(2)
    if data is not None:
        yield axes_count(data, 4, "its input")
    if data:
        for image in sorted(set(op.constants(2) or ())):
            yield at_least(image, 0, f"one of its images is {image}")
            yield at_least(data[0], image + 1, f"one of its images is {image}, of {data[0]}")
    if boxes is None:
        return
    yield axes_count(boxes, 2, "its boxes")
    if len(boxes) == 2:
        yield equal(boxes[1], 4, f"its boxes have {boxes[1]} coordinates, not 4")
        if images is not None:
            yield axes_count(images, 1, "its indices of images")
        if images is not None and len(images) == 1:
            yield equal(images[0], boxes[0], f"it has {boxes[0]} boxes and {images[0]} indices of images")


@requires("MaxRoiPool")
def max_roi_pool(op: SizedNode) -> Iterator[Requirement]:
    """Boxes (number, 5)."""
    data, boxes, pooled = op.sizes(0), op.sizes(1), op.length("pooled_shape")
    if data is not None:
        yield axes_count(data, 4, "its input")
    if pooled is not None:
        yield equal(pooled, 2, f"pooled_shape has {pooled} entries, not 2")
    if boxes is not None:
        yield axes_count(boxes, 2, "its boxes")
        if len(boxes) == 2:
            yield equal(boxes[1], 5, f"its boxes have {boxes[1]} numbers, not 5")


@requires("NonMaxSuppression")
def non_max_suppression(op: SizedNode) -> Iterator[Requirement]:
    """Boxes (batch, number, 4) and scores (batch, classes, number)."""
    shapes = op.known(0, 1)
    if shapes is None:
        return
    boxes, scores = shapes
    yield axes_count(boxes, 3, "its boxes")
    yield axes_count(scores, 3, "its scores")
    if len(boxes) == len(scores) == 3:
        yield equal(boxes[2], 4, f"its boxes have {boxes[2]} coordinates, not 4")
        yield equal(boxes[0], scores[0], f"it has boxes for {boxes[0]} images, scores for {scores[0]}")
        yield equal(boxes[1], scores[2], f"it has {boxes[1]} boxes and {scores[2]} scores")


@requires("STFT")
def short_time_fourier(op: SizedNode) -> Iterator[Requirement]:
    """The signal is no shorter than a frame, and the window as long as the frame."""
    signal, window, length = op.sizes(0), op.sizes(2), op.constants(3)
    if signal is not None and len(signal) > 2:
        yield axes_count(signal, 3, "its signal")
        if isinstance(signal[-1], int) and signal[-1] not in (1, 2):
            yield impossible(f"its last axis has {signal[-1]} numbers, neither 1 nor 2")
    if length is not None and len(length) == 1:
        if window:
            yield equal(window[0], length[0], f"its window has {window[0]} samples, its frames {length[0]}")
        if signal is not None and len(signal) > 1:
            yield at_least(signal[1], length[0], f"its signal has {signal[1]} samples, a frame {length[0]}")
    elif window and signal is not None and len(signal) > 1 and not op.has(3):
        yield at_least(signal[1], window[0], f"its signal has {signal[1]} samples, a frame {window[0]}")


@requires("DFT")
def fourier(op: SizedNode) -> Iterator[Requirement]:
    """The last axis has real or complex numbers, and the axis exists."""
    data = op.sizes()
    if data is None:
        return
    if not data:
        yield impossible("its input is a scalar")
        return
    if isinstance(data[-1], int) and data[-1] not in (1, 2):
        yield impossible(f"its last axis has {data[-1]} numbers, neither 1 nor 2")
    axes = (op.constants(2) if op.has(2) else [-2]) if op.opset >= 20 else [op.integer("axis", 1)]
    yield from in_range(axes or (), len(data))
    if any(axis in (-1, len(data) - 1) for axis in axes or ()):
        yield impossible("its axis is the one of real and imaginary parts")


@requires("Col2Im")
def column_to_image(op: SizedNode) -> Iterator[Requirement]:
    """Columns (batch, channels * block, blocks)."""
    data, block = op.sizes(), op.constants(2)
    sizes = op.known(1, 2)
    if sizes is not None and len(sizes[0]) == len(sizes[1]) == 1:
        yield equal(sizes[0][0], sizes[1][0], "its image and its blocks have different numbers of axes")
    if data is None or block is None:
        return
    yield axes_count(data, 3, "its input")
    taps = product(block)
    if len(data) == 3 and taps != 0:
        yield divided_by(data[1], taps, f"its {data[1]} rows can't be split into blocks of {taps}")
    image = op.constants(1)
    if len(data) != 3 or image is None or len(image) != len(block):
        return
    axes = len(image)
    pads = op.integers("pads") or (0,) * (2 * axes)
    strides, dilations = op.integers("strides") or (1,) * axes, op.integers("dilations") or (1,) * axes
    if len(pads) == 2 * axes and len(strides) == len(dilations) == axes:
        counts = [
            (image[axis] + pads[axis] + pads[axes + axis] - dilations[axis] * (block[axis] - 1) - 1)
            // strides[axis]
            + 1
            for axis in range(axes)
        ]
        wanted = product(counts)
        yield equal(data[2], wanted, f"it has {data[2]} columns for {wanted} blocks of the image")


@requires("MaxUnpool")
def max_unpool(op: SizedNode) -> Iterator[Requirement]:
    """An index for each value."""
    shapes = op.known(0, 1)
    if shapes is not None:
        for left, right in zip(*shapes, strict=False):
            yield equal(left, right, f"it has {right} indices for {left} values")


@requires("Det")
def determinant(op: SizedNode) -> Iterator[Requirement]:
    """Square matrices."""
    data = op.sizes()
    if data is None:
        return
    yield at_least(len(data), 2, f"its input has {len(data)} axes, fewer than 2")
    if len(data) > 1:
        yield equal(data[-2], data[-1], f"its matrices are {data[-2]} x {data[-1]}, not square")


@requires("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss")
def classification_loss(op: SizedNode) -> Iterator[Requirement]:
    """Scores (batch, classes, *map), targets (batch, *map), weights of classes."""
    shapes, weight = op.known(0, 1), op.sizes(2)
    if weight is not None:
        yield axes_count(weight, 1, "its weight")
    if shapes is None:
        return
    scores, targets = shapes
    yield least_axes(scores, 2, "its input")
    if len(scores) < 2:
        return
    yield axes_count(targets, len(scores) - 1, "its target")
    for left, right in zip(targets, (scores[0], *scores[2:]), strict=False):
        yield equal(left, right, f"its target has size {left} where its scores have {right}")
