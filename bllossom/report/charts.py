"""Vega-Lite charts through Altair: lines over a number, and bars beside each other.

Altair and not plotly or bokeh: a chart is data and a short specification, which a person can read in the page; all of
Vega is 0.9 MB of JavaScript (plotly's is 4.6 MB) that needs no network; and its SVG prints.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from bllossom.report.blocks import Cell, Chart, Table
from bllossom.report.run_folder import Figure

# Okabe and Ito's colours, told apart by people with any kind of colour vision (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8a8a8a")
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [10, 4])  # as many lines as colours × dashes can be told apart
MOST_POINTS = 400  # of a line: more cannot be told apart on a page, and a page has to stay small
CHART_POINTS = 1600  # of all lines of a chart, where they are more than a few
LEAST_POINTS = 30  # of a line, however many there are
LEGEND_COLUMNS = 4


def line_chart(
    title: str, x_title: str, y_title: str, series: Mapping[str, Sequence[tuple[Figure, Figure]]], *, log: bool = False
) -> Chart | None:
    """Lines of (x, y) over each other, hover for the values, drag and scroll to zoom; None without a point.

    A line of more than 400 points is shown by every n-th, and its last; where there are many lines, of fewer.
    """
    import altair

    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return None
    most = min(MOST_POINTS, max(LEAST_POINTS, CHART_POINTS // len(drawn)))
    thinned = {name: _thin(points, most) for name, points in drawn.items()}
    rows = [{"x": x.value, "y": y.value, "series": name} for name, points in thinned.items() for x, y in points]
    scale = altair.Scale(type="log" if log else "linear", zero=False)
    chart = (
        altair.Chart(altair.Data(values=rows), width="container", height=260)
        .mark_line(point=len(rows) < 60)
        .encode(
            x=altair.X("x:Q", title=x_title),
            y=altair.Y("y:Q", title=y_title, scale=scale),
            color=_colour(list(thinned), "stroke"),
            strokeDash=altair.StrokeDash(
                "series:N", title=None, scale=_scale(list(thinned), DASHES), legend=_legend("stroke")
            ),
            tooltip=[
                altair.Tooltip("series:N", title=""),
                altair.Tooltip("x:Q", title=x_title, format=","),
                altair.Tooltip("y:Q", title=y_title, format=",.4~g"),
            ],
        )
        .interactive()
    )
    table = Table(
        [x_title, *thinned],
        _by_x(thinned),
        "" if sum(map(len, series.values())) == len(rows) else f"every n-th point, {most} of a line at most",
    )
    return Chart(title, chart.to_dict(validate=False), table)


def bar_chart(title: str, y_title: str, groups: Sequence[str], series: Mapping[str, Sequence[Cell]]) -> Chart:
    """A group of bars for each name in `groups`, a bar for each series in it."""
    import altair

    rows = [
        {"group": group, "series": name, "y": cell.value}
        for name, cells in series.items()
        for group, cell in zip(groups, cells, strict=True)
        if isinstance(cell, Figure)
    ]
    chart = (
        altair.Chart(altair.Data(values=rows), width="container", height=260)
        .mark_bar()
        .encode(
            x=altair.X("group:N", title=None, sort=list(groups), axis=altair.Axis(labelAngle=0)),
            xOffset=altair.XOffset("series:N", sort=list(series)),
            y=altair.Y("y:Q", title=y_title),
            color=_colour(list(series), "square"),
            tooltip=[
                altair.Tooltip("group:N", title=""),
                altair.Tooltip("series:N", title=""),
                altair.Tooltip("y:Q", title=y_title, format=",.4~g"),
            ],
        )
    )
    body: list[list[Cell]] = [
        [group, *(cells[place] for cells in series.values())] for place, group in enumerate(groups)
    ]
    return Chart(title, chart.to_dict(validate=False), Table(["", *series], body))


def _colour(names: list[str], symbol: str) -> Any:
    import altair

    return altair.Color("series:N", title=None, scale=_scale(names, COLOURS), legend=_legend(symbol))


def _scale(names: list[str], looks: Sequence[Any]) -> Any:
    import altair

    return altair.Scale(domain=names, range=[looks[place % len(looks)] for place in range(len(names))])


def _legend(symbol: str) -> Any:
    """`symbol` is what the marks look like: a bar has no stroke, a line nothing to fill."""
    import altair

    return altair.Legend(
        orient="top", columns=LEGEND_COLUMNS, labelLimit=0, symbolLimit=0, symbolType=symbol, symbolSize=300
    )


def _thin(points: Sequence[tuple[Figure, Figure]], most: int) -> list[tuple[Figure, Figure]]:
    every = -(-len(points) // most)
    kept = list(points[::every])
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def _by_x(series: Mapping[str, Sequence[tuple[Figure, Figure]]]) -> list[list[Cell]]:
    xs: dict[Any, Figure] = {x.value: x for points in series.values() for x, _ in points}
    columns = [{x.value: y for x, y in points} for points in series.values()]
    return [[xs[x], *(column.get(x) for column in columns)] for x in sorted(xs)]
