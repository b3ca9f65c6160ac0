"""markup_lost, list_count and truncated: what the shape of the source says of the shape of the target."""

from collections import Counter

import regex

from bllossom.localize.masking import VERBATIM, find_pieces
from bllossom.localize.rules.numbers import digit_numbers, word_values
from bllossom.localize.rules.reading import Mark, Marks, Morpheme, Reading

COUNTED = ("heading", "list mark", "emphasis", "table rule", "quotation mark of Markdown")
MARK = regex.compile(r"^(?P<indent>[ \t]*)(?:[-*+•]|\d{1,3}[.)])[ \t]+\S")
CLOSING = "\"'”’)]」』》*_`~ \n"
END = regex.compile(r"[.!?…。:;~]|[\p{So}\p{Sk}]")
SHOWN = 12  # characters of a cut end


def check(reading: Reading) -> Marks:
    """All three."""
    if reading.passage.source:
        yield from _markup(reading)
        yield from _truncated(reading)
    yield from _list_count(reading)


def _markup(reading: Reading) -> Marks:
    before, after = list(find_pieces(reading.passage.source)), reading.pieces
    there = Counter(_plain(piece.text) for piece in after)
    lost = []
    for piece in before:
        if piece.kind in VERBATIM and piece.kind != "number with unit":
            if there[_plain(piece.text)] <= 0 and piece.text not in reading.target:
                lost.append(piece.text)
            there[_plain(piece.text)] -= 1
    for kind in COUNTED:
        wanted, found = (sum(piece.kind == kind for piece in pieces) for pieces in (before, after))
        # One bold word more or less is style; a list or a heading that is gone is not.
        if wanted and found < (wanted if kind != "emphasis" else min(wanted, 2)):
            lost.append(f"{kind} ({wanted} → {found})")
    if lost:
        yield Mark("markup_lost", "error", None, {"found": ", ".join(text[:60] for text in lost[:4])})


def _plain(text: str) -> str:
    return regex.sub(r"\s+", " ", text).strip()


def _list_count(reading: Reading) -> Marks:
    lines = reading.target.split("\n")
    offset = 0
    counted = rf"(?P<number>\d+|[^\W\d_]+)\s?(?:{reading.language.counters})"
    for number, line in enumerate(lines):
        items = _items_after(lines, number)
        if items and not MARK.match(line):
            for match in regex.finditer(counted, line):
                said = _said(match["number"], reading)
                rest = line[match.end() :]
                if said >= 2 and said != items and not regex.match(rf"\s?(?:{reading.language.uncounted})", rest):
                    place = (offset + match.start(), offset + match.end())
                    yield Mark("list_count", "warning", place, {"said": said, "found": items})
                    break
        offset += len(line) + 1


def _items_after(lines: list[str], number: int) -> int:
    """How many top-level items the list has that follows a line, over blank lines; 0 where none does."""
    rest = lines[number + 1 :]
    while rest and not rest[0].strip():
        rest = rest[1:]
    first = MARK.match(rest[0]) if rest else None
    if first is None:
        return 0
    items = 0
    for line in rest:
        mark = MARK.match(line)
        if mark and len(mark["indent"]) <= len(first["indent"]):
            items += 1
        elif line.strip() and not mark and not line.startswith((" ", "\t")):
            break
    return items


def _said(text: str, reading: Reading) -> int:
    numbers = reading.language.numbers
    if text.isdigit():
        return int(digit_numbers(text, numbers)[0].value)
    exact = numbers.words.get(text.lower())
    if exact is None:
        values = [value for value in word_values(text, numbers, reading.language.letters) if value >= 2]
        exact = values[0] if len(values) == 1 and len(text) <= 4 else 0
    return int(exact)


def _truncated(reading: Reading) -> Marks:
    source, target = reading.passage.source.rstrip(), reading.target.rstrip()
    if not target:
        return
    place = (max(len(target) - SHOWN, 0), len(target))
    open_now = _open_marks(target)
    opened = {name for name in open_now if name not in _open_marks(source)}
    whole = bool(regex.search(reading.source_language.sentence_end, source)) or source.endswith("```")
    if reading.passage.cut or opened or (whole and _breaks_off(reading, target)):
        yield Mark("truncated", "error", place, {"found": target[slice(*place)]})


def _breaks_off(reading: Reading, target: str) -> bool:
    bare = target.rstrip(CLOSING)
    if not bare or END.search(target[len(bare) - 1 :]) or reading.in_spans(len(bare) - 1, reading.unread):
        return False
    if reading.morphology is None:
        return True
    inside = [morpheme for morpheme in reading.morphemes if morpheme.start < len(bare)]
    if not inside:
        return False
    last = inside[-1]
    counted = last.tag == "NNB" and len(inside) > 1 and inside[-2].tag in ("MM", "NR", "SN")  # three times …
    line = target[target.rfind("\n") + 1 :]
    after_a_sentence = regex.search(r"[\p{L})][.!?]\s", line) is not None
    unfinished = last.tag in reading.language.unfinished_tags or counted or _hangs(reading, last)
    return unfinished or (after_a_sentence and last.tag != "EF")


def _hangs(reading: Reading, last: Morpheme) -> bool:
    """An informal ending without a full stop, the only one there is, connects, and its rest is missing (-지)."""
    registers = reading.language.registers
    if registers is None or last.tag != "EF":
        return False
    homes = next((ending.registers for ending in registers.endings if regex.fullmatch(ending.form, last.form)), None)
    earlier = [morpheme for morpheme in reading.morphemes[:-1] if morpheme.tag == "EF"]
    return homes == ["hae"] and not earlier


def _open_marks(text: str) -> set[str]:
    """Quotation marks, brackets and code fences that are not closed."""
    found = {"```"} if len(regex.findall(r"^\s*```", text, regex.MULTILINE)) % 2 else set()
    plain = regex.sub(r"```.*?(```|\Z)|`[^`\n]*`", " ", text, flags=regex.DOTALL)
    plain = regex.sub(r"(?m)^\s*\w{1,3}\)|[:;]-?[()]", " ", plain)
    for opening, closing in ("()", "[]", "“”", "‘’", "「」", "『』"):
        if plain.count(opening) > plain.count(closing) + (plain.count("'") if opening == "‘" else 0):
            found.add(opening)
    if plain.count('"') % 2 and not regex.search(r'\d"', plain):
        found.add('"')
    return found
