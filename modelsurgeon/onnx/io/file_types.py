"""What a file is that isn't an ONNX model, where its beginning tells."""

from __future__ import annotations

from codecs import utf_8_decode

KINDS = {
    b"version https://git-lfs": "is a Git LFS pointer: fetch the model itself with `git lfs pull`",
    b"PK\x03\x04": "is a zip archive, such as .pt or .npz: export the model to ONNX",
    b"\x80": "is a Python pickle, such as .pth: export the model to ONNX",
    b"\x89HDF": "is an HDF5 file, such as .h5: export the model to ONNX",
    b"\x1f\x8b": "is compressed: unpack it first",
}


def stranger(head: bytes) -> str | None:
    """What begins with these bytes and what to do about it; None where they don't tell."""
    for start, what in KINDS.items():
        if head.startswith(start):
            return what
    try:
        text, _ = utf_8_decode(head, "strict", False)  # the last character may be cut
    except UnicodeDecodeError:
        return None
    if not text or not all(char.isprintable() or char.isspace() for char in text):
        return None
    return f"is a text file that begins {text[:20]!r}: an ONNX model is needed"
