"""Reading instruction files, and what is kept of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.instructions.dataset import epoch_order, load_examples

RECORDS: list[dict[str, Any]] = [
    {"instruction": "한국의 수도는?", "input": "", "output": "서울입니다.", "history": []},
    {"instruction": "And of", "input": "Italy?", "output": "Rome.", "history": [["Capital of France?", "Paris."]]},
]


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(records, ensure_ascii=False), encoding="utf8")
    else:
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf8")
    return path


@pytest.mark.real_data
def test_array_and_lines_give_the_same_examples(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    records = [*RECORDS, {"instruction": "separator\u2028inside", "output": "yes"}]
    array = load_examples([write(tmp_path / "a.json", records)], tokenizer, 512, "drop")
    lines = load_examples([write(tmp_path / "a.jsonl", records)], tokenizer, 512, "drop")
    assert len(array.items) == 3
    for one, other in zip(array.items, lines.items, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.supervised.tolist() == other.supervised.tolist()
    assert array.items[0].ids.dtype == np.int64
    assert array.items[0].supervised.dtype == np.bool_
    # "input" goes below the instruction, and the answer in the history carries loss as the last one does.
    two_turns = array.items[1]
    assert "And of\nItaly?" in tokenizer.decode(two_turns.ids)
    assert tokenizer.decode(two_turns.ids[two_turns.supervised]) == "Paris.</s> Rome.</s>"


@pytest.mark.real_data
def test_too_long_examples_are_dropped_or_cut_as_asked_and_listed(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    long_answer = {"instruction": "Count.", "output": "one two three " * 20}
    long_question = {"instruction": "Count these: " + "one two three " * 20, "output": "No."}
    path = write(tmp_path / "x.json", [RECORDS[0], long_answer, long_question])

    dropped = load_examples([path], tokenizer, 40, "drop")
    assert dropped.figures()["examples"] == 1
    assert dropped.figures()["dropped"] == 2
    assert [(entry.file, entry.index, entry.action) for entry in dropped.too_long] == [
        ("x.json", 1, "dropped"),
        ("x.json", 2, "dropped"),
    ]

    cut = load_examples([path], tokenizer, 40, "cut")
    assert [entry.action for entry in cut.too_long] == ["cut", "dropped"]  # the question alone fills 40 tokens
    assert [len(example.ids) for example in cut.items] == [len(dropped.items[0].ids), 40]
    assert tokenizer.eos_token_id not in cut.items[1].ids
    figures = cut.figures()
    assert figures["tokens"] == sum(len(example.ids) for example in cut.items)
    assert figures["supervised_tokens"] == sum(example.supervised.sum() for example in cut.items)

    with pytest.raises(BllossomError, match="no example is left"):
        load_examples([path], tokenizer, 4, "cut")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[{"instruction": "a", "output": "b", "sytem": "c"}]', "record 0: sytem"),
        ('{"instruction": "a", "output": "b"}\n{"instruction": "a"}\n', "record 1: output"),
        ('[{"instruction": "a", "output": " "}]', "record 0: an answer is empty"),
        ('[{"instruction": "a", "output": "b", "history": [["q", ""]]}]', "record 0: an answer is empty"),
        ("hello", "neither a JSON array nor JSONL"),
    ],
)
def test_bad_files_are_named_with_the_record(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text, encoding="utf8")
    with pytest.raises(BllossomError, match=told):
        load_examples([path], tokenizer, 512, "drop")


@pytest.mark.real_data
def test_every_answer_of_lima_is_supervised(
    tokenizer: PreTrainedTokenizerFast, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    records = json.loads(shared("instructions/lima_en_train.json").read_text(encoding="utf8"))
    several_turns = [record for record in records if record["history"]]
    assert len(several_turns) == 29
    chosen = several_turns + records[:100]
    examples = load_examples([write(tmp_path / "lima.json", chosen)], tokenizer, 100_000, "drop")
    assert not examples.too_long
    for record, example in zip(chosen, examples.items, strict=True):
        answers = [answer for _, answer in record["history"]] + [record["output"]]
        supervised = example.ids[example.supervised].tolist()
        ends = [i for i, id_ in enumerate(supervised) if id_ == tokenizer.eos_token_id]
        starts = [0, *(end + 1 for end in ends)]
        decoder = tokenizer.backend_tokenizer.decoder
        spelled = [
            decoder.decode(tokenizer.convert_ids_to_tokens(supervised[start:end]))
            for start, end in zip(starts, ends, strict=False)
        ]
        assert spelled == answers


def test_the_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    first = epoch_order(100, seed=1, epoch=0)
    assert sorted(first.tolist()) == list(range(100))
    assert first.tolist() == epoch_order(100, seed=1, epoch=0).tolist()
    others = [epoch_order(100, seed=1, epoch=1), epoch_order(100, seed=2, epoch=0), epoch_order(100, seed=0, epoch=1)]
    assert len({tuple(order.tolist()) for order in [first, *others]}) == 4
