"""onnxruntime sessions: providers, options, and onnxruntime's exceptions as errors of ours."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import onnx_ir as ir
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as states

from modelsurgeon.errors import BadModel, SurgeryError, Unavailable
from modelsurgeon.onnx.io.files import MAX_PROTOBUF_BYTES, save
from modelsurgeon.onnx.io.lazy_tensors import StoredTensor
from modelsurgeon.onnx.io.serialize import SerializedModel, pack
from modelsurgeon.report.formatting import escape

# TF32 rounds to 10 bits: its rounding errors must not be mistaken for those of an edit.
PROVIDERS: dict[str, list[tuple[str, dict[str, str]]]] = {
    "cpu": [("CPUExecutionProvider", {})],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": "0"}), ("CPUExecutionProvider", {})],
}
LOG_FATAL = 4
FOLDER_OPTION = "session.model_external_initializers_file_folder_path"
NO_LOAD_ADVICE = ("onnxruntime can't load the model", "check it with the tool that made it")
NO_RUN_ADVICE = "try another version, or run nothing with --no-compare"
# All that onnxruntime raises; its exceptions have no common base.
FAILURES: tuple[type[Exception], ...] = (
    *(kind for kind in vars(states).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)
MISSING_OPERATOR = re.compile(
    r"not a registered function|NOT_IMPLEMENTED|No Op registered|Could not find an implementation"
    r"|No opset import for domain"
)
NEWER_MODEL = re.compile(
    r"Unsupported model IR version: \d+, max supported IR version: \d+|Opset \d+ is under development"
)
# The place in onnxruntime's own source where an error was raised: of no use to a user who repairs a model.
SOURCE_PATHS = re.compile(
    r"(/onnxruntime_src|[A-Za-z]:\\)\S*:\d+ (\S.*?\)( const)?) |^\[ONNXRuntimeError\] : \d+ : \w+ : "
)


def session(
    model: ir.Model, *, provider: str = "cpu", optimize: bool = True, threads: int | None = None
) -> ort.InferenceSession:
    """Open a session that runs the model on `provider`, "cpu" or "cuda", without falling back to another.

    optimize: let onnxruntime rewrite the graph. threads: for one operator; None is one per core.
    Raises Unavailable where the provider doesn't work here or an operator is missing, BadModel where
    onnxruntime finds the model unsound.
    """
    wanted, options = _provider(provider), _options(optimize, threads)
    with _session_source(model, options) as source, failing_as(BadModel, *NO_LOAD_ADVICE):
        opened = ort.InferenceSession(source, options, providers=wanted)
    opened.disable_fallback()
    if wanted[0][0] not in opened.get_providers():
        raise Unavailable(f"{provider} doesn't work here: repair its drivers, or use --provider cpu")
    return opened


@contextmanager
def failing_as(kind: type[SurgeryError], problem: str, advice: str) -> Iterator[None]:
    """Raise what onnxruntime raises as `kind`, in one line: the problem, onnxruntime's reason, the advice.

    A missing operator, and a model of a later version than onnxruntime knows, become Unavailable.
    """
    try:
        yield
    except FAILURES as error:
        text = one_line_reason(error)
        if MISSING_OPERATOR.search(str(error)):
            raise Unavailable(f"onnxruntime here lacks an operator ({text}): {NO_RUN_ADVICE}") from error
        if newer := NEWER_MODEL.search(str(error)):
            raise Unavailable(
                f"the model is newer than onnxruntime here ({newer[0]}): {NO_RUN_ADVICE}"
            ) from error
        raise kind(f"{problem} ({text}): {advice}") from error


def one_line_reason(error: Exception) -> str:
    """onnxruntime's message in one line, without the paths of its own source code."""
    line = " ".join(SOURCE_PATHS.sub("", " ".join(str(error).split())).split())
    return escape(line if len(line) <= 300 else f"{line[:297]}...")


def _provider(name: str) -> list[tuple[str, dict[str, str]]]:
    if name not in PROVIDERS:
        raise Unavailable(f"there is no provider {name!r}: use {' or '.join(PROVIDERS)}")
    wanted = PROVIDERS[name]
    if wanted[0][0] not in ort.get_available_providers():
        raise Unavailable(f"{name} isn't in this onnxruntime: install onnxruntime-gpu, or use --provider cpu")
    return wanted


def _options(optimize: bool, threads: int | None) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or 0
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


@contextmanager
def _session_source(model: ir.Model, options: ort.SessionOptions) -> Iterator[bytes | str]:
    """Yield the model as onnxruntime loads it: bytes; beyond 2 GB, with weights left in their own files.

    Where that isn't possible it is the path of a temporary file.
    """
    packed = pack(model)
    if packed.size > MAX_PROTOBUF_BYTES and (folder := _main_weight_folder(packed)):
        packed = packed.with_references_to(folder)
        options.add_session_config_entry(FOLDER_OPTION, str(folder))
    if packed.size <= MAX_PROTOBUF_BYTES:
        buffer = BytesIO()
        packed.write(buffer)
        yield buffer.getvalue()
        return
    with tempfile.TemporaryDirectory(prefix="modelsurgeon-") as temporary:
        save(model, Path(temporary) / "model.onnx")
        yield str(Path(temporary) / "model.onnx")


def _main_weight_folder(packed: SerializedModel) -> Path | None:
    """The folder that stores most bytes of the weights; None where no weight is in a file."""
    sizes: Counter[Path] = Counter()
    for weight in packed.weights:
        if isinstance(weight, StoredTensor):
            sizes[weight.file.path.parent] += weight.nbytes
    return max(sizes, key=sizes.__getitem__, default=None)
