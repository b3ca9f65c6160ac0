"""The command that talks with a model."""

import io
import sys
from typing import Annotated

import typer

from bllossom.commands.ending import expected_errors, print_result
from bllossom.commands.options import Debug, typed_path
from bllossom.errors import BllossomError


def chat(
    models: Annotated[list[str], typer.Argument(metavar="MODEL [MODEL]", help="One model, or two side by side.")],
    template: Annotated[
        str | None, typer.Option(help="Its chat format: plain, lima, llama2, llama3, chatml, a Jinja file.")
    ] = None,
    system: Annotated[str, typer.Option(help="What the model is told before anything else.")] = "",
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the likeliest token each time.")] = 0.7,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the likeliest pieces of this share.")] = 0.9,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws of each answer.")] = 0,
    debug: Debug = False,
) -> None:
    """Talk with a model; in a pipe, one question a line in, one JSON a line out."""
    with expected_errors(debug):
        if len(models) > 2:
            raise BllossomError(f"{len(models)} models do not fit side by side; name one or two")
        from rich.console import Console

        from bllossom.evaluation.chat import ChatSettings, answer_lines, converse, load_talks  # imports torch

        settings = ChatSettings(temperature, top_p, max_tokens, seed)
        talks = load_talks([str(typed_path(model)) for model in models], settings, template)
        if sys.stdin.isatty():
            import readline  # noqa: F401 - gives input() a history and the arrow keys

            converse(talks, system, input, Console(highlight=False))
        else:
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # a line that is no UTF-8 is one that cannot be asked
            answer_lines(sys.stdin, talks, system, print_result)
