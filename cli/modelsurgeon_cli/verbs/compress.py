"""`modelsurgeon compress`: replace layers by cheaper chains of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

import modelsurgeon as ms
from modelsurgeon.api.models import is_source, weight_files
from modelsurgeon.files import path_for_fraction
from modelsurgeon_cli.loading import load
from modelsurgeon_cli.operation import check_options, name_options
from modelsurgeon_cli.options import (
    AnyRank,
    Choices,
    Real,
    batch_option,
    combined,
    data_option,
    fractions,
    freeze_option,
    inverted,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    source_options,
)
from modelsurgeon_cli.show import (
    as_html,
    check_outputs,
    check_weights,
    progress,
    show,
    warn,
    with_data_files,
    write,
)

BUDGETS = ("rank", "energy", "macs", "params", "max_error", "speedup", "plan", "sweep")
SHARE_TYPE = Real(0, 1, min_open=True)


def methods() -> list[str]:
    """The choices of `--method`."""
    return ["auto", *ms.factorize.METHODS]


budget_options = combined(
    click.option(
        "--rank",
        type=AnyRank(),
        help="This rank wherever it saves MACs; evbmf: chosen from each spectrum; 50%: of each layer's MACs.",
    ),
    click.option("--energy", type=SHARE_TYPE, help="Share of each layer's energy to keep, such as 0.95."),
    click.option("--macs", type=SHARE_TYPE, help="Share of the model's MACs to keep, such as 0.5."),
    click.option("--params", type=SHARE_TYPE, help="Share of the model's params to keep, such as 0.5."),
    click.option(
        "--max-error",
        type=Real(0, min_open=True),
        help="Largest relative L2 error at the outputs, such as 0.05.",
    ),
    click.option(
        "--speedup",
        type=Real(1, min_open=True),
        help="Speedup to reach on this machine with one thread, such as 1.5.",
    ),
    click.option("--plan", type=click.Path(), metavar="FILE", help="Apply a plan written by --save-plan."),
    click.option(
        "--sweep",
        metavar="F,F,...",
        callback=fractions,
        help="Several shares of the MACs, such as 0.9,0.75,0.5: writes a model for each, named OUT with "
        "-0.90 and so on, and shows a table of their costs.",
    ),
    click.option(
        "--sweep-of",
        type=click.Choice(["macs", "params"]),
        default="macs",
        show_default=True,
        help="Resource that the shares of --sweep refer to.",
    ),
)

method_options = combined(
    click.option(
        "--method",
        type=Choices(methods),
        default="auto",
        show_default=True,
        help="Factorization; auto takes the best for each layer.",
    ),
    click.option(
        "--no-refit",
        "refit",
        is_flag=True,
        callback=inverted,
        help="Keep the factors of the decomposition; don't fit them to --data.",
    ),
    name_options,
    click.option(
        "--block",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="Chosen ranks are multiples of this, as runtimes process channels in blocks.",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Device that factorizes large weights; cuda needs torch.",
    ),
    click.option("--dry-run", is_flag=True, help="Show the planned edits; write no model."),
)

file_options = combined(
    click.option("-o", "out", type=click.Path(), metavar="OUT", help="The model to write; - for stdout."),
    click.option("--save-plan", type=click.Path(), metavar="FILE", help="Write the plan as JSON."),
    click.option("--report", type=click.Path(), metavar="FILE", help="Write an HTML report."),
)


@click.command(
    epilog="Example: modelsurgeon compress model.onnx -o small.onnx --macs 0.5 --data calibration.npz"
)
@click.argument("model")
@file_options
@budget_options
@method_options
@data_option
@batch_option
@seed_option
@check_options
@shape_options
@freeze_option
@source_options
@provider_option
@result_options
def command(
    model: str,
    weights: str | None,
    example: str | None,
    trust: bool,
    out: str | None,
    save_plan: str | None,
    report: str | None,
    format: str,
    output: str | None,
    quiet: bool,
    sweep: Sequence[float] | None,
    sweep_of: Literal["macs", "params"],
    **arguments: Any,  # noqa: ANN401 - the arguments of ms.compress
) -> None:
    """Make MODEL smaller and faster by low-rank factorization.

    Give exactly one of --rank, --energy, --macs, --params, --max-error, --speedup, --plan and --sweep.
    A layer is replaced only where its factors cost less, and the result is compared with MODEL.
    """
    check_one_budget({**arguments, "sweep": sweep})
    if arguments["dry_run"]:
        out = None
    elif out is None:
        raise click.UsageError("-o OUT is missing, the model to write: give it, or --dry-run.")
    points: Sequence[float | None] = sweep or [None]
    outs, plans = files(out, points), files(save_plan, points)
    outputs = {
        **named_by_flag("-o", outs),
        **named_by_flag("--save-plan", plans),
        "--report": report,
        "--output": output,
    }
    check_outputs(
        outputs,
        {
            "MODEL": model,
            "--data": arguments["data"],
            "--weights": weights,
            "--example": example,
            "--plan": arguments["plan"],
        },
    )
    title = f"compress {Path(model).name}"
    with progress(f"compressing {model}", quiet=quiet) as watch:
        graph = load(model, weights=weights, shapes=arguments["shapes"], example=example, trust=trust)
        check_weights(with_data_files(outputs, named_by_flag("-o", outs)), weight_files(graph))
        source = graph if is_source(model) else model
        result: ms.Result | ms.Frontier
        if sweep is None:
            result = ms.compress(source, watch=watch, **arguments)
            results: dict[float | None, ms.Result] = {None: result}
        else:
            common = {name: value for name, value in arguments.items() if name not in BUDGETS}
            found = ms.sweep(source, sweep, of=sweep_of, watch=watch, **common)
            result = replace(found, files={point: outs.get(point) for point in sweep})
            results = {point.fraction: point.result for point in result.points}
        for point, path in outs.items():
            ms.save(results[point].model, path)
    for each in results.values():
        warn(each.comparison, quiet=quiet)
    for point, path in plans.items():
        write(path, results[point].plan.text())
    if report is not None:
        write(report, as_html(result, title))
    written = [*outs.values(), *plans.values(), report]
    show(result, title, format=format, output=output, others=written)


def files(path: str | None, points: Sequence[float | None]) -> dict[float | None, str]:
    """The file of every point of a sweep, or of the single result; empty without a path."""
    if path is None:
        return {}
    return {point: path if point is None else str(path_for_fraction(path, point)) for point in points}


def named_by_flag(flag: str, files: Mapping[float | None, str]) -> dict[str, str]:
    """Each file under its flag, with the point of the sweep if there is one."""
    return {flag if point is None else f"{flag} at {point:g},": path for point, path in files.items()}


def check_one_budget(arguments: Mapping[str, object]) -> None:
    """Raise UsageError unless exactly one budget is given."""
    flags = {name: f"--{name.replace('_', '-')}" for name in BUDGETS}
    given = [flag for name, flag in flags.items() if arguments[name] is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise click.UsageError(f"one of {', '.join(flags.values())} is needed, found {found}.")
