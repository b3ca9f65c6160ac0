"""Distilled rows: all else stays, the hidden states come nearer, a stopped run goes on to the same rows."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from bllossom import artifacts
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.errors import BllossomError
from bllossom.model.distill_rows import DistillRowsConfig, cut_snippets, distill_rows
from bllossom.model.distillation import RowLearner, make_snippet
from bllossom.model.expand import ExpandConfig, expand
from bllossom.model.pieces import compare_tokenizers
from bllossom.tokenizer.load import load_tokenizer

KOREAN = "바닷가 주인은 광장에서 조용한 대통령을 기다리고, 어린 아이들은 한국어로 노래한다. "


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def expanded(
    request: pytest.FixtureRequest, make_model: Callable[..., Path], vocabularies: tuple[Path, Path], tmp_path: Path
) -> Path:
    base = make_model(tied=request.param)
    expand(ExpandConfig(model=str(base), tokenizer=vocabularies[1], input_init="random", output=tmp_path / "expanded"))
    write_tokens(tmp_path, KOREAN * 3)
    return tmp_path / "expanded"


def write_tokens(folder: Path, text: str) -> None:
    (folder / "ko.txt").write_text("\n".join(f"{number} {text}" for number in range(30)), encoding="utf8")
    sources = {"ko": [{"path": str(folder / "ko.txt"), "split": "line"}]}
    settings = {"tokenizer": str(folder / "expanded"), "sources": sources, "output": folder / "tokens"}
    prepare(PrepareConfig.model_validate(settings | {"holdout": 0.3}), force=True)


def configure(expanded: Path, output: str = "out", **settings: int) -> DistillRowsConfig:
    folder = expanded.parent
    return DistillRowsConfig(
        model=expanded,
        base=folder / "base-model",
        tokens=folder / "tokens",
        output=folder / output,
        **({"steps": 30, "batch_snippets": 2, "snippet_tokens": 24, "save_every": 10} | settings),  # type: ignore[arg-type]
    )


def test_a_snippet_knows_where_each_spelling_ends() -> None:
    snippet = make_snippet([1, 10, 2, 11], first=10, spellings=[[3, 4], [5, 6, 7]], keep=[True, True, True, False])
    assert snippet.student == [1, 10, 2, 5, 6, 7]
    assert snippet.teacher == [1, 3, 4, 2, 5, 6, 7]
    assert snippet.ends == [0, 2, 3, 4, 5, 6]
    assert snippet.after == [False, True, True, True, True, True]


def test_a_snippet_without_new_pieces_is_at_no_distance(expanded: Path) -> None:
    pieces = compare_tokenizers(expanded.parent / "base-model", expanded)
    learner = RowLearner(AutoModelForCausalLM.from_pretrained(expanded), pieces.base, pieces.new, output_weight=0.1)
    ids = [5, pieces.base, 6, 7]
    spelled = make_snippet(ids, pieces.base, pieces.spellings, [False] * 4)
    spelled = type(spelled)(spelled.student, spelled.teacher, spelled.ends, [True] * len(spelled.student))
    assert float(learner.losses([spelled])[0].detach()) == pytest.approx(0, abs=1e-10)
    replaced = make_snippet(ids, pieces.base, pieces.spellings, [True] * 4)
    assert float(learner.losses([replaced])[0].detach()) > 1e-3


def test_new_rows_come_nearer_and_all_else_stays(expanded: Path) -> None:
    manifest = distill_rows(configure(expanded))
    assert manifest.figures["distance_after"] < 0.8 * manifest.figures["distance_before"]
    before, after = (load_file(folder / "model.safetensors") for folder in (expanded, expanded.parent / "out"))
    first, new = manifest.figures["old_rows"], manifest.figures["new_pieces"]
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        if "embed_tokens" in name or "lm_head" in name:
            moved = (tensor != after[name]).any(1)
            assert not moved[:first].any()
            assert not moved[first + new :].any()
            assert moved[first : first + new].any()
        else:
            assert torch.equal(tensor, after[name]), name
    AutoModelForCausalLM.from_pretrained(expanded.parent / "out")


def test_a_stopped_run_goes_on_to_the_same_rows(expanded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distill_rows(configure(expanded, "whole"))
    steps = 0
    learn = RowLearner.loss

    def stop_later(self: RowLearner, batch: list) -> torch.Tensor:  # type: ignore[type-arg]
        nonlocal steps
        steps += 1
        if steps == 17:
            raise KeyboardInterrupt
        return learn(self, batch)

    monkeypatch.setattr(RowLearner, "loss", stop_later)
    with pytest.raises(KeyboardInterrupt):
        distill_rows(configure(expanded, "stopped"))
    resumed = distill_rows(configure(expanded, "stopped"))
    assert steps == 17 + 20  # it went on at step 10
    assert resumed.fingerprint == whole.fingerprint


def test_an_end_while_it_is_published_costs_no_step(expanded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(_: Path) -> list[str]:
        raise KeyboardInterrupt

    whole = distill_rows(configure(expanded, "first"))
    with monkeypatch.context() as patched:
        patched.setattr(artifacts, "payload", end)
        with pytest.raises(KeyboardInterrupt):
            distill_rows(configure(expanded, "ended"))
    monkeypatch.setattr(RowLearner, "loss", lambda *_: pytest.fail("a step was made again"))
    again = distill_rows(configure(expanded, "ended"))
    assert again.fingerprint == whole.fingerprint
    assert set(again.files) == {path.name for path in configure(expanded, "ended").output.iterdir()} - {"manifest.json"}


def test_what_is_held_out_is_not_learned_from(expanded: Path) -> None:
    pieces = compare_tokenizers(expanded.parent / "base-model", expanded)
    snippets = cut_snippets(configure(expanded, steps=500, snippet_tokens=100), pieces)
    tokenizer = load_tokenizer(expanded)
    found = {tokenizer.decode(snippet, skip_special_tokens=True).split()[0] for snippet in snippets}
    lines = (expanded.parent / "tokens/heldout/ko.jsonl").read_text(encoding="utf8").splitlines()
    held = {json.loads(line)["text"].split()[0] for line in lines}
    assert len(held) > 3
    assert len(found) > 10
    assert not held & found


def test_sources_without_new_pieces_leave_their_share_to_the_others(expanded: Path) -> None:
    folder = expanded.parent
    texts = {"en": "The red baker sells bread. ", "ko": KOREAN, "more": KOREAN}
    for name, text in texts.items():
        lines = "\n".join(f"{number} {text * 3}" for number in range(8 if name == "more" else 40))
        (folder / f"{name}.txt").write_text(lines, encoding="utf8")
    korean = [{"path": str(folder / f"{name}.txt"), "name": name, "split": "line"} for name in ("ko", "more")]
    sources = {"en": [{"path": str(folder / "en.txt"), "split": "line"}], "ko": korean}
    settings = {"tokenizer": str(expanded), "sources": sources, "output": folder / "tokens", "deduplicate": False}
    prepare(PrepareConfig.model_validate(settings), force=True)
    pieces = compare_tokenizers(folder / "base-model", expanded)
    config = configure(expanded, steps=12, batch_snippets=2)
    snippets = cut_snippets(config, pieces)
    assert len(snippets) == 24
    assert snippets == cut_snippets(config, pieces)
    assert all(any(number >= pieces.base for number in snippet) for snippet in snippets)
    every = cut_snippets(configure(expanded, steps=1000), pieces)
    assert 24 < len(every) < 2000  # all there are, where there are fewer than the steps take


def test_tokens_without_the_pieces_and_those_of_another_tokenizer_are_refused(
    expanded: Path, vocabularies: tuple[Path, Path]
) -> None:
    pieces = compare_tokenizers(expanded.parent / "base-model", expanded)
    write_tokens(expanded.parent, "plain english")
    with pytest.raises(BllossomError, match="hold none of the new pieces; prepare text of their language"):
        cut_snippets(configure(expanded), pieces)
    settings = {"tokenizer": str(vocabularies[0]), "sources": {"ko": [str(expanded.parent / "ko.txt")]}}
    prepare(PrepareConfig.model_validate(settings | {"output": expanded.parent / "tokens"}), force=True)
    with pytest.raises(BllossomError, match="was made with the tokenizer"):
        cut_snippets(configure(expanded), pieces)
