"""A small bilingual tokens folder and a run over it, for the tests of training."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from bllossom.artifacts import MANIFEST
from bllossom.corpus.shards import HELDOUT, SHARDS, ShardWriter, SourceRecord, TokenIndex, write_index
from bllossom.training.pretrain import PretrainConfig, pretrain

sys.path.insert(0, str(Path(__file__).parent))  # for command_runs.py beside this file

PIECES = 300
OLD_ROWS = 200
BLOCK = 32


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Bit-equality is promised for the same number of threads."""
    torch.set_num_threads(1)


def write_tokens(folder: Path, *, seed: int = 0, tokenizer: str = "one", documents: int = 240) -> Path:
    """Two languages in documents of uneven length: Markov chains, so that there is something to learn."""
    folder.mkdir(parents=True)
    sources = []
    for number, language in enumerate(("en", "ko")):
        random = np.random.default_rng([seed, number])
        records = {}
        for where, count in ((SHARDS, documents), (HELDOUT, 6)):
            writer = ShardWriter(folder, f"{where}/{language}/news", "uint16")
            lengths = random.integers(5, 60, count).tolist()
            ids = np.cumsum(random.integers(1, 4, sum(lengths))) % 140 + 10 + 145 * number
            writer.add(ids.astype(np.uint16), lengths, [3 * length for length in lengths])
            records[where] = writer.finish()
        sources.append(SourceRecord(language=language, name="news", shards=[records[SHARDS]], heldout=records[HELDOUT]))
    write_index(folder, TokenIndex(dtype="uint16", pieces=PIECES, bos=1, eos=2, tokenizer=tokenizer, sources=sources))
    return folder


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokens folder of two languages, 300 pieces."""
    return write_tokens(tmp_path_factory.mktemp("training") / "tokens")


@pytest.fixture(scope="session")
def settings(tokens: Path) -> Callable[..., dict[str, Any]]:
    """`settings(output, key=value, …)`: a pretrain config for a tiny Llama, 20 steps of 8 blocks of 32 tokens."""

    def make(output: Path, **changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "output": str(output),
            "model": {"init": {"hidden_size": 32, "intermediate_size": 64, "layers": 2, "heads": 2, "window": 64}},
            "tokens": str(tokens),
            "mixture": {"weights": {"ko": 7, "en": 3}},
            "block_size": BLOCK,
            "global_batch": 8 * BLOCK,
            "micro_batch": 2,
            "steps": 20,
            "learning_rate": {"peak": 0.01},
            "checkpoint_every": 5,
            "gpus": 0,
            "precision": "fp32",
        }
        return values | changes

    return make


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[[dict[str, Any]], Path]:
    """Write a config where the command can read it."""

    def write(values: dict[str, Any]) -> Path:
        path = tmp_path / "pretrain.yaml"
        path.write_text(yaml.safe_dump(values))
        return path

    return write


@pytest.fixture(scope="session")
def expanded(settings: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of which the first 200 rows are said to be the base's, as expand says it."""
    output = tmp_path_factory.mktemp("expanded") / "model"
    pretrain(PretrainConfig(**settings(output, steps=1)))
    manifest = json.loads((output / MANIFEST).read_text())
    manifest["figures"] |= {"rows": PIECES, "old_rows": OLD_ROWS}
    (output / MANIFEST).write_text(json.dumps(manifest))
    return output
