"""Two nets trained on scikit-learn's digits: the VGG-like one of the example, and a ResNet-20."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

import modelsurgeon as ms
from tests.benchmarks.subjects import CACHE, ROOT, Bar, Net, Subject, classified, label

EXAMPLE = ROOT / "examples" / "digits"
BATCH = 8
SEED, EPOCHS = 0, 8


def _subject(model: ir.Model, samples: int, tests: int) -> Subject:
    with np.load(EXAMPLE / "calibration.npz") as known, np.load(EXAMPLE / "test.npz") as held_out:
        images, labels = held_out["image"][:tests], held_out["label"][:tests]
        return Subject(
            model=model,
            calibration={"image": known["image"][:samples]},
            test={"image": images},
            read=label,
            score=classified(labels.tolist()),
            batch=BATCH,
        )


def vgg_like(samples: int, tests: int) -> Subject:
    """The trained net of the example, a plain stack of 3 x 3 convolutions."""
    return _subject(ms.load(EXAMPLE / "model.onnx"), samples, tests - tests % BATCH)


def residual(samples: int, tests: int) -> Subject:
    """A ResNet-20, trained once and cached."""
    path = CACHE / "resnet20-digits.onnx"
    if not path.exists():
        _train(path)
    return _subject(ms.load(path), samples, tests - tests % BATCH)


def _train(path: Path) -> None:
    import torch

    from examples.train_digits import accuracy, digits, train
    from modelsurgeon.torch.export import export
    from tests.benchmarks.nets.residual import ResNet20

    torch.manual_seed(SEED)
    (images, labels), (test_images, test_labels) = digits()
    net = ResNet20()
    train(net, torch.from_numpy(images), torch.from_numpy(labels), epochs=EPOCHS)
    model = export(net.eval(), {"image": test_images[:1]}, dynamic_batch=True)
    model.graph.outputs[0].name = "logits"
    print(f"ResNet-20 trained: {accuracy(model, test_images, test_labels):.2%} of the test images")
    path.parent.mkdir(parents=True, exist_ok=True)
    ms.save(model, path)


POINT = 0.01
NETS = (
    Net(
        name="VGG-like, digits",
        open=vgg_like,
        kept=(0.5, 0.33, 0.25, 0.2),
        tests=599,
        bars=(
            Bar(kept=0.25, figure="accuracy", loss=POINT, source="without loss: a point at most"),
            Bar(kept=0.2, figure="accuracy", loss=POINT, source="prototype: -.004 on another net"),
        ),
    ),
    Net(
        name="ResNet-20, digits",
        open=residual,
        kept=(0.6, 0.5, 0.4),
        tests=599,
        bars=(
            Bar(kept=0.5, figure="accuracy", loss=POINT, source="without loss: a point at most"),
            Bar(kept=0.4, figure="accuracy", loss=0.0282, source="prototype: 78.1 of 80.92 on CIFAR-10"),
        ),
    ),
)
