"""What a judging leaves for people and for dpo: tables, pictures, and pairs of a better and a worse answer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bllossom.evaluation.judge.pairs import Pair
from bllossom.evaluation.judge.pictures import bars
from bllossom.evaluation.judge.verdicts import Judged, Outcome

OUTCOMES = ("win", "tie", "lose", "inconsistent", "error")
MIRRORED: Mapping[Outcome, Outcome] = {"win": "lose", "lose": "win"}


def preferences(pair: Pair, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """`{"prompt", "chosen", "rejected"}`, each a list of messages, of the prompts where both orders name one answer."""
    found = []
    for item, one in zip(pair.items, judged, strict=True):
        preferred = one.preferred()
        # Whitespace may be all that two answers differ in: nothing to learn.
        if preferred is None or item.answer_a.strip() == item.answer_b.strip():
            continue
        better, worse = (item.answer_a, item.answer_b)[:: 1 if preferred == "a" else -1]
        found.append({"prompt": item.messages, "chosen": _answer(better), "rejected": _answer(worse)})
    return found


def _answer(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def write_pictures(folder: Path, judged: Mapping[tuple[str, str], Sequence[Judged]]) -> None:
    """A picture a model, of all prompts, and where there are several languages one of each."""
    folder.mkdir(exist_ok=True)
    languages = sorted({one.language for found in judged.values() for one in found if one.language is not None})
    for model in sorted({name for names in judged for name in names}):
        against = against_each(model, judged)
        count = max(sum(counts.values()) for counts in against.values())
        (folder / f"{model}.svg").write_text(
            bars(f"{model}, {count:,} prompts", list(against.items())), encoding="utf8"
        )
        for language in languages if len(languages) > 1 else []:
            part = {names: [one for one in found if one.language == language] for names, found in judged.items()}
            rows = [(name, counts) for name, counts in against_each(model, part).items() if counts]
            if rows:
                count = max(sum(counts.values()) for _, counts in rows)
                picture = bars(f"{model}, {count:,} prompts in {language}", rows)
                (folder / f"{model}.{language}.svg").write_text(picture, encoding="utf8")


def against_each(model: str, judged: Mapping[tuple[str, str], Sequence[Judged]]) -> dict[str, Counter[Outcome]]:
    """A model's outcomes against each opponent that it met."""
    found: dict[str, Counter[Outcome]] = {}
    for (a, b), pairs in judged.items():
        outcomes = Counter(one.outcome() for one in pairs)
        if model == a:
            found[f"against {b}"] = outcomes
        elif model == b:
            found[f"against {a}"] = Counter({MIRRORED.get(name, name): count for name, count in outcomes.items()})
    return found


def write_report(path: Path, figures: Mapping[str, Any]) -> None:
    """The figures as Markdown."""
    path.write_text("\n\n".join(section(figures)) + "\n", encoding="utf8")


def section(figures: Mapping[str, Any]) -> list[str]:
    """The paragraphs and tables of a judging. A rate with too many errors behind it is not in bold."""
    pairs = figures["pairs"]
    parts = ["# Which answers are better", _outcomes(pairs), _rates(pairs), _trust(pairs)]
    for key, title in (("by_length", "length"), ("by_category", "category"), ("by_language", "language")):
        if any(pair[key] for pair in pairs):
            parts.append(_grouped(pairs, key, title))
    if figures.get("strengths"):
        rows = [
            [name, f"{one['strength']:+.2f}", _interval(one["interval"], "+.2f")]
            for name, one in figures["strengths"].items()
        ]
        parts.append("Bradley–Terry strengths: a difference of 1 wins 73 %.")
        parts.append(table(["model", "strength", "95 %"], rows))
    return parts


def lines(figures: Mapping[str, Any]) -> list[str]:
    """Each pair in a line, for a terminal."""
    told = []
    for pair in figures["pairs"]:
        counts = ", ".join(f"{name} {pair[name]:,}" for name in OUTCOMES)
        rate = f"win rate {percent(pair['win_rate']['value'])} {_interval(pair['win_rate']['interval'])}"
        unreliable = "" if pair["reliable"] else ", not to be relied on with so many errors"
        told.append(f"{pair['a']} against {pair['b']}: {counts}; {rate}{unreliable}")
    return told


def _outcomes(pairs: Sequence[Mapping[str, Any]]) -> str:
    names = ("prompts", *OUTCOMES)
    return table(["A", "B", *names], [[pair["a"], pair["b"], *(f"{pair[name]:,}" for name in names)] for pair in pairs])


def _rates(pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for pair in pairs:
        win = percent(pair["win_rate"]["value"])
        unreliable = "" if pair["reliable"] else f" ({pair['error_share']:.0%} errors: not to be relied on)"
        rows.append(
            [
                f"{pair['a']} – {pair['b']}",
                f"**{win}**" if pair["reliable"] else win + unreliable,
                _interval(pair["win_rate"]["interval"]),
                percent(pair["consistent_win_rate"]["value"]),
                f"{percent(pair['length_controlled_win_rate']['value'])} "
                f"{_interval(pair['length_controlled_win_rate']['interval'])}",
                f"{pair['sign_test_p']:.2g}",
            ]
        )
    header = ["A – B", "win rate of A", "95 %", "without inconsistent", "at equal length", "sign test p"]
    return table(header, rows)


def _trust(pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"{pair['a']} – {pair['b']}",
            percent(pair["first_position_rate"]),
            percent(pair["flip_rate"]),
            *(f"{pair['mean_characters'][side]:.0f}" for side in ("a", "b")),
            *(_number(pair["wrong_language"][side]) for side in ("a", "b")),
        ]
        for pair in pairs
    ]
    header = ["A – B", "first named", "flips", "characters A", "B", "other language A", "B"]
    return table(header, rows)


def _grouped(pairs: Sequence[Mapping[str, Any]], key: str, title: str) -> str:
    rows = [
        [f"{pair['a']} – {pair['b']}", name, f"{group['prompts']:,}", percent(group["win_rate"])]
        for pair in pairs
        for name, group in pair[key].items()
    ]
    return table(["A – B", title, "prompts", "win rate of A"], rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *cells])


def percent(value: float | None) -> str:
    """A share in percent; – without one."""
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _interval(interval: Sequence[float] | None, form: str = "") -> str:
    if interval is None:
        return "–"
    low, high = interval
    return f"[{low:{form}}, {high:{form}}]" if form else f"[{100 * low:.1f}, {100 * high:.1f}]"
