"""modelsurgeon: static inspection and low-rank surgery of neural networks.

Nothing heavy is imported before it is used: each public name is looked up on first access.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from modelsurgeon.version import __version__

if TYPE_CHECKING:
    from modelsurgeon import bn as bn
    from modelsurgeon import factorize as factorize
    from modelsurgeon.api.compare import compare as compare
    from modelsurgeon.api.compress import compress as compress
    from modelsurgeon.api.devices import device as device
    from modelsurgeon.api.info import check as check
    from modelsurgeon.api.info import diff as diff
    from modelsurgeon.api.info import info as info
    from modelsurgeon.api.models import load as load
    from modelsurgeon.api.models import save as save
    from modelsurgeon.api.operation import Operation as Operation
    from modelsurgeon.api.pipeline import pipeline as pipeline
    from modelsurgeon.api.steal import Stolen as Stolen
    from modelsurgeon.api.steal import steal as steal
    from modelsurgeon.api.surgery import clean as clean
    from modelsurgeon.api.surgery import equalize as equalize
    from modelsurgeon.api.surgery import extract as extract
    from modelsurgeon.api.surgery import fc2conv as fc2conv
    from modelsurgeon.api.surgery import history as history
    from modelsurgeon.api.surgery import pool2conv as pool2conv
    from modelsurgeon.api.surgery import prune as prune
    from modelsurgeon.api.sweep import sweep as sweep
    from modelsurgeon.compression.frontier import Frontier as Frontier
    from modelsurgeon.compression.result import Result as Result
    from modelsurgeon.errors import BadArgument as BadArgument
    from modelsurgeon.errors import BadData as BadData
    from modelsurgeon.errors import BadModel as BadModel
    from modelsurgeon.errors import BadPlan as BadPlan
    from modelsurgeon.errors import GateMissed as GateMissed
    from modelsurgeon.errors import NoVerdict as NoVerdict
    from modelsurgeon.errors import SurgeryError as SurgeryError
    from modelsurgeon.errors import ToleranceExceeded as ToleranceExceeded
    from modelsurgeon.errors import Unavailable as Unavailable
    from modelsurgeon.errors import UnknownLayer as UnknownLayer
    from modelsurgeon.errors import UnknownShape as UnknownShape
    from modelsurgeon.errors import Unreachable as Unreachable
    from modelsurgeon.errors import UnsupportedLayer as UnsupportedLayer
    from modelsurgeon.errors import Unwritable as Unwritable
    from modelsurgeon.inspection.cost import Cost as Cost
    from modelsurgeon.layers import Layer as Layer
    from modelsurgeon.layers.conv_matrix import conv_matrix as conv_matrix
    from modelsurgeon.layers.conv_matrix import im2col as im2col
    from modelsurgeon.onnx.costs import counts as counts
    from modelsurgeon.surgery.plan import Plan as Plan

_HOMES = {
    "pipeline": "api.pipeline",
    "bn": None,
    "check": "api.info",
    "clean": "api.surgery",
    "compare": "api.compare",
    "compress": "api.compress",
    "conv_matrix": "layers.conv_matrix",
    "device": "api.devices",
    "counts": "onnx.costs",
    "diff": "api.info",
    "equalize": "api.surgery",
    "extract": "api.surgery",
    "factorize": None,
    "fc2conv": "api.surgery",
    "history": "api.surgery",
    "im2col": "layers.conv_matrix",
    "info": "api.info",
    "load": "api.models",
    "pool2conv": "api.surgery",
    "prune": "api.surgery",
    "save": "api.models",
    "steal": "api.steal",
    "sweep": "api.sweep",
    "BadArgument": "errors",
    "BadData": "errors",
    "BadModel": "errors",
    "BadPlan": "errors",
    "Cost": "inspection.cost",
    "Frontier": "compression.frontier",
    "Layer": "layers.layer",
    "Operation": "api.operation",
    "Plan": "surgery.plan",
    "Result": "compression.result",
    "GateMissed": "errors",
    "NoVerdict": "errors",
    "Stolen": "api.steal",
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
