"""Families that share Llama's shape go through every stage, from expand to the merged adapter and its scores."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    MistralConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from bllossom.artifacts import verify
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.errors import ConfigError
from bllossom.evaluation.harness import EvalConfig, evaluate
from bllossom.model.expand import ExpandConfig, expand
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokenizer.start import text_start
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.sft import SftConfig, sft
from bllossom.vocab.donor import DonorText
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from tests.fixtures.vocabularies import QWEN_PATTERN, train_byte_level

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
}
RATE = {"peak": 1e-2}


@dataclass(frozen=True)
class Prepared:
    """A base's tokenizer and the rows its model has, the merged one, and tokens made with that."""

    base: Path
    rows: int
    merged: Path
    tokens: Path


@pytest.fixture(scope="module")
def prepared(texts: dict[str, Path], small_base: Path, small_donor: Path, tmp_path_factory: Any) -> Callable:
    """`prepared("byte-level")` or `prepared("sentencepiece")`, each made once."""
    made: dict[str, Prepared] = {}

    def make(kind: str) -> Prepared:
        folder = tmp_path_factory.mktemp(kind)
        if kind == "sentencepiece":
            base, rows = small_base, 700
            merge = {"base": str(base), "donor": str(small_donor), "repair": "add"}
        else:
            base, rows = train_byte_level(folder / "base", texts["en"], pattern=QWEN_PATTERN, nfc=True), 640
            (base / "config.json").write_text(json.dumps({"vocab_size": rows}))  # 602 ids and padding, as Qwen
            merge = {"base": str(base), "donor": DonorText(text=[str(texts["ko"])], pieces=80)}
        merge_vocab(MergeVocabConfig(**merge, donor_filter=["Hangul"], output=folder / "merged"))
        sources = {name: [{"path": str(path), "split": "line"}] for name, path in texts.items()}
        settings = {"tokenizer": str(folder / "merged"), "sources": sources, "output": folder / "tokens"}
        prepare(PrepareConfig.model_validate(settings))
        return Prepared(base, rows, folder / "merged", folder / "tokens")

    def find(kind: str) -> Prepared:
        if kind not in made:
            made[kind] = make(kind)
        return made[kind]

    return find


@pytest.mark.parametrize(
    ("kind", "tokenizer", "tied"),
    [
        (MistralConfig, "sentencepiece", False),
        (Qwen2Config, "byte-level", True),
        (Qwen3Config, "byte-level", False),
        (Olmo2Config, "byte-level", False),
        (GemmaConfig, "sentencepiece", True),
        (Gemma3TextConfig, "sentencepiece", True),
    ],
)
def test_a_family_goes_through_every_stage(
    kind: type[PretrainedConfig], tokenizer: str, tied: bool, prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    given = prepared(tokenizer)
    torch.manual_seed(0)
    base = tmp_path / "base"
    capped = {"final_logit_softcapping": 5.0} if kind is Gemma3TextConfig else {}
    config = kind(**SHAPE, **capped, vocab_size=given.rows, tie_word_embeddings=tied, bos_token_id=1, eos_token_id=2)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    copy_tokenizer(given.base, base)

    rows = expand(ExpandConfig(model=str(base), tokenizer=given.merged, output=tmp_path / "expanded")).figures["rows"]
    assert rows > given.rows
    run = {"model": str(tmp_path / "expanded"), "tokens": given.tokens, "output": tmp_path / "adapted"}
    shape = {"block_size": 32, "global_batch": 256, "micro_batch": 4, "steps": 6, "gpus": 0}
    mixture = {"weights": {"ko": 7, "en": 3}, "unit": "bytes"}
    pretrain(PretrainConfig.model_validate(run | shape | {"mixture": mixture, "learning_rate": RATE}))

    records = [{"instruction": f"말하다 {n}", "input": "", "output": f"대통령은 시스템을 {n}"} for n in range(16)]
    (tmp_path / "data.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf8")
    tuning = {"model": str(tmp_path / "adapted"), "output": tmp_path / "adapter", "data": [str(tmp_path / "data.json")]}
    tuning |= {"template": "plain", "epochs": 2, "examples_per_step": 8, "max_tokens": 64, "samples": 2, "gpus": 0}
    sft(SftConfig.model_validate(tuning | {"learning_rate": RATE, "lora": {"rank": 2, "alpha": 4}}))
    merged = tmp_path / "tuned"
    merge_adapter(MergeAdapterConfig(adapter=tmp_path / "adapter", output=merged))
    assert verify(merged) == []

    (tmp_path / "held.txt").write_text("정부는 대통령은 대통령이 밝혔다.", encoding="utf8")
    bits = {}
    for name in ("expanded", "adapted", "tuned"):
        scores = EvalConfig(
            model=str(tmp_path / name), heldout={"ko": tmp_path / "held.txt"}, output=tmp_path / f"s-{name}"
        )
        bits[name] = evaluate(scores).figures["bits_per_byte"]["ko"]
    assert bits["adapted"] < bits["expanded"]
    assert bits["tuned"] != bits["adapted"]
    assert bits["tuned"] == pytest.approx(_bits_per_byte(merged, (tmp_path / "held.txt").read_text()), rel=1e-4)


def test_gemma_2_is_refused_by_name_before_anything_is_loaded(
    prepared: Callable[[str], Prepared], tmp_path: Path
) -> None:
    given = prepared("sentencepiece")
    # No weights: whoever tried to load them would say so.
    Gemma2Config(**SHAPE, vocab_size=given.rows).save_pretrained(tmp_path / "gemma")
    training = {"block_size": 32, "global_batch": 32, "micro_batch": 1, "steps": 1, "gpus": 0, "learning_rate": RATE}
    run = {"model": str(tmp_path / "gemma"), "tokens": given.tokens, "output": tmp_path / "out"}
    with pytest.raises(ConfigError, match=r"is Gemma2ForCausalLM, whose attention .* choose a model of another family"):
        pretrain(PretrainConfig.model_validate(run | training | {"mixture": {"weights": {"ko": 1}}}))
    assert not (tmp_path / "out").exists()


def _bits_per_byte(folder: Path, text: str) -> float:
    """By the logits of the family's own class, scales and caps included."""
    model, loaded = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)
    ids = torch.tensor([[text_start(loaded).document, *encode_text(loaded, text)]])
    with torch.no_grad():
        logs = model(ids).logits[0, :-1].log_softmax(-1)
    return -float(logs.gather(1, ids[0, 1:, None]).sum()) / math.log(2) / len(text.encode())
