"""Numbers of a text with their values: digits with a scale (1.3 million, 130만), and words (three, 세)."""

from collections.abc import Iterable
from dataclasses import dataclass

import regex

from bllossom.localize.language import Numbers

DIGITS = r"\d{1,3}(?:[,.]\d{3})+(?:[.,]\d+)?|\d+(?:[.,]\d+)?"
SECTION = 10_000
"""Scales from here on close a section: 1만 2천 is 1 × 10,000 + 2 × 1,000."""


@dataclass(frozen=True)
class Number:
    """A number in digits: its value and its place in code points, scale included."""

    value: float
    start: int
    end: int


def digit_numbers(text: str, numbers: Numbers) -> list[Number]:
    """Every number in digits, in order."""
    scales = "|".join(sorted(map(regex.escape, numbers.scales), key=len, reverse=True))
    part = rf"(?:{DIGITS})(?:\s?(?i:{scales})(?![A-Za-z]))*" if scales else rf"(?:{DIGITS})"
    found: list[Number] = []
    for match in regex.finditer(rf"(?<![\d.,]){part}", text):
        value = _value(match[0], numbers)
        last = found[-1] if found else None
        joined = (
            last and text[last.end : match.start()] in ("", " ") and _smallest(text[last.start : last.end], numbers)
        )
        if last and joined and joined >= SECTION and value < joined:
            found[-1] = Number(last.value + value, last.start, match.end())
        else:
            found.append(Number(value, match.start(), match.end()))
    return found


def word_values(text: str, numbers: Numbers, own_letters: str) -> set[float]:
    """The values of number words. Where words are not kept apart by spaces, any that begins a word counts."""
    values: set[float] = set()
    for word in regex.findall(r"\p{L}+", text.lower()):
        if word in numbers.words:
            values.add(numbers.words[word])
        elif not regex.fullmatch("[a-zäöüß]+", word) and regex.match(own_letters, word):
            values |= {numbers.words[word[:length]] for length in (1, 2, 3) if word[:length] in numbers.words}
            values |= _spelled(word, numbers) | _tens_and_ones(word, numbers)
    return values


def _spelled(word: str, numbers: Numbers) -> set[float]:
    """이백오십 is 250: digits and scales written as syllables, at the beginning of a word."""
    total, section, digit, length = 0.0, 0.0, 0.0, 0
    for syllable in word:
        if syllable in numbers.scales:
            scale = numbers.scales[syllable]
            if scale >= SECTION:
                total, section, digit = total + max(section + digit, 1) * scale, 0.0, 0.0
            else:
                section, digit = section + max(digit, 1) * scale, 0.0
        elif numbers.words.get(syllable, 0) in range(1, 10):
            digit = numbers.words[syllable]
        else:
            break
        length += 1
    return {total + section + digit} if length >= 2 else set()


def _tens_and_ones(word: str, numbers: Numbers) -> set[float]:
    """열다섯 is 15: a word for a ten and one for a digit, written together."""
    pairs = [(word[:cut], word[cut : cut + length]) for cut in (1, 2) for length in (1, 2)]
    return {
        numbers.words[tens] + numbers.words[ones]
        for tens, ones in pairs
        if numbers.words.get(tens, 0) in range(10, 100, 10) and numbers.words.get(ones, 0) in range(1, 10)
    }


def _value(text: str, numbers: Numbers) -> float:
    """The value of digits with scales after them."""
    digits = regex.match(DIGITS, text)[0]
    factor = 1.0
    for scale in _scales(text, numbers):
        factor *= scale
    return plain_value(digits, numbers.decimal) * factor


def plain_value(digits: str, decimal: str) -> float:
    """1,280 and 12.5 (or 1.280 and 12,5 where the comma is the decimal mark) as a number."""
    thousands = "," if decimal == "." else "."
    if regex.fullmatch(rf"\d{{1,3}}(?:{regex.escape(thousands)}\d{{3}})+(?:{regex.escape(decimal)}\d+)?", digits):
        digits = digits.replace(thousands, "")
    return float(digits.replace(",", ".")) if digits.count(".") + digits.count(",") <= 1 else 0.0


def _scales(text: str, numbers: Numbers) -> Iterable[int]:
    known = {name.lower(): scale for name, scale in numbers.scales.items()}
    names = "|".join(sorted(map(regex.escape, known), key=len, reverse=True))
    return [known[name] for name in regex.findall(names, text.lower())] if names else []


def _smallest(text: str, numbers: Numbers) -> int:
    return min(_scales(text, numbers), default=0)
