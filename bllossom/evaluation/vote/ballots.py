"""Which pair a voter sees next, which answer stands on the left, and what a vote is on the disk.

    {"id", "a", "b", "content", "order": "ab" | "ba", "verdict": "a" | "b" | "tie", "voter", "time"}

`content` is a hash of the question and both answers: votes do not count for answers that were made anew under the id.
The sequence and the sides follow from the voter's name and the ids alone, so that a page that was killed goes on where
it was. Each voter has A on the left in half of the pairs: about half of the voters in the one half, the others in the
other.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bllossom.console import say
from bllossom.errors import BllossomError
from bllossom.evaluation.judge.pairs import Item, Pair
from bllossom.evaluation.judge.verdicts import Order, Place, of_models

LONGEST_NAME = 60
CHOICES: Mapping[str, Place] = {"left": "first", "right": "second", "tie": "tie"}


class Ballots:
    """The votes on one pair of models, as far as they are cast."""

    def __init__(self, pair: Pair, votes: Sequence[Mapping[str, Any]]) -> None:
        """Raises BllossomError where the votes are on other models, prompts or answers."""
        self.pair = pair
        self.items = {item.id: item for item in pair.items}
        self.cast: dict[str, dict[str, str]] = {}
        for vote in votes:
            a, b, id_ = (vote.get(key) for key in ("a", "b", "id"))
            if (a, b) != (pair.a, pair.b) or id_ not in self.items:
                raise BllossomError(
                    f"the votes there are on {a} against {b}, prompt {id_}, which is not among {pair.a} against "
                    f"{pair.b}; name another output for these files"
                )
            if vote.get("content", content := _content(self.items[id_])) != content:
                raise BllossomError(
                    f"the votes there are on other answers of {a} and {b} to prompt {id_}; name another output for "
                    "these files"
                )
            self._count(vote["voter"], vote["id"], vote["verdict"])
        if silent := sum("content" not in vote for vote in votes):
            say(
                f"{silent:,} votes do not say on which answers they were cast, as they were before this was noted: if "
                "the answers were made anew since, name another output"
            )

    def next(self, voter: str) -> dict[str, Any]:
        """What a page shows: how far the voter is, and the next pair unless all is done. No model's name is in it."""
        voter = checked_name(voter)
        done = self.cast.get(voter, {})
        shown: dict[str, Any] = {"voter": voter, "done": len(done), "total": len(self.items)}
        for item, order in self.sequence(voter):
            if item.id not in done:
                left, right = (item.answer_a, item.answer_b)[:: 1 if order == "ab" else -1]
                return shown | {"id": item.id, "messages": item.messages, "left": left, "right": right}
        return shown

    def vote(self, voter: str, id_: str, choice: str) -> dict[str, Any] | None:
        """The record of a vote, to be put on the disk before anything else; None where this voter has voted on it.

        Raises:
            BllossomError: no such prompt, choice or name.
        """
        voter = checked_name(voter)
        if id_ not in self.items or choice not in CHOICES:
            raise BllossomError(f"there is no prompt {id_!r} or no choice {choice!r}; load the page again")
        if id_ in self.cast.get(voter, {}):
            return None
        order = {item.id: order for item, order in self.sequence(voter)}[id_]
        verdict = of_models(CHOICES[choice], order)
        time = datetime.now(UTC).isoformat(timespec="seconds")
        record = {"id": id_, "a": self.pair.a, "b": self.pair.b, "content": _content(self.items[id_])}
        return record | {"order": order, "verdict": verdict, "voter": voter, "time": time}

    def count(self, record: Mapping[str, Any]) -> None:
        """Take a vote into account, once it is on the disk."""
        self._count(record["voter"], record["id"], record["verdict"])

    def sequence(self, voter: str) -> list[tuple[Item, Order]]:
        """All pairs in this voter's order, each with its sides."""
        shuffled = sorted(self.pair.items, key=lambda item: _digest(f"{voter}\0{item.id}"))
        # By position in an order that all voters share, so that two voters of the same turn see the same sides.
        turn = _digest(voter)[0] % 2
        sides: dict[str, Order] = {
            item.id: "ab" if (place + turn) % 2 == 0 else "ba"
            for place, item in enumerate(sorted(self.pair.items, key=lambda item: _digest(item.id)))
        }
        return [(item, sides[item.id]) for item in shuffled]

    def _count(self, voter: str, id_: str, verdict: str) -> None:
        self.cast.setdefault(voter, {})[id_] = verdict


def checked_name(voter: Any) -> str:
    """A voter's name without spaces around it.

    Raises:
        BllossomError: there is none, or it is too long.
    """
    name = " ".join(voter.split()) if isinstance(voter, str) else ""
    if not 0 < len(name) <= LONGEST_NAME:
        raise BllossomError(f"a voter's name has 1 to {LONGEST_NAME} characters; type another")
    return name


def _content(item: Item) -> str:
    return _digest(json.dumps([item.messages, item.answer_a, item.answer_b])).hex()[:16]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
