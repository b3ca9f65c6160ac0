"""The command line: one typer command per stage. It parses, calls and prints; it holds no logic."""

import contextlib
import io
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from bllossom import artifacts, keys, pipeline
from bllossom.artifacts import LOGS
from bllossom.config import load_config
from bllossom.console import say
from bllossom.errors import BllossomError, Stopped
from bllossom.recipe.jobs import run_side_by_side
from bllossom.report import summary

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The stage's YAML file; without one every key is typed.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Reach into the YAML: dotted.key=value.")
]
StepOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="A key of the recipe, or of a step: STEP.dotted.key=value."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what would happen.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another result at the output.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove all of it without asking.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of expected errors too.")]

HELP_WIDTH = 100


def make_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Teach an English language model another language, and prove it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(common)
    for name, stage in pipeline.STAGES.items():
        app.command(name, help=stage.summary, cls=_with_keys(stage))(_stage_command(stage))
    app.command("run")(run)
    app.command("plan")(plan)
    app.command("verify")(verify)
    app.command("reshard")(reshard)
    app.command("clean")(clean)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        _print(f"bllossom {metadata.version('bllossom')}")
        raise typer.Exit


def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Teach an English language model another language, and prove it."""


def _with_keys(stage: pipeline.Stage) -> type[TyperCommand]:
    """A command whose help ends in the keys of its config, which is loaded for that alone."""

    class StageCommand(TyperCommand):
        def format_help(self, ctx: Any, formatter: Any) -> None:
            super().format_help(ctx, formatter)
            width = min(shutil.get_terminal_size().columns, HELP_WIDTH)
            _print("\n".join(keys.help_lines(stage.config(), width)))

    return StageCommand


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
                pipeline.describe(stage, loaded, _print)
                return
            manifest = stage.run(loaded.config, force=force)
            if os.environ.get("RANK", "0") == "0":  # the other ranks of a training have nothing to add
                _print(summary.figures(manifest))
                _print(str(loaded.config.output))

    return command


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.")],
    overrides: StepOverrides = None,
    first: Annotated[str | None, typer.Option("--from", metavar="NAME", help="The first step to run.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="NAME", help="The last step to run.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME=VALUE", help="Of a matrix these copies alone.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="How many independent steps run side by side.")] = 1,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the steps of a recipe in order; what is published and unchanged is skipped."""
    with _expected_errors(debug):
        planned = pipeline.read_recipe(recipe, overrides or (), allow_missing=dry_run)
        steps = planned.between(first, last, only or ())
        if dry_run:
            for step in steps:
                _print(f"# ── {step.name}")
                pipeline.describe(step.stage, step.loaded, _print)
            return
        if jobs > 1:
            ran = run_side_by_side(steps, jobs, planned.recipe.output / LOGS, force=force)
        else:
            ran = pipeline.run_steps(steps, force=force)
        table = summary.write(planned.recipe.output, planned.results_before(first), ran)
        if table:
            _print(table)
        _print(str(steps[-1].loaded.config.output))


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
            _print(line)


def verify(folder: Annotated[Path, typer.Argument(help="A published folder.")], debug: Debug = False) -> None:
    """Compare a published folder with its manifest, reading every byte."""
    with _expected_errors(debug):
        problems = artifacts.verify(folder)
        for problem in problems:
            _print(problem)
        if problems:
            raise BllossomError(f"{folder} is not what its manifest says; make it again with --force")
        _print(f"{folder} is whole")


def reshard(
    checkpoint: Annotated[Path, typer.Argument(help="A folder step-… in a run's checkpoints/.")], debug: Debug = False
) -> None:
    """Convert a training checkpoint so that any number of ranks can go on from it."""
    with _expected_errors(debug):
        from bllossom.training.runs.reshard import reshard as convert

        convert(checkpoint)
        _print(str(checkpoint))


def clean(
    run: Annotated[Path, typer.Argument(help="A recipe's folder, or a stage's output.")],
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """List the partial folders and old checkpoints that runs have left, and remove those you say."""
    with _expected_errors(debug):
        from bllossom.clean import find_leftovers

        leftovers = list(find_leftovers(run, time.time()))
        for partial, checkpoints in leftovers:
            for leftover in (partial, *checkpoints):
                _print(str(leftover))
        if not leftovers:
            _print(f"{run}: nothing is left behind")
        for partial, checkpoints in leftovers:
            if yes or typer.confirm(f"Remove {partial.path}?", err=True):
                partial.remove()
            elif checkpoints and typer.confirm(f"Remove {len(checkpoints)} old checkpoints in it?", err=True):
                for checkpoint in checkpoints:
                    checkpoint.remove()


def _print(text: str) -> None:
    """Print a result on stdout.

    Raises:
        BllossomError: it cannot be written there: the disk of the file that it goes to is full, say.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered is not tried again at exit
        raise BllossomError(f"standard output cannot be written ({error.strerror}); send it elsewhere") from error


@contextlib.contextmanager
def _expected_errors(debug: bool) -> Iterator[None]:
    """End an expected error with its message and exit code, and SIGTERM and Ctrl-C as a stop to go on from."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        _check_working_folder()
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


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise BllossomError("the folder you are in was removed; go to one that is there with cd") from error


def main() -> None:
    """The program `bllossom`."""
    for stream in (sys.stdout, sys.stderr):  # what a terminal cannot show is escaped, and no reason to end
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
