"""Models in onnxruntime: run, timed, and run side by side."""

from modelsurgeon.onnx.run.execute import Latency, Run, Speedup, inputs, latency, runner, session, speedup

__all__ = ["Latency", "Run", "Speedup", "inputs", "latency", "runner", "session", "speedup"]
