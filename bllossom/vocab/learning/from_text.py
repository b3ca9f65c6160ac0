"""Pieces learned from text: the words of each source, the merges they ask for, and how many of them to take."""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bllossom.console import first_of, say
from bllossom.errors import BllossomError
from bllossom.text.sources import read_normalised
from bllossom.tokenizer.scripts import code_points
from bllossom.vocab.families.bases import Base
from bllossom.vocab.families.vocabulary import Atoms, Vocabulary, count_atoms
from bllossom.vocab.learning.knee import AUTO_POINTS, MOST, RARE, Remainder, as_table, choose_size, make_curve, spread
from bllossom.vocab.learning.learn import Pair, learn, weigh, without_loose_ends
from bllossom.vocab.repair.repair import Repaired

POINTS = 8  # of the curve where it is only looked at


def learn_from_text(
    base: Base,
    files: Sequence[Path],
    pieces: int | Literal["auto"],
    scripts: Sequence[str] | None,
    donors: Sequence[Mapping[str, float]] = (),
    *,
    fewer: Callable[[int], str] = "write pieces: {}".format,
) -> tuple[Repaired, list[dict[str, Any]]]:
    """Learn `pieces` new pieces from the files, each a source of its own; give them, and the curve of sizes.

    `donors` are lists of pieces, as the base writes them, with how likely each is. `fewer` says what to change in the
    config for as many pieces as the text gives.

    Raises:
        BllossomError: the text has no letter of the scripts, or does not give so many pieces.
    """
    allowed = base.allowed(scripts)
    sources, text = _read_sources(base, files, scripts)
    vocabulary = base.vocabulary
    _say_what_gets_none(vocabulary, sources, scripts, allowed)
    spelled = [{vocabulary.spell(piece): likely for piece, likely in donor.items()} for donor in donors]
    words = weigh(sources, spelled)
    wanted = MOST if pieces == "auto" else pieces
    merges = learn(words, wanted, allowed, frozenset(vocabulary.pieces), vocabulary.is_whole)
    kept = without_loose_ends(merges, vocabulary.is_whole)
    if not kept:
        raise BllossomError("the text gives no piece that the base lacks; name more text")
    if pieces != "auto" and len(kept) < pieces:
        raise BllossomError(
            f"the text gives {len(kept):,} pieces, not {pieces:,}; name more text, or {fewer(len(kept))}"
        )
    every: Counter[Atoms] = Counter()
    for source in sources:
        every.update(source)
    measure = partial(make_curve, kept, every, text, encode_with)
    curve = measure(spread(len(kept), AUTO_POINTS if pieces == "auto" else POINTS))
    if pieces == "auto":
        size = choose_size(curve, measure)
        if size < curve[0].pieces:
            say(
                f"merge-vocab: pieces: auto takes less than its curve shows: of {curve[0].pieces:,} pieces more than a "
                f"tenth would occur less than {RARE} times in this text; name more text for more"
            )
        if size == MOST:
            say(
                f"merge-vocab: pieces: auto tries {MOST:,} at most, and takes them all: of still more, too, a tenth or "
                f"less might occur less than {RARE} times; name a number for more"
            )
        kept = without_loose_ends(kept[:size], vocabulary.is_whole)
        if not kept:
            raise BllossomError("of the pieces that this text has often enough none is a whole letter; name more text")
    say(f"{len(kept):,} pieces learned from {len(sources)} source(s), {sum(every.values()):,} words")
    order = [left + right for left, right in kept]
    broken = [piece for piece in order if not vocabulary.is_whole(piece)]
    return Repaired(order, {piece: i for i, piece in enumerate(order)}, broken, []), as_table(curve)


def _read_sources(
    base: Base, files: Sequence[Path], scripts: Sequence[str] | None
) -> tuple[list[Mapping[Atoms, int]], Remainder]:
    """Of each file, the words that hold a letter of the scripts, as atoms; and what all of them hold beside that."""
    vocabulary = base.vocabulary
    points = code_points(tuple(scripts)) if scripts is not None else None
    sources: list[Mapping[Atoms, int]] = []
    spaced = other_tokens = 0
    for path in files:
        words: Counter[str] = Counter()
        for document in read_normalised(str(path)):
            words.update(vocabulary.split(document))
            spaced += len(document.split())
        theirs = {w: count for w, count in words.items() if points is None or points.holds(vocabulary.read(w))}
        others = {word: count for word, count in words.items() if word not in theirs}
        other_tokens += sum(len(atoms) * count for atoms, count in count_atoms(vocabulary, others).items())
        if theirs:
            sources.append(count_atoms(vocabulary, theirs))
    if not sources:
        named = "text" if scripts is None else f"letter of {', '.join(scripts)}"
        raise BllossomError(f"{files[0]} and the others hold no {named}; name other text, or other scripts")
    return sources, Remainder(spaced, other_tokens)


def _say_what_gets_none(
    vocabulary: Vocabulary,
    sources: Sequence[Mapping[Atoms, int]],
    scripts: Sequence[str] | None,
    allowed: Callable[[str], bool],
) -> None:
    """Name the text's letters of the scripts that cannot be joined: their first bytes are another script's, too, and no
    piece of the base, or a piece of the base that it never makes."""
    if scripts is None:
        return
    points = code_points(tuple(scripts))
    read = {character for source in sources for atoms in source for character in vocabulary.read("".join(atoms))}
    letters = {letter: vocabulary.write(letter) for letter in sorted(read) if ord(letter) in points}
    taken = frozenset(vocabulary.pieces)
    shared: list[str] = []
    unmade: list[str] = []
    for letter, written in letters.items():
        joins = [*itertools.accumulate(vocabulary.spell(written))][1:] if written is not None else []
        barred = [piece for piece in joins if not allowed(piece)]
        if barred:
            (unmade if taken.issuperset(barred) else shared).append(letter)
    for none, why in (
        (shared, "other scripts' begin with the same bytes, and the base has no piece of these"),
        (unmade, "the base has them, or their first bytes, as a piece that its merges do not make"),
    ):
        if none:
            say(
                f"{len(none):,} of the text's {len(letters):,} letters of {', '.join(scripts)} get no piece of their "
                f"own ({first_of(none)}): {why}"
            )


def encode_with(merges: Sequence[Pair], words: Sequence[Atoms]) -> list[Sequence[str]]:
    """Each word, given as its atoms, once these merges are applied: by the library, on one character an atom."""
    from tokenizers import Tokenizer, models

    numbers: dict[str, int] = {}
    for atoms in words:
        for atom in atoms:
            numbers.setdefault(atom, len(numbers))
    pieces = [*numbers]
    single = {piece: chr(0x10000 + number) for piece, number in numbers.items()}
    written = dict(single)
    vocab = {character: number for number, character in enumerate(single.values())}
    pairs = []
    for left, right in merges:
        if left in written and right in written and written[left] + written[right] not in vocab:
            pairs.append((written[left], written[right]))
            written[left + right] = written[left] + written[right]
            vocab[written[left + right]] = len(pieces)
            pieces.append(left + right)
    tokenizer = Tokenizer(models.BPE(vocab, pairs))
    found: list[Sequence[str]] = []
    for start in range(0, len(words), 20_000):
        batch = ["".join(single[atom] for atom in atoms) for atoms in words[start : start + 20_000]]
        found += [[pieces[i] for i in e.ids] for e in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
    return found
