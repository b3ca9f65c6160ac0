"""Who works on what, and what the page asks for. Every decision is in the log before it is answered."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from bllossom.errors import BllossomError
from bllossom.localize.records import Pair, passages, spoken
from bllossom.localize.reviewing.book import Action, Book, Decision, State, edited
from bllossom.localize.reviewing.particles import replace_entity
from bllossom.localize.rules.checker import Checker, Flag
from bllossom.serving.log import AppendLog

LEASE_SECONDS = 900.0
"""An example that its reviewer has not touched for so long is given to others."""
SPEED_WINDOW_SECONDS = 3600.0
SEARCH_HITS = 30
SHOWN = "copy what you typed and load the page again"  # what was typed keeps the page from moving on
Posted = dict[str, Any]


class Desk:
    """The page's reads and writes over one log."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        checker: Checker,
        flags: Mapping[str, list[Flag]],
        book: Book,
        log: AppendLog,
        prompt: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pairs = {pair.id: pair for pair in pairs}
        self.order = [pair.id for pair in pairs]
        self.places = {identity: place for place, identity in enumerate(self.order)}
        self.checker = checker
        self.book = book
        self.log = log
        self.prompt = prompt  # what the translator was told, if that is known
        self.clock = clock
        self._flags = dict(flags)
        self._held: dict[str, tuple[str, float]] = {}  # reviewer to example and time of the last touch
        self._decided: list[tuple[float, str]] = []  # time and reviewer of each accept and drop
        for record in log.records:
            self._note(Decision.of(record))

    # What the page reads.

    def search(self, query: dict[str, str]) -> list[dict[str, str]]:
        """Examples in which a text occurs, on either side."""
        wanted = query.get("q", "").strip().lower()
        hits = []
        for identity in self.order:
            texts = [*(message.content for message in spoken(self.pairs[identity].source)), *self._texts(identity)]
            found = next((text for text in texts if wanted in text.lower()), None)
            if wanted and (found is not None or wanted == identity):
                start = max((found or "").lower().find(wanted) - 20, 0)
                hits.append({"id": identity, "text": (found or "")[start : start + 80]})
            if len(hits) == SEARCH_HITS:
                break
        return hits

    def labels(self, _: dict[str, str]) -> dict[str, str]:
        """The page's words in the language of its reviewers."""
        return self.checker.language.page

    # What the page posts.

    def open(self, posted: Posted) -> Posted:
        """One example by id; held by this reviewer from now on."""
        identity, reviewer = _known(posted, self.pairs), _reviewer(posted)
        self._hold(identity, reviewer)
        return self._view(identity, reviewer)

    def next(self, posted: Posted) -> Posted:
        """The next open example that nobody else holds: after `after`, backwards if asked, with a flag of `rule`."""
        reviewer, rule, backwards = _reviewer(posted), posted.get("rule", ""), bool(posted.get("backwards"))
        start = self.places.get(str(posted.get("after", "")), -1)
        rounds = [*self.order[start + 1 :], *self.order[: start + 1]]
        if backwards:
            # What was decided may be looked at again on the way back.
            rounds = self.order[:start][::-1] if start >= 0 else []
        for identity in rounds:
            if self._is_free(identity, reviewer) and self._fits(identity, reviewer, rule, backwards):
                self._hold(identity, reviewer)
                return self._view(identity, reviewer)
        return {"example": None, "progress": self._progress(reviewer)}

    def decide(self, posted: Posted) -> Posted:
        """Edit, accept or drop, with the texts as they stand on the page; after the latter two the next is shown."""
        identity, reviewer = _known(posted, self.pairs), _reviewer(posted)
        action: Action = posted.get("action", "")
        if action not in ("edit", "accept", "drop"):
            raise BllossomError(f"there is no action {action!r}; the actions are edit, accept and drop")
        self._hold(identity, reviewer, SHOWN)
        before = self.book.state(identity, reviewer)
        # An emptied turn keeps nobody from dropping the example.
        after = before if action == "drop" and _has_blank(posted) else edited(before, _texts(posted))
        if action == "accept" and after.rewrite:
            raise BllossomError("the question has changed: rewrite the answer before you accept it")
        if action != "edit":
            after = replace(after, status="accepted" if action == "accept" else "dropped")
        if after != before:
            self._refuse_outdated(identity, reviewer, posted)
            self._decide(reviewer, identity, action, before, after)
        if action == "edit":
            return self._view(identity, reviewer)
        following = self.next({"reviewer": reviewer, "after": identity, "rule": posted.get("rule", "")})
        return {**following, "version": self.book.version(identity, reviewer)}

    def entity(self, posted: Posted) -> Posted:
        """Replace an entity over the whole example."""
        identity, reviewer = _known(posted, self.pairs), _reviewer(posted)
        old, new = str(posted.get("old", "")).strip(), str(posted.get("new", "")).strip()
        if not old or not new:
            raise BllossomError("type the entity as it stands in the text, and what to put in its place")
        self._hold(identity, reviewer, SHOWN)
        self._refuse_outdated(identity, reviewer, posted)
        before = self.book.state(identity, reviewer)
        start = edited(before, _texts(posted))
        replaced = [replace_entity(text, old, new, self.checker.language) for text in start.texts]
        count = sum(found.count for found in replaced)
        if not count:
            raise BllossomError(f"{old!r} does not stand in this example; type it as it stands there")
        after = replace(
            edited(start, [found.text for found in replaced]), made=(*start.made, "entity"), rewrite=start.rewrite
        )
        self._decide(reviewer, identity, "entity", before, after)
        return {**self._view(identity, reviewer), "replaced": count}

    def topic(self, posted: Posted) -> Posted:
        """Another question; the answer after it is to be rewritten before the example can be accepted."""
        identity, reviewer = _known(posted, self.pairs), _reviewer(posted)
        self._hold(identity, reviewer, SHOWN)
        self._refuse_outdated(identity, reviewer, posted)
        before = self.book.state(identity, reviewer)
        start = edited(before, _texts(posted))
        turn, question = int(posted.get("turn", 0)), str(posted.get("question", "")).strip()
        roles = [message.role for message in spoken(self.pairs[identity].source)]
        if not question or turn not in range(len(roles)) or roles[turn] != "user":
            raise BllossomError("type the new question, for a turn of the user")
        texts = [*start.texts[:turn], question, *start.texts[turn + 1 :]]
        answer = {turn + 1} if turn + 1 < len(roles) else set()
        after = replace(
            start,
            texts=tuple(texts),
            status="open",
            rewrite=tuple(sorted({*start.rewrite, *answer})),
            made=(*start.made, "topic"),
        )
        self._decide(reviewer, identity, "topic", before, after)
        return self._view(identity, reviewer)

    def undo(self, posted: Posted) -> Posted:
        """Take the reviewer's last decision back, and show the example it was about."""
        reviewer = _reviewer(posted)
        last = self.book.last(reviewer)
        self._hold(last.id, reviewer)
        self._decide(reviewer, last.id, "undo", last.after, last.before)
        return self._view(last.id, reviewer)

    def flags(self, posted: Posted) -> list[dict[str, Any]]:
        """The flags of an example as it is being typed; nothing is kept."""
        identity = _known(posted, self.pairs)
        return [asdict(flag) for flag in self._flags_of(identity, _texts(posted))]

    # What stands behind them.

    def _decide(self, reviewer: str, identity: str, action: Action, before: State, after: State) -> None:
        now = datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="milliseconds")
        decision = Decision(now, reviewer, identity, action, before, after, self.book.copy_of(identity, reviewer))
        self.log.append(decision.record())
        self.book.apply(decision)
        self._note(decision)

    def _note(self, decision: Decision) -> None:
        if decision.before.texts != decision.after.texts:
            self._flags.pop(decision.id, None)  # found anew when somebody asks
        if decision.action in ("accept", "drop"):
            self._decided.append((datetime.fromisoformat(decision.time).timestamp(), decision.reviewer))

    def _refuse_outdated(self, identity: str, reviewer: str, posted: Posted) -> None:
        """What others made of an example since a page showed it is never overwritten."""
        if posted.get("version") != self.book.version(identity, reviewer):
            raise BllossomError(f"example {identity} has changed since this page showed it; {SHOWN}")

    def _hold(self, identity: str, reviewer: str, advice: str = "go on to the next one") -> None:
        if not self._is_free(identity, reviewer):
            if identity in self.book.twice:
                raise BllossomError(f"two people have example {identity}, or have judged it; {advice}")
            [who] = self._holders(identity) - {reviewer}
            raise BllossomError(f"example {identity} is with {who} now; {advice}")
        self._held[reviewer] = (identity, self.clock())

    def _is_free(self, identity: str, reviewer: str) -> bool:
        """Whether nobody else has the example; one that is judged twice is free for two, who have it or had it."""
        others = self._holders(identity) - {reviewer}
        if identity in self.book.twice:
            return len(others | (self.book.copies(identity).keys() - {reviewer})) < 2
        return not others

    def _holders(self, identity: str) -> set[str]:
        since = self.clock() - LEASE_SECONDS
        return {who for who, (held, touched) in self._held.items() if held == identity and touched >= since}

    def _fits(self, identity: str, reviewer: str, rule: str, decided_too: bool) -> bool:
        if self.book.state(identity, reviewer).status != "open" and not decided_too:
            return False
        return not rule or any(rule in ("any", flag.rule) for flag in self._current_flags(identity, reviewer))

    def _current_flags(self, identity: str, reviewer: str) -> list[Flag]:
        texts = self.book.state(identity, reviewer).texts
        if identity in self.book.twice and texts != self.book.machine[identity]:
            return self._flags_of(identity, texts)
        if identity not in self._flags:
            self._flags[identity] = self._flags_of(identity, texts)
        return self._flags[identity]

    def _flags_of(self, identity: str, texts: Sequence[str]) -> list[Flag]:
        return self.checker.flags(identity, passages(self.pairs[identity], texts, self.prompt))

    def _texts(self, identity: str) -> Sequence[str]:
        states = list(self.book.copies(identity).values())
        return states[0].texts if states else self.book.machine[identity]

    def _view(self, identity: str, reviewer: str) -> Posted:
        state, pair = self.book.state(identity, reviewer), self.pairs[identity]
        sides = zip(spoken(pair.source), self.book.machine[identity], state.texts, strict=True)
        turns = [
            {
                "role": message.role,
                "source": message.content,
                "machine": machine,
                "text": text,
                "rewrite": turn in state.rewrite,
            }
            for turn, (message, machine, text) in enumerate(sides)
        ]
        example = {
            "id": identity,
            "place": self.places[identity] + 1,
            "status": state.status,
            "version": self.book.version(identity, reviewer),
            "turns": turns,
            "flags": [asdict(flag) for flag in self._current_flags(identity, reviewer)],
        }
        return {"example": example, "progress": self._progress(reviewer)}

    def _progress(self, reviewer: str) -> Posted:
        states = Counter(self.book.state(identity, reviewer).status for identity in self.order)
        since = self.clock() - SPEED_WINDOW_SECONDS
        times = [when for when, who in self._decided if who == reviewer and when >= since]
        hours = (self.clock() - times[0]) / 3600 if times else 0.0
        rules = Counter(
            rule
            for identity in self.order
            if self.book.state(identity, reviewer).status == "open"
            for rule in {flag.rule for flag in self._flags.get(identity, ())}
        )
        return {
            "total": len(self.order),
            **{name: states[name] for name in ("open", "accepted", "dropped")},
            "mine": sum(who == reviewer for _, who in self._decided),
            "an_hour": round(len(times) / hours) if hours > 1 / 120 else None,
            "rules": dict(sorted(rules.items())),
        }


def _reviewer(posted: Posted) -> str:
    name = str(posted.get("reviewer", "")).strip()
    if not name or len(name) > 60:
        raise BllossomError("type your name first, 60 characters at most")
    return name


def _known(posted: Posted, pairs: Mapping[str, Pair]) -> str:
    identity = str(posted.get("id", ""))
    if identity not in pairs:
        raise BllossomError(f"there is no example {identity!r}; search for it")
    return identity


def _texts(posted: Posted) -> list[str]:
    if _has_blank(posted):
        raise BllossomError("every turn needs a text; write one, or drop the example")
    texts: list[str] = posted["texts"]
    return texts


def _has_blank(posted: Posted) -> bool:
    texts = posted.get("texts")
    return not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts)
