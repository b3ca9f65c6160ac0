"""entity_foreign and question_answer_mismatch: names of the source's country, and names that an edit left behind."""

import itertools
from collections.abc import Iterator

import regex

from bllossom.localize.language import Entity, EntityKind, Language
from bllossom.localize.rules.reading import Mark, Marks, Reading, Span

NAME = regex.compile(r"(?<![\w.])\p{Lu}[\w'’-]+(?:\s+\p{Lu}[\w'’-]+)*")
LEAST_NAME = 2  # characters


def check(reading: Reading) -> Marks:
    """Names that stand for something readers do not have, and names that are no longer in the question."""
    yield from _foreign(reading)
    if reading.passage.role == "assistant":
        yield from _left_behind(reading)


def _foreign(reading: Reading) -> Marks:
    text = reading.prose(quotes=True)
    for kind, entity, (start, end) in occurrences(text, reading.language):
        if not _on_boundary(reading, start, end) or _is_the_matter(reading, start, entity):
            continue
        instead = f": {entity.instead}" if entity.instead else ""
        words = {"found": reading.target[start:end], "kind": reading.language.kinds[kind], "instead": instead}
        yield Mark("entity_foreign", "hint" if kind in ("place", "person") else "warning", (start, end), words)


def occurrences(text: str, language: Language) -> Iterator[tuple[EntityKind, Entity, Span]]:
    """Every entity of the tables in a text, the longest form where several begin."""
    known = {
        form: (kind, entity)
        for kind, entities in language.entities.items()
        for entity in entities
        for form in entity.forms
    }
    if not known:
        return
    forms = "|".join(regex.escape(form) for form in sorted(known, key=len, reverse=True))
    for match in regex.finditer(rf"(?<![\p{{L}}\d&-])(?:{forms})(?![A-Za-z\d])", text):
        yield (*known[match[0]], match.span())


def _on_boundary(reading: Reading, start: int, end: int) -> bool:
    """A form inside a longer word is no occurrence: what follows has to be a morpheme of its own."""
    following = reading.target[end : end + 1]
    if not reading.morphemes or not regex.fullmatch(reading.language.letters, following):
        return True
    return any(morpheme.start == end and morpheme.tag[0] in "JVX" for morpheme in reading.morphemes)


def _is_the_matter(reading: Reading, start: int, entity: Entity) -> bool:
    """Whether the sentence, or the question that names it too, is about the entity itself."""
    matter = reading.language.matter_pattern
    first, last = reading.sentence_at(start)
    sentence = reading.target[first:last]
    if matter.search(sentence):
        return True
    question = reading.passage.question
    if any(form in question for form in entity.forms) and matter.search(question):
        return True
    return _told_as_past(reading, first, last)


def _told_as_past(reading: Reading, first: int, last: int) -> bool:
    """A past event told of somebody else is history; advice and one's own stories are not."""
    language = reading.language
    inside = [morpheme for morpheme in reading.morphemes if first <= morpheme.start < last]
    past = any(
        before.tag == "EP" and before.form in language.past_forms and after.tag == "EF"
        for before, after in itertools.pairwise(inside)
    )
    own = language.first_person and regex.search(language.first_person, reading.target[first:last])
    return past and not own


def _left_behind(reading: Reading) -> Marks:
    passage = reading.passage
    if not passage.question:
        return
    if passage.question_before is not None:
        gone = [name for name in names(passage.question_before, reading) if name not in passage.question]
        for name in gone:
            for match in regex.finditer(regex.escape(name), reading.target):
                place = _whole_word(reading, match.span())
                yield Mark("question_answer_mismatch", "error", place, {"found": reading.target[slice(*place)]})
        return
    # Without the text before the edit: the source's question and answer share a name, the translations none.
    shared = set(_source_names(reading, passage.question_source)) & set(_source_names(reading, passage.source))
    asked, answered = names(passage.question, reading), names(reading.target, reading)
    if shared and asked and answered and not any(name in reading.target for name in asked):
        strange = next((name for name in answered if name not in passage.question), None)
        if strange and not any(name in passage.question for name in answered):
            start = reading.target.index(strange)
            place = _whole_word(reading, (start, start + len(strange)))
            yield Mark("question_answer_mismatch", "error", place, {"found": reading.target[slice(*place)]})


def _whole_word(reading: Reading, place: Span) -> Span:
    """The place with the nouns that are written on to the name: 스튜어트 and 산."""
    start, end = place
    for morpheme in reading.morphemes:
        if morpheme.start == end and morpheme.tag in ("NNG", "NNP", "XSN"):
            end = morpheme.end
    return start, end


def names(text: str, reading: Reading) -> list[str]:
    """The proper names of a text in the target's language, neighbouring morphemes joined, as they stand in it."""
    if reading.morphology is None:
        return [match[0] for match in NAME.finditer(text) if match.start() > 0]
    spans: list[Span] = []
    for morpheme in reading.morphology(text):
        if morpheme.tag in reading.language.name_tags:
            if spans and spans[-1][1] == morpheme.start:
                spans[-1] = (spans[-1][0], morpheme.end)
            else:
                spans.append((morpheme.start, morpheme.end))
    return [text[start:end] for start, end in spans if end - start >= LEAST_NAME]


def _source_names(reading: Reading, text: str) -> Iterator[str]:
    """Capitalised words of the source that do not begin a sentence."""
    for match in regex.finditer(r"(?<=[\p{Ll},;]\s)\p{Lu}\p{Ll}{2,}", text):
        if match[0].lower() not in reading.source_language.function_words:
            yield match[0]
