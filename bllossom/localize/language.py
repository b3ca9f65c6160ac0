"""A language as the rules know it: a folder of YAML, one of `languages/` or anybody's own."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal, Self

import regex
import yaml
from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from bllossom.config import Model, named_path
from bllossom.errors import BllossomError
from bllossom.yaml_text import parse

PACKAGED = Path(__file__).parent / "languages"
REASON_WORDS: dict[str, tuple[str, ...]] = {
    "english_left": ("found",),
    "untranslated": (),
    "register_mixed": ("found", "main"),
    "register_other": ("found", "main"),
    "entity_foreign": ("found", "kind", "instead"),
    "question_answer_mismatch": ("found",),
    "unit": ("found", "what"),
    "number_changed": ("found",),
    "markup_lost": ("found",),
    "list_count": ("said", "found"),
    "truncated": ("found",),
    "length_ratio": ("found", "usual"),
    "repeated": ("found",),
    "refusal": ("found",),
    "wordplay": ("found",),
}
"""All rules, with the words that their reasons may have in braces."""
NEVER = "(?!)"
"""A pattern that is nowhere."""


def _compiles(pattern: str) -> str:
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
EntityKind = Literal["institution", "law", "brand", "place", "custom", "person"]


class Entity(Model):
    """Something of the source's country, under every name that a translation may give it."""

    forms: Annotated[list[str], Field(min_length=1)]
    instead: Annotated[str, Field(description="what readers of the language have in its place; may be empty")] = ""


class Ending(Model):
    """A final ending and the registers it is at home in."""

    form: Pattern
    registers: list[str]


class Registers(Model):
    """How formal a sentence is, told by its final ending."""

    default: str
    labels: dict[str, str]
    endings: list[Ending]
    particle: Annotated[str, Field(description="a particle that lifts the ending before it to the polite register")] = (
        ""
    )

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        used = {self.default, *(register for ending in self.endings for register in ending.registers)}
        if missing := sorted(used - self.labels.keys()):
            raise ValueError(f"labels has no {missing[0]}; add it, with what readers call that register")
        return self


class Refusal(Model):
    """What a translator says in its own name, and what in the source shows that it is the text's own."""

    target: Pattern
    source: Pattern


class UnitPattern(Model):
    """A quantity in units of elsewhere."""

    pattern: Pattern
    what: str


class Numbers(Model):
    """How numbers are spelled."""

    words: dict[str, float] = {}
    scales: dict[str, int] = {}
    decimal: Literal[".", ","] = "."


class Particle(Model):
    """A particle with two forms, by the sound before it."""

    closed: str
    open: str
    open_after: str = ""  # a closing consonant that takes the open form all the same


class Language(Model):
    """The target's side. What a language does not have is left out; rules that need it are then not run."""

    name: str
    code: str
    letters: Annotated[Pattern, Field(description="a character class: the letters it is written in")]
    foreign_words: Annotated[bool, Field(description="a word in Latin letters stands out in it")]
    morphology: Literal["kiwi"] | None = None
    name_tags: list[str] = []
    past_forms: list[str] = []
    unfinished_tags: list[str] = []
    registers: Registers | None = None
    foreign_allowed: list[Pattern] = []
    function_words: list[str] = []
    asks_for_source: list[Pattern] = []
    matter: list[Pattern] = []
    first_person: Pattern | None = None
    counters: Annotated[Pattern, Field(description="words that count the items of a list: five ways")] = NEVER
    uncounted: Annotated[Pattern, Field(description="after a counter: it counts no list (one more thing)")] = NEVER
    quotes: list[Annotated[str, Field(min_length=2)]] = []
    refusals: list[Refusal] = []
    units: list[UnitPattern] = []
    numbers: Numbers = Numbers()
    reasons: dict[str, str]
    kinds: dict[EntityKind, str]
    entities: dict[EntityKind, list[Entity]] = {}
    page: Annotated[dict[str, str], Field(description="words of the review page, by their English ones")] = {}
    particles: list[Particle] = []
    after_particles: Annotated[list[str], Field(description="what may follow a particle in the same word")] = []
    closed_digits: dict[str, str] = {}
    closed_letters: dict[str, str] = {}

    @field_validator("reasons")
    @classmethod
    def _fillable(cls, reasons: dict[str, str]) -> dict[str, str]:
        for rule, reason in reasons.items():
            words = REASON_WORDS.get(rule, ())
            told = ", ".join(f"{{{word}}}" for word in words) or "none"
            try:
                named = [name for _, name, _, _ in Formatter().parse(reason) if name is not None]
            except ValueError as error:
                raise ValueError(f"{rule}: {error}; its words in braces are {told}") from None
            if unknown := [name for name in named if regex.split(r"[.\[]", name)[0] not in words]:
                raise ValueError(f"{rule}: there is no {{{unknown[0]}}}; its words in braces are {told}")
        return reasons

    @model_validator(mode="after")
    def _every_kind_has_its_word(self) -> Self:
        for kind, rows in self.entities.items():
            if rows and kind not in self.kinds:
                raise ValueError(f"kinds has no {kind}, of which entities has some; add what readers call it")
        return self

    def speaking(self) -> list[str]:
        """The rules that have the tables they need; the others never flag anything."""
        endings_told = self.registers is not None and self.morphology is not None
        has = {
            "register_mixed": endings_told,
            "register_other": endings_told,
            "entity_foreign": any(self.entities.values()),
            "unit": bool(self.units),
            "list_count": self.counters != NEVER,
        }
        return [rule for rule in REASON_WORDS if has.get(rule, True)]

    @cached_property
    def matter_pattern(self) -> Any:
        """Where a foreign entity is what is talked about."""
        return regex.compile("|".join(self.matter) or NEVER)


