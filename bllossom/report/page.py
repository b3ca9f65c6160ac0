"""The page: one HTML file with its style, its charts and Vega inlined, which needs no network."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from bllossom.console import size_text
from bllossom.errors import ConfigError
from bllossom.report.blocks import Cell, Chart, Drawing, Listing, Section, Table
from bllossom.report.run_folder import Figure

ANSWER_CHARACTERS = 1200  # of an answer; what is longer stands in the file


def _cut(answer: str) -> str:
    return answer if len(answer) <= ANSWER_CHARACTERS else answer[:ANSWER_CHARACTERS] + " …"


def _seconds(value: float) -> str:
    if value < 100:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


SHOWN: Mapping[str, Callable[[Any], str]] = {
    "text": str,
    "answer": lambda value: _cut(value) or "(empty)",
    "integer": lambda value: f"{value:,.0f}",
    "decimals3": lambda value: f"{value:.3f}",
    "decimals4": lambda value: f"{value:.4f}",
    "general": lambda value: f"{value:.4g}",
    "general_at_floor": lambda value: f"{value:.4g} at its floor",
    "percent1": lambda value: f"{value:.1%}",
    "percent1_at_floor": lambda value: f"{value:.1%} at its floor",
    "percent2": lambda value: f"{value:.2%}",
    "bytes": size_text,
    "seconds": _seconds,
    "fingerprint": lambda value: str(value)[:12],
}
"""How a figure is written, by its style."""


def show(figure: Figure) -> str:
    """A figure as the page writes it."""
    return SHOWN[figure.style](figure.value)


def render(title: str, sections: Sequence[Section], *, refresh_seconds: int | None = None) -> str:
    """The whole page. With `refresh_seconds` it loads itself anew, for a run that is going on.

    Raises:
        ConfigError: what draws it is not installed.
    """
    try:
        import jinja2
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"report: {error.name} is not installed; pip install 'bllossom[report]'") from error
    assets = files("bllossom.report") / "assets"
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.tests |= {name.__name__.lower(): _is(name) for name in (Figure, Table, Chart, Drawing, Listing)}
    environment.filters["show"] = show
    template = environment.from_string((assets / "page.html").read_text(encoding="utf8"))
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    return template.render(
        title=title,
        sections=sections,
        style=(assets / "page.css").read_text(encoding="utf8"),
        script=(assets / "page.js").read_text(encoding="utf8"),
        vega=_vega() if charts else "",
        specs=_script_json([chart.spec for chart in charts]),
        chart_number={id(chart): number for number, chart in enumerate(charts)},
        id=id,
        refresh_seconds=refresh_seconds,
    )


@cache
def _vega() -> str:
    """Vega, Vega-Lite and vega-embed as one script, which takes a second to make."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")  # all that the page's script calls


def _is(kind: type) -> Callable[[Cell], bool]:
    return lambda value: isinstance(value, kind)


def _script_json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element."""
    return json.dumps(value, ensure_ascii=False).replace("</", "<\\/").replace("<!--", "<\\!--")
