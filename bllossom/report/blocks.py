"""What a section of the page is made of: text, tables and charts, with a source behind every number."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bllossom.report.run_folder import Figure

Cell = Figure | str | None


@dataclass(frozen=True)
class Table:
    """Rows under a header. The first column names the row; None is shown as a dash."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A Vega-Lite specification, and the table that stands behind it."""

    title: str
    spec: dict[str, Any]
    table: Table


@dataclass(frozen=True)
class Drawing:
    """SVG of our own, drawn in the page's colours."""

    svg: str


@dataclass(frozen=True)
class Listing:
    """Text as it stands in a file, folded away under its title."""

    title: str
    text: str


Block = str | Table | Chart | Drawing | Listing


@dataclass(frozen=True)
class Section:
    """A part of the page; `anchor` is what links lead to."""

    anchor: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)