class Conversion(Model):
    """A unit of the source and what its numbers may become."""

    pattern: Pattern
    factors: list[float]
    offset: float = 0.0


class SourceLanguage(Model):
    """The side that is translated from."""

    name: str
    code: str
    function_words: list[str]
    sentence_end: Pattern
    months: list[str] = []
    numbers: Numbers
    conversions: list[Conversion] = []
    money: Pattern = NEVER
    wordplay: list[Pattern] = []


def load_language(name: str, off: Sequence[str] = ()) -> Language:
    """A target language by the name of its folder in the package, or by the path of a folder; `off` are rules that are
    not run.

    Raises:
        BllossomError: there is no such folder, a key is unknown or stands in two files, an entity stands twice, or a
            rule that is run has no reason.
    """
    folder, values = _read_folder(name)
    language = _validated(Language, folder, values)
    if silent := [rule for rule in language.speaking() if rule not in language.reasons and rule not in off]:
        raise BllossomError(
            f"{folder}: reasons has no {silent[0]}; add it (what reviewers are told of such a place), or name the rule "
            "in rules.off"
        )
    seen: dict[str, EntityKind] = {}
    for kind, entities in language.entities.items():
        for form in (form for entity in entities for form in entity.forms):
            if form in seen:
                raise BllossomError(f"{folder}: the entity {form!r} stands twice ({seen[form]}, {kind}); remove one")
            seen[form] = kind
    return language


def load_source_language(name: str) -> SourceLanguage:
    """A source language, likewise.

    Raises:
        BllossomError: there is no such folder, or it holds other keys.
    """
    return _validated(SourceLanguage, *_read_folder(name))


def _validated(kind: type[Any], folder: Path, values: dict[str, Any]) -> Any:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{folder}: {'.'.join(map(str, first['loc']))}".removesuffix(": ")
        raise BllossomError(f"{where}: {first['msg'].removeprefix('Value error, ')}; correct the table") from error


def own_folder(name: str) -> Path | None:
    """Where a language lies that is not one of the package's; None for those, and where there is no folder."""
    folder = _folder(name)
    return folder if folder.is_dir() and folder.parent != PACKAGED else None


def _folder(name: str) -> Path:
    return PACKAGED / name if (PACKAGED / name).is_dir() else named_path(name)


def _read_folder(name: str) -> tuple[Path, dict[str, Any]]:
    folder = _folder(name)
    files = sorted(folder.glob("*.yaml"))
    if not files:
        known = ", ".join(sorted(path.name for path in PACKAGED.iterdir() if path.is_dir()))
        raise BllossomError(f"there is no language {name!r}; the languages are {known}, or a folder of YAML files")
    values: dict[str, Any] = {}
    for file in files:
        try:
            found = parse(file.read_text(encoding="utf8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BllossomError(f"{file} is not YAML ({error}); correct it") from error
        if not isinstance(found, Mapping):
            raise BllossomError(f"{file} should be a mapping of keys to values; correct it")
        for key, value in found.items():
            if value is None:  # an empty table is none
                continue
            if key == "entities":  # tables of several countries
                _add_entities(file, value, values.setdefault("entities", {}))
            elif key in values:
                raise BllossomError(f"{file}: {key} stands in another file of {folder}, too; remove one")
            else:
                values[key] = value
    return folder, values


def _add_entities(file: Path, table: Any, entities: dict[str, list[Any]]) -> None:
    if not isinstance(table, Mapping) or not all(isinstance(rows, list | None) for rows in table.values()):
        raise BllossomError(f"{file}: entities should be a mapping of kinds to lists; correct the table")
    for kind, rows in table.items():
        entities.setdefault(kind, []).extend(rows or ())
