"""report.html: one file that needs nothing else, with its pictures as inline SVG."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bllossom.vocab.proof.certificate import summary

COLOURS = ("#3b6ea5", "#d1495b", "#edae49", "#66a182", "#8d6a9f", "#2e4057", "#b5651d", "#5fa8d3", "#9aa0a6")
SHOWN_SCRIPTS = 8  # each with a colour of its own; the rest share the last one
CURVE_HEIGHT = 220  # pixels
BAR_WIDTH, BAR_HEIGHT, BAR_STEP, LABEL_WIDTH = 640, 34, 56, 90  # pixels
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2129}
table{border-collapse:collapse;margin:.6rem 0 1.4rem}
th,td{padding:.25rem .8rem;border-bottom:1px solid #dde1e6;text-align:right}
th:first-child,td:first-child{text-align:left}
.piece{display:inline-block;margin:.12rem;padding:.05rem .4rem;border-radius:.3rem;background:#eef1f5}
.byte{background:#f7dcdc}
.legend span{display:inline-block;margin-right:1rem}
.legend i{display:inline-block;width:.8rem;height:.8rem;margin-right:.3rem;border-radius:.15rem}
svg text{font:13px system-ui,sans-serif}
"""
SIDES = ("base", "merged", "shortest")
ROWS = (
    ("tokens per word", "tokens_per_word", "{:.3f}"),
    ("tokens per character", "tokens_per_character", "{:.4f}"),
    ("bytes per token", "bytes_per_token", "{:.3f}"),
    ("tokens that are single bytes", "byte_fallback_share", "{:.2%}"),
    ("tokens", "tokens", "{:,}"),
)


def render(report: Mapping[str, Any]) -> str:
    """The page for a report (see report.measure)."""
    pieces = report["pieces"]
    title = f"{pieces['merged']:,} pieces: {pieces['base']:,} of the base and {pieces['new']:,} new"
    body = [
        f"<h1>{title}</h1>",
        _proof(report),
        "<h2>One sentence</h2>",
        _example(report["example"]),
        *_languages(report["languages"]),
        "<h2>The new pieces</h2>",
        _piece_table(pieces),
        *_curve(report.get("curve")),
        "<h2>The vocabularies over the scripts</h2>",
        _spread(report["scripts"]),
    ]
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _proof(report: Mapping[str, Any]) -> str:
    if report.get("certificate"):
        return f"<p>{escape(' '.join(summary(report['certificate'])))}</p>"
    proof = report["proof"]
    return (
        f"<p>tokenizer.json and SentencePiece gave the same ids on {proof['documents']:,} documents and "
        f"{proof['generated_strings']:,} generated strings.</p>"
    )


