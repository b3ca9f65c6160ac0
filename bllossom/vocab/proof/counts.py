"""What a proof counts on its way."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class LanguageCounts:
    """What one language's documents came to."""

    documents: int = 0
    changed_documents: int = 0  # that hold a new piece: all others have the base's ids
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # how often each id occurs, int64[pieces]


@dataclass
class Proof:
    """What was compared. A proof that fails raises, so a `Proof` always stands for agreement."""

    generated: int
    languages: dict[str, LanguageCounts]

    @property
    def texts(self) -> int:
        """Documents and generated strings together."""
        return self.generated + sum(counts.documents for counts in self.languages.values())
