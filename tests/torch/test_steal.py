"""`steal` between state dicts, and its command line on files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import modelsurgeon as ms
from modelsurgeon.torch.steal import state_parts
from modelsurgeon_cli import main


def net(seed: int, classes: int = 5, wide: int = 8) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, wide, 3), nn.BatchNorm2d(wide), nn.ReLU(), nn.Flatten(), nn.Linear(wide * 16, classes)
    )


def renamed(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"trunk.{name}": value for name, value in state.items()}


def test_renamed_layers_are_found_by_structure() -> None:
    donor = net(1).state_dict()
    done = ms.steal(renamed(donor), net(2).state_dict())
    assert {edit.details["by"] for edit in done.edits} == {"structure"}
    assert all(torch.equal(done.model[name], value) for name, value in donor.items())
    assert set(done.frozen) == set(donor)
    assert done.comparison is None


def test_a_grown_head_keeps_the_old_logits() -> None:
    donor, recipient = net(1), net(2, classes=9)
    done = ms.steal(donor.state_dict(), recipient.state_dict(), grow={"4": 9})
    recipient.load_state_dict(done.model)
    x = torch.randn(3, 3, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(recipient.eval()(x)[:, :5], donor.eval()(x), rtol=0, atol=1e-6)
    assert torch.equal(done.model["4.weight"][:5], donor[4].weight)
    assert not [name for name in done.frozen if name.startswith("4.")]


def test_layers_are_in_natural_order() -> None:
    state = {f"{i}.weight": torch.ones(1) for i in range(12)}
    assert [part.name for part in state_parts(dict(sorted(state.items())))] == [str(i) for i in range(12)]


def test_size_mismatch_and_partial() -> None:
    donor, recipient = net(1, wide=6).state_dict(), net(2).state_dict()
    skipped = ms.steal(donor, recipient)
    assert "its weight is (8, 3, 3, 3), the donor's (6, 3, 3, 3)" in str(skipped.edits[0].skipped)
    done = ms.steal(donor, recipient, partial=True)
    assert torch.equal(done.model["0.weight"][:6], donor["0.weight"])
    assert torch.equal(done.model["0.weight"][6:], recipient["0.weight"][6:])


def test_command_line_writes_a_freeze_list(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_file(net(1).state_dict(), tmp_path / "donor.safetensors")
    torch.save({"state_dict": net(2).state_dict()}, tmp_path / "recipient.pth")
    files = [
        str(tmp_path / name)
        for name in ("donor.safetensors", "recipient.pth", "out.safetensors", "freeze.json")
    ]
    code = main(["steal", *files[:2], "-o", files[2], "--freeze-list", files[3], "--format", "json"])
    out, err = capfd.readouterr()
    assert (code, err) == (0, "")
    frozen = json.loads(Path(files[3]).read_text())["frozen"]
    assert json.loads(out)["frozen"] == frozen
    assert sorted(frozen) == sorted(net(1).state_dict())
    assert all(torch.equal(value, net(1).state_dict()[name]) for name, value in load_file(files[2]).items())


def test_a_model_and_a_state_dict_dont_mix() -> None:
    with pytest.raises(ms.BadData, match="give two of a kind"):
        ms.steal(net(1), net(2).state_dict())


def test_rows_of_a_state_dict_cant_be_fitted() -> None:
    with pytest.raises(ms.BadPlan, match="needs a model to run"):
        ms.steal(net(1).state_dict(), net(2).state_dict(), grow={"4": 9}, grow_init="fit")


@pytest.mark.parametrize(
    ("value", "reason"),
    [(1e5, r"reaches 1e\+05, which is more than torch.float16 holds"), (float("nan"), "holds NaN")],
)
def test_weights_that_the_type_cannot_hold_are_left_alone(value: float, reason: str) -> None:
    donor, recipient = {"a.weight": torch.full((2, 2), value)}, {"a.weight": torch.ones(2, 2).half()}
    done = ms.steal(donor, recipient)
    assert re.search(reason, str(done.edits[0].skipped))
    assert torch.equal(done.model["a.weight"], recipient["a.weight"])
    with pytest.raises(ms.BadPlan, match=f"'a' can't grow: .*{reason}"):
        ms.steal(donor, recipient, grow={"a": 3})


@pytest.mark.parametrize("compare", [True, False])
def test_a_module_is_left_as_it_was_where_statistics_are_not_finite(compare: bool) -> None:
    module = net(0).eval()
    data = torch.ones(4, 3, 6, 6)
    data[0, 0, 0, 0] = float("nan")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(ms.BadData, match="has NaN or infinite values in sample 0"):
        ms.bn.recalibrate(module, data=data.numpy(), compare=compare)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
