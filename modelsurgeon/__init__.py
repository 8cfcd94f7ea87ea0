"""modelsurgeon: static inspection and low-rank surgery of neural networks.

Nothing heavy is imported before it is used: each public name is looked up on first access.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from modelsurgeon.version import __version__

if TYPE_CHECKING:
    from modelsurgeon import bn as bn
    from modelsurgeon import factorize as factorize
    from modelsurgeon.compress import compress as compress
    from modelsurgeon.cost import Cost as Cost
    from modelsurgeon.devices import device as device
    from modelsurgeon.doors import check as check
    from modelsurgeon.doors import compare as compare
    from modelsurgeon.doors import diff as diff
    from modelsurgeon.doors import info as info
    from modelsurgeon.doors import load as load
    from modelsurgeon.doors import save as save
    from modelsurgeon.errors import BadData as BadData
    from modelsurgeon.errors import BadModel as BadModel
    from modelsurgeon.errors import BadPlan as BadPlan
    from modelsurgeon.errors import GateMissed as GateMissed
    from modelsurgeon.errors import SurgeryError as SurgeryError
    from modelsurgeon.errors import ToleranceExceeded as ToleranceExceeded
    from modelsurgeon.errors import Unavailable as Unavailable
    from modelsurgeon.errors import UnknownLayer as UnknownLayer
    from modelsurgeon.errors import UnknownShape as UnknownShape
    from modelsurgeon.errors import Unreachable as Unreachable
    from modelsurgeon.errors import UnsupportedLayer as UnsupportedLayer
    from modelsurgeon.errors import Unwritable as Unwritable
    from modelsurgeon.frontier import Frontier as Frontier
    from modelsurgeon.layer import Layer as Layer
    from modelsurgeon.onnx.costs import counts as counts
    from modelsurgeon.operate import Operation as Operation
    from modelsurgeon.outcome import Result as Result
    from modelsurgeon.pipeline import pipeline as pipeline
    from modelsurgeon.plan import Plan as Plan
    from modelsurgeon.steal import Stolen as Stolen
    from modelsurgeon.steal import steal as steal
    from modelsurgeon.sweep import sweep as sweep
    from modelsurgeon.unfold import conv_matrix as conv_matrix
    from modelsurgeon.unfold import im2col as im2col
    from modelsurgeon.verbs import equalize as equalize
    from modelsurgeon.verbs import extract as extract
    from modelsurgeon.verbs import fc2conv as fc2conv
    from modelsurgeon.verbs import history as history
    from modelsurgeon.verbs import pool2conv as pool2conv
    from modelsurgeon.verbs import prune as prune

_HOMES = {
    "pipeline": "pipeline",
    "bn": None,
    "check": "doors",
    "compare": "doors",
    "compress": "compress",
    "conv_matrix": "unfold",
    "device": "devices",
    "counts": "onnx.costs",
    "diff": "doors",
    "equalize": "verbs",
    "extract": "verbs",
    "factorize": None,
    "fc2conv": "verbs",
    "history": "verbs",
    "im2col": "unfold",
    "info": "doors",
    "load": "doors",
    "pool2conv": "verbs",
    "prune": "verbs",
    "save": "doors",
    "steal": "steal",
    "sweep": "sweep",
    "BadData": "errors",
    "BadModel": "errors",
    "BadPlan": "errors",
    "Cost": "cost",
    "Frontier": "frontier",
    "Layer": "layer",
    "Operation": "operate",
    "Plan": "plan",
    "Result": "outcome",
    "GateMissed": "errors",
    "Stolen": "steal",
    "SurgeryError": "errors",
    "ToleranceExceeded": "errors",
    "Unavailable": "errors",
    "UnknownLayer": "errors",
    "UnknownShape": "errors",
    "Unreachable": "errors",
    "UnsupportedLayer": "errors",
    "Unwritable": "errors",
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> object:
    """Import the public name `name` from the module where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES[name]
    if home is None:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether they are loaded yet or not."""
    return sorted(__all__)


class _Package(ModuleType):
    """Keeps `modelsurgeon.compress` and `.compare` functions, whoever imports the modules of these names."""

    def __setattr__(self, name: str, value: object) -> None:
        """Importing a submodule binds it here: let that not hide the function of the same name."""
        if not (isinstance(value, ModuleType) and _HOMES.get(name)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
