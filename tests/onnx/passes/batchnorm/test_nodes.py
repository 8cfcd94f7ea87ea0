"""Freezing batch norm: outputs are unchanged, and training mode ends only on request."""

from __future__ import annotations

from typing import Literal

import pytest

import modelsurgeon as ms
from tests.onnx.passes.batchnorm.nets import CONV, MAPS, NORM, STATS, net, ops

Form = Literal["mul-add", "batchnorm"]
KINDS = [("mul-add", "Relu Mul Add"), ("batchnorm", "Relu BatchNormalization")]


@pytest.mark.parametrize(("form", "left"), KINDS)
@pytest.mark.parametrize("x", [MAPS, "float[N, 4] x", "float[2, 4, L] x"])
def test_freeze_keeps_the_outputs(form: Form, left: str, x: str) -> None:
    done = ms.bn.freeze(net(f"c = Relu (x) y = {NORM}", x, **CONV), form=form)
    assert ops(done.model) == left
    assert done.comparison is not None
    assert 0 < done.comparison.worst < 1e-6
    (edit,) = done.as_dict()["edits"]
    assert edit == {"layer": "y", "action": "freeze", "form": form, "channels": 4, "skipped": None}
    assert ms.history(done.model).as_dict()[0]["arguments"] == {"form": form}


@pytest.mark.parametrize("form", ["mul-add", "batchnorm"])
def test_training_mode_ends_only_on_request(form: Form) -> None:
    body = f"c = Relu (x) y, m, v = BatchNormalization <training_mode = 1> (c, {STATS})"
    model = net(body, **CONV)
    (kept,) = ms.bn.freeze(model, form=form, compare=False).edits
    assert "--training" in str(kept.skipped)
    done = ms.bn.freeze(model, form=form, training=True)
    plain = net(f"c = Relu (x) y = {NORM}", **CONV)
    assert ms.compare(done.model, plain).verdict in ("identical", "within-noise", "within-tolerance")


def test_norm_with_used_statistics_is_skipped() -> None:
    model = net(f"c = Relu (x) z, m, v = {NORM} y = Add (z, z)", opset=9, **CONV)
    model.graph.outputs.append(model.graph[1].outputs[1])
    (edit,) = ms.bn.freeze(model, training=True, compare=False).edits
    assert edit.skipped == "its running statistics are used as outputs"


def test_unknown_axes_need_batchnorm_form() -> None:
    model = net(f"c = Reshape (x, s) y = {NORM}", f"{MAPS}, int64[R] s", **CONV)
    (edit,) = ms.bn.freeze(model, compare=False).edits
    assert "--form batchnorm needs no axes" in str(edit.skipped)
    assert ops(ms.bn.freeze(model, form="batchnorm", compare=False).model) == "Reshape BatchNormalization"
