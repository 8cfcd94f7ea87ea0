"""Train the digit net of the demo and write everything that the demo needs.

    make .venv/.test                            # torch and scikit-learn, once
    .venv/bin/python examples/train_digits.py

Four minutes on two cores. It writes into `examples/digits/`:

    model.onnx        the trained net; batch norm stays as nodes, the batch axis stays open
    calibration.npz   image: (256, 1, 8, 8), unlabelled, out of the training part
    test.npz          image: (599, 1, 8, 8), label: (599,), never seen in training or calibration

The data are scikit-learn's digits: 1797 labelled images of 8 x 8 pixels.
The split is random and stratified, so the same writers appear on both sides of it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

import modelsurgeon as ms
from modelsurgeon.onnx.run import runner
from modelsurgeon.torch.export import export

SEED = 0
EPOCHS = 12
CALIBRATION = 256
FOLDER = Path(__file__).parent / "digits"
Arrays = tuple[np.ndarray, np.ndarray]


class DigitNet(nn.Module):
    """Enlarges an image `(N, 1, 8, 8)` to 48 x 48 and tells its digit: logits `(N, 10)`.

    The enlarging happens inside, so the data stay tiny while the convolutions get real work.
    """

    def __init__(self) -> None:
        """The layers, untrained."""
        super().__init__()
        self.trunk = nn.Sequential(
            *conv(1, 64), *conv(64, 64), nn.MaxPool2d(2),
            *conv(64, 96), *conv(96, 128), nn.MaxPool2d(2),
            *conv(128, 128), nn.MaxPool2d(4),
        )  # fmt: skip
        self.hidden = nn.Linear(128 * 3 * 3, 384)
        self.head = nn.Linear(384, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits of a batch of images."""
        large = functional.interpolate(image, scale_factor=6.0, mode="bilinear", align_corners=False)
        features = self.trunk(large).flatten(1)
        logits: Tensor = self.head(functional.relu(self.hidden(features)))
        return logits


def conv(width_in: int, width_out: int) -> list[nn.Module]:
    """A dense 3 x 3 convolution, batch norm and ReLU at one resolution."""
    return [
        nn.Conv2d(width_in, width_out, 3, padding=1, bias=False),
        nn.BatchNorm2d(width_out),
        nn.ReLU(),
    ]


def digits() -> tuple[Arrays, Arrays]:
    """Two thirds to train on, one third to test on; pixels in [0, 1]."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(
        images, labels, test_size=1 / 3, stratify=labels, random_state=SEED
    )
    return (train_x, train_y), (test_x, test_y)


def moved(images: Tensor) -> Tensor:
    """Each image turned by up to 8 degrees, resized by up to 8 % and shifted by up to a third of a pixel."""
    n = len(images)
    turn, size, *shift = (torch.rand(4, n) * 2 - 1) * torch.tensor([[0.14], [0.08], [0.08], [0.08]])
    cos, sin = (1 + size) * turn.cos(), (1 + size) * turn.sin()
    rows = torch.stack([cos, -sin, shift[0], sin, cos, shift[1]], dim=1).reshape(n, 2, 3)
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(net: nn.Module, images: Tensor, labels: Tensor, *, epochs: int, batch: int = 64) -> None:
    """Cross-entropy, AdamW, one learning-rate cycle."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    for epoch in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images)).split(batch)[: len(images) // batch]:
            loss = functional.cross_entropy(net(moved(images[chosen])), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch + 1:2d} of {epochs}  loss {total / (len(images) // batch):.4f}", flush=True)


def accuracy(model: ir.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that the exported model, run by onnxruntime, calls by their label."""
    logits = runner(model)({"image": images})["logits"]
    return float(np.mean(logits.argmax(axis=1) == labels))


def main(folder: Path = FOLDER, epochs: int = EPOCHS) -> None:
    """Train, export, tell the accuracy, write the model and its data."""
    torch.manual_seed(SEED)
    (images, labels), (test_images, test_labels) = digits()
    net = DigitNet()
    train(net, torch.from_numpy(images), torch.from_numpy(labels), epochs=epochs)
    model = export(net.eval(), {"image": test_images[:1]}, dynamic_batch=True)
    model.graph.outputs[0].name = "logits"
    print(f"accuracy on {len(test_labels)} test images: {accuracy(model, test_images, test_labels):.2%}")

    folder.mkdir(parents=True, exist_ok=True)
    ms.save(model, folder / "model.onnx")
    np.savez_compressed(folder / "calibration.npz", image=images[:CALIBRATION])
    np.savez_compressed(folder / "test.npz", image=test_images, label=test_labels)


if __name__ == "__main__":
    main()
