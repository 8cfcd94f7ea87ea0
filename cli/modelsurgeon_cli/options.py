"""Options that several verbs share, and the types of their values."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from functools import reduce
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

import click

from modelsurgeon_cli.show import FORMATS

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]


if TYPE_CHECKING:
    StringType = click.ParamType[str]
    RankType = click.ParamType[int | str]
else:  # older clicks have no such generic
    StringType = RankType = click.ParamType


class Choices(StringType):
    """One of several names, computed only when needed: to parse a value, or for the help."""

    name = "choice"

    def __init__(self, names: Callable[[], Iterable[str]]) -> None:
        """names: returns the choices."""
        self.names = names

    def get_metavar(self, *_: object, **__: object) -> str:
        """`[a|b|c]`."""
        return f"[{'|'.join(self.names())}]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value, if it is one of the names."""
        names = list(self.names())
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}.", param, ctx)
        return str(value)


class AnyRank(RankType):
    """A whole number, `evbmf`, or a share such as `50%`."""

    name = "rank"

    def get_metavar(self, *_: object, **__: object) -> str:
        """The accepted forms, for the help."""
        return "N|evbmf|P%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The rank as an int where it is a number, otherwise as text."""
        from modelsurgeon.compression.goal import (
            check_rank,  # imports all methods: only when there is a rank to check
        )

        rank = int(text) if (text := str(value)).isdecimal() else text
        try:
            check_rank(rank)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
        return rank


class Real(click.FloatRange):
    """A finite number in a range; NaN is in no range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401
        """The number."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def sizes_by_name(
    _: click.Context, param: click.Parameter, given: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """`("x=1,3,224,224",)` as `{"x": (1, 3, 224, 224)}`."""
    return dict(_named_sizes(text, param) for text in given)


def size_by_symbol(_: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, int]:
    """`("N=4",)` as `{"N": 4}`."""
    pairs = [_named_sizes(text, param) for text in given]
    if long := [name for name, sizes in pairs if len(sizes) > 1]:
        raise click.BadParameter(f"{long[0]!r} has several sizes: a symbol takes one size.", param=param)
    return {name: sizes[0] for name, sizes in pairs}


def names(_: click.Context, param: click.Parameter, given: str | None) -> tuple[str, ...]:
    """`a, b` as `("a", "b")`."""
    parts = tuple(part.strip() for part in given.split(",")) if given is not None else ()
    if not all(parts):
        raise click.BadParameter(f"{given!r} is not {param.metavar}.", param=param)
    return parts


def fractions(_: click.Context, param: click.Parameter, given: str | None) -> list[float] | None:
    """`0.9,0.5` as `[0.9, 0.5]`."""
    if given is None:
        return None
    from modelsurgeon.api.sweep import (
        check_fractions,  # imports all methods: only when there are shares to check
    )

    try:
        shares = [float(part) for part in given.split(",")]
        check_fractions(shares)
    except ValueError as error:
        raise click.BadParameter(f"{given!r}: {error}.", param=param) from error
    return shares


def inverted(_: click.Context, __: click.Parameter, given: bool) -> bool:
    """The negated flag: `--no-something` as False for something."""
    return not given


AMOUNT_PATTERN = re.compile(r"(\d+(?:\.\d+)?(?:e\d{1,2})?)\s*([kKMGT]?)B?", re.ASCII)
UNIT_SCALES = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


def amount(_: click.Context, param: click.Parameter, given: str | None) -> float | None:
    """`5G`, `20MB` and `1e9` as numbers."""
    if given is None:
        return None
    if not (found := AMOUNT_PATTERN.fullmatch(given.strip())):
        raise click.BadParameter(f"{given!r} is not an amount such as 5G, 20MB or 1000000.", param=param)
    return float(found[1]) * UNIT_SCALES[found[2]]


def _named_sizes(text: str, param: click.Parameter) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.split(",")]
    if not name or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise click.BadParameter(f"{text!r} is not {param.metavar} with sizes of at least 1.", param=param)
    return name, tuple(map(int, parts))


def combined(*options: Decorator[Any]) -> Decorator[Any]:
    """Several options as one decorator, in the order in which the help lists them."""

    def add(function: F) -> F:
        return reduce(lambda f, option: option(f), reversed(options), function)

    return add


def result_options_in(formats: Iterable[str]) -> Decorator[Any]:
    """Options for format and destination of the result."""
    return combined(
        click.option(
            "--format",
            type=click.Choice(list(formats)),
            default="table",
            show_default=True,
            help="Format of the result.",
        ),
        click.option(
            "--output",
            type=click.Path(),
            metavar="FILE",
            help="Write the result to FILE instead of stdout.",
        ),
        click.option("--quiet", "-q", is_flag=True, help="No progress and no warnings on stderr."),
    )


result_options = result_options_in(FORMATS)

shape_options = combined(
    click.option(
        "--shape",
        "shapes",
        metavar="NAME=SIZE,SIZE,...",
        multiple=True,
        callback=sizes_by_name,
        help="Fix an input's shape, such as x=1,3,224,224. Repeatable.",
    ),
    click.option(
        "--dim",
        "dims",
        metavar="SYMBOL=SIZE",
        multiple=True,
        callback=size_by_symbol,
        help="Bind a symbolic dimension, such as N=4. Repeatable.",
    ),
)

export_options = combined(
    click.option(
        "--example",
        type=click.Path(),
        metavar="FILE",
        help="An .npz with inputs to export a PyTorch source with, instead of --shape.",
    ),
    click.option("--trust", is_flag=True, help="Load a .pt2 file, although it may run code of its author."),
)
source_options = combined(
    click.option(
        "--weights",
        type=click.Path(),
        metavar="FILE",
        help="Weights of a PyTorch source, .safetensors or .pth; read as data, never run.",
    ),
    export_options,
)


def _import_all(_: click.Context, __: click.Parameter, given: Sequence[str]) -> None:
    from modelsurgeon.plugins import import_user_module

    with redirect_stdout(sys.stderr):
        for package in given:
            import_user_module(package)


plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="PACKAGE.MODULE",
    expose_value=False,
    callback=_import_all,
    help="Import this Python module first, such as one that registers costs with modelsurgeon.counts; this "
    "runs its code. Repeatable.",
)
provider_option = click.option(
    "--provider",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Device that runs the models.",
)

freeze_option = click.option(
    "--freeze-inputs",
    is_flag=True,
    help="Take inputs with a default, such as weights that old exporters list, out of the inputs: they are "
    "fixed then, and can be edited. IR version 3 becomes 4.",
)
data_option = combined(
    click.option(
        "--data",
        type=click.Path(),
        metavar="PATH",
        help="Samples: an .npz with arrays named like the inputs, a folder of such files, or an .npy.",
    ),
    click.option("--skip-bad", is_flag=True, help="Leave out samples of --data with NaN or infinite values."),
)
batch_option = click.option(
    "--batch", type=click.IntRange(min=1), help="Batch size where the model leaves it open."
)
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed."
)
