"""The failures a user is expected to meet. Anything else that is raised is a bug, and shows its traceback."""

from collections.abc import Sequence


class BllossomError(Exception):
    """An expected failure: one short message that ends in what to type or to change."""

    exit_code = 1


class ConfigError(BllossomError):
    """Wrong usage or a wrong config; carries every problem found, not just the first."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class Stopped(BllossomError):
    """Stopped on request with the work saved: the same command goes on from there.

    75 is sysexits.h's EX_TEMPFAIL, so that neither `a && b` nor a scheduler's afterok goes on from half a model.
    """

    exit_code = 75

    def __init__(self, message: str = "stopped; to go on, run the same command") -> None:
        super().__init__(message)
