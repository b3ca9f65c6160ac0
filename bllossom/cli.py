"""The command line: one typer command per stage. It parses, calls and prints; it holds no logic."""

import os
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bllossom import artifacts, keys, pipeline
from bllossom.commands.ending import escape_what_cannot_be_shown, exit_at_once, expected_errors, print_result
from bllossom.config import load_config
from bllossom.errors import BllossomError
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
    app.command("report")(report)
    app.command("push")(push)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        print_result(f"bllossom {metadata.version('bllossom')}")
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
            print_result("\n".join(keys.help_lines(stage.config(), width)))

    return StageCommand


def _stage_command(stage: pipeline.Stage) -> Any:
    def command(
        config: ConfigFile = None,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        force: Force = False,
        debug: Debug = False,
    ) -> None:
        with expected_errors(debug):
            loaded = load_config(stage.config(), config, overrides or (), allow_missing=dry_run)
            if dry_run:
                pipeline.describe(stage, loaded, print_result)
                return
            manifest = stage.run(loaded.config, force=force)
            if os.environ.get("RANK", "0") == "0":  # the other ranks of a training have nothing to add
                print_result(summary.figures(manifest))
                print_result(str(loaded.config.output))

    return command


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe's YAML file.")],
    overrides: StepOverrides = None,
    first: Annotated[str | None, typer.Option("--from", metavar="NAME", help="The first step to run.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="NAME", help="The last step to run.")] = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the steps of a recipe in order; what is published and unchanged is skipped."""
    with expected_errors(debug):
        planned = pipeline.read_recipe(recipe, overrides or (), allow_missing=dry_run)
        steps = planned.between(first, last)
        if dry_run:
            for step in steps:
                print_result(f"# ── {step.name}")
                pipeline.describe(step.stage, step.loaded, print_result)
            return
        ran = pipeline.run_steps(steps, force=force)
        table = summary.write(planned.recipe.output, planned.results_before(first), ran)
        if table:
            print_result(table)
        print_result(str(steps[-1].loaded.config.output))


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
    with expected_errors(debug):
        # Here, not above: `bllossom --help` imports neither torch nor transformers.
        from bllossom.training.plan import make_plan
        from bllossom.training.plan_report import describe
        from bllossom.training.pretrain import PretrainConfig

        loaded = load_config(PretrainConfig, config, overrides or (), allow_missing=True)
        found = make_plan(loaded.config, config.parent, gpus=gpus, gpu=gpu, utilisation=utilisation)
        for line in describe(found):
            print_result(line)


def verify(folder: Annotated[Path, typer.Argument(help="A published folder.")], debug: Debug = False) -> None:
    """Compare a published folder with its manifest, reading every byte."""
    with expected_errors(debug):
        problems = artifacts.verify(folder)
        for problem in problems:
            print_result(problem)
        if problems:
            raise BllossomError(f"{folder} is not what its manifest says; make it again with --force")
        print_result(f"{folder} is whole")


def reshard(
    checkpoint: Annotated[Path, typer.Argument(help="A folder step-… in a run's checkpoints/.")], debug: Debug = False
) -> None:
    """Convert a training checkpoint so that any number of ranks can go on from it."""
    with expected_errors(debug):
        from bllossom.training.runs.reshard import reshard as convert

        convert(checkpoint)
        print_result(str(checkpoint))


def clean(
    run: Annotated[Path, typer.Argument(help="A recipe's folder, or a stage's output.")],
    yes: Yes = False,
    debug: Debug = False,
) -> None:
    """List the partial folders and old checkpoints that runs have left, and remove those you say."""
    with expected_errors(debug):
        from bllossom.commands.clean import find_leftovers

        leftovers = list(find_leftovers(run, time.time()))
        for partial, checkpoints in leftovers:
            for leftover in (partial, *checkpoints):
                print_result(str(leftover))
        if not leftovers:
            print_result(f"{run}: nothing is left behind")
        for partial, checkpoints in leftovers:
            if yes or typer.confirm(f"Remove {partial.path}?", err=True):
                partial.remove()
            elif checkpoints and typer.confirm(f"Remove {len(checkpoints)} old checkpoints in it?", err=True):
                for checkpoint in checkpoints:
                    checkpoint.remove()


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The output of a recipe, or of several.")],
    output: Annotated[Path | None, typer.Option("--output", help="The page; else report.html in the run.")] = None,
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
    model: Annotated[Path, typer.Argument(help="A published model folder.")],
    to: Annotated[str, typer.Option("--to", metavar="OWNER/NAME", help="The repository on the hub.")],
    licence: Annotated[str | None, typer.Option("--licence", help="The model's own, as the hub names it.")] = None,
    public: Annotated[bool, typer.Option("--public", help="Everybody may see it; else you alone.")] = False,
    revision: Annotated[str | None, typer.Option("--revision", help="A branch to push to.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="A tag to give what was pushed.")] = None,
    dry_run: DryRun = False,
    force: Annotated[bool, typer.Option("--force", help="Push in spite of what licences say.")] = False,
    debug: Debug = False,
) -> None:
    """Upload a model with its card to the hub."""
    with expected_errors(debug):
        from bllossom.report.push import push as upload

        said = upload(
            model, to, licence=licence, public=public, revision=revision, tag=tag, dry_run=dry_run, force=force
        )
        print_result("\n".join(said))


def main() -> None:
    """The program `bllossom`."""
    escape_what_cannot_be_shown()
    # Tokenizers' own threads are not used beside ours, and its warning about forks is noise here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        make_app()()
    except SystemExit as end:
        if "WORLD_SIZE" in os.environ:  # a rank of torchrun, Slurm or the like
            exit_at_once(int(end.code or 0))
        raise


if __name__ == "__main__":
    main()
