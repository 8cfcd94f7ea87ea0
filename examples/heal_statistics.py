"""Statistics of batch norm that are far off, as after a careless conversion, and what recalibration does.

    python examples/heal_statistics.py

Every running mean of the demo net is moved and every variance scaled by random numbers. 256 unlabelled images
give new ones, in order and by plain averages; accuracy is measured on 599 others.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

import modelsurgeon as ms
from modelsurgeon.onnx.run import runner

DIGITS = Path(__file__).parent / "digits"
MEAN, VARIANCE = 3, 4  # their places among the inputs of BatchNormalization


def accuracy(model: ir.Model) -> float:
    """Share of the test images that the model calls by their label."""
    with np.load(DIGITS / "test.npz") as test:
        logits = runner(model)({"image": test["image"]})["logits"]
        return float(np.mean(logits.argmax(axis=1) == test["label"]))


def spoil(model: ir.Model) -> None:
    """Move the means by up to some standard deviations, scale the variances up and down."""
    draw = np.random.default_rng(0)
    for node in model.graph:
        if node.op_type == "BatchNormalization":
            for place, change in ((MEAN, np.add), (VARIANCE, np.multiply)):
                value = node.inputs[place]
                assert value is not None
                old = ir.convenience.get_const_tensor(value)
                assert old is not None
                array = old.numpy()
                spoilt = change(array, np.exp(draw.normal(size=array.shape))).astype(array.dtype)
                value.const_value = ir.tensor(spoilt, name=value.name)


def main() -> None:
    """Spoil, recalibrate, and print the accuracy each time."""
    original, spoilt = ms.load(DIGITS / "model.onnx"), ms.load(DIGITS / "model.onnx")
    spoil(spoilt)
    healed = ms.bn.recalibrate(spoilt, data=DIGITS / "calibration.npz", compare=False)
    for told, model in {"as trained": original, "spoilt": spoilt, "recalibrated": healed.model}.items():
        print(f"{told:<13}{accuracy(model):7.2%}")


if __name__ == "__main__":
    main()
