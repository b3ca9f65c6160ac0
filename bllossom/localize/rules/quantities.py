"""unit and number_changed: quantities as people elsewhere write them, and numbers that are not the source's."""

import math

import regex

from bllossom.localize.rules.numbers import Number, digit_numbers, word_values
from bllossom.localize.rules.reading import LIST_MARK, Mark, Marks, Reading, prose_of

AFTERNOON = regex.compile(r"(:\d\d)?\s?[Pp]\.?[Mm]\b")
TOLERANCE = 0.06
"""Relative: a converted quantity may be rounded so much."""


def check(reading: Reading) -> Marks:
    """Foreign units, and numbers in digits that stand on one side alone."""
    yield from _units(reading)
    if reading.passage.source:
        yield from _changed(reading)


def _units(reading: Reading) -> Marks:
    prose = reading.prose(quotes=True)
    taken: list[tuple[int, int]] = []
    for unit in reading.language.units:
        for match in regex.finditer(unit.pattern, prose):
            if not any(start < match.end() and match.start() < end for start, end in taken):
                taken.append(match.span())
                yield Mark("unit", "warning", match.span(), {"found": match[0], "what": unit.what})


def _changed(reading: Reading) -> Marks:
    source, target = _numerals(prose_of(reading.passage.source)), _numerals(reading.prose(quotes=True))
    theirs, ours = reading.source_language.numbers, reading.language.numbers
    before, after = digit_numbers(source, theirs), digit_numbers(target, ours)
    said_before = word_values(source, theirs, "[a-z]") | _months(reading, source)
    said_after = word_values(target, ours, reading.language.letters)
    afternoon = {number.value + 12 for number in before if AFTERNOON.match(source, number.end)}
    allowed = {number.value for number in before} | afternoon | said_before | _scaled(said_before, source, reading)
    converted = [value for number in before for value in _conversions(reading, source, number)]
    for number in after:
        if not _among(number.value, allowed) and not _near(number.value, converted):
            found = target[number.start : number.end]
            yield Mark("number_changed", "error", (number.start, number.end), {"found": found})
    present = {number.value for number in after} | said_after
    present |= {hour - 12 for hour in afternoon & present}
    missing = [
        source[number.start : number.end]
        for number in before
        if not _among(number.value, present) and not _is_converted(reading, source, number, after)
    ]
    if missing:
        yield Mark("number_changed", "error", None, {"found": ", ".join(missing)})


def _numerals(text: str) -> str:
    """The text without list numbers; places stay as they are."""
    return LIST_MARK.sub(lambda match: " " * len(match[0]), text)


def _months(reading: Reading, source: str) -> set[float]:
    months = reading.source_language.months
    words = {word.lower() for word in regex.findall(r"\p{Lu}\p{L}+", source)}
    return {float(number) for number, month in enumerate(months, 1) if month in words}


def _scaled(said: set[float], source: str, reading: Reading) -> set[float]:
    """`two hundred`, `half a million`: products of the words' values with the scales that stand in the source."""
    scales = {
        float(value)
        for name, value in reading.source_language.numbers.scales.items()
        if regex.search(rf"\b{regex.escape(name)}s?\b", source.lower()) and len(name) > 2
    }
    return (
        scales
        | {value * scale for value in said for scale in scales}
        | {first + second for first in said for second in said}
    )


def _among(value: float, values: set[float]) -> bool:
    return any(math.isclose(value, other) for other in values)


def _conversions(reading: Reading, source: str, number: Number) -> list[float]:
    """What a number with a unit of the source may come to;"""
    following = source[number.end : number.end + 24]
    found = []
    for conversion in reading.source_language.conversions:
        if regex.match(rf"[\s-]*(?:{conversion.pattern})", following):
            found += [number.value * factor + conversion.offset for factor in conversion.factors]
    return found


def _near(value: float, values: list[float]) -> bool:
    return any(abs(value - other) <= max(TOLERANCE * abs(other), 0.5 if abs(other) > 5 else 0.05) for other in values)


def _is_converted(reading: Reading, source: str, number: Number, after: list[Number]) -> bool:
    """Whether a number of the source stands in the target in another unit."""
    converted = _conversions(reading, source, number)
    return any(_near(other.value, converted) for other in after)
