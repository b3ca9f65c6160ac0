"""What a shape of instruction files is: how its records are told from others, and where their messages are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Turns = list[tuple[str, Any]]
"""(role, content) pairs as a record holds them, not yet checked."""


@dataclass(frozen=True)
class Shape:
    """One way to write conversations down. `read` may raise UnusableError."""

    name: str
    looks: str  # a record of it, for a person
    keys: frozenset[str]  # what is read of a record; more columns are no error
    fits: Callable[[Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any]], Turns]
