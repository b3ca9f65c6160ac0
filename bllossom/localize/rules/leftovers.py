"""english_left and untranslated: what is still in the source's language, or in a third one."""

import regex

from bllossom.localize.rules.reading import Mark, Marks, Reading, Span

# Hangul may follow at once (stress가), a letter, a digit or a path may not.
RUN = regex.compile(
    r"(?<![A-Za-z\d_@#/\\.-])[A-Za-z][A-Za-z'’-]*(?:[ ,]{1,2}[A-Za-z][A-Za-z'’-]*)*+"
    r"(?![A-Za-z\d_@/\\]|::|\.[A-Za-z\d]|-\d)"
)
IDENTIFIER = regex.compile(r"\w*_\w*|\w+(?:::\w+)+|\w+\(\)")
FORMULA = regex.compile(r"[=+*/^<>]\s?$")
WORD = regex.compile(r"\p{Latin}[\p{Latin}'’-]*")
GLOSS = regex.compile(r"[\(（\[][^()（）\[\]\n]*[\)）\]]")
LEAST_LETTERS = 10
LEAST_SMALL_WORDS = 0.25  # share; in running English nearly half of the words are function words
LEAST_OTHER = 4  # letters of a third script
LEAST_SHARE = 0.3
"""Less than this share of a message in the language's own letters, and it was not translated."""


def check(reading: Reading) -> Marks:
    """Words and sentences that were left; a message that was left whole gets one mark."""
    if reading.asks_for_source():
        return
    if _untranslated(reading):
        yield Mark("untranslated", "error", None)
    elif reading.language.foreign_words:
        yield from _left_words(reading)
    else:
        yield from _left_sentences(reading)


def _untranslated(reading: Reading) -> bool:
    prose = reading.prose(quotes=True)
    letters = regex.findall(r"\p{L}", prose)
    words = WORD.findall(IDENTIFIER.sub(" ", prose))
    if not reading.language.foreign_words:
        theirs, ours = (_share(words, side.function_words) for side in (reading.source_language, reading.language))
        return len(letters) >= LEAST_LETTERS and theirs > LEAST_SMALL_WORDS and ours < theirs / 3
    own = len(regex.findall(reading.language.letters, prose))
    if own >= LEAST_SHARE * len(letters) or not letters:
        return False
    # Names alone are the same in both languages; two small words make a sentence.
    small = [word for word in words if word.islower() and len(word) > 1]
    other_scripts = len(letters) - own - sum(map(len, regex.findall(r"[A-Za-z]+", prose)))
    return (len(small) >= 2 and len(letters) >= LEAST_LETTERS) or other_scripts >= LEAST_OTHER


def _share(words: list[str], known: list[str]) -> float:
    return sum(word.lower() in known for word in words) / max(len(words), 1)


def _left_words(reading: Reading) -> Marks:
    prose = reading.prose(quotes=False)
    glosses = [match.span() for match in GLOSS.finditer(prose) if not regex.search(reading.language.letters, match[0])]
    for match in RUN.finditer(prose):
        if reading.in_spans(match.start(), glosses) or FORMULA.search(prose[: match.start()]):
            continue
        if _is_left(reading, match[0]):
            place = _with_mark(reading.target, match.span())
            yield Mark("english_left", "warning", place, {"found": reading.target[slice(*place)]})


def _is_left(reading: Reading, run: str) -> bool:
    """Whether a run of Latin words is prose; names, titles, units and variables are not."""
    words = WORD.findall(run)
    function_words = reading.source_language.function_words
    small = [word for word in words if word.islower() and len(word) > 1 and not _allowed(reading, word)]
    content = [word for word in small if word not in function_words]
    if content:
        return True
    ends = (words[0], words[-1])
    if len(words) == 1:
        bare = words[0].lower()
        return bare in function_words and len(bare) > 1 and not words[0].isupper() and not _allowed(reading, bare)
    # `The Old Man and the Sea` begins and ends in content words or a capital; `Note that` does not.
    return ends[1].lower() in function_words and not ends[1][0].isupper() and bool(small)


def _allowed(reading: Reading, word: str) -> bool:
    return any(regex.fullmatch(pattern, word.lower()) for pattern in reading.language.foreign_allowed)


def _with_mark(text: str, place: Span) -> Span:
    """The place with the full stop that ends it, for a whole sentence."""
    start, end = place
    if " " in text[start:end] and text[end : end + 1] in (".", "!", "?"):
        end += 1
    return start, end


def _left_sentences(reading: Reading) -> Marks:
    """For a language in Latin letters: sentences with more of the source's small words than of its own."""
    prose = reading.prose(quotes=False)
    own, theirs = reading.language.function_words, reading.source_language.function_words
    for start, end in reading.sentences:
        words = WORD.findall(prose[start:end])
        foreign = [word for word in words if word.lower() in theirs and word.lower() not in own]
        if len(foreign) >= 2 and len(foreign) > sum(word.lower() in own for word in words):
            yield Mark("english_left", "warning", (start, end), {"found": reading.target[start:end]})
