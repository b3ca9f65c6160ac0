"""`bllossom localize flag`: where a person should look, a line each in flags.jsonl."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from bllossom.artifacts import Manifest, publish, read_manifest
from bllossom.config import InputPath, Model, StageConfig
from bllossom.errors import BllossomError
from bllossom.files import FileHashes
from bllossom.localize.language import load_language, load_source_language, own_folder
from bllossom.localize.records import Pair, load_pairs, passages, write_lines
from bllossom.localize.rules.checker import RULES, Checker, Flag
from bllossom.provenance.fingerprints import fingerprint_inputs
from bllossom.serving.log import read_log

FLAGS = "flags.jsonl"


class RuleSettings(Model):
    """Which rules look at a translation, and by which tables."""

    language: Annotated[str, Field(description="a folder of the package's languages, or a path to one's own")]
    source_language: Annotated[str, Field(description="likewise, of the source")] = "en"
    set_register: Annotated[
        str | None, Field(description="the set's register, as the language names it; null: its default")
    ] = None
    off: Annotated[list[str], Field(default_factory=list, description="rules that are not run")]

    @field_validator("off")
    @classmethod
    def _known(cls, off: list[str]) -> list[str]:
        if unknown := sorted(set(off) - set(RULES)):
            raise ValueError(f"there is no rule {unknown[0]!r}; the rules are {', '.join(RULES)}")
        return off


class FlagConfig(StageConfig):
    """What is looked at."""

    translation: Annotated[InputPath, Field(description="the output of localize translate")]
    rules: RuleSettings


def flag(config: FlagConfig, *, force: bool = False) -> Manifest:
    """Run the rules over a translation and publish flags.jsonl.

    Raises:
        BllossomError: the translation or a table cannot be read, or the register is none of the language's.
    """

    def build(folder: Path) -> dict[str, Any]:
        pairs = load_pairs(config.translation)
        found = flags_of(make_checker(config.rules, pairs), pairs, prompt_of(config.translation))
        write_lines(folder / FLAGS, map(asdict, found))
        return flag_figures(found, len(pairs))

    inputs = {"translation": config.translation, **rule_inputs(config.rules)}
    return publish(config, stage="localize flag", inputs=inputs, build=build, force=force)


def dry_run(config: FlagConfig) -> list[str]:
    """Which rules would run, once the tables are read."""
    load_language(config.rules.language, config.rules.off)
    return [f"rules: {', '.join(rule for rule in RULES if rule not in config.rules.off)}"]


def rule_inputs(rules: RuleSettings) -> dict[str, Path]:
    """What the rules read besides a translation: one's own language folders, by their keys."""
    folders = {"language": own_folder(rules.language), "source_language": own_folder(rules.source_language)}
    return {key: folder for key, folder in folders.items() if folder is not None}


def make_checker(rules: RuleSettings, pairs: Sequence[Pair]) -> Checker:
    """The rules, measured on a set."""
    language = load_language(rules.language, rules.off)
    known = language.registers.labels if language.registers else {}
    if rules.set_register is not None and rules.set_register not in known:
        names = ", ".join(known) or "none"
        raise BllossomError(f"{language.name} has no register {rules.set_register!r}; its registers are {names}")
    checker = Checker(language, load_source_language(rules.source_language), rules.set_register, rules.off)
    checker.measure(passages(pair) for pair in pairs)
    return checker


def flags_of(checker: Checker, pairs: Sequence[Pair], prompt: str = "") -> list[Flag]:
    """The flags of all pairs, in order."""
    return [found for pair in pairs for found in checker.flags(pair.id, passages(pair, prompt=prompt))]


def load_flags(folder: Path, translation: Path, pairs: Sequence[Pair]) -> list[Flag]:
    """The flags of a translation, as published by `flag` or written by somebody else.

    Raises:
        BllossomError: the folder has none, or they are of another translation, whose texts their places count.
    """
    if not (folder / FLAGS).is_file():
        raise BllossomError(f"{folder} has no {FLAGS}; name the output of `bllossom localize flag`")
    found = [Flag(**record) for record in read_log(folder / FLAGS)]
    known = {pair.id for pair in pairs}
    if _is_of_another(folder, translation) or any(flag.id not in known for flag in found):
        raise BllossomError(
            f"{folder} has the flags of another translation than {translation}; run `bllossom localize flag` over this "
            "one, or leave `flags` out"
        )
    return found


def _is_of_another(folder: Path, translation: Path) -> bool:
    """Whether the manifest of flags says so; without one nobody knows."""
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    inputs = fingerprint_inputs({"translation": translation}, FileHashes(cached=True))
    return manifest.inputs.get("translation") != inputs["translation"]


def flag_figures(flags: Sequence[Flag], examples: int) -> dict[str, Any]:
    """Counts for a manifest."""
    rules = Counter(found.rule for found in flags)
    return {
        "examples": examples,
        "flagged_examples": len({found.id for found in flags}),
        "flags": len(flags),
        "flags_by_rule": {rule: rules[rule] for rule in RULES if rules[rule]},
    }


def prompt_of(translation: Path) -> str:
    """What the translator was told; "" where nobody knows."""
    manifest = read_manifest(translation)
    asked = manifest.config.get("by_endpoint") if manifest else None
    return asked["system_prompt"] if asked else ""
