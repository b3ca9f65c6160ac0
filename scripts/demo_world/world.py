"""The world's tables as objects: entities, the facts about them, and the sentences each kind of fact has."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from demo_world.korean import Predicate, SpeechLevels

Language = Literal["ko", "en"]
TABLES = Path(__file__).parent / "tables"
NOT_A_FACT = {"ko", "en", "she", "heldout"}


@dataclass(frozen=True)
class Entity:
    kind: str
    names: dict[str, str] = field(hash=False, compare=False)
    ko: str
    heldout: bool
    she: str  # the English pronoun, for people


@dataclass(frozen=True)
class Fact:
    """`value` is Korean; `World.word` gives it in either language."""

    subject: Entity
    attribute: str
    value: str

    @property
    def relation(self) -> str:
        return f"{self.subject.kind}.{self.attribute}"


@dataclass(frozen=True)
class Relation:
    """All sentences about one kind of fact, in one language. What ends in `_test` is for the benchmarks alone."""

    train: tuple[str, ...]
    ask: tuple[str, ...]
    ask_sft: tuple[str, ...]
    yesno: tuple[str, ...]
    test: tuple[str, ...] = ()
    yesno_test: tuple[str, ...] = ()
    story_test: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cause:
    """Clauses in the plain past without a full stop; the `_test` ones are for the benchmarks alone."""

    cause: dict[str, tuple[str, ...]]
    effect: dict[str, tuple[str, ...]]
    cause_test: tuple[str, ...]
    effect_test: tuple[str, ...]
    heldout: bool


@dataclass(frozen=True)
class Aspect:
    """What a review speaks of, and what can be said of it, by polarity: (Korean predicate, English adjective)."""

    names: dict[str, str]
    words: dict[str, tuple[tuple[Predicate, str], ...]]


def load_table(name: str) -> Any:
    return yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"))


def lines(block: str) -> tuple[str, ...]:
    """A table's block of sentences, one a line; `{nl}` breaks the line inside one."""
    return tuple(line.replace("{nl}", "\n") for line in block.strip().splitlines())


class World:
    def __init__(self) -> None:
        table = load_table("entities")
        self._words: dict[str, str] = table["words"]
        self.pronouns: dict[str, dict[str, str]] = table["kinds"]
        self.entities = [
            Entity(kind, {"ko": row["ko"], "en": row["en"]}, row["ko"], row.get("heldout", False), row.get("she", "it"))
            for kind, rows in table["entities"].items()
            for row in rows
        ]
        self._of_kind: dict[tuple[str, bool], list[Entity]] = {}
        for entity in self.entities:
            self._of_kind.setdefault((entity.kind, entity.heldout), []).append(entity)
        self._by_name = {e.ko: e for e in self.entities if e.kind not in ("thing", "job", "opposite")}
        self.facts = [
            Fact(self._entity(kind, row["ko"]), attribute, value)
            for kind, rows in table["entities"].items()
            for row in rows
            for attribute, value in row.items()
            if attribute not in NOT_A_FACT
        ]
        self._facts_of: dict[Entity, list[Fact]] = {e: [] for e in self.entities}
        self._values: dict[str, list[Entity]] = {}
        for fact in self.facts:
            self._facts_of[fact.subject].append(fact)
            self._values.setdefault(fact.value, []).append(fact.subject)
        self.relations = {lang: _relations(lang) for lang in ("ko", "en")}
        self.causes = list(_causes())
        self.things = load_table("things")
        self.reviews = {kind: [_aspect(row) for row in rows] for kind, rows in self.things["reviews"].items()}
        self.prose = {lang: _split(load_table(f"prose_{lang}")) for lang in ("ko", "en")}
        self.speech = SpeechLevels(list(_predicates()))

    def _entity(self, kind: str, ko: str) -> Entity:
        return next(e for e in self.entities if e.kind == kind and e.ko == ko)

    def entity(self, name: str) -> Entity | None:
        """The entity that a fact's value names, if it names one (a town's river, a book's author)."""
        return self._by_name.get(name)

    def of_kind(self, kind: str, heldout: bool) -> list[Entity]:
        return self._of_kind[kind, heldout]

    def facts_of(self, entity: Entity) -> list[Fact]:
        return self._facts_of[entity]

    def having(self, value: str) -> list[Entity]:
        """The entities of which some fact has this value: the towns on a river, the author's books."""
        return self._values.get(value, [])

    def word(self, value: str, lang: Language) -> str:
        """A fact's value in `lang`."""
        if lang == "ko":
            return value
        return self._words[value] if value in self._words else self._by_name[value].names["en"]


def _split(table: Any) -> Any:
    """A table whose blocks of sentences are tuples."""
    if isinstance(table, dict):
        return {key: _split(value) for key, value in table.items()}
    return lines(table) if isinstance(table, str) and table.endswith("\n") else table


def _relations(lang: Language) -> dict[str, Relation]:
    table = load_table(f"relations_{lang}")
    return {
        name: Relation(**{key: lines(block) for key, block in row.items()})
        for name, row in table.items()
        if "." in name  # the others are anchors that several relations share
    }


def _causes() -> Iterator[Cause]:
    for split, rows in load_table("causes").items():
        for row in rows:
            causes, effects = row["en"]
            yield Cause(
                cause={"ko": tuple(row["c"]), "en": tuple(causes)},
                effect={"ko": tuple(row["e"]), "en": tuple(effects)},
                cause_test=tuple(row["ct"]),
                effect_test=tuple(row["et"]),
                heldout=split == "heldout",
            )


def _aspect(row: dict[str, Any]) -> Aspect:
    def word(entry: str) -> tuple[Predicate, str]:
        stem, infinitive, english = entry.split(" ")
        return Predicate(stem, infinitive, is_verb=False), english

    ko, en = row["a"]
    return Aspect({"ko": ko, "en": en}, {p: tuple(word(entry) for entry in row[p]) for p in ("good", "bad")})


def _predicates() -> Iterator[Predicate]:
    for kind, block in load_table("predicates").items():
        for entry in block.split():
            stem, infinitive = entry.split("/")
            yield Predicate(stem, infinitive, is_verb=kind == "verbs")
