"""JSON Lines, and files of JSON: one value, a list, or values or lists one after the other."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO

from bllossom.text.readers.entry import NOTHING_BEHIND, Entry, explain

MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark; where files were joined, it stands in the middle, too
EXTRA = "Extra data"  # the json module's words where something stands behind a value


def read_lines(lines: Iterable[bytes], skip: int = 0) -> Iterator[Entry]:
    """A value a line; reading goes on behind a broken one.

    What begins with a list over several lines is that list, and what begins with lists joined in a line these lists.
    """
    begun = False
    lines = iter(lines)
    for number, line in enumerate(lines, 1):
        if number <= skip and begun:
            continue
        if line.startswith(MARK):
            line = line[3:]
        if line.isspace() or not line:
            continue
        try:
            # Decoded first: json.loads on bytes would let surrogates through that UTF-8 forbids.
            entry = Entry(number, json.loads(line.decode()), "", b"\\u" in line)
        except (ValueError, RecursionError) as error:
            joined = isinstance(error, json.JSONDecodeError) and error.msg == EXTRA
            if not begun and line.lstrip().startswith(b"[") and ((rest := b"".join(lines)) or joined):
                yield from (entry for entry in values(line + rest, number) if entry.number > skip)
                return
            entry = Entry(number, None, explain(error))
        begun = True
        if number > skip:
            yield entry


def read_json(file: IO[bytes], skip: int = 0) -> Iterator[Entry]:
    """The file as one value; or as JSON Lines, or values one after the other, where that is what it holds."""
    head: list[bytes] = []
    begins: list[bytes] = []  # the first two lines that are not blank
    for line in file:
        head.append(line)
        begins += [] if line.isspace() else [line]
        if len(begins) == 2:
            break
    if len(begins) == 2 and _is_json(begins[0]):
        yield from read_lines(chain(head, file), skip)
    else:
        yield from (entry for entry in _one_or_several(b"".join(head) + file.read()) if entry.number > skip)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line.removeprefix(MARK))
    except (ValueError, RecursionError):
        return False
    return True


def _one_or_several(data: bytes) -> Iterator[Entry]:
    try:
        yield Entry(1, json.loads(data.decode("utf-8-sig")), "", b"\\u" in data)
    except json.JSONDecodeError as error:
        if error.msg == EXTRA:
            yield from values(data)
        else:
            yield Entry(1, None, explain(error))
    except (ValueError, RecursionError) as error:
        yield Entry(1, None, explain(error))


def values(data: bytes, line: int = 1) -> Iterator[Entry]:
    """The elements of a JSON list, or JSON values one after the other, with the lines they begin at.

    Behind a list come the elements of further lists, and values, as where files were joined. Those that begin at one
    line get numbers that go on from it. Nothing can be read behind what is broken.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        why = "is not UTF-8 here; convert the file with iconv, nothing of it can be read"
        yield Entry(line + data.count(b"\n", 0, error.start), None, why)
        return
    decoder, place, counted, last = json.JSONDecoder(), _skip(text, 0), 0, 0
    escaped = "\\u" in text
    of_lists = text[place : place + 1] == "["  # where a value comes first, a list behind it is a value, too
    listed = False
    while listed or place < len(text):
        begins = text[place : place + 1]
        if begins == "]" if listed else (begins == "[" and of_lists):
            listed, place = not listed, _skip(text, place + 1)
            continue
        line, counted = line + text.count("\n", counted, place), place
        last = max(line, last + 1)
        if not begins:
            yield Entry(last, None, "the end of the list is missing; the file was cut short: get it anew")
            return
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield Entry(last, None, f"{explain(error)}, {NOTHING_BEHIND}")
            return
        yield Entry(last, value, "", escaped)
        place = _skip(text, place)
        if listed and text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif listed and text[place : place + 1] not in ("]", ""):
            missing = "a comma or the end of the list is missing before it"
            yield Entry(last + 1, None, f"{missing}; repair the file, {NOTHING_BEHIND}")
            return


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\ufeff":  # the mark stands where files were joined
        place += 1
    return place
