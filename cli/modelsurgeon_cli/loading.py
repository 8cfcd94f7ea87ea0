"""Loading of models, with a quiet stderr where an export fails."""

from __future__ import annotations

import sys
import warnings
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import modelsurgeon as ms
from modelsurgeon.api.models import is_source


def load(model: str, **options: Any) -> Any:  # noqa: ANN401 - the options and the model of ms.load
    """The model of `ms.load`.

    Where torch can't export a module it prints what it has of the graph: that is dropped, the error says why.
    Warnings are shown. On a terminal all of it is shown, because a spinner is on stderr too.
    """
    if not is_source(model) or sys.stderr.isatty():
        return ms.load(model, **options)
    warned: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as warned, redirect_stderr(StringIO()) as printed:
            loaded = ms.load(model, **options)
    finally:
        for each in warned:
            warnings.showwarning(each.message, each.category, each.filename, each.lineno)
    sys.stderr.write(printed.getvalue())
    return loaded
