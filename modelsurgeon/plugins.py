"""Import of the user's own Python modules."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from modelsurgeon.errors import BadModel


def import_user_module(package: str) -> ModuleType:
    """Import `package.module`, which runs its code; as with `python -m`, from the current folder, too.

    Raises BadModel with a message of one line where the import fails.
    """
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{package}.".startswith(f"{error.name}."):
            raise BadModel(
                f"no Python module {error.name!r}: run from the folder that holds it, or install it"
            ) from None
        raise BadModel(f"{package} can't be imported: {in_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {in_one_line(error)}"
        raise BadModel(f"{package} can't be imported: {cause}") from error


def in_one_line(error: BaseException, width: int = 200) -> str:
    """An error's message on one line of at most `width` characters; its type where it has none."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= width else f"{text[: width - 3]}..."
