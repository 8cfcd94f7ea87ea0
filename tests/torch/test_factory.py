"""Modules from `package.module:factory`, and a one-line error for every failure of the user's code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="torch isn't installed")

import torch
from torch import nn

from modelsurgeon.errors import BadModel
from modelsurgeon.torch.factory import load_module

CODE = """
import sys
from torch import nn

def make():
    print("a progress bar")
    return nn.Sequential(nn.Linear(3, 2), nn.Dropout())

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    @staticmethod
    def small():
        return nn.Linear(1, 1)

made = Net()
number = 3

def needs(width): return nn.Linear(width, 2)
def fails(): raise RuntimeError("no such\\ncheckpoint")
def leaves(): sys.exit(2)
def other(): return {"weight": 1}
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the current folder, removed from `sys.modules` afterwards."""
    (package := tmp_path / "surgery_case").mkdir()
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(CODE)
    (package / "broken.py").write_text("import surgery_case.nets, a_package_that_is_missing")
    (package / "typo.py").write_text("def make(: pass")
    (package / "script.py").write_text("import sys; sys.exit('usage: script')")
    monkeypatch.chdir(tmp_path)
    path = sys.path.copy()
    yield package
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] == "surgery_case"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["make", "Net", "Net.small", "made"])
@pytest.mark.usefixtures("code")
def test_sources_of_a_module(name: str) -> None:
    module = load_module(f"surgery_case.nets:{name}")
    assert isinstance(module, nn.Module)
    assert not any(part.training for part in module.modules())


@pytest.mark.usefixtures("code")
def test_weights_are_loaded(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.full((2, 3), 7.0), "0.bias": torch.zeros(2)}, path := tmp_path / "w.pth")
    assert load_module("surgery_case.nets:make", path)[0].weight.mean() == 7


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nonsense", "'nonsense' is no PyTorch source: write package.module:factory"),
        ("surgery_case.nets:", "is no PyTorch source"),
        ("no_such_package:make", "no Python module 'no_such_package': run from the folder that holds it"),
        ("surgery_case.no_such:make", "no Python module 'surgery_case.no_such'"),
        ("surgery_case.broken:make", "surgery_case.broken can't be imported: No module named 'a_package"),
        ("surgery_case.typo:make", "surgery_case.typo can't be imported: SyntaxError: "),
        ("surgery_case.script:make", "surgery_case.script can't be imported: SystemExit: usage: script"),
        ("surgery_case.nets:maek", "surgery_case.nets has no 'maek': name a function"),
        ("surgery_case.nets:number", "surgery_case.nets:number is int: a function that makes the module"),
        ("surgery_case.nets:needs", "fails when called without arguments: TypeError: needs\\(\\) missing 1"),
        ("surgery_case.nets:fails", "fails when called without arguments: RuntimeError: no such checkpoint"),
        ("surgery_case.nets:leaves", "fails when called without arguments: SystemExit: 2"),
        ("surgery_case.nets:other", "surgery_case.nets:other returns dict: an nn.Module is needed"),
    ],
)
def test_errors_are_one_line(source: str, message: str) -> None:
    with pytest.raises(BadModel, match=message) as raised:
        load_module(source)
    assert "\n" not in str(raised.value)


def test_a_pt2_file_needs_trust(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(nn.Linear(3, 2), (torch.ones(1, 3),)), path := tmp_path / "net.pt2")
    with pytest.raises(BadModel, match="can run code of whoever made it: allow it with --trust"):
        load_module(str(path))
    assert load_module(str(path), trust=True)(torch.ones(1, 3)).shape == (1, 2)


def test_a_broken_or_missing_pt2_file(tmp_path: Path) -> None:
    (path := tmp_path / "net.pt2").write_text("hello")
    with pytest.raises(BadModel, match=r"net.pt2 is no sound .pt2 file"):
        load_module(str(path), trust=True)
    with pytest.raises(BadModel, match=r"other.pt2: no such file"):
        load_module(str(tmp_path / "other.pt2"), trust=True)
