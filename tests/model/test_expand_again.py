"""Models that stages published, as the base of a further vocabulary and as expand's tokenizer."""

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bllossom.artifacts import MANIFEST, read_manifest, verify
from bllossom.corpus.prepare import PrepareConfig, prepare
from bllossom.errors import BllossomError
from bllossom.model.expand import ExpandConfig, expand
from bllossom.model.merge_adapter import MergeAdapterConfig, merge_adapter
from bllossom.model.pieces import compare_tokenizers
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.training.pretrain import PretrainConfig, pretrain
from bllossom.training.sft import SftConfig, sft
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.train import TrainVocabConfig, train_vocab

JAPANESE = "{}の主人は広場で{}友だちを待ち、{}子どもたちは日本語で歌う。"
JAPANESE_WORDS = ("海辺", "図書館", "北側", "木造", "黄金", "静かな", "大きな", "東京", "市場", "若い")
MATRICES = ("model.embed_tokens.weight", "lm_head.weight")
COMMON = {"gpus": 0, "learning_rate": {"peak": 0.01}, "micro_batch": 2}


def write_japanese(folder: Path) -> Path:
    sentences = [JAPANESE.format(*chosen) for chosen in itertools.permutations(JAPANESE_WORDS, 3)]
    (folder / "ja.txt").write_text("\n\n".join(sentences) + "\n", encoding="utf8")
    return folder / "ja.txt"


def merge_japanese(model: Path, folder: Path) -> Path:
    """Merge a Japanese vocabulary into that of a published model; gives merge-vocab's folder."""
    donor = TrainVocabConfig(text=[str(folder / "ja.txt")], type="bpe", vocab_size=360, output=folder / "donor")
    train_vocab(donor)
    merged = folder / "vocabulary"
    merge_vocab(MergeVocabConfig(base=str(model), donor=str(donor.output), pad_to_multiple_of=64, output=merged))
    return merged


def train_on(model: Path, tokens: Path, output: Path, **changes: object) -> Path:
    values = {"mixture": {"weights": {"ko": 1}}, "block_size": 32, "global_batch": 64, "steps": 2, "output": output}
    pretrain(PretrainConfig.model_validate(COMMON | values | {"model": str(model), "tokens": tokens} | changes))
    return output


@pytest.fixture(scope="module")
def published(vocabularies: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, and by the stage's name what was made of it, all with the merged Korean vocabulary."""
    folder = tmp_path_factory.mktemp("published")
    base, merged = vocabularies
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(**shape, vocab_size=330)).save_pretrained(folder / "base")
    for name in ("tokenizer.model", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(base / name, folder / "base" / name)
    expand(ExpandConfig(model=str(folder / "base"), tokenizer=merged, output=folder / "expand"))
    sources = {"ko": [str(base.parent / "ko.txt")]}
    prepare(PrepareConfig.model_validate({"output": folder / "tokens", "tokenizer": str(merged), "sources": sources}))
    train_on(folder / "expand", folder / "tokens", folder / "pretrain")
    examples = [{"instruction": "한국어로 노래한다.", "output": "빵집 주인은 대통령을 기다린다."}] * 2
    (folder / "examples.json").write_text(json.dumps(examples))
    tuning = {
        "template": "plain",
        "model": str(folder / "pretrain"),
        "data": [folder / "examples.json"],
        "examples_per_step": 2,
    }
    sft(SftConfig.model_validate(COMMON | tuning | {"output": folder / "sft"}))
    return {name: folder / name for name in ("base", "tokens", "expand", "pretrain", "sft")}


@pytest.mark.parametrize("stage", ["expand", "pretrain", "sft"])
def test_a_published_model_serves_as_tokenizer(
    stage: str, published: dict[str, Path], vocabularies: tuple[Path, Path], tmp_path: Path
) -> None:
    """Its rows are the model's, padding included, as merge-vocab's manifest said them."""
    assert compare_tokenizers(published["base"], published[stage]) == compare_tokenizers(*vocabularies)
    keys = {"model": str(published["base"]), "output": tmp_path / "again"}
    again = expand(ExpandConfig.model_validate(keys | {"tokenizer": published[stage]}))
    told = read_manifest(published["expand"])
    assert told is not None
    assert {**again.figures, "shards": None} == {**told.figures, "shards": None}
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path / "again", published["expand"])]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_a_merged_adapter_serves_as_tokenizer(published: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed (pip install 'bllossom[lora]')")
    lora = {"lora": {"rank": 2}, "trainable": "embeddings"}
    adapter = train_on(published["expand"], published["tokens"], tmp_path / "adapter", **lora)
    merge_adapter(MergeAdapterConfig(adapter=adapter, output=tmp_path / "merged"))
    expected = compare_tokenizers(published["base"], published["expand"])
    assert compare_tokenizers(published["base"], tmp_path / "merged") == expected
    assert compare_tokenizers(published["base"], adapter) == expected


def test_a_model_that_says_fewer_rows_than_pieces_is_refused(published: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(published["pretrain"], tmp_path / "model")
    content = json.loads((tmp_path / "model" / MANIFEST).read_text())
    content["figures"]["rows"] = 331
    (tmp_path / "model" / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(BllossomError, match=r"331 rows; make it again with pretrain --force"):
        compare_tokenizers(published["base"], tmp_path / "model")


@pytest.mark.parametrize("stage", ["pretrain", "sft"])
def test_a_second_language_on_a_trained_model(stage: str, published: dict[str, Path], tmp_path: Path) -> None:
    """What Korean taught stays bit for bit, the padding between makes room, and the chain goes on to training."""
    japanese, model = write_japanese(tmp_path), published[stage]
    merged = merge_japanese(model, tmp_path)
    korean = compare_tokenizers(published["base"], model)
    figures = expand(ExpandConfig(model=str(model), tokenizer=merged, output=tmp_path / "expanded")).figures
    assert figures["old_rows"] == korean.base + korean.new
    assert figures["rows"] > korean.rows
    assert verify(tmp_path / "expanded") == []
    old, new = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "expanded"))
    for name, weight in old.items():
        kept = figures["old_rows"] if name in MATRICES else len(weight)
        assert torch.equal(new[name][:kept], weight[:kept]), name
    text = "빵집 주인은 대통령을 기다린다."
    tokenizers = [load_tokenizer(folder) for folder in (model, tmp_path / "expanded")]
    ids = [encode_text(tokenizer, text) for tokenizer in tokenizers]
    assert ids[0] == ids[1]
    with torch.no_grad():
        logits = [
            AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([ids[0]])).logits[..., : figures["old_rows"]]
            for folder in (model, tmp_path / "expanded")
        ]
    assert torch.allclose(logits[0], logits[1], atol=1e-6)

    sources = {"ja": [str(japanese)]}
    prepare(PrepareConfig.model_validate({"output": tmp_path / "tokens", "tokenizer": str(merged), "sources": sources}))
    only_new = {"mixture": {"weights": {"ja": 1}}, "trainable": "new_rows"}
    trained = train_on(tmp_path / "expanded", tmp_path / "tokens", tmp_path / "trained", **only_new)
    after = load_file(trained / "model.safetensors")["lm_head.weight"]
    moved = (after != new["lm_head.weight"]).any(dim=1)
    assert not moved[: figures["old_rows"]].any()
    assert moved[figures["old_rows"] :].all()
