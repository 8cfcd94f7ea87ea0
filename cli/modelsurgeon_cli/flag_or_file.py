"""`--weights` of `info`: a flag, or an option with a value if a weights file follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import click

from modelsurgeon_cli.options import Decorator

OPTION_NAME = "--weights"
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class WeightsRequest:
    """Value of `--weights`. inspect: show the weights. file: the weights file of a PyTorch source."""

    inspect: bool
    file: str | None


class Command(click.Command):
    """A verb whose `--weights` takes the next word only if that is a weights file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Join the option and its file to one word before click parses."""
        return super().parse_args(ctx, join_option_and_file(args))


def join_option_and_file(words: Sequence[str]) -> list[str]:
    """The words with `--weights FILE` joined to one, and `--weights` without a file given an empty value.

    >>> join_option_and_file(["--weights", "net.onnx", "--weights", "net.pth"])
    ['--weights=', 'net.onnx', '--weights=net.pth']
    """
    out: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            return [*out, word, *left]
        if word == OPTION_NAME:
            word = (
                f"{OPTION_NAME}={left.pop(0) if left and PurePath(left[0]).suffix in WEIGHT_SUFFIXES else ''}"
            )
        out.append(word)
    return out


def weights_request(_: click.Context, param: click.Parameter, given: Sequence[str]) -> WeightsRequest:
    """The values of all uses of the option, combined."""
    files = [word for word in given if word]
    if len(files) > 1:
        raise click.BadParameter(f"{' and '.join(files)}: one file of weights is needed.", param=param)
    return WeightsRequest(inspect="" in given, file=files[0] if files else None)


def weights_option() -> Decorator[Any]:
    """The option `--weights`, whose value is a `WeightsRequest`."""
    return click.option(
        OPTION_NAME,
        multiple=True,
        metavar="[FILE]",
        callback=weights_request,
        help="Show value ranges, channels and spectra of the weights. Followed by a file "
        f"({', '.join(WEIGHT_SUFFIXES)}): read the weights of a PyTorch source from it, as data, never "
        "run. Give it twice for both.",
    )
