"""report.json: what was changed and how, as plain numbers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from bllossom.localize.exporting.distance import chrf, edit_distance
from bllossom.localize.exporting.outcomes import CHANGES, Agreement, Change, Outcome
from bllossom.localize.reviewing.book import Decision
from bllossom.localize.rules.checker import RULES

SHOWN = 4


def make_report(found: Sequence[Outcome], agreed: Agreement, decisions: Sequence[Decision]) -> dict[str, Any]:
    """All figures. Shares and distances are over the accepted examples; distances are means over examples."""
    accepted = [outcome for outcome in found if outcome.status == "accepted"]
    return {
        "examples": len(found),
        **{status: sum(outcome.status == status for outcome in found) for status in ("accepted", "dropped", "open")},
        "reviewers": len({decision.reviewer for decision in decisions}),
        "decisions": len(decisions),
        "changes": {change: _of_class(change, accepted) for change in CHANGES},
        "flags": {
            rule: {side: sum(told[rule] for told in counts) for side, counts in _counts(accepted).items()}
            for rule in RULES
            if any(told[rule] for counts in _counts(accepted).values() for told in counts)
        },
        "agreement": asdict(agreed),
        "shown": {change: _shown(change, accepted) for change in CHANGES},
    }


def _of_class(change: Change, accepted: Sequence[Outcome]) -> dict[str, Any]:
    members = [outcome for outcome in accepted if outcome.change == change]
    figures: dict[str, Any] = {"examples": len(members), "share": round(len(members) / max(len(accepted), 1), 4)}
    if members and change != "none":
        sides = [("\n".join(outcome.machine), "\n".join(outcome.texts)) for outcome in members]
        distances = [edit_distance(*side) for side in sides]
        figures["characters_changed"] = round(float(np.mean(distances)), 2)
        figures["characters_changed_share"] = round(sum(distances) / max(sum(len(before) for before, _ in sides), 1), 4)
        figures["chrf"] = round(float(np.mean([chrf(*side) for side in sides])), 2)
    return figures


def _counts(accepted: Sequence[Outcome]) -> dict[str, list[Counter[str]]]:
    return {
        "before": [Counter(flag.rule for flag in outcome.flags_before) for outcome in accepted],
        "after": [Counter(flag.rule for flag in outcome.flags_after) for outcome in accepted],
    }


def _shown(change: Change, accepted: Sequence[Outcome]) -> list[dict[str, str]]:
    """The first examples of a class: of each the turn that was changed most."""
    shown = []
    for outcome in [outcome for outcome in accepted if outcome.change == change][:SHOWN]:
        changed = [edit_distance(*both) for both in zip(outcome.machine, outcome.texts, strict=True)]
        turn = max(range(len(changed)), key=lambda number: changed[number])
        source = [message.content for message in outcome.pair.source.messages if message.role != "system"][turn]
        texts = {"source": source, "machine": outcome.machine[turn], "reviewed": outcome.texts[turn]}
        shown.append({"id": outcome.pair.id, **texts})
    return shown
