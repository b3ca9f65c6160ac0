"""Two models' answers to three questions, which tell by their text whose they are."""

import json
from pathlib import Path

import pytest

from bllossom.evaluation.judge.pairs import Pair, lay_together, read_answers

QUESTIONS = ["Where is the market?", "시장은 어디에 있습니까?", "Why <b>there</b> & not here?"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    for name, answer in (("old", "answer of A"), ("new", "answer of B")):
        records = [
            {"id": f"q{number}", "messages": [{"role": "user", "content": question}], "answer": f"{answer}, {number}"}
            for number, question in enumerate(QUESTIONS)
        ]
        text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf8")
    return tmp_path / "old.jsonl", tmp_path / "new.jsonl"


@pytest.fixture
def pair(files: tuple[Path, Path]) -> Pair:
    return lay_together("old", "new", {path.stem: read_answers(path) for path in files})
