"""Bars of win, tie, inconsistent and lose of one model against each of its opponents, as SVG, for light and dark."""

import unicodedata
from collections.abc import Mapping, Sequence
from html import escape

from bllossom.evaluation.judge.verdicts import Outcome

SHOWN: tuple[Outcome, ...] = ("win", "tie", "inconsistent", "lose")
ROW, BAR, WIDTH, PADDING = 46, 26, 560, 16  # pixels
CHARACTER = 7.6  # pixels of an average one at 13 px, to make room for names
SMALLEST_LABEL = 26  # pixels that a number needs within its part
LIGHT = {"text": "#1d2129", "page": "#fff"}
LIGHT |= {"win": "#2f6db0", "tie": "#757d87", "inconsistent": "#c9ced4", "lose": "#b4473a"}
DARK = {"text": "#e6e8eb", "page": "#16191d"}
DARK |= {"win": "#3f7fc4", "tie": "#6d757f", "inconsistent": "#454b53", "lose": "#bd5446"}


def _colours(palette: Mapping[str, str], within: str = "") -> str:
    parts = "".join(f"{within}.bars .{name}{{fill:{palette[name]}}}" for name in ("page", *SHOWN))
    return (
        f"{within}.bars text{{fill:{palette['text']}}}{within}.bars .in{{fill:#fff}}"
        f"{within}.bars .inconsistent-in{{fill:{palette['text']}}}{parts}"
    )


STYLE = (
    ".bars text{font:13px system-ui,sans-serif}.bars .title{font-size:15px;font-weight:600}"
    f".bars .in{{text-anchor:middle}}{_colours(LIGHT)}@media (prefers-color-scheme:dark){{{_colours(DARK)}}}"
    # Within a page whose button chooses a theme, that one; on paper the light one.
    f"{_colours(LIGHT, ':root[data-theme=light] ')}{_colours(DARK, ':root[data-theme=dark] ')}"
    f"@media print{{{_colours(LIGHT)}{_colours(LIGHT, ':root[data-theme] ')}}}"
)


def bars(title: str, rows: Sequence[tuple[str, Mapping[Outcome, int]]]) -> str:
    """One bar a row, named; errors are left out of the bars, and told beside the name."""
    label = max(_columns(_name(name, counts)) for name, counts in rows) * CHARACTER + PADDING
    width, height = label + WIDTH + 2 * PADDING, 84 + ROW * len(rows)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" class="bars" role="img" '
        f'viewBox="0 0 {width:.0f} {height}" width="{width:.0f}">',
        f"<title>{escape(_told(title, rows))}</title><style>{STYLE}</style>",
        '<rect class="page" width="100%" height="100%"/>',
        f'<text class="title" x="{PADDING}" y="28">{escape(title)}</text>',
        *_legend(label),
    ]
    for number, (name, counts) in enumerate(rows):
        y = 74 + ROW * number
        parts.append(f'<text x="{PADDING}" y="{y + BAR * 0.68:.0f}">{escape(_name(name, counts))}</text>')
        parts += _bar(counts, label + PADDING, y)
    return "\n".join([*parts, "</svg>", ""])


def _bar(counts: Mapping[Outcome, int], x: float, y: int) -> list[str]:
    total = sum(counts.get(outcome, 0) for outcome in SHOWN)
    parts = []
    for outcome in SHOWN:
        count = counts.get(outcome, 0)
        width = count / total * WIDTH if total else 0.0
        if count:
            parts.append(
                f'<rect class="{outcome}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}">'
                f"<title>{outcome}: {count:,} of {total:,}</title></rect>"
            )
        if width >= SMALLEST_LABEL:
            middle = x + width / 2
            style = f"in {outcome}-in"
            parts.append(f'<text class="{style}" x="{middle:.1f}" y="{y + BAR * 0.68:.0f}">{count:,}</text>')
        x += width
    return parts


def _legend(x: float) -> list[str]:
    parts, x = [], x + PADDING
    for outcome in SHOWN:
        parts.append(f'<rect class="{outcome}" x="{x:.1f}" y="44" width="12" height="12"/>')
        parts.append(f'<text x="{x + 17:.1f}" y="55">{outcome}</text>')
        x += 34 + len(outcome) * CHARACTER
    return parts


def _name(name: str, counts: Mapping[Outcome, int]) -> str:
    errors = counts.get("error", 0)
    return f"{name} ({errors:,} errors)" if errors else name


def _columns(text: str) -> int:
    """How many average characters wide a text is: Hangul and the like take two."""
    return sum(1 + (unicodedata.east_asian_width(character) in "WF") for character in text)


def _told(title: str, rows: Sequence[tuple[str, Mapping[Outcome, int]]]) -> str:
    told = [f"{name}: " + ", ".join(f"{o} {counts.get(o, 0)}" for o in SHOWN) for name, counts in rows]
    return f"{title}. " + "; ".join(told)
