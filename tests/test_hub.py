"""What is taken for a hub id, and what for a path."""

import pytest

from bllossom.hub import is_hub_id
from bllossom.text.compression import COMPRESSIONS
from bllossom.text.kinds import ARCHIVES, ENDINGS


@pytest.mark.parametrize(
    "source",
    [
        "GAIR/lima",
        "Qwen/Qwen2.5-0.5B",
        "owner/model-0.5",
        "owner/name@v1.0",
        "owner/csv",
        "owner/json-dialogues",
        "hf://datasets/owner/name/train.json",
    ],
)
def test_ids_of_the_hub(source):
    assert is_hub_id(source)


@pytest.mark.parametrize("ending", [*ENDINGS, *COMPRESSIONS, *ARCHIVES, ".JSONL", ".jsonl.gz", ".json@main"])
def test_a_mistyped_path_of_a_data_file_is_no_hub_id(ending):
    assert not is_hub_id(f"data/lima_en{ending}")
