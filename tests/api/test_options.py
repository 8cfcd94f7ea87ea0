"""Options shared by verbs: known ones are documented, unknown ones refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import modelsurgeon as ms
from modelsurgeon.api.options import CompressionOptions, SurgeryOptions, keywords_of
from tests import zoo

SURGERY = [ms.bn.fold, ms.bn.freeze, ms.bn.inspect, ms.bn.recalibrate, ms.bn.sanitize]
SURGERY += [ms.clean, ms.equalize, ms.fc2conv, ms.pool2conv, ms.prune]


@pytest.mark.parametrize("verb", SURGERY, ids=lambda verb: verb.__name__)
def test_a_surgery_verb_refuses_unknown_options(verb: Callable[..., Any]) -> None:
    """A misspelled `tolerence` is an error, not ignored."""
    with pytest.raises(TypeError, match=r"takes no keyword 'tolerence'; its options are data, only, skip"):
        verb(zoo.classifier(), tolerence=0.1)


def test_the_other_verbs_refuse_unknown_options() -> None:
    with pytest.raises(TypeError, match="compress takes no keyword 'dat'"):
        ms.compress(zoo.classifier(), macs=0.5, dat=np.zeros(1))  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="sweep takes no keyword 'rank'"):
        ms.sweep(zoo.classifier(), [0.5], rank=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="extract takes no keyword 'output'"):
        ms.extract(zoo.classifier(), ["y"], output=["y"])  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="steal takes no keyword 'map'"):
        ms.steal(zoo.classifier(), zoo.classifier(), map={})  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [CompressionOptions, SurgeryOptions])
def test_every_option_is_explained(options: type) -> None:
    words = set((options.__doc__ or "").replace(",", " ").replace(":", " ").split())
    assert set(options.__annotations__) <= words


def test_keywords_of_a_verb_include_the_shared_ones() -> None:
    assert keywords_of(ms.prune) == ["model", *SurgeryOptions.__annotations__]
    assert {"rank", "speedup", "data", "watch"} <= set(keywords_of(ms.compress))
