"""Dimensions that files write as text: which of them are expressions, and which are only names.

`past + new` is the sum of two sizes, but `batch-size` is one name. Exporters write sums and differences with
spaces around the sign, as sympy does. So a sign without spaces, and any division, counts as arithmetic only
where each name in it is the whole of another dimension of the inputs.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from keyword import iskeyword

import onnx_ir as ir

EXPRESSION_PATTERN = re.compile(r"[\w+\-*/(), ]{1,200}", re.ASCII)
NAME_PATTERN = re.compile(r"[A-Za-z_]\w*(?!\w|\s*\()", re.ASCII)
UNSPACED_SIGN_PATTERN = re.compile(r"(?<=[\w)])(-(?! )|(?<! )-)", re.ASCII)
CALL_PATTERN = re.compile(r"\w\s*\(", re.ASCII)
TRIED_SIZES = (1, 2, 3, 5, 16, 60, 1024)


def expression_symbols(text: str, alone: Collection[str]) -> frozenset[str]:
    """Symbols of a dimension that is an expression; empty where the text is only a name.

    alone: the names that are the whole of some dimension.
    """
    if not EXPRESSION_PATTERN.fullmatch(text) or text.isidentifier():
        return frozenset()
    found = _symbols(text)
    return found if not _is_ambiguous(text) or found <= set(alone) else frozenset()


def _is_ambiguous(text: str) -> bool:
    """Whether the text has a sign or slash that a name may have, too."""
    has_call = CALL_PATTERN.search(text) is not None
    return not has_call and ("/" in text or UNSPACED_SIGN_PATTERN.search(text) is not None)


@cache
def _symbols(text: str) -> frozenset[str]:
    """Symbols of an expression that is a size for some sizes of them; empty for other texts."""
    if "**" in text or not NAME_PATTERN.search(text):
        return frozenset()
    try:
        dim = ir.SymbolicDim(text)
        found: frozenset[str] = dim.free_symbols()
        values = [
            dim.evaluate({name: size * factor for factor, name in enumerate(names, start=1)})
            for names in (sorted(found), sorted(found, reverse=True))
            for size in TRIED_SIZES
        ]
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return frozenset()
    if any(map(iskeyword, found)):
        return frozenset()
    return found if any(isinstance(value, int) and value > 0 for value in values) else frozenset()


def solutions(dim: ir.SymbolicDim, name: str, size: int) -> list[int]:
    """Sizes of a symbol at which a dimension has this size: one, or none where that isn't clear.

    A number that is divided by the symbol is taken to leave no remainder, as in a reshaped tensor.
    """
    first, second = dim.evaluate({name: 1}), dim.evaluate({name: 2})
    if not isinstance(first, int) or not isinstance(second, int) or first == second or size < 1:
        return []
    if second < first and first > size:
        value = first // size
        return [value] if first % size == 0 and dim.evaluate({name: value}) == size else []
    value = (size - first) // (second - first) + 1
    near = [at for at in (value - 1, value, value + 1) if at >= 0 and dim.evaluate({name: at}) == size]
    return near if len(near) == 1 else []
