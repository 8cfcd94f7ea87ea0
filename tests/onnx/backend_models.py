"""The models of onnx's own test suite, in the folder that MODELSURGEON_MODELS names, and their tensors."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import numpy_helper

MODELS = os.environ.get("MODELSURGEON_MODELS")


CASES = sorted(Path(MODELS).rglob("backend/test/data/**/*.onnx")) if MODELS else []


def array(path: Path) -> np.ndarray | None:
    """The tensor in a file; None if there is none, or a sequence."""
    proto = onnx.TensorProto()
    try:
        proto.ParseFromString(path.read_bytes())
        return numpy_helper.to_array(proto)
    except (OSError, DecodeError, TypeError, ValueError):
        return None
