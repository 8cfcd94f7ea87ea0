"""Five classes grow to ten: a trained net keeps its answers, and learns the rest from there.

A small net learns the digits 0 to 4. `steal --grow` gives its head five more rows; those of the old classes
stay bit for bit what they were, and so do their logits up to the rounding of a wider product. Then all ten
are learned, with what was stolen held fixed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn

import modelsurgeon as ms

OLD, ALL, HELD_OUT = 5, 10, 400


def net(classes: int) -> nn.Sequential:
    """Two convolutions and a head on images of 8 x 8."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(24, 48, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(48 * 4 * 4, classes),
    )  # fmt: skip


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int = 150) -> None:
    """Adam on what may be trained, a random batch a step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()


def accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose largest logit is that of their class."""
    with torch.no_grad():
        return float((model(images).argmax(1) == labels).float().mean())


def main(folder: Path) -> None:
    """Train on five classes, grow, compare the old logits, train on ten."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    learn, test = slice(HELD_OUT, None), slice(HELD_OUT)
    few = labels < OLD

    donor, recipient = net(OLD), net(ALL)
    train(donor, images[learn][few[learn]], labels[learn][few[learn]])
    save_file(donor.state_dict(), folder / "five.safetensors")
    save_file(recipient.state_dict(), folder / "ten.safetensors")

    files = str(folder / "five.safetensors"), str(folder / "ten.safetensors")
    grown = ms.steal(*files, grow={"6": ALL}, grow_init="mean")
    ms.save(grown.model, folder / "grown.safetensors")
    recipient.load_state_dict(load_file(folder / "grown.safetensors"))
    with torch.no_grad():
        moved = (recipient(images[test])[:, :OLD] - donor(images[test])).abs().max()
    print(f"old logits moved by at most {moved:.1e}")
    print(f"all ten classes, before training: {accuracy(recipient, images[test], labels[test]):.1%}")

    for name, parameter in recipient.named_parameters():
        parameter.requires_grad = name not in grown.frozen
    train(recipient, images[learn], labels[learn])
    print(f"all ten classes, the head trained: {accuracy(recipient, images[test], labels[test]):.1%}")
    print(f"held fixed: {', '.join(grown.frozen)}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            main(Path(made))
