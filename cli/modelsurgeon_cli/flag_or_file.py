"""`--weights` of `info`: a flag, and in front of a file of weights an option that takes it."""

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
    """What was asked for. inspect: show the weights. file: where those of a PyTorch source lie."""

    inspect: bool
    file: str | None


class Command(click.Command):
    """A verb whose `--weights` takes the next word only if that is a file of weights."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Tie the option to its file, so that any other word stays what it was."""
        return super().parse_args(ctx, tied(args))


def tied(words: Sequence[str]) -> list[str]:
    """The words with `--weights FILE` as one, and `--weights` without a file as one with an empty value.

    >>> tied(["--weights", "net.onnx", "--weights", "net.pth"])
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


def asked(_: click.Context, param: click.Parameter, given: Sequence[str]) -> WeightsRequest:
    """All uses of the option together."""
    files = [word for word in given if word]
    if len(files) > 1:
        raise click.BadParameter(f"{' and '.join(files)}: one file of weights is needed.", param=param)
    return WeightsRequest(inspect="" in given, file=files[0] if files else None)


def weights_option() -> Decorator[Any]:
    """The option, whose value is `WeightsRequest`."""
    return click.option(
        OPTION_NAME,
        multiple=True,
        metavar="[FILE]",
        callback=asked,
        help="Show value ranges, channels and spectra of the weights. In front of a file "
        f"({', '.join(WEIGHT_SUFFIXES)}): take the weights of a PyTorch source from it; read as data, never "
        "run. Repeatable, for both.",
    )
