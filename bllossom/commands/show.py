"""Commands that show a person what training reads."""

from pathlib import Path
from typing import Annotated

import typer

from bllossom.commands.ending import expected_errors
from bllossom.commands.options import Debug, Overrides, typed_path
from bllossom.config import load_config
from bllossom.console import stdout


def make_show() -> typer.Typer:
    """`bllossom show`: what training reads, for a person."""
    app = typer.Typer(help="Show documents, blocks and examples, and where they come from.", no_args_is_help=True)
    app.command("document")(show_document)
    app.command("block")(show_block)
    app.command("example")(show_example)
    return app


def show_document(
    folder: Annotated[Path, typer.Argument(parser=typed_path, help="A folder that prepare made.")],
    source: Annotated[str, typer.Argument(help="Its language and name, as ko/wiki.")],
    numbers: Annotated[list[int], typer.Argument(help="Documents of that source, from 0, as a bad step names them.")],
    heldout: Annotated[bool, typer.Option("--heldout", help="Of the documents held out.")] = False,
    debug: Debug = False,
) -> None:
    """Show documents of a tokens folder."""
    with expected_errors(debug):
        from bllossom.tokens import show

        console = stdout()
        for number in numbers:
            for part in show.show_document(folder, source, number, heldout=heldout, colours=console.is_terminal):
                console.print(part)


def show_block(
    config: Annotated[
        Path, typer.Option("--config", parser=typed_path, help="A pretrain YAML file.", show_default=False)
    ],
    number: Annotated[int, typer.Argument(min=0, help="Of the mixture's blocks, from 0, as a bad step names it.")],
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Show a block of a run's mixture, and the documents in it."""
    with expected_errors(debug):
        from bllossom.tokens import show
        from bllossom.training.pretrain import PretrainConfig, open_mixture

        loaded = load_config(PretrainConfig, config, overrides or (), allow_missing=True).config
        mixture, console = open_mixture(loaded), stdout()
        for part in show.show_block(mixture, number, colours=console.is_terminal):
            console.print(part)


def show_example(
    config: Annotated[Path, typer.Option("--config", parser=typed_path, help="An sft YAML file.", show_default=False)],
    number: Annotated[int, typer.Argument(min=0, help="Of the examples, in the order of the files, from 0.")],
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Show an example of sft, with what of it carries loss."""
    with expected_errors(debug):
        from bllossom.training import preview
        from bllossom.training.sft import SftConfig

        preview.show_example(load_config(SftConfig, config, overrides or ()).config, number)
