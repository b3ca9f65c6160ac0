"""The command line: one typer command per stage. It parses, calls and prints; it holds no logic."""

import os
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from bllossom import keys, pipeline
from bllossom.artifacts import LOGS
from bllossom.commands import clean, figures, folders, pages, show
from bllossom.commands.chat import chat
from bllossom.commands.ending import escape_what_cannot_be_shown, exit_at_once, expected_errors, print_result
from bllossom.commands.options import (
    ConfigFile,
    Debug,
    DryRun,
    Force,
    Json,
    Overrides,
    Packed,
    Preview,
    StepOverrides,
    typed_path,
)
from bllossom.config import load_config
from bllossom.errors import ConfigError
from bllossom.recipe.jobs import run_side_by_side
from bllossom.recipe.recipe import Part, read_recipe, run_steps
from bllossom.report import summary

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
    localize = typer.Typer(help="Turn an instruction set into one of another language.", no_args_is_help=True)
    for name, stage in pipeline.STAGES.items():
        group = localize if name.startswith("localize ") else app
        own = {"answers": answers, "localize export": _export_command(stage)}.get(name)  # has an option of its own
        shown = group.command(name.removeprefix("localize "), help=stage.summary, cls=_with_keys(stage))
        shown(own or (_previewing_command(stage) if stage.previews else _stage_command(stage)))
    localize.command("review")(pages.review)
    app.add_typer(localize, name="localize")
    app.command("vote")(pages.vote)
    app.command("chat")(chat)
    app.command("run")(run)
    app.command("plan")(folders.plan)
    app.command("compare")(folders.compare)
    app.command("verify")(folders.verify)
    app.command("reshard")(folders.reshard)
    app.command("clean")(clean.clean)
    app.add_typer(show.make_show(), name="show")
    app.command("report")(folders.report)
    app.command("push")(folders.push)
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
            _run_stage(stage, config, overrides or (), dry_run=dry_run, force=force)

    return command


def _previewing_command(stage: pipeline.Stage) -> Any:
    run_stage = _stage_command(stage)

    def command(
        config: ConfigFile = None,
        overrides: Overrides = None,
        dry_run: DryRun = False,
        preview: Preview = None,
        packed: Packed = False,
        as_json: Json = False,
        force: Force = False,
        debug: Debug = False,
    ) -> None:
        if preview is None and not (packed or as_json):
            run_stage(config, overrides, dry_run, force, debug)
            return
        with expected_errors(debug):
            if preview is None:
                raise ConfigError("--packed and --json are of --preview; type --preview 3 with them, or leave them out")
            loaded = load_config(stage.config(), config, overrides or ())
            stage.preview(loaded.config, preview, packed=packed, as_json=as_json, emit=print_result)

    return command


def _run_stage(
    stage: pipeline.Stage, config: Path | None, arguments: Sequence[str], *, dry_run: bool, force: bool
) -> None:
    loaded = load_config(stage.config(), config, stage.overrides(arguments), allow_missing=dry_run)
    if dry_run:
        pipeline.describe(stage, loaded, print_result)
        return
    manifest = stage.run(loaded.config, force=force)
    if os.environ.get("RANK", "0") == "0":  # the other ranks of a training have nothing to add
        print_result(figures.show(manifest.figures))
        print_result(str(loaded.config.output))


def answers(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]... [KEY=VALUE]...")] = None,
    prompts: Annotated[Path | None, typer.Option(parser=typed_path, help="The prompts' JSONL file.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Let models answer a file of prompts."""
    with expected_errors(debug):
        named = [*(models or ()), *([f"prompts={prompts}"] if prompts else [])]
        _run_stage(pipeline.STAGES["answers"], config, named, dry_run=dry_run, force=force)


def _export_command(stage: pipeline.Stage) -> Any:
    export = _stage_command(stage)

    def command(
        config: ConfigFile = None,
        overrides: Overrides = None,
        partial: Annotated[bool, typer.Option("--partial", help="Although examples are open: partial=true.")] = False,
        dry_run: DryRun = False,
        force: Force = False,
        debug: Debug = False,
    ) -> None:
        overrides = [*(overrides or ()), *(["partial=true"] if partial else [])]
        export(config, overrides, dry_run, force, debug)

    return command


def run(
    recipe: Annotated[Path, typer.Argument(parser=typed_path, help="The recipe's YAML file.")],
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
    with expected_errors(debug):
        planned = read_recipe(recipe, overrides or (), Part(first, last, only or ()), allow_missing=dry_run)
        steps = planned.chosen
        if dry_run:
            for step in steps:
                print_result(f"# ── {step.name}")
                pipeline.describe(step.stage, step.loaded, print_result)
            return
        if jobs > 1:
            ran = run_side_by_side(steps, jobs, planned.recipe.output / LOGS, force=force)
        else:
            ran = run_steps(steps, force=force)
        table = summary.write(planned.recipe.output, planned.results_before(first), ran)
        if table:
            print_result(table)
        print_result(str(steps[-1].loaded.config.output))


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
