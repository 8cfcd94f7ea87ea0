"""The user's own Python code, imported by name."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType

from modelsurgeon.errors import BadModel


def imported(package: str) -> ModuleType:
    """Import `package.module`, from the current folder too as with `python -m`: this runs its code.

    What it prints goes to stderr. Raises BadModel, in one line, for whatever goes wrong on the way.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        with redirect_stdout(sys.stderr):
            return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{package}.".startswith(f"{error.name}."):
            raise BadModel(
                f"no Python module {error.name!r}: run from the folder that holds it, or install it"
            ) from None
        raise BadModel(f"{package} can't be imported: {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {in_one_line(error)}"
        raise BadModel(f"{package} can't be imported: {told}") from error


def in_one_line(error: BaseException, width: int = 200) -> str:
    """An error's message, or its type where it has none, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= width else f"{text[: width - 3]}..."
