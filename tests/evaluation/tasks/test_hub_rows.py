"""Rows from the hub are those of one commit, which is recorded; the hub is its cache here, offline."""

import json
from pathlib import Path

import huggingface_hub
import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.evaluation.harness import EvalConfig, evaluate
from bllossom.evaluation.tasks.hub_rows import go_offline_without_a_hub

OLD, NEW = "a1" * 20, "b2" * 20
CARD = """---
configs:
- config_name: easy
  data_files:
  - {split: test, path: easy/test-*.jsonl}
  - {split: train, path: [easy/train.jsonl]}
- config_name: hard
  data_files: hard/*.jsonl
---
"""
TASK = """task: quiz
dataset_path: owner/quiz
dataset_name: easy
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: ["yes", "no"]
doc_to_target: label
"""


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a task whose data set is in the hub's cache at two commits; of its hard half nothing is here."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    repository = tmp_path / "hub/datasets--owner--quiz"
    (repository / "refs").mkdir(parents=True)
    for commit, name, rows in ((OLD, "v1", 3), (NEW, "main", 5)):
        (repository / "refs" / name).write_text(commit)
        folder = repository / "snapshots" / commit
        (folder / "easy").mkdir(parents=True)
        (folder / "README.md").write_text(CARD)
        for file, count in (("test-0", rows), ("train", 4)):
            lines = [json.dumps({"question": f"{file} {commit[:2]} {n}?", "label": n % 2}) + "\n" for n in range(count)]
            (folder / f"easy/{file}.jsonl").write_text("".join(lines))
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/quiz.yaml").write_text(TASK)
    return tmp_path / "tasks"


def test_rows_are_of_the_revision_asked_for_and_its_commit_is_recorded(
    tasks: Path, byte_level: Path, tmp_path: Path
) -> None:
    def run(name: str, **settings: object) -> tuple[int, str, str]:
        config = EvalConfig(output=tmp_path / name, model=str(byte_level), tasks=[str(tasks)], gpus=0, **settings)
        found = evaluate(config).figures["tasks"]["quiz"]
        first = json.loads((tmp_path / name / "samples/quiz.jsonl").read_text().splitlines()[0])
        return found["rows"], found["data_from_hub"], first["doc"]["question"]

    assert run("newest", num_fewshot=2) == (5, f"owner/quiz@{NEW} easy test", "test-0 b2 0?")
    assert run("old", revisions={"owner/quiz": "v1"}) == (3, f"owner/quiz@{OLD} easy test", "test-0 a1 0?")
    (tasks / "quiz.yaml").write_text(f"{TASK}dataset_kwargs: {{revision: {OLD}}}\n")
    assert run("own")[:2] == (3, f"owner/quiz@{OLD} easy test")
    assert run("newer", revisions={"owner/quiz": "main"})[:2] == (5, f"owner/quiz@{NEW} easy test")
    with pytest.raises(ConfigError, match="revisions: no task reads 'owner/quizz'; the tasks read owner/quiz"):
        run("other", revisions={"owner/quizz": "v1"})
    with pytest.raises(
        BllossomError, match=r"quiz: no data; put .*hf download --repo-type dataset owner/quiz .*out of reach"
    ):
        run("absent", revisions={"owner/quiz": "v2"})


def test_a_hub_that_takes_no_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub.constants as hub

    for holder in (hub, datasets.config):
        monkeypatch.setattr(holder, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "ENDPOINT", "http://127.0.0.1:1")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    go_offline_without_a_hub()
    assert hub.HF_HUB_OFFLINE
    assert datasets.config.HF_HUB_OFFLINE
