"""Strings that try a tokenizer, and batches of texts of a bounded size."""

import random
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

GENERATED = 20_000
BATCH_CHARACTERS = 2_000_000
ALWAYS_TRIED = ("<unk>", "<0x0A>", "<0x00>", "[INST]", "<<SYS>>")


def generate_strings(pieces: Sequence[str], special: Sequence[str], count: int, seed: int = 0) -> Iterator[str]:
    """Strings that try a tokenizer: spaces, controls, literal special tokens, emoji, jamo, NFD, Hanja, every byte …

    Most are made of the vocabulary's own pieces (as text), whole and cut, for these are where merges compete.
    """
    generator = random.Random(seed)
    special = [*special, *ALWAYS_TRIED]
    ranges = [(0, 0x100), (0x1100, 0x1200), (0x3130, 0x3190), (0xAC00, 0xD7A4), (0x4E00, 0xA000), (0x1F300, 0x1FAFF)]
    ranges += [(0x2000, 0x2070), (0x2580, 0x25A0), (0x300, 0x370), (0x400, 0x500), (0x600, 0x700), (0x3040, 0x3100)]

    def fragment() -> str:
        kind = generator.randrange(10)
        if kind < 4:
            return generator.choice(pieces)
        if kind == 4:
            piece = generator.choice(pieces)
            return piece[generator.randrange(len(piece)) :]
        if kind == 5:
            return generator.choice(" \t\n\r\0\u3000\u00a0\u200b▁=-0a가") * generator.randrange(1, 40)
        if kind == 6:
            return generator.choice(special)
        if kind == 7:
            return unicodedata.normalize("NFD", generator.choice(pieces))
        low, high = generator.choice(ranges)
        return "".join(chr(generator.randrange(low, high)) for _ in range(generator.randrange(1, 8)))

    every_byte = ["", " ", *map(chr, range(256)), bytes(range(256)).decode("latin-1")]
    yield from every_byte[:count]
    for _ in range(count - len(every_byte)):
        yield "".join(fragment() for _ in range(generator.randrange(1, 9)))


def batches(texts: Iterable[str], characters: int = BATCH_CHARACTERS) -> Iterator[list[str]]:
    """The texts, some `characters` at a time."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text) + 1
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
