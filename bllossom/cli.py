"""The command line: one typer command per stage. It parses, calls and prints; it holds no logic."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bllossom import artifacts, pipeline
from bllossom.config import load_config
from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.report import summary

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The stage's YAML file; without one every key is typed.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Reach into the YAML: dotted.key=value.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what would happen.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another result at the output.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of expected errors too.")]


def make_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Teach an English language model another language, and prove it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name, stage in pipeline.STAGES.items():
        app.command(name, help=stage.summary)(_stage_command(stage))
    app.command("run")(run)
    app.command("plan")(plan)
    app.command("verify")(verify)
    app.command("reshard")(reshard)
    return app


def _stage_command(stage: pipeline.Stage) -> Any:
    def command(
        config: ConfigFile = None,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
        debug: Debug = False,
    ) -> None:
        with _expected_errors(debug):
            loaded = load_config(stage.config(), config, overrides or (), allow_missing=dry_run)
            if dry_run:
                pipeline.describe(stage, loaded, typer.echo)
                return
            manifest = stage.run(loaded.config, force=force)
            if os.environ.get("RANK", "0") == "0":  # the other ranks of a training have nothing to add
                typer.echo(summary.figures(manifest))
                typer.echo(loaded.config.output)

    return command


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.")],
    overrides: Overrides = None,
    first: Annotated[str | None, typer.Option("--from", metavar="NAME", help="The first step to run.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="NAME", help="The last step to run.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the steps of a recipe in order; what is published and unchanged is skipped."""
    with _expected_errors(debug):
        plan = pipeline.read_recipe(recipe, overrides or (), allow_missing=dry_run)
        steps = plan.between(first, last)
        if dry_run:
            for step in steps:
                typer.echo(f"# ── {step.name}")
                pipeline.describe(step.stage, step.loaded, typer.echo)
            return
        pipeline.run_steps(steps, force=force)
        table = summary.write(plan.recipe.output, [step.name for step in plan.steps])
        if table:
            typer.echo(table)
        typer.echo(steps[-1].loaded.config.output)


def plan(
    config: Annotated[Path, typer.Option("--config", help="A pretrain YAML file.", show_default=False)],
    overrides: Overrides = None,
    gpus: Annotated[int, typer.Option(help="How many GPUs; above 8, nodes of 8.")] = 8,
    gpu: Annotated[str, typer.Option(help="Which: a100-40g, a100-80g, h100-80g or h200-141g.")] = "h100-80g",
    utilisation: Annotated[
        float | None, typer.Option(help="Model FLOP utilisation, 0 to 1; else what such GPUs have reached.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Say what a pretraining run will take: memory, time, disk. No weights or data needed."""
    with _expected_errors(debug):
        # Here, not above: `bllossom --help` imports neither torch nor transformers.
        from bllossom.training.plan import make_plan
        from bllossom.training.plan_report import describe
        from bllossom.training.pretrain import PretrainConfig

        loaded = load_config(PretrainConfig, config, overrides or (), allow_missing=True)
        found = make_plan(loaded.config, config.parent, gpus=gpus, gpu=gpu, utilisation=utilisation)
        for line in describe(found):
            typer.echo(line)


def verify(folder: Annotated[Path, typer.Argument(help="A published folder.")], debug: Debug = False) -> None:
    """Compare a published folder with its manifest, reading every byte."""
    with _expected_errors(debug):
        problems = artifacts.verify(folder)
        for problem in problems:
            typer.echo(problem)
        if problems:
            raise BllossomError(f"{folder} is not what its manifest says; make it again with --force")
        typer.echo(f"{folder} is whole")


def reshard(
    checkpoint: Annotated[Path, typer.Argument(help="A folder step-… in a run's checkpoints/.")], debug: Debug = False
) -> None:
    """Convert a training checkpoint so that any number of ranks can go on from it."""
    with _expected_errors(debug):
        from bllossom.training.runs.reshard import reshard as convert

        convert(checkpoint)
        typer.echo(checkpoint)


@contextlib.contextmanager
def _expected_errors(debug: bool) -> Iterator[None]:
    """End an expected error with its message and exit code, and SIGTERM and Ctrl-C as a stop to go on from."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except BllossomError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            say(f"error: {line}" if not isinstance(error, Stopped) else line)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        say("stopped; to go on, run the same command")
        raise typer.Exit(Stopped.exit_code) from None


def main() -> None:
    """The program `bllossom`."""
    # Tokenizers' own threads are not used beside ours, and its warning about forks is noise here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        make_app()()
    except SystemExit as end:
        if "WORLD_SIZE" in os.environ:  # a rank of torchrun, Slurm or the like
            _exit_at_once(int(end.code or 0))
        raise


def _exit_at_once(code: int) -> NoReturn:
    """End without taking the interpreter down, as multiprocessing ends its children.

    Gloo's thread may still hold Python objects of the last collective. It aborts the process where it lets go of them
    while the interpreter is taken down: a run that had published its model then ended by SIGABRT, one in fourteen.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
