"""push: a model folder to the hub, with its card, after what its licences say was said."""

import re
from collections.abc import Sequence
from pathlib import Path

from bllossom.artifacts import CARD, LOGS
from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.report.card import MODEL_STAGES, is_somebodys, make_card
from bllossom.report.lineage import Lineage, read_lineage, stated_licence
from bllossom.report.run_folder import read_run
from bllossom.report.upload import check_name, upload

LEFT_OUT = frozenset({LOGS, "checkpoints"})
NOT_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial|research.only", re.IGNORECASE)
COMMERCIAL = frozenset(
    [
        "apache-2.0",
        "mit",
        "bsd",
        "bsd-2-clause",
        "bsd-3-clause",
        "isc",
        "unlicense",
        "cc0-1.0",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-3.0",
        "cc-by-sa-4.0",
        "gpl",
        "gpl-2.0",
        "gpl-3.0",
        "lgpl-3.0",
        "agpl-3.0",
        "mpl-2.0",
    ]
)
"""Licences, as the hub names them, that allow commercial use."""


def files_to_push(folder: Path) -> list[tuple[str, int]]:
    """Names and bytes of what is uploaded: all but logs and checkpoints, and the card, which goes beside them."""
    kept = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = [(path.relative_to(folder), path.stat().st_size) for path in kept]
    return [
        (name.as_posix(), size) for name, size in names if name.parts[0] not in LEFT_OUT and name.as_posix() != CARD
    ]


def conflicts(lineage: Lineage, licence: str | None, repository: str) -> list[str]:
    """What stands against publishing the model under `licence`, and under this name."""
    problems = []
    stated = re.sub(r"[ _]+", "-", (licence or "").strip().lower())  # "Apache 2.0" is one too
    bound = [("the base", lineage.origin_licence), *((source.name, source.licence) for source in lineage.sources)]
    for name, terms in bound:
        if NOT_COMMERCIAL.search(terms) and stated in COMMERCIAL:
            problems.append(f"{name} is under {terms}, which forbids commercial use; {licence} would allow it")
    if "llama" in f"{lineage.origin} {lineage.origin_licence}".lower():
        if stated in COMMERCIAL:
            problems.append(
                f"the base is under Llama's licence, which goes along with it; {licence} would drop its terms"
            )
        if "llama" not in repository.partition("/")[2].lower():
            problems.append(
                "Llama's licence asks that the name of a model made from it holds Llama (Llama 3: begins so)"
            )
    return problems


def push(
    folder: Path,
    repository: str,
    *,
    licence: str | None = None,
    public: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    dry_run: bool = False,
    force: bool = False,
) -> Sequence[str]:
    """Upload a published model folder as `owner/name` (private unless `public`), and give lines that say what was done.

    Raises:
        ConfigError: the hub allows no such name.
        BllossomError: the folder is no published model, its licences stand against it, or the hub refuses.
    """
    check_name(repository)
    folder = folder.resolve()  # `.` has a name, and a run around it
    lineage = read_lineage(folder)
    if lineage is None or lineage.made_by[0].stage not in MODEL_STAGES:
        raise BllossomError(f"{folder} is no model that a stage published; name a folder of pretrain, sft or the like")
    own = is_somebodys(folder / CARD)
    if own:
        in_card = stated_licence(folder / CARD) or None
        if licence is not None and licence != in_card:
            raise BllossomError(
                f"{folder / CARD} is your own, and states {in_card or 'no licence'}, not {licence}; correct it, or "
                "remove it for a card written anew"
            )
        licence = in_card
        say(f"{folder / CARD} is your own, and goes as it is")
    files = files_to_push(folder)
    lines = [f"{size:>15,} bytes  {name}" for name, size in files]
    lines.append(f"{sum(size for _, size in files):>15,} bytes  in {len(files)} files, and {CARD}, to {repository}")
    problems = conflicts(lineage, licence, repository)
    for problem in problems:
        say(f"licence: {problem}")
    if dry_run:
        return lines
    if problems and not force:
        raise BllossomError(
            f"{repository}: nothing was pushed (see above); state another --licence or name, or --force"
        )
    if own:
        card = (folder / CARD).read_bytes()
    else:
        evaluations = [step.manifest for step in read_run(folder.parent).of("eval")]
        card = str(make_card(lineage, evaluations, licence)).encode()
    address = upload(
        repository,
        {**{name: folder / name for name, _ in files}, CARD: card},
        message=f"{folder.name}, published by bllossom",
        public=public,
        revision=revision,
        tag=tag,
        replace=force,
    )
    return [*lines, f"pushed to {address}"]
