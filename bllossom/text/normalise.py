"""One spelling for each text: control characters removed, characters composed. What prepare and sft both read by."""

import re
import unicodedata

# C0 and C1 controls but tab and newline, the byte order mark, and code points that are no characters.
CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\ufffc\ufffe\uffff]")
# Those of them that part lines: vertical tab, form feed, the separators of files, groups and records, next line.
LINE_BREAKS = re.compile("[\x0b\x0c\x1c-\x1e\x85]")
# Zero-width space, word joiner, soft hyphen. Joiners (U+200C, U+200D) stay: they spell letters and emoji.
ZERO_WIDTH = re.compile("[\u200b\u2060\u00ad]")
# In UTF-8: bytes that are controls themselves (and CR), and those that the others begin with.
CONTROL_BYTES = bytes(code for code in (*range(0x20), 0x7F) if code not in b"\t\n")
CONTROL_LEADS = (b"\xc2", b"\xef")


def normalise(text: str) -> str:
    """The text without control characters and in Unicode's NFC, as prepare reads corpora unless told otherwise."""
    return compose(remove_controls(text))


def compose(text: str) -> str:
    """The text in NFC: one spelling for each syllable."""
    # For ASCII this is known without a look at the text, and most other text is composed already.
    if text.isascii() or unicodedata.is_normalized("NFC", text):
        return text
    return unicodedata.normalize("NFC", text)


def may_have_controls(data: bytes) -> bool:
    """False where UTF-8 text has none for sure: a quarter of the time that a search in it takes."""
    return len(data.translate(None, CONTROL_BYTES)) != len(data) or any(lead in data for lead in CONTROL_LEADS)


def remove_controls(text: str) -> str:
    """The text without control characters; those that part lines, CRLF and CR among them, become newlines."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    # One search for both kinds: few texts have either, and each pass over a text costs as much as reading it.
    return CONTROLS.sub("", LINE_BREAKS.sub("\n", text)) if CONTROLS.search(text) else text


def remove_zero_width(text: str) -> str:
    """The text without characters that nobody sees, and that make two of a word."""
    return text if text.isascii() else ZERO_WIDTH.sub("", text)
