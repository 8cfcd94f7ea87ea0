"""Formats of single values: numbers with units, shapes, bars, and escaped names.

A model's names are untrusted input, so every text passes through `escape` before it is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal, SupportsFloat, TypeGuard

Kind = Literal["text", "prose", "int", "count", "bytes", "percent", "bar", "spark", "float", "shape"]

COUNT_UNITS = ("", " k", " M", " G", " T", " P", " E")
BYTE_UNITS = (" B", " kB", " MB", " GB", " TB", " PB", " EB")
BAR_CHARACTERS = " ▏▎▍▌▋▊▉█"
SPARK_CHARACTERS = "▁▂▃▄▅▆▇█"


def escape(text: str) -> str:
    """The text with every control, direction-changing and unpaired character written as its escape.

    >>> escape("conv\x1b[31m")
    'conv\\\\x1b[31m'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def count(value: float) -> str:
    """A count with three digits and an SI prefix.

    >>> count(1234567890), count(999), count(999_999)
    ('1.23 G', '999', '1.00 M')
    """
    return _scaled(value, COUNT_UNITS)


def size(value: float) -> str:
    """Bytes in decimal units: 1 MB = 1000000 B.

    >>> size(243860896), size(12)
    ('244 MB', '12 B')
    """
    return _scaled(value, BYTE_UNITS)


def _scaled(value: float, units: Sequence[str]) -> str:
    if not isfinite(value):
        return number(value)
    if abs(value) < 1000 and value == int(value):
        return f"{int(value)}{units[0]}"
    step = 0
    while abs(value) >= 999.5 and step < len(units) - 1:
        value, step = value / 1000, step + 1
    return f"{value:#.3g}".rstrip(".") + units[step]


def percent(share: float) -> str:
    """A fraction as a percentage; a small one above 0 doesn't round to 0.

    >>> percent(0.1234), percent(0.00001), percent(0.0)
    ('12.3 %', '<0.1 %', '0.0 %')
    """
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"


def number(value: float) -> str:
    """A number with three significant digits.

    >>> number(1.23456e-6), number(0.5), number(float("nan"))
    ('1.23e-06', '0.5', 'nan')
    """
    return f"{value:.3g}"


def shape(value: Sequence[Any]) -> str:
    """One shape, or several separated by commas; an unknown size is a question mark.

    >>> shape((1, "batch", None)), shape([(1, 3), (4,)]), shape(())
    ('1×batch×?', '1×3, 4', 'scalar')
    """
    if any(isinstance(axis, (list, tuple)) for axis in value):
        return ", ".join("?" if one is None else shape(one) for one in value)
    return "×".join("?" if axis is None else escape(str(axis)) for axis in value) or "scalar"


def bar(share: float, width: int, *, plain: bool = False) -> str:
    """A bar of at most `width` characters for a fraction from 0 to 1. plain: ASCII only.

    >>> bar(0.5, 4), bar(0.3, 4), bar(1, 4, plain=True)
    ('██', '█▎', '####')
    """
    filled = min(max(share, 0.0), 1.0) * width if isfinite(share) else 0.0
    if plain:
        return "#" * round(filled)
    full, rest = divmod(round(filled * 8), 8)
    return "█" * full + (BAR_CHARACTERS[rest] if rest else "")


def spark(shares: Sequence[float], *, plain: bool = False) -> str:
    """Fractions from 0 to 1 as a sparkline. plain: digits from 0 to 9.

    >>> spark([1, 0.5, 0.1, 0]), spark([1, 0.5, 0.1, 0], plain=True)
    ('█▅▂▁', '9410')
    """
    levels = "0123456789" if plain else SPARK_CHARACTERS
    return "".join(levels[round(min(max(share, 0.0), 1.0) * (len(levels) - 1))] for share in shares)


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value is a real number; a bool or a formula is not."""
    return type(value) in (int, float) or (isinstance(value, Real) and not isinstance(value, bool))


def show(value: object, kind: Kind) -> str:
    """A value as text for people. None is empty; a symbolic size or formula is shown as it is."""
    if value is None:
        return ""
    if kind == "shape" and isinstance(value, (list, tuple)):
        return shape(value)
    if kind == "spark" and isinstance(value, (list, tuple)):
        return spark(value)
    if kind in ("text", "prose", "shape") or not is_number(value):
        return escape(str(value))
    if kind == "int" and float(value).is_integer():
        return f"{int(value):,}"
    writers = {"count": count, "bytes": size, "percent": percent, "bar": percent}
    return writers.get(kind, number)(float(value))


def plain(value: object) -> object:
    """The value as JSON holds it: dict, list, str, int, float, bool or None.

    JSON has no infinity and no NaN, so both become None.
    """
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return value
    if is_number(value):
        return _plain_number(value)
    # A numpy array or bool converts itself to plain values.
    return plain(value.tolist()) if hasattr(value, "tolist") else str(value)


def _plain_number(value: SupportsFloat) -> float | None:
    if type(value) is not float and isinstance(value, Integral):
        return int(value)
    return float(value) if isfinite(value) else None
