"""All tests of training run on one thread."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_thread(one_thread: None) -> None:
    """See fixtures/training.py."""
