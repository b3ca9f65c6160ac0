"""Fixtures every test may use. Nothing here reaches the network."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What the tests of several rooms use: documents and a tokenizer, vocabularies, a run over a small tokens folder.
pytest_plugins = (
    "tests.fixtures.browser",
    "tests.fixtures.documents",
    "tests.fixtures.training",
    "tests.fixtures.vocabularies",
    "tests.fixtures.published",
)

# Before any library that reads them is imported: no test may reach a hub.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


def shared_folder() -> Path:
    """The folder of real vocabularies, texts and tasks: BLLOSSOM_SHARED, or ../shared beside the checkout."""
    return Path(os.environ.get("BLLOSSOM_SHARED", ROOT.parent / "shared"))


LAUNCHERS_VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture(autouse=True)
def _no_launcher() -> Iterator[None]:
    """No test leaves behind what a launcher sets (accelerate does): the next one would take itself for a rank."""
    before = {name: os.environ[name] for name in LAUNCHERS_VARIABLES if name in os.environ}
    yield
    for name in LAUNCHERS_VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(before)


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Give `shared("tokenizers/llama2/tokenizer.model")` its path, or skip the test, saying what is missing."""

    def find(relative: str) -> Path:
        path = shared_folder() / relative
        if not path.exists():
            pytest.skip(f"real data missing: {path} (set BLLOSSOM_SHARED to the folder that has {relative})")
        return path

    return find


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder that scripts/get_smollm2.py made: SMOLLM2, or models/smollm2; skip the test without it."""
    path = Path(os.environ.get("SMOLLM2", ROOT / "models" / "smollm2"))
    if not (path / "model.safetensors").is_file():
        pytest.skip(f"no SmolLM2 in {path}: run scripts/get_smollm2.py --output {path} (or set SMOLLM2)")
    return path
