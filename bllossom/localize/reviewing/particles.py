"""An entity replaced over a text, with the particles that follow it corrected for the new sound."""

import unicodedata
from dataclasses import dataclass

import regex

from bllossom.localize.language import Language, Particle


@dataclass(frozen=True)
class Replaced:
    """The text with the new entity, and how often it was put in."""

    text: str
    count: int


def replace_entity(text: str, old: str, new: str, language: Language) -> Replaced:
    """Put `new` for every `old` that begins a word; what is written on to it stays, but for its particle's form."""
    # Capitalised or not, an entity is the same; inside a longer word it is another.
    pattern = regex.compile(rf"(?<![\p{{L}}\p{{N}}]){regex.escape(old)}(?![A-Za-z0-9])", regex.IGNORECASE)
    parts, last, count = [], 0, 0
    for match in pattern.finditer(text):
        parts += [text[last : match.start()], new]
        count += 1
        last = match.end()
        found = _particle(text, last, language)
        if found is not None:
            written, particle = found
            parts.append(_form(particle, new, language))
            last += len(written)
    return Replaced("".join([*parts, text[last:]]), count)


def _particle(text: str, position: int, language: Language) -> tuple[str, Particle] | None:
    """The particle that begins at a place, if only particles follow up to the word's end."""
    word = regex.match(rf"{language.letters}*", text[position:])
    rest = word[0] if word else ""
    forms = [(form, particle) for particle in language.particles for form in (particle.closed, particle.open)]
    for form, particle in sorted(forms, key=lambda found: -len(found[0])):
        if rest.startswith(form) and rest[len(form) :] in ("", *language.after_particles):
            return form, particle
    return None


def _form(particle: Particle, word: str, language: Language) -> str:
    sound = closing_consonant(word, language)
    is_open = not sound or (particle.open_after != "" and _letter(sound) == _letter(particle.open_after))
    return particle.open if is_open else particle.closed


def closing_consonant(word: str, language: Language) -> str:
    """The consonant that a word ends in, as it is read aloud; "" after a vowel."""
    spoken = regex.sub(r"[^\p{L}\p{N}]+$", "", word)
    if not spoken:
        return ""
    last = unicodedata.normalize("NFD", spoken)[-1]
    if "JONGSEONG" in unicodedata.name(last, ""):
        return last
    return language.closed_digits.get(last) or language.closed_letters.get(last.lower(), "")


def _letter(jamo: str) -> str:
    """RIEUL, of ㄹ as a letter of its own and at the end of a syllable alike."""
    return unicodedata.name(jamo).rpartition(" ")[2]
