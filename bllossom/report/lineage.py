"""Where a model comes from: the published folders behind it, what they read, and under which licences."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bllossom.artifacts import CARD, Manifest, read_manifest
from bllossom.hub import is_hub_id, parse

MODEL_KEYS = ("model", "adapter", "base")


@dataclass(frozen=True)
class TextSource:
    """Something that training read, of a corpus of so many documents and bytes."""

    name: str
    licence: str  # empty where nobody stated one
    read: int | None = None  # bytes; None where that is not recorded
    documents: int | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Lineage:
    """A published model folder, newest first the folders it was made from, and where they begin."""

    folder: Path
    made_by: tuple[Manifest, ...]
    origin: str  # a hub id or a folder that no stage published; empty where the model began from nothing
    origin_licence: str
    languages: tuple[str, ...]
    sources: tuple[TextSource, ...]


def read_lineage(folder: Path) -> Lineage | None:
    """Go from manifest to manifest along what each model was made from; None for a folder that no stage published.

    A folder beside it with the fingerprint of its input comes before the path in its config: a run may have been moved.
    """
    manifests: list[Manifest] = []
    at: str | None = str(folder)
    while at is not None and (manifest := _manifest(at)) is not None:
        manifests.append(manifest)
        at = _made_from(folder.parent, manifest)
    if not manifests:
        return None
    languages = [name for each in manifests for name in (each.config.get("mixture") or {}).get("weights", {})]
    # A run that continues another counts what that one read as its own.
    continued = {each.inputs.get("continue_from") for each in manifests}
    read = [
        source
        for each in reversed(manifests)
        for source in _sources(folder.parent, each)
        if each.fingerprint not in continued
    ]
    return Lineage(
        folder=folder,
        made_by=tuple(manifests),
        origin=str(at or ""),
        origin_licence=stated_licence(Path(at) / CARD) if at is not None else "",
        languages=tuple(sorted(set(languages))),
        sources=tuple(dict.fromkeys(read)),
    )


def _made_from(run: Path, manifest: Manifest) -> str | None:
    """The model that a stage changed. Of an adapter and its base it is the adapter, whose manifest names the base in
    turn; one that has no manifest, as peft saves it, is passed over."""
    found = {key: at for key in MODEL_KEYS if (at := _input(run, manifest, key))}
    if (adapter := found.get("adapter")) is not None and _manifest(adapter) is not None:
        return adapter
    return next(iter(found.values()), None)


def _manifest(source: str) -> Manifest | None:
    return read_manifest(Path(source)) if Path(source).is_dir() else None


def _input(run: Path, manifest: Manifest, key: str) -> str | None:
    """Where an input of a stage lies now: in the run, under its fingerprint, or where its config says."""
    stated = manifest.config.get(key)
    if not isinstance(stated, str):
        return None
    for path in sorted(run.iterdir()):
        found = read_manifest(path) if path.is_dir() else None
        if found is not None and found.fingerprint == manifest.inputs.get(key):
            return str(path)
    return stated


def stated_licence(card: Path) -> str:
    """The `license` in a card's YAML head; empty where there is no card, or it states none."""
    try:
        head = card.read_text(encoding="utf8").split("---", 2)
        found = yaml.safe_load(head[1]) if len(head) == 3 and not head[0].strip() else None
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(found.get("license_name") or found.get("license") or "") if isinstance(found, dict) else ""


def _sources(run: Path, manifest: Manifest) -> Iterator[TextSource]:
    if (tokens := _input(run, manifest, "tokens")) is not None:
        yield from _text(_read(Path(tokens) / "report.json").get("sources", {}), manifest.figures.get("mixture"))
    for stated in manifest.config.get("data") or []:
        # sft and dpo state a mapping with the path in it; in their manifests of before it is the path alone.
        data = stated.get("path") if isinstance(stated, dict) else stated
        if isinstance(data, str):
            yield _instructions(data)


def _text(corpus: Mapping[str, Any], mixture: Mapping[str, Any] | None) -> Iterator[TextSource]:
    """The sources that the mixture read; every one of the corpus where there was none (distill-rows)."""
    read = corpus if mixture is None else {name: row["bytes"] for name, row in mixture.items() if "/" in name}
    for name in read:
        found = corpus.get(name, {})
        amount = None if mixture is None else round(read[name])
        if amount != 0:
            yield TextSource(name, found.get("licence") or "", amount, found.get("documents"), found.get("bytes"))


def _instructions(data: str) -> TextSource:
    """A source of examples: a hub data set by its name; a folder's card lies in it, that of a file or glob beside."""
    if is_hub_id(data):
        return TextSource(parse(data).repository, licence="")
    path = Path(data)
    return TextSource(path.name, stated_licence((path if path.is_dir() else path.parent) / CARD))


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
