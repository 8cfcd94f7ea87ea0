"""Examples bound to the arguments of a forward, and names of outputs."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch isn't installed")

import torch
from torch import nn

from modelsurgeon.errors import BadData
from modelsurgeon.torch.call import bind, forward, in_one_line, named_outputs, noise


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, *, scale: float = 1) -> torch.Tensor:
        print("a forward that talks")
        return self.layer(x) * scale if mask is None else self.layer(x) * mask


X = np.ones((1, 2), np.float32)


def test_arguments_are_bound_by_name() -> None:
    args, named = bind(Masked(), {"scale": 2, "x": X})
    assert [value.tolist() for value in args] == [[[1, 1]]]
    assert named == {"scale": 2}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_floating_arrays_take_the_dtype_of_the_weights(dtype: torch.dtype) -> None:
    (x, mask), _ = bind(Masked().to(dtype), [X, np.array([True, False])])
    assert x.dtype == dtype
    assert mask.dtype == torch.bool


def test_a_tensor_keeps_its_dtype() -> None:
    (x,), _ = bind(Masked(), torch.ones(1, 2, dtype=torch.float64))
    assert x.dtype == torch.float64


def test_an_array_is_copied() -> None:
    (x,), _ = bind(Masked(), X)
    x += 1
    assert X.max() == 1


def test_a_forward_makes_no_gradients_and_prints_where_it_prints(capfd: pytest.CaptureFixture[str]) -> None:
    module = Masked()
    output = forward(module, bind(module, X))
    assert not output.requires_grad
    assert capfd.readouterr() == ("a forward that talks\n", "")


def test_noise_is_seeded_and_named() -> None:
    one, other = (noise(Masked(), {"x": (3, 2)}, seed=seed) for seed in (0, 1))
    assert one["x"].shape == (3, 2)
    assert one["x"].dtype == np.float32
    assert np.array_equal(one["x"], noise(Masked(), {"x": (3, 2)})["x"])
    assert not np.array_equal(one["x"], other["x"])


def test_noise_for_an_unknown_input() -> None:
    with pytest.raises(BadData, match="Masked has no input 'y'; it takes x, mask, scale"):
        noise(Masked(), {"y": (1, 2)})


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        (1, {"output": 1}),
        ((1,), {"output": 1}),
        ((1, 2), {"output_0": 1, "output_1": 2}),
        ([1, (2, 3)], {"output_0": 1, "output_1.0": 2, "output_1.1": 3}),
        (namedtuple("Pair", "a b")(1, 2), {"output_0": 1, "output_1": 2}),
        ({"logits": 1}, {"logits": 1}),
        ({"logits": 1, "hidden": [2, 3], "cache": None}, {"logits": 1, "hidden.0": 2, "hidden.1": 3}),
    ],
)
def test_names_of_outputs(outputs: object, names: dict[str, int]) -> None:
    assert named_outputs(outputs) == names


def test_an_error_in_one_line() -> None:
    assert in_one_line(ValueError("first\n  second")) == "first second"
    assert in_one_line(KeyboardInterrupt()) == "KeyboardInterrupt"
    assert in_one_line(ValueError("x" * 300)) == "x" * 197 + "..."
