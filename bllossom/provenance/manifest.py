"""manifest.json: what a published folder holds, and what it was made from."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from bllossom.errors import BllossomError
from bllossom.files import FileRecord

MANIFEST = "manifest.json"
PARTIAL = ".partial-"
"""In the name of a partial folder, between the output's and an id."""
UNFINISHED = "unfinished.json"
"""In a partial folder: an Unfinished."""
LOGS = "logs"
CARD = "README.md"
"""Of a model: written anew when there are scores of it."""
FORMAT = 2
"""Of manifests. In 1, which had no number, the spelling of paths was part of `id`, and hub ids were no inputs."""


class OutputTakenError(BllossomError):
    """The output folder holds something else, and may be replaced with --force."""


class DamagedManifestError(OutputTakenError):
    """The manifest of a published folder cannot be read."""


class Origin(BaseModel):
    """What a result is made from."""

    format: int = 1
    stage: str
    config: dict[str, Any]
    inputs: dict[str, str] = Field(
        description="the fingerprint of each input's contents; owner/name@commit for what the hub has"
    )


class Unfinished(Origin):
    """What a partial folder is being made into."""

    seconds: float = Field(default=0.0, description="that attempts before this one took")


class Manifest(Origin):
    """What manifest.json holds. Only `files` makes the fingerprint; `run` is about this one run on this machine."""

    id: str = Field(description="sha256 over stage, config without paths, and inputs; 16 hex digits")
    fingerprint: str = Field(description="sha256 over the payload's names and contents")
    figures: dict[str, Any] = Field(description="the stage's own numbers")
    files: dict[str, FileRecord]
    versions: dict[str, str]
    git_commit: str | None
    run: dict[str, Any] = Field(
        description="wall_seconds of all attempts; peak_memory_bytes, host, started of the last: not in the fingerprint"
    )


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of a published folder; None where there is none (somebody else's files).

    Raises:
        DamagedManifestError: it cannot be read.
        BllossomError: a later version of the program made it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        what = " ".join([*map(str, first["loc"]), first["msg"]])
        raise DamagedManifestError(f"{path} is damaged ({what}); make the folder again with --force") from error
    if manifest.format > FORMAT:
        raise BllossomError(
            f"{path} has format {manifest.format}, this version of bllossom knows {FORMAT}; update bllossom"
        )
    return manifest


def read_origin(folder: Path) -> Origin | None:
    """What a folder, published or partial, is made from; None where that is not said, or cannot be read."""
    for name in (UNFINISHED, MANIFEST):
        if (folder / name).is_file():
            try:
                return Origin.model_validate_json((folder / name).read_bytes())
            except ValidationError:
                return None
    return None
