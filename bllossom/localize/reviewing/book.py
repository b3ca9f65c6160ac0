"""What has been decided, as the log tells it: every record holds what was before and what is after."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from bllossom.errors import BllossomError

Status = Literal["open", "accepted", "dropped"]
Action = Literal["edit", "entity", "topic", "accept", "drop", "undo"]


@dataclass(frozen=True)
class State:
    """An example as it stands."""

    texts: tuple[str, ...]
    status: Status = "open"
    rewrite: tuple[int, ...] = ()  # answers whose question has changed, and which have not been edited since
    made: tuple[str, ...] = ()  # of "entity" and "topic", what was done on the way

    @classmethod
    def of(cls, record: dict[str, Any]) -> "State":
        """A state out of the log."""
        return cls(tuple(record["texts"]), record["status"], tuple(record["rewrite"]), tuple(record["made"]))


@dataclass(frozen=True)
class Decision:
    """One action of one reviewer on one example."""

    time: str  # ISO 8601, UTC
    reviewer: str
    id: str
    action: Action
    before: State
    after: State
    copy: str = ""  # whose copy, of an example that two people judge each for himself; "" where there is one

    def record(self) -> dict[str, Any]:
        """A line of the log."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any]) -> "Decision":
        """A decision out of the log."""
        return cls(**{**record, "before": State.of(record["before"]), "after": State.of(record["after"])})


class Book:
    """Every example's state, from the decisions so far.

    Examples of `twice` are judged by two reviewers, each on a copy of his own; of the others there is one copy.
    """

    def __init__(self, machine: dict[str, tuple[str, ...]], twice: Iterable[str] = ()) -> None:
        self.machine = machine
        self.twice = frozenset(twice)
        self._now: dict[tuple[str, str], State] = {}
        self._versions: Counter[tuple[str, str]] = Counter()
        self._done: dict[str, list[Decision]] = {}  # by reviewer, what can be undone

    def state(self, identity: str, reviewer: str) -> State:
        """The example as this reviewer has it."""
        return self._now.get((identity, self.copy_of(identity, reviewer)), State(self.machine[identity]))

    def version(self, identity: str, reviewer: str) -> int:
        """How many decisions made the example what this reviewer has: another number, another example."""
        return self._versions[identity, self.copy_of(identity, reviewer)]

    def copies(self, identity: str) -> dict[str, State]:
        """The states of an example that somebody has touched, by reviewer ("" where there is one copy)."""
        return {reviewer: state for (found, reviewer), state in self._now.items() if found == identity}

    def apply(self, decision: Decision) -> None:
        """Take a decision in, whether it comes from the log or from the page.

        Raises:
            BllossomError: it is about an example that is not in the set.
        """
        if decision.id not in self.machine:
            raise BllossomError(
                f"the log tells of an example {decision.id!r} that is not in the translation; name the log's own"
            )
        done = self._done.setdefault(decision.reviewer, [])
        if decision.action == "undo":
            if done:
                done.pop()
        else:
            done.append(decision)
        self._now[decision.id, decision.copy] = decision.after
        self._versions[decision.id, decision.copy] += 1

    def last(self, reviewer: str) -> Decision:
        """What the reviewer would undo.

        Raises:
            BllossomError: nothing, or somebody has worked on the example since.
        """
        done = self._done.get(reviewer, [])
        if not done:
            raise BllossomError("there is nothing to undo")
        if self.state(done[-1].id, reviewer) != done[-1].after:
            raise BllossomError(f"example {done[-1].id} was changed by somebody else since; open it and edit it")
        return done[-1]

    def copy_of(self, identity: str, reviewer: str) -> str:
        """Whose copy a reviewer works on."""
        return reviewer if identity in self.twice else ""


def edited(state: State, texts: Sequence[str]) -> State:
    """The state with other texts; an answer that was to be rewritten and is changed has been."""
    if len(texts) != len(state.texts):
        raise BllossomError(f"the example has {len(state.texts)} turns, not {len(texts)}; load the page again")
    left = tuple(turn for turn in state.rewrite if texts[turn] == state.texts[turn])
    return State(tuple(texts), state.status, left, state.made)
