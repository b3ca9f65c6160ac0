"""JSON Lines, and files of JSON: one value, a list, or values one after the other."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import IO

from bllossom.text.readers.entry import Entry, explain

MARK = b"\xef\xbb\xbf"  # UTF-8's byte order mark; where files were joined, it stands in the middle, too


def read_lines(lines: Iterable[bytes], skip: int = 0) -> Iterator[Entry]:
    """A value a line; reading goes on behind a broken one. What begins with a list over several lines is that list."""
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
            if not begun and line.lstrip().startswith(b"[") and (rest := b"".join(lines)):
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
    elif not skip or len(begins) == 2:
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
        if error.msg == "Extra data":
            yield from values(data)
        else:
            yield Entry(1, None, explain(error))
    except (ValueError, RecursionError) as error:
        yield Entry(1, None, explain(error))


def values(data: bytes, line: int = 1) -> Iterator[Entry]:
    """The elements of a JSON list, or JSON values one after the other, with the lines they begin at.

    Those that begin at one line get numbers that go on from it. Nothing can be read behind what is broken.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield Entry(line + data.count(b"\n", 0, error.start), None, "is not UTF-8 here; convert the file with iconv")
        return
    decoder, place, counted, last = json.JSONDecoder(), _skip(text, 0), 0, 0
    escaped = "\\u" in text
    listed = text[place : place + 1] == "["
    place = _skip(text, place + 1) if listed else place
    while place < len(text) and not (listed and text[place] == "]"):
        line, counted = line + text.count("\n", counted, place), place
        last = max(line, last + 1)
        try:
            value, place = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield Entry(last, None, explain(error))
            return
        yield Entry(last, value, "", escaped)
        place = _skip(text, place)
        if listed and text[place : place + 1] == ",":
            place = _skip(text, place + 1)
        elif listed and text[place : place + 1] != "]":
            yield Entry(last + 1, None, "a comma or the end of the list is missing before it; repair the file")
            return


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n\ufeff":  # the mark stands where files were joined
        place += 1
    return place
