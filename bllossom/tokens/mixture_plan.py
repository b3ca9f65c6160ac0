"""What a run will have seen of a mixture: a row per language and source, target beside observed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["bytes", "tokens", "documents"]


@dataclass(frozen=True)
class Share:
    """A row of a plan: what a run sees of one source, or of a whole language (`source` is empty)."""

    language: str
    source: str
    blocks: int
    tokens: int
    bytes: float  # of text, by the source's mean bytes per token
    documents: float
    epochs: float
    target: float  # share of all in the mixture's unit
    observed: float  # the same, as it comes out
    repeated_tokens: int  # read twice, where the last block of each epoch steps back


@dataclass(frozen=True)
class MixturePlan:
    """What the first `blocks` blocks of a mixture hold: a row per language, then a row per source."""

    unit: Unit
    blocks: int
    languages: list[Share]
    sources: list[Share]

    def lines(self) -> list[str]:
        """The plan as a table, target beside observed."""
        tokens = sum(row.tokens for row in self.languages)
        text = sum(row.bytes for row in self.languages)
        lines = [f"{'':24} {'target':>7} {'observed':>8} {'by bytes':>8} {'by tokens':>9} {'tokens':>15} {'epochs':>7}"]
        for row in self.languages + self.sources:
            name = f"{row.language}/{row.source}" if row.source else row.language
            lines.append(
                f"{name:24} {row.target:7.2%} {row.observed:8.2%} {row.bytes / text:8.2%} "
                f"{row.tokens / tokens:9.2%} {row.tokens:15,} {row.epochs:7.3f}"
            )
        return [*lines, f"target and observed are shares of {self.unit}"]


def language_row(language: str, sources: Sequence[Share]) -> Share:
    """The sources of a language as one row."""
    rows = [row for row in sources if row.language == language]
    blocks = sum(row.blocks for row in rows)
    in_an_epoch = sum(row.blocks / row.epochs for row in rows if row.epochs)
    return Share(
        language=language,
        source="",
        blocks=blocks,
        tokens=sum(row.tokens for row in rows),
        bytes=sum(row.bytes for row in rows),
        documents=sum(row.documents for row in rows),
        epochs=blocks / in_an_epoch if in_an_epoch else 0.0,
        target=sum(row.target for row in rows),
        observed=sum(row.observed for row in rows),
        repeated_tokens=sum(row.repeated_tokens for row in rows),
    )
