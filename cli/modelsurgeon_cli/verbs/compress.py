"""`modelsurgeon compress`: replace layers by cheaper chains of layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import click

import modelsurgeon as ms
from modelsurgeon.api.models import is_source, weight_files
from modelsurgeon.files import named
from modelsurgeon_cli.operation import check_options, name_options
from modelsurgeon_cli.options import (
    AnyRank,
    Choices,
    Real,
    batch_option,
    data_option,
    fractions,
    inverted,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    source_options,
    together,
)
from modelsurgeon_cli.show import as_html, check_outputs, check_weights, progress, show, write

BUDGETS = ("rank", "energy", "macs", "params", "max_error", "speedup", "plan", "sweep")
SHARE_TYPE = Real(0, 1, min_open=True)


def methods() -> list[str]:
    """What `--method` takes."""
    return ["auto", *ms.factorize.METHODS]


budget_options = together(
    click.option(
        "--rank",
        type=AnyRank(),
        help="This rank wherever it pays; evbmf: what each spectrum suggests; 50%: of each layer's MACs.",
    ),
    click.option("--energy", type=SHARE_TYPE, help="Share of each layer's energy that is kept, as 0.95."),
    click.option("--macs", type=SHARE_TYPE, help="Share of the model's MACs that is kept, as 0.5."),
    click.option("--params", type=SHARE_TYPE, help="Share of the model's params that is kept, as 0.5."),
    click.option(
        "--max-error",
        type=Real(0, min_open=True),
        help="Largest relative L2 error at the outputs, as 0.05.",
    ),
    click.option(
        "--speedup",
        type=Real(1, min_open=True),
        help="How many times as fast on this machine, on one thread, as 1.5.",
    ),
    click.option("--plan", type=click.Path(), metavar="FILE", help="Replay a plan of --save-plan."),
    click.option(
        "--sweep",
        metavar="F,F,...",
        callback=fractions,
        help="Several shares of the MACs, as 0.9,0.75,0.5: a model for each, OUT with -0.90 and so on in its "
        "name, and a table of what each costs.",
    ),
    click.option(
        "--sweep-of",
        type=click.Choice(["macs", "params"]),
        default="macs",
        show_default=True,
        help="What the shares of --sweep are of.",
    ),
)

how_options = together(
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
        help="Leave the factors as the decomposition gives them; don't fit them to --data.",
    ),
    name_options,
    click.option(
        "--block",
        type=click.IntRange(min=1),
        default=16,
        show_default=True,
        help="Ranks that are chosen are multiples of this; runtimes lay channels out in blocks.",
    ),
    click.option(
        "--device",
        type=click.Choice(["cpu", "cuda"]),
        default="cpu",
        show_default=True,
        help="Where large weights are factorized; cuda needs torch.",
    ),
    click.option("--dry-run", is_flag=True, help="Say what would be done; write no model."),
)

file_options = together(
    click.option("-o", "out", type=click.Path(), metavar="OUT", help="The model to write."),
    click.option("--save-plan", type=click.Path(), metavar="FILE", help="Write the plan as JSON."),
    click.option("--report", type=click.Path(), metavar="FILE", help="Write an HTML report."),
)


@click.command(
    epilog="Example: modelsurgeon compress model.onnx -o small.onnx --macs 0.5 --data calibration.npz"
)
@click.argument("model")
@file_options
@budget_options
@how_options
@data_option
@batch_option
@seed_option
@check_options
@shape_options
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
    **asked: Any,  # noqa: ANN401 - named and meant as the arguments of ms.compress
) -> None:
    """Make MODEL smaller and faster by low-rank factors.

    Give exactly one of --rank, --energy, --macs, --params, --max-error, --speedup, --plan and --sweep.
    A layer is replaced only where its factors cost less, and the result is compared with MODEL.
    """
    check_one({**asked, "sweep": sweep})
    if asked["dry_run"]:
        out = None
    elif out is None:
        raise click.UsageError("-o OUT is missing, the model to write: give it, or --dry-run.")
    points: Sequence[float | None] = sweep or [None]
    outs, plans = files(out, points), files(save_plan, points)
    outputs = {
        **flagged("-o", outs),
        **flagged("--save-plan", plans),
        "--report": report,
        "--output": output,
    }
    check_outputs(
        outputs,
        {
            "MODEL": model,
            "--data": asked["data"],
            "--weights": weights,
            "--example": example,
            "--plan": asked["plan"],
        },
    )
    title = f"compress {Path(model).name}"
    with progress(f"compressing {model}", quiet=quiet) as watch:
        graph = ms.load(model, weights=weights, shapes=asked["shapes"], example=example, trust=trust)
        data = {point: f"{path}.data" for point, path in outs.items()}
        check_weights({**outputs, **flagged("the data of -o", data)}, weight_files(graph))
        whole = graph if is_source(model) else model
        result: ms.Result | ms.Frontier
        if sweep is None:
            result = ms.compress(whole, watch=watch, **asked)
            made: dict[float | None, ms.Result] = {None: result}
        else:
            how = {name: value for name, value in asked.items() if name not in BUDGETS}
            found = ms.sweep(whole, sweep, of=sweep_of, watch=watch, **how)
            result = replace(found, files={point: outs.get(point) for point in sweep})
            made = {point.fraction: point.result for point in result.points}
        for point, path in outs.items():
            ms.save(made[point].model, path)
    for point, path in plans.items():
        write(path, made[point].plan.text())
    if report is not None:
        write(report, as_html(result, title))
    show(result, title, format=format, output=output)


def files(path: str | None, points: Sequence[float | None]) -> dict[float | None, str]:
    """The file of every point of a sweep, or of the one outcome that there is; none without a path."""
    if path is None:
        return {}
    return {point: path if point is None else str(named(path, point)) for point in points}


def flagged(flag: str, files: Mapping[float | None, str]) -> dict[str, str]:
    """The words for each file, and the file."""
    return {flag if point is None else f"{flag} at {point:g},": path for point, path in files.items()}


def check_one(asked: Mapping[str, object]) -> None:
    """Refuse no budget, and more than one."""
    flags = {name: f"--{name.replace('_', '-')}" for name in BUDGETS}
    given = [flag for name, flag in flags.items() if asked[name] is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise click.UsageError(f"one of {', '.join(flags.values())} is needed, found {found}.")
