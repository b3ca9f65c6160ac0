"""The options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from bllossom.config import expand_path


def typed_path(text: str) -> Path:
    """A path as it is typed: shells leave the `~` of `--output=~/x` and of `"~/x"` alone."""
    try:
        return expand_path(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", parser=typed_path, help="The stage's YAML file; without one every key is typed."),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Reach into the YAML: dotted.key=value.")
]
StepOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="A key of the recipe, or of a step: STEP.dotted.key=value."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and what would happen.")]
Force = Annotated[
    bool, typer.Option("--force", help="Replace another result at the output, or this one where damaged or incomplete.")
]
Preview = Annotated[
    int | None,
    typer.Option("--preview", min=1, metavar="N", help="Show N examples as training will see them, and end."),
]
Packed = Annotated[bool, typer.Option("--packed", help="With --preview: rows as they are packed.")]
Json = Annotated[bool, typer.Option("--json", help="With --preview: one JSON object a line.")]
Yes = Annotated[bool, typer.Option("--yes", help="Remove all of it without asking.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of expected errors too.")]