def _curve(points: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Tokens per word against the number of new pieces, as a plot and a table."""
    if not points:
        return []
    most, highest = points[-1]["pieces"], max(point["tokens_per_word"] for point in points)
    places = [
        (
            LABEL_WIDTH + BAR_WIDTH * point["pieces"] / most,
            20 + CURVE_HEIGHT * (1 - point["tokens_per_word"] / highest),
            point,
        )
        for point in points
    ]
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{COLOURS[0]}"><title>{point["pieces"]:,} pieces: '
        f"{point['tokens_per_word']}</title></circle>"
        for x, y, point in places
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    rows = "".join(
        f"<tr><td>{point['pieces']:,}</td><td>{point['tokens_per_word']:.3f}</td><td>{point['rare']:,}</td></tr>"
        for point in points
    )
    return [
        "<h2>How many pieces</h2>",
        f'<svg role="img" aria-label="tokens per word by number of new pieces" width="{LABEL_WIDTH + BAR_WIDTH + 40}" '
        f'height="{CURVE_HEIGHT + 50}"><polyline points="{line}" fill="none" stroke="{COLOURS[0]}"/>{dots}'
        f'<text x="0" y="24">{highest:.2f}</text><text x="0" y="{CURVE_HEIGHT + 24}">0 tokens/word</text>'
        f'<text x="{LABEL_WIDTH}" y="{CURVE_HEIGHT + 44}">0</text>'
        f'<text x="{LABEL_WIDTH + BAR_WIDTH - 40}" y="{CURVE_HEIGHT + 44}">{most:,} pieces</text></svg>',
        "<table><tr><th>new pieces</th><th>tokens per word, learning text</th><th>below 100 occurrences</th></tr>"
        f"{rows}</table>",
    ]


def _chips(pieces: Sequence[str]) -> str:
    chip = '<span class="piece{}">{}</span>'
    return "".join(chip.format(" byte" if piece.startswith("<0x") else "", escape(piece)) for piece in pieces)


def _example(example: Mapping[str, Any] | None) -> str:
    if example is None:
        return ""
    rows = (
        f"<tr><td>{side}</td><td>{len(example[side])}</td><td style='text-align:left'>{_chips(example[side])}</td></tr>"
        for side in ("base", "merged")
    )
    return (
        f"<p>{escape(example['text'])}</p><table><tr><th></th><th>tokens</th>"
        f"<th style='text-align:left'>pieces</th></tr>{''.join(rows)}</table>"
    )


def _languages(languages: Mapping[str, Any]) -> list[str]:
    if not languages:
        return ["<p>No samples were given, so nothing was counted on text.</p>"]
    parts = []
    for name, figures in languages.items():
        rows = []
        for label, key, form in ROWS:
            cells = (form.format(v) if (v := figures[side].get(key)) is not None else "" for side in SIDES)
            rows.append(f"<tr><td>{label}</td>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        parts.append(
            f"<h2>{escape(name)}</h2><p>{figures['documents']:,} documents, {figures['words']:,} words, "
            f"{figures['bytes']:,} bytes.</p><p>{figures['changed_documents']:,} documents got other ids.</p>"
            "<table><tr><th></th><th>base</th><th>merged</th><th>shortest possible</th></tr>"
            f"{''.join(rows)}</table>"
        )
    return parts


def _piece_table(pieces: Mapping[str, Any]) -> str:
    kinds = (
        ("used on the samples", "used"),
        ("not used on the samples", "unused"),
        ("never produced", "unreachable"),
        ("intermediates added", "intermediates"),
        ("donor pieces given up", "given_up"),
    )
    rows = "".join(
        f"<tr><td>{label}</td><td>{pieces[key]['count']:,}</td>"
        f"<td style='text-align:left'>{_chips(pieces[key]['examples'])}</td></tr>"
        for label, key in kinds
    )
    return f"<table><tr><th></th><th>pieces</th><th style='text-align:left'>examples</th></tr>{rows}</table>"


def _spread(scripts: Mapping[str, Mapping[str, int]]) -> str:
    """Three bars, base, donor and merged, each to the scale of the largest vocabulary."""
    largest = max(sum(counts.values()) for counts in scripts.values())
    order = sorted(scripts["merged"], key=lambda name: -scripts["merged"][name])
    colour = {name: COLOURS[min(i, SHOWN_SCRIPTS)] for i, name in enumerate(order)}
    bars = []
    for row, (name, counts) in enumerate(scripts.items()):
        y, x = row * BAR_STEP, float(LABEL_WIDTH)
        bars.append(f'<text x="0" y="{y + BAR_HEIGHT * 0.65:.0f}">{name}</text>')
        for script in [*order, *(other for other in counts if other not in colour)]:
            width = counts.get(script, 0) / largest * BAR_WIDTH
            bars.append(
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" '
                f'fill="{colour.get(script, COLOURS[-1])}"><title>{script}: {counts.get(script, 0):,}</title></rect>'
            )
            x += width
        bars.append(f'<text x="{x + 6:.1f}" y="{y + BAR_HEIGHT * 0.65:.0f}">{sum(counts.values()):,}</text>')
    height, width = len(scripts) * BAR_STEP, LABEL_WIDTH + BAR_WIDTH + 70
    legend = "".join(f'<span><i style="background:{colour[name]}"></i>{name}</span>' for name in order[:SHOWN_SCRIPTS])
    rest = f'<span><i style="background:{COLOURS[-1]}"></i>other scripts</span>' if len(order) > SHOWN_SCRIPTS else ""
    table = "".join(
        f"<tr><td>{name}</td>" + "".join(f"<td>{counts.get(name, 0):,}</td>" for counts in scripts.values()) + "</tr>"
        for name in [*order, *sorted(set(scripts["donor"]) - set(order))]
    )
    return (
        f'<svg role="img" aria-label="pieces by script" viewBox="0 0 {width} {height}" width="{width}">{"".join(bars)}'
        f'</svg><p class="legend">{legend}{rest}</p><table><tr><th>script</th>'
        + "".join(f"<th>{name}</th>" for name in scripts)
        + f"</tr>{table}</table>"
    )
