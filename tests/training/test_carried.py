"""What a model comes with goes through every stage: tokenizer files, chat template, generation settings, licence."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from transformers import AutoTokenizer

from bllossom.artifacts import MANIFEST
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.errors import BllossomError
from bllossom.model.expand import ExpandConfig, expand
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.tokenizer.convert import write_tokenizer
from bllossom.tokenizer.sentencepiece_file import read_model
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.sft import SftConfig, sft

Settings = Callable[..., dict[str, Any]]

GENERATION = {"eos_token_id": 2, "temperature": 0.5, "do_sample": False}  # transformers refuses to save such
OLD_TEMPLATE = "the template that the base came with"


@pytest.fixture(scope="module")
def prepared(
    tokenizer_folder: Path,
    write_jsonl: Callable[..., Path],
    documents: Callable[..., list[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A tokens folder made by prepare with the tokenizer of `base`."""
    folder = tmp_path_factory.mktemp("carried")
    write_tokenizer(read_model(tokenizer_folder / "tokenizer.model"), folder)
    (folder / "chat_template.jinja").write_text(OLD_TEMPLATE)
    (folder / "special_tokens_map.json").write_text('{"eos_token": "</s>"}')
    sources = {"ko": [str(write_jsonl(folder / "ko.jsonl", documents("ko", 120)))]}
    output = folder / "tokens"
    prepare(
        PrepareConfig.model_validate({"tokenizer": str(folder), "sources": sources, "output": output, "holdout": 0})
    )
    return output


@pytest.fixture(scope="module")
def base(prepared: Path, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with all that a chat model comes with, its template in tokenizer_config.json, as of old."""
    folder = tmp_path_factory.mktemp("base") / "model"
    pretrain(PretrainConfig(**run(settings, folder, prepared)))
    (folder / MANIFEST).unlink()
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": OLD_TEMPLATE}))
    (folder / "added_tokens.json").write_text("{}")
    (folder / "generation_config.json").write_text(json.dumps(GENERATION))
    (folder / "LICENSE.txt").write_text("Community License")
    return folder


def run(settings: Settings, output: Path, prepared: Path, **changes: Any) -> dict[str, Any]:
    mixture = {"weights": {"ko": 1}}
    return settings(output, tokens=str(prepared), mixture=mixture, steps=1, global_batch=64, **changes)


def assert_carried(folder: Path, template: str = OLD_TEMPLATE) -> None:
    """Everything of `base` is there, and the template is the same wherever a reader looks."""
    assert (folder / "LICENSE.txt").read_text() == "Community License"
    assert json.loads((folder / "generation_config.json").read_text()) == GENERATION
    for name in ("tokenizer.model", "tokenizer.json", "added_tokens.json", "special_tokens_map.json"):
        assert (folder / name).is_file(), name
    assert (folder / "chat_template.jinja").read_text() == template
    assert json.loads((folder / "tokenizer_config.json").read_text())["chat_template"] == template
    assert AutoTokenizer.from_pretrained(folder).chat_template == template


def test_prepare_keeps_all_files_of_its_tokenizer(prepared: Path) -> None:
    names = {path.name for path in (prepared / "tokenizer").iterdir()}
    assert {"tokenizer.model", "tokenizer.json", "chat_template.jinja", "special_tokens_map.json"} <= names


def test_pretrain_and_merge_adapter_hand_on_what_the_base_came_with(
    prepared: Path, base: Path, settings: Settings, tmp_path: Path
) -> None:
    pretrain(PretrainConfig(**run(settings, tmp_path / "model", prepared, model=str(base))))
    assert_carried(tmp_path / "model")
    pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    lora = {"lora": {"rank": 2, "alpha": 4}, "trainable": "embeddings"}
    pretrain(PretrainConfig(**run(settings, tmp_path / "adapter", prepared, model=str(base), **lora)))
    assert_carried(tmp_path / "adapter")
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=tmp_path / "merged"))
    assert_carried(tmp_path / "merged")


def test_expand_hands_on_the_template_but_not_the_old_tokenizer(base: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    tokenizer.mkdir()
    grown = read_model(base / "tokenizer.model")
    piece = grown.pieces.add()
    piece.piece, piece.score = "▁사람도시", -1e6
    write_tokenizer(grown, tokenizer)
    expand(ExpandConfig(model=str(base), tokenizer=tokenizer, output=tmp_path / "model"))
    assert not (tmp_path / "model/added_tokens.json").exists()
    (tmp_path / "model/added_tokens.json").write_text("{}")
    shutil.copyfile(base / "special_tokens_map.json", tmp_path / "model/special_tokens_map.json")
    assert_carried(tmp_path / "model")


def test_sft_leaves_one_template_wherever_a_reader_looks(base: Path, tmp_path: Path) -> None:
    """llama.cpp and others read tokenizer_config.json, transformers the file beside it."""
    data = tmp_path / "data.json"
    data.write_text(json.dumps([{"instruction": "사람", "output": "도시"}] * 4, ensure_ascii=False))
    shape = {"examples_per_step": 2, "micro_batch": 2, "max_tokens": 64, "learning_rate": {"peak": 0.01}, "gpus": 0}
    sft(SftConfig(model=str(base), data=[data], template="llama2", output=tmp_path / "model", **shape))
    template = (tmp_path / "model/chat_template.jinja").read_text()
    assert template != OLD_TEMPLATE
    assert_carried(tmp_path / "model", template)


@pytest.fixture
def hub(prepared: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`owner/model` in the hub's cache: the base; gives the folder of its files."""
    repository = tmp_path / "hub/models--owner--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    shutil.copytree(base, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return snapshot


def test_a_model_of_the_hub_is_held_to_its_tokens_and_hands_on_its_files(
    hub: Path, prepared: Path, settings: Settings, tmp_path: Path
) -> None:
    pretrain(PretrainConfig(**run(settings, tmp_path / "model", prepared, model="owner/model")))
    assert_carried(tmp_path / "model")
    other = json.loads((hub / "tokenizer.json").read_text())
    other["normalizer"] = None
    (hub / "tokenizer.json").write_text(json.dumps(other))
    with pytest.raises(BllossomError, match="tokenizer"):
        pretrain(PretrainConfig(**run(settings, tmp_path / "other", prepared, model="owner/model")))
