"""The one way in and out for ONNX files."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from modelsurgeon.errors import BadModel
from modelsurgeon.files import replacing


def load(path: str | Path, *, root: Path | None = None) -> ir.Model:
    """A validated model; its weights stay on disk until they are touched. Raises BadModel."""
    if not Path(path).is_file():
        raise BadModel(f"{path} is no file: name an .onnx file")
    try:
        model = ir.load(path)
    except Exception as error:
        raise BadModel(f"{path} is no ONNX model: {error}") from error
    model.meta["modelsurgeon.path"] = Path(path)
    return model


def save(model: ir.Model, path: str | Path) -> None:
    """Write the model whole or not at all."""
    with replacing(path) as temporary:
        ir.save(model, temporary, format="protobuf")
