"""Models in onnxruntime: run, timed, and run in pairs."""

from modelsurgeon.onnx.run.execute import Run, inputs, runner
from modelsurgeon.onnx.run.sessions import session
from modelsurgeon.onnx.run.timing import Latency, Speedup, latency, speedup

__all__ = ["Latency", "Run", "Speedup", "inputs", "latency", "runner", "session", "speedup"]
