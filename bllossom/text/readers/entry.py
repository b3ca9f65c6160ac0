"""What a reader gives: one value of a file after the other, or why it cannot be read."""

import json
import sys
from typing import Any, NamedTuple

NOTHING_BEHIND = "nothing behind it can be read"  # where an error ends the reading of a file


class Entry(NamedTuple):
    """A line, row or other value of a file."""

    number: int  # 1-based and rising: the line that it begins at, the row, the paragraph
    value: Any  # plain Python; None where there is an error
    error: str = ""
    escaped: bool = False  # its JSON has an escaped character, which may be half of a surrogate pair
    member: str = ""  # of an archive


def explain(error: Exception) -> str:
    """Why a record cannot be read and what to do, for what decoding it raised."""
    if isinstance(error, UnicodeDecodeError):
        if error.encoding not in ("utf-8", "utf8"):
            return f"is not {error.encoding} from here on; set encoding to what the file is in"
        begins = error.object[:2]
        if begins in (b"\xff\xfe", b"\xfe\xff"):
            return "begins with the mark of UTF-16; convert the file with iconv, or give prepare its encoding: utf-16"
        place = error.start + 1
        return f"byte {place} of the record is not UTF-8; convert the file with iconv, or give prepare its encoding"
    if isinstance(error, UnicodeEncodeError):
        return "an escaped half of a surrogate pair is no character; repair it"
    if isinstance(error, json.JSONDecodeError):
        return f"is not JSON ({error.msg.removesuffix(' at')} at column {error.colno}); repair it"
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply in it to be read; repair it"
    if type(error) is ValueError and "set_int_max_str_digits" in str(error):
        return f"a number in it has more than {sys.get_int_max_str_digits():,} digits; shorten it, or put it in quotes"
    return str(error)
