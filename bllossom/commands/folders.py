"""Commands on what stages left, or will leave: they look at it, convert it, or send it."""

from pathlib import Path
from typing import Annotated, cast

import typer

from bllossom import artifacts, pipeline
from bllossom.commands.ending import expected_errors, print_result
from bllossom.commands.options import Debug, DryRun, Overrides, typed_path
from bllossom.config import load_config
from bllossom.console import say
from bllossom.errors import BllossomError, ConfigError
from bllossom.yaml_text import read_yaml

PLANNED = ("pretrain", "sft", "dpo")


def plan(
    config: Annotated[
        Path,
        typer.Option("--config", parser=typed_path, help="A YAML file of pretrain, sft or dpo.", show_default=False),
    ],
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(help="How many GPUs; above 8, nodes of 8.")] = 8,
    gpu: Annotated[str, typer.Option(help="Which: a100-40g, a100-80g, h100-80g or h200-141g.")] = "h100-80g",
    utilisation: Annotated[
        float | None, typer.Option(help="Model FLOP utilisation, 0 to 1; else what such GPUs have reached.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="Whose file it is: pretrain, sft or dpo; else its keys say so.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Say what a training run will take: memory, time, disk. No weights or data needed."""
    with expected_errors(debug):
        # Here, not above: `bllossom --help` imports neither torch nor transformers.
        from bllossom.training.plan import make_plan
        from bllossom.training.plan_report import describe
        from bllossom.training.settings import TrainingConfig

        if stage not in (None, *PLANNED):
            raise ConfigError(f"--stage: {stage!r} has no plan; choose one of {', '.join(PLANNED)}")
        kind = cast(type[TrainingConfig], pipeline.STAGES[stage or _stage_of(config)].config())
        loaded = load_config(kind, config, overrides or (), allow_missing=True)
        found = make_plan(loaded.config, config.parent, gpus=gpus, gpu=gpu, utilisation=utilisation)
        for line in describe(found):
            print_result(line)


def _stage_of(config: Path) -> str:
    """The first stage that a file has no unknown key for; where each has one, the one with the fewest.

    Raises:
        ConfigError: it is a recipe.
    """
    raw = read_yaml(config)[0]
    keys = raw.keys()
    if isinstance(raw.get("steps"), list):
        raise ConfigError(
            f"{config} is a recipe, and a plan is of one step: bllossom run {config} --dry-run prints each step's "
            "config; put that of the training step into a file, and name it"
        )
    found = min(PLANNED, key=lambda name: len(keys - pipeline.STAGES[name].config().model_fields.keys()))
    say(f"{config}: read as a config of {found}; --stage names another")
    return found


def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULT...", help="PATH, NAME=PATH, or NAME=PATH,PATH for one model's seeds.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(parser=typed_path, help="A folder for comparison.md, .csv and .json.", show_default=False),
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Show what is not comparable too, and say why.")] = False,
    debug: Debug = False,
) -> None:
    """Compare results of eval or lm_eval, beside Table 6's published rows, with paired differences."""
    with expected_errors(debug):
        from rich.console import Console  # here, like the rest: `bllossom --help` is quick

        from bllossom.evaluation.compare.compare import compare as compare_results
        from bllossom.evaluation.compare.render import print_tables, write

        found = compare_results(results, anyway=anyway)
        print_tables(found, Console())
        if output is not None:
            write(found, output)
            print_result(str(output))


def verify(
    folder: Annotated[Path, typer.Argument(parser=typed_path, help="A published folder.")], debug: Debug = False
) -> None:
    """Compare a published folder with its manifest, reading every byte."""
    with expected_errors(debug):
        problems = artifacts.verify(folder)
        for problem in problems:
            print_result(problem)
        if problems and all(problem.endswith(artifacts.ADDED) for problem in problems):
            raise BllossomError(f"{folder} holds more than its manifest says; move that elsewhere")
        if problems:
            raise BllossomError(f"{folder} is not what its manifest says; make it again with --force")
        print_result(f"{folder} is whole")


def reshard(
    checkpoint: Annotated[Path, typer.Argument(parser=typed_path, help="A folder step-… in a run's checkpoints/.")],
    debug: Debug = False,
) -> None:
    """Convert a training checkpoint so that any number of ranks can go on from it."""
    with expected_errors(debug):
        from bllossom.training.runs.reshard import reshard as convert

        convert(checkpoint)
        print_result(str(checkpoint))


def report(
    runs: Annotated[
        list[Path], typer.Argument(parser=typed_path, metavar="RUN...", help="The output of a recipe, or of several.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", parser=typed_path, help="The page; else report.html in the run.")
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Write it anew every ten seconds, while a run goes on.")] = False,
    debug: Debug = False,
) -> None:
    """Write one page with all figures and curves of a run, and the cards of its models."""
    with expected_errors(debug):
        from bllossom.report import report as pages  # imports what draws

        if live:
            pages.report_live(runs, output)
        print_result(str(pages.report(runs, output)))


def push(
    model: Annotated[Path, typer.Argument(parser=typed_path, help="A published model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="The repository on the hub.")],
    licence: Annotated[str | None, typer.Option("--licence", help="The model's own, as the hub names it.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Everybody may see it; else you alone.")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="A branch to push to.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A tag to give what was pushed.")] = None,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="In spite of licences, or of what is there.")] = False,
    debug: Debug = False,
) -> None:
    """Upload a model with its card to the hub."""
    with expected_errors(debug):
        from bllossom.report.push import push as push_model

        said = push_model(
            model, to, licence=licence, public=public, revision=revision, tag=tag, dry_run=dry_run, force=force
        )
        print_result("\n".join(said))
