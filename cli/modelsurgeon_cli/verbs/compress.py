"""`modelsurgeon compress`: replace layers by cheaper chains of layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

import modelsurgeon as ms
from modelsurgeon.doors import is_source, weight_files
from modelsurgeon_cli.operation import check_options, name_options
from modelsurgeon_cli.options import (
    AnyRank,
    Choices,
    Real,
    batch_option,
    data_option,
    inverted,
    provider_option,
    result_options,
    seed_option,
    shape_options,
    source_options,
    together,
)
from modelsurgeon_cli.show import as_html, check_outputs, check_weights, progress, show, write

BUDGETS = ("rank", "energy", "macs", "params", "max_error", "speedup", "plan")
SHARE = Real(0, 1, min_open=True)


def methods() -> list[str]:
    """What `--method` takes."""
    return ["auto", *ms.factorize.METHODS]


budget_options = together(
    click.option(
        "--rank",
        type=AnyRank(),
        help="This rank wherever it pays; evbmf: what each spectrum suggests; 50%: of each layer's MACs.",
    ),
    click.option("--energy", type=SHARE, help="Share of each layer's energy that is kept, as 0.95."),
    click.option("--macs", type=SHARE, help="Share of the model's MACs that is kept, as 0.5."),
    click.option("--params", type=SHARE, help="Share of the model's params that is kept, as 0.5."),
    click.option(
        "--max-error",
        type=Real(0, min_open=True),
        help="Largest relative L2 error at the outputs, as 0.05.",
    ),
    click.option(
        "--speedup",
        type=Real(1, min_open=True),
        help="How much faster on this machine, as 1.5.",
    ),
    click.option("--plan", type=click.Path(), metavar="FILE", help="Replay a plan of --save-plan."),
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
    **asked: Any,  # noqa: ANN401 - named and meant as the arguments of ms.compress
) -> None:
    """Make MODEL smaller and faster by low-rank factors.

    Give exactly one of --rank, --energy, --macs, --params, --max-error, --speedup and --plan.
    A layer is replaced only where its factors cost less, and the result is compared with MODEL.
    """
    check_one(asked)
    if asked["dry_run"]:
        out = None
    elif out is None:
        raise click.UsageError("-o OUT is missing, the model to write: give it, or --dry-run.")
    outputs = {"-o": out, "--save-plan": save_plan, "--report": report, "--output": output}
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
        check_weights({**outputs, "the data of -o": out and f"{out}.data"}, weight_files(graph))
        result = ms.compress(graph if is_source(model) else model, watch=watch, **asked)
        if out is not None:
            ms.save(result.model, out)
    if save_plan is not None:
        write(save_plan, result.plan.text())
    if report is not None:
        write(report, as_html(result, title))
    show(result, title, format=format, output=output)


def check_one(asked: Mapping[str, object]) -> None:
    """Refuse no budget, and more than one."""
    flags = {name: f"--{name.replace('_', '-')}" for name in BUDGETS}
    given = [flag for name, flag in flags.items() if asked[name] is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none"
        raise click.UsageError(f"one of {', '.join(flags.values())} is needed, found {found}.")
