"""length_ratio and repeated: too long, too short, and words that go round in a circle."""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import regex

from bllossom.localize.rules.reading import LIST_MARK, Mark, Marks, Passage, Reading, SetFigures

LEAST_CHARACTERS = 30
"""Sources shorter than this say nothing by the length of their translation."""
LEAST_PASSAGES = 20
OUTLIER = 3.5  # robust z, after Iglewicz and Hoaglin (1993)
LEAST_SPREAD = 0.15
LOOP = regex.compile(
    r"(?P<unit>\S.{0,7}?)(?:\s*(?P=unit)){5,}|(?P<phrase>\S.{5,79}?)(?:[\s,.]*(?P=phrase)){2,}"
    r"|(?P<clause>\S{2,} [^.!?\n]{9,79}?)[\s,]+(?P=clause)",
    regex.DOTALL,
)
LEAST_SENTENCE = 8  # characters


def set_figures(passages: Iterable[Passage], register: str | None) -> SetFigures:
    """The median and the spread of the set's length ratios."""
    ratios = np.array(
        [_log_ratio(passage) for passage in passages if len(passage.source) >= LEAST_CHARACTERS and passage.target]
    )
    if len(ratios) < LEAST_PASSAGES:
        return SetFigures(register)
    median = float(np.median(ratios))
    spread = 1.4826 * float(np.median(np.abs(ratios - median)))
    return SetFigures(register, median, max(spread, LEAST_SPREAD))


def check(reading: Reading) -> Marks:
    """Both."""
    yield from _ratio(reading)
    yield from _repeated(reading)


def _log_ratio(passage: Passage) -> float:
    return math.log(len(passage.target) / len(passage.source))


def _ratio(reading: Reading) -> Marks:
    passage, figures = reading.passage, reading.figures
    if not figures.spread or len(passage.source) < LEAST_CHARACTERS or not passage.target:
        return
    ratio = _log_ratio(passage)
    if abs(ratio - figures.median_log_ratio) > OUTLIER * figures.spread:
        words = {"found": f"{math.exp(ratio):.2f}", "usual": f"{math.exp(figures.median_log_ratio):.2f}"}
        yield Mark("length_ratio", "warning", None, words)


def _repeated(reading: Reading) -> Marks:
    prose = reading.prose(quotes=True)
    loop = next(
        (match for match in LOOP.finditer(prose) if _is_prose(match[0]) and not _row(prose, match.start())), None
    )
    if loop and not LOOP.search(reading.passage.source):
        unit = loop["unit"] or loop["phrase"] or loop["clause"]
        yield Mark("repeated", "error", loop.span(), {"found": unit.strip()})
        return
    counts = Counter(_sentence_texts(reading))
    in_source = max(Counter(_source_sentences(reading.passage.source)).values(), default=1)
    for text, count in counts.items():
        if count > max(in_source, 1):
            start = prose.rfind(text)
            yield Mark("repeated", "warning", (start, start + len(text)), {"found": text})


def _is_prose(text: str) -> bool:
    return len(regex.findall(r"\p{L}", text)) >= 8


def _row(text: str, position: int) -> bool:
    """Whether a place stands in a table or a list, where cells may well be alike."""
    line = text[text.rfind("\n", 0, position) + 1 :].partition("\n")[0]
    return line.lstrip().startswith("|") or LIST_MARK.match(line) is not None


def _sentence_texts(reading: Reading) -> list[str]:
    found = []
    for start, end in reading.sentences:
        text = reading.target[start:end]
        if (
            len(text) >= LEAST_SENTENCE
            and not _row(reading.target, start)
            and not reading.in_spans(start, reading.unread)
        ):
            found.append(text)
    return found


def _source_sentences(source: str) -> list[str]:
    return [text.strip().lower() for text in regex.split(r"(?<=[.!?])\s+|\n", source) if len(text.strip()) >= 4]
