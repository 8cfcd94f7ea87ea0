"""The public names exist, load lazily, and are not hidden by modules of the same name."""

import subprocess
import sys
from pkgutil import iter_modules

import pytest

import modelsurgeon as ms
from modelsurgeon import errors

HEAVY = ("torch", "onnx", "onnx_ir", "onnxruntime", "onnxscript", "scipy", "numpy", "sympy", "rich")


def run(code: str) -> str:
    """Output of the code in a new Python process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", ms.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(ms, name) is getattr(ms, name)
    assert name in dir(ms)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'decompress'"):
        _ = ms.decompress


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= set(ms.__all__)
    assert all(issubclass(getattr(errors, name), ms.SurgeryError) for name in classes)


def test_the_verbs_of_the_contract_are_functions() -> None:
    for name in ("load", "save", "info", "check", "compress", "compare"):
        assert callable(getattr(ms, name))
    assert ms.Layer.__name__ == "Layer"
    assert "tucker2" in ms.factorize.METHODS


def test_no_module_has_the_name_of_a_public_function() -> None:
    """Importing such a module would hide the function: only the public namespaces are modules."""
    modules = {module.name for module in iter_modules(ms.__path__)}
    assert modules & set(ms.__all__) == {"bn", "factorize"}


def test_importing_loads_nothing_heavy() -> None:
    loaded = run("import modelsurgeon, sys; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["compare", "--help"]])
def test_the_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"import sys, modelsurgeon_cli; modelsurgeon_cli.main({arguments}); print(*sys.modules)"
    loaded = run(code).splitlines()[-1].split()
    assert not {"torch", "onnx", "onnx_ir", "onnxruntime", "scipy"} & set(loaded)


IMPORTS = """
import logging, numpy, onnx, onnx_ir, onnxruntime, onnxscript, onnxscript.optimizer, os, pkgutil, scipy.sparse
import scipy.special, signal, sys, threadpoolctl, torch, torch.onnx, warnings
import onnx_shape_inference
import modelsurgeon, modelsurgeon_cli
from importlib import import_module

def state():
    log = logging.root
    return {
        "filters": list(warnings.filters),
        "shown by": (warnings.showwarning, warnings.formatwarning),
        "log": (list(log.handlers), log.level, log.manager.disable, logging.raiseExceptions),
        "own log": {**vars(logging.getLogger("modelsurgeon")), "_cache": None},
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "threads": [(each["user_api"], each["num_threads"]) for each in threadpoolctl.threadpool_info()],
        "torch": (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()),
        "streams": (sys.stdin, sys.stdout, sys.stderr, sys.excepthook, sys.getrecursionlimit()),
        "numpy": (numpy.geterr(), numpy.random.get_state()[1].sum()),
        "folder": os.getcwd(),
    }

before, count = state(), 0
for package in (modelsurgeon, modelsurgeon_cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
            count += 1
after = state()
print(count, *[name for name in before if before[name] != after[name]])
"""


def test_importing_every_module_changes_nothing_of_the_process() -> None:
    count, *changed = run(IMPORTS).split()
    assert int(count) > 200
    assert changed == []


def test_importing_takes_less_than_100_ms() -> None:
    code = "import time; began = time.process_time(); import modelsurgeon; print(time.process_time() - began)"
    assert min(float(run(code)) for _ in range(3)) < 0.1
