"""The command line: one typer command per stage. It parses, calls and prints; it holds no logic."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from bllossom import artifacts, pipeline
from bllossom.config import load_config
from bllossom.console import say, stdout
from bllossom.errors import BllossomError, Stopped
from bllossom.report import summary
from bllossom.training.ranks.lifetime import stop_signals

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="The stage's YAML file; without one every key is typed.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Reach into the YAML: dotted.key=value.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what would happen.")]
Force = Annotated[bool, typer.Option("--force", help="Replace another result at the output.")]
Preview = Annotated[
    int | None,
    typer.Option("--preview", min=1, metavar="N", help="Show N examples as training will see them, and end."),
]
Packed = Annotated[bool, typer.Option("--packed", help="With --preview: rows as they are packed.")]
Json = Annotated[bool, typer.Option("--json", help="With --preview: one JSON object a line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of expected errors too.")]


def make_app() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        help="Teach an English language model another language, and prove it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    localize = typer.Typer(help="Turn an instruction set into one of another language.", no_args_is_help=True)
    for name, stage in pipeline.STAGES.items():
        group = localize if name.startswith("localize ") else app
        own = {"answers": answers, "localize export": _export_command(stage)}.get(name)  # has an option of its own
        command = own or (_previewing_command(stage) if stage.previews else _stage_command(stage))
        group.command(name.removeprefix("localize "), help=stage.summary)(command)
    localize.command("review")(review)
    app.add_typer(localize, name="localize")
    app.command("vote")(vote)
    app.command("chat")(chat)
    app.command("run")(run)
    app.command("plan")(plan)
    app.command("compare")(compare)
    app.command("verify")(verify)
    app.command("reshard")(reshard)
    app.add_typer(make_show(), name="show")
    app.command("report")(report)
    app.command("push")(push)
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
        if preview is None:
            run_stage(config, overrides, dry_run, force, debug)
            return
        with _expected_errors(debug):
            loaded = load_config(stage.config(), config, overrides or ())
            stage.preview(loaded.config, preview, packed=packed, as_json=as_json, emit=typer.echo)

    return command


def _run_stage(
    stage: pipeline.Stage, config: Path | None, arguments: Sequence[str], *, dry_run: bool, force: bool
) -> None:
    loaded = load_config(stage.config(), config, stage.overrides(arguments), allow_missing=dry_run)
    if dry_run:
        pipeline.describe(stage, loaded, typer.echo)
        return
    manifest = stage.run(loaded.config, force=force)
    if os.environ.get("RANK", "0") == "0":  # the other ranks of a training have nothing to add
        typer.echo(summary.figures(manifest))
        typer.echo(loaded.config.output)


def answers(
    models: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]... [KEY=VALUE]...")] = None,
    prompts: Annotated[Path | None, typer.Option(help="The prompts' JSONL file.")] = None,
    config: ConfigFile = None,
    dry_run: DryRun = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Let models answer a file of prompts."""
    with _expected_errors(debug):
        named = [*(models or ()), *([f"prompts={prompts}"] if prompts else [])]
        _run_stage(pipeline.STAGES["answers"], config, named, dry_run=dry_run, force=force)


def vote(
    files: Annotated[list[Path], typer.Argument(metavar="A B", help="Two files of answers.", show_default=False)],
    output: Annotated[Path, typer.Option(help="The folder that keeps the votes.", show_default=False)],
    port: Annotated[int, typer.Option(help="The page's port on 127.0.0.1; 0: any free one.")] = 8765,
    report: Annotated[bool, typer.Option("--report", help="Say what the votes come to, and serve nothing.")] = False,
    verdicts: Annotated[Path | None, typer.Option(help="A judge's verdicts.jsonl, to hold against the votes.")] = None,
    debug: Debug = False,
) -> None:
    """Serve a page on which people say which of two answers is better."""
    with _expected_errors(debug):
        from bllossom.evaluation.vote.vote import report_votes, serve_votes  # imports a web server

        if report:
            typer.echo(report_votes(files, output, verdicts))
        else:
            serve_votes(files, output, port)


