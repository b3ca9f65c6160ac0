"""Letters first: where the base leaves a letter in bytes, its bytes are joined before anything else is.

A byte-level base spells 한 as three bytes, and ` 한` as the piece `Ġí` and two bytes. Once every letter that the
donor's pieces hold is one symbol, there are fewer different segments by a factor of twenty, and only short ones.
SentencePiece's atoms are letters already: there is nothing to do.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from bllossom.vocab.families.vocabulary import Atoms
from bllossom.vocab.repair.intermediates import IMPOSSIBLE, cover, find_candidates, missing
from bllossom.vocab.repair.priorities import join
from bllossom.vocab.repair.segments import parts


def group(atoms: Atoms, is_whole: Callable[[str], bool]) -> Atoms:
    """The atoms joined to letters: to the shortest strings that begin and end where characters do."""
    letters, letter = [], ""
    for atom in atoms:
        letter += atom
        if is_whole(letter):
            letters.append(letter)
            letter = ""
    return (*letters, letter) if letter else tuple(letters)


class Letters:
    """The letters that the pieces hold and the base has not, the parts they need, and their order."""

    def __init__(
        self,
        pieces: Iterable[str],
        spell: Callable[[str], Atoms],
        is_whole: Callable[[str], bool],
        allowed: Callable[[str], bool],
    ) -> None:
        self._spell, self._is_whole = spell, is_whole
        found = {letter for piece in pieces for letter in group(spell(piece), is_whole)}
        atoms = {letter: made_of for letter in found if len(made_of := spell(letter)) > 1}
        candidates = find_candidates(atoms, allowed)
        lacking = {letter: missing(made_of, atoms, (), candidates) for letter, made_of in atoms.items()}
        self.impossible = {letter for letter, count in lacking.items() if count >= IMPOSSIBLE}
        atoms = {letter: made_of for letter, made_of in atoms.items() if letter not in self.impossible}
        self.parts = cover(atoms, _count_uses(candidates, atoms))
        both: Mapping[str, Atoms] = atoms | {part: spell(part) for part in self.parts}
        self.order = sorted(both, key=lambda piece: (len(both[piece]), piece))
        self._ranks = {piece: float(i) for i, piece in enumerate(self.order)}
        self.new = frozenset(atoms)

    def of(self, piece: str) -> Atoms:
        """The letters of a piece."""
        return group(self._spell(piece), self._is_whole)

    def needed_by(self, pieces: Iterable[str]) -> set[str]:
        """The new letters of these pieces, and the parts that those need."""
        letters = {letter for piece in pieces for letter in self.of(piece)} & self.new
        return letters | {part for letter in letters for part in parts(self._spell(letter)) if part in self.parts}

    def joined(self, atoms: Atoms) -> Atoms:
        """A word's atoms once these letters are made."""
        return tuple(join(atoms, self._ranks)) if self.order else atoms


def _count_uses(candidates: Collection[str], atoms: Mapping[str, Atoms]) -> dict[str, int]:
    uses = dict.fromkeys(candidates, 0)
    for made_of in atoms.values():
        for part in set(parts(made_of)):
            if part in uses:
                uses[part] += 1
    return uses
