"""Whether an answer is in the prompt's language, by lingua (github.com/pemistahl/lingua-rs)."""

import re
from collections.abc import Sequence
from typing import Any

from bllossom.errors import BllossomError, ConfigError

CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`|https?://\S+", re.DOTALL)
FEWEST_LETTERS = 10  # shorter texts ("No", "OK") are told apart no better than by chance
SMALLEST_LEAD = 0.1  # of the likeliest language over the next, as lingua measures it


class Languages:
    """Tells these languages apart; about 160 MB for seven, loaded as they are met."""

    def __init__(self, codes: Sequence[str]) -> None:
        """`codes` are those of ISO 639-1.

        Raises:
            BllossomError: lingua is not installed.
            ConfigError: a code that lingua does not know, or fewer than two.
        """
        try:
            import lingua
        except ImportError as error:
            raise BllossomError("languages need lingua: pip install 'bllossom[judge]', or set languages: []") from error
        if unknown := [code for code in codes if not hasattr(lingua.IsoCode639_1, code.upper())]:
            raise ConfigError(f"languages: {unknown[0]!r} is no language that lingua knows; write ISO 639-1, as ko")
        if len(set(codes)) < 2:
            raise ConfigError("languages: one cannot be told from nothing; name two or more, or [] for no check")
        chosen = [getattr(lingua.IsoCode639_1, code.upper()) for code in codes]
        builder = lingua.LanguageDetectorBuilder.from_iso_codes_639_1(*chosen)
        self._detector: Any = builder.with_minimum_relative_distance(SMALLEST_LEAD).build()

    def of(self, text: str) -> str | None:
        """The language that a text is mainly in, code and addresses left aside; None where that cannot be told."""
        prose = CODE.sub(" ", text)
        if sum(map(str.isalpha, prose)) < FEWEST_LETTERS:
            return None
        found = self._detector.detect_language_of(prose)
        return None if found is None else str(found.iso_code_639_1.name).lower()


def primary(code: str | None) -> str | None:
    """The language of a tag such as `ko-KR`."""
    return None if code is None else code.replace("_", "-").partition("-")[0].lower()


def is_wrong(language: str | None, expected: str | None) -> bool:
    """Whether an answer is in another language than its prompt; not where one of the two cannot be told."""
    return None not in (language, expected) and language != expected