def chat(
    models: Annotated[list[str], typer.Argument(metavar="MODEL [MODEL]", help="One model, or two side by side.")],
    system: Annotated[str, typer.Option(help="What the model is told before anything else.")] = "",
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the likeliest pieces of this share.")] = 0.9,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws of each answer.")] = 0,
    debug: Debug = False,
) -> None:
    """Talk with a model; in a pipe, one question a line in, one JSON a line out."""
    with _expected_errors(debug):
        if len(models) > 2:
            raise BllossomError(f"{len(models)} models do not fit side by side; name one or two")
        from rich.console import Console

        from bllossom.evaluation.chat import ChatSettings, answer_lines, converse, load_talks  # imports torch

        talks = load_talks(models, ChatSettings(temperature, top_p, max_tokens, seed))
        if sys.stdin.isatty():
            import readline  # noqa: F401 - gives input() a history and the arrow keys

            converse(talks, system, input, Console(highlight=False))
        else:
            answer_lines(sys.stdin, talks, system, typer.echo)


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


def compare(
    results: Annotated[
        list[str], typer.Argument(metavar="RESULT...", help="PATH, NAME=PATH, or NAME=PATH,PATH for one model's seeds.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="A folder for comparison.md, .csv and .json.", show_default=False)
    ] = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Show what is not comparable too, and say why.")] = False,
    debug: Debug = False,
) -> None:
    """Compare results of eval or lm_eval, beside Table 6's published rows, with paired differences."""
    with _expected_errors(debug):
        from rich.console import Console  # here, like the rest: `bllossom --help` is quick

        from bllossom.evaluation.compare.compare import compare as compare_results
        from bllossom.evaluation.compare.render import print_tables, write

        found = compare_results(results, anyway=anyway)
        print_tables(found, Console())
        if output is not None:
            write(found, output)
            typer.echo(output)


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


def make_show() -> typer.Typer:
    """`bllossom show`: what training reads, for a person."""
    app = typer.Typer(help="Show documents and blocks in pieces, and where they come from.", no_args_is_help=True)
    app.command("document")(show_document)
    app.command("block")(show_block)
    return app


def show_document(
    folder: Annotated[Path, typer.Argument(help="A folder that prepare made.")],
    source: Annotated[str, typer.Argument(help="Its language and name, as ko/wiki.")],
    numbers: Annotated[list[int], typer.Argument(help="Documents of that source, from 0, as a bad step names them.")],
    heldout: Annotated[bool, typer.Option("--heldout", help="Of the documents held out.")] = False,
    debug: Debug = False,
) -> None:
    """Show documents of a tokens folder."""
    with _expected_errors(debug):
        from bllossom.tokens import show

        console = stdout()
        for number in numbers:
            for part in show.show_document(folder, source, number, heldout=heldout, colours=console.is_terminal):
                console.print(part)


def show_block(
    config: Annotated[Path, typer.Option("--config", help="A pretrain YAML file.", show_default=False)],
    number: Annotated[int, typer.Argument(min=0, help="Of the mixture's blocks, from 0, as a bad step names it.")],
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Show a block of a run's mixture, and the documents in it."""
    with _expected_errors(debug):
        from bllossom.tokens import show
        from bllossom.training.pretrain import PretrainConfig, open_mixture

        loaded = load_config(PretrainConfig, config, overrides or (), allow_missing=True).config
        mixture, console = open_mixture(loaded), stdout()
        for part in show.show_block(mixture, number, colours=console.is_terminal):
            console.print(part)


def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="The output of a recipe, or of several.")],
    output: Annotated[Path | None, typer.Option("--output", help="The page; else report.html in the run.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Write it anew every ten seconds, while a run goes on.")] = False,
    debug: Debug = False,
) -> None:
    """Write one page with all figures and curves of a run, and the cards of its models."""
    with _expected_errors(debug):
        from bllossom.report import report as pages  # imports what draws

        if live:
            pages.report_live(runs, output)
        typer.echo(pages.report(runs, output))


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
    with _expected_errors(debug):
        from bllossom.report.push import push as upload

        said = upload(
            model, to, licence=licence, public=public, revision=revision, tag=tag, dry_run=dry_run, force=force
        )
        typer.echo("\n".join(said))


def review(config: ConfigFile = None, overrides: Overrides = None, debug: Debug = False) -> None:
    """Open the page on which people correct a translation, on this machine alone."""
    with _expected_errors(debug):
        from bllossom.localize.review import ReviewConfig
        from bllossom.localize.review import review as serve

        serve(load_config(ReviewConfig, config, overrides or ()).config)


@contextlib.contextmanager
def _expected_errors(debug: bool) -> Iterator[None]:
    """End an expected error with its message and exit code, and what asks to stop as a stop to go on from."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for number in stop_signals():
        signal.signal(number, interrupt)
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
