"""Commands that open a page for people, on this machine alone."""

from pathlib import Path
from typing import Annotated

import typer

from bllossom.commands.ending import expected_errors, print_result
from bllossom.commands.options import ConfigFile, Debug, Overrides, typed_path
from bllossom.config import load_config


def vote(
    files: Annotated[
        list[Path], typer.Argument(parser=typed_path, metavar="A B", help="Two files of answers.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option(parser=typed_path, help="The folder that keeps the votes.", show_default=False)
    ],
    port: Annotated[int, typer.Option(min=0, max=65_535, help="The page's port on 127.0.0.1; 0: any free one.")] = 8765,
    report: Annotated[bool, typer.Option("--report", help="Say what the votes come to, and serve nothing.")] = False,
    verdicts: Annotated[
        Path | None, typer.Option(parser=typed_path, help="A judge's folder, or its verdicts.jsonl.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Serve a page on which people say which of two answers is better."""
    with expected_errors(debug):
        from bllossom.evaluation.vote.vote import report_votes, serve_votes  # imports a web server

        if report:
            print_result(report_votes(files, output, verdicts))
        else:
            serve_votes(files, output, port)


def review(config: ConfigFile = None, overrides: Overrides = None, debug: Debug = False) -> None:
    """Open the page on which people correct a translation, on this machine alone."""
    with expected_errors(debug):
        from bllossom.localize.review import ReviewConfig
        from bllossom.localize.review import review as serve

        serve(load_config(ReviewConfig, config, overrides or ()).config)
