"""Bases and donors as they are published: Gemma's way, Mistral's marks, tunes without a model file, lists of pieces."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer

from bllossom.errors import BllossomError
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokenizer.sentencepiece_file import CONTROL, USER_DEFINED, read_model
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.train import TrainVocabConfig, train_vocab

TEXTS = [
    "",
    " a",
    "a ",
    "the  river",
    "<table>old</table>",
    "\n\n\nstones",
    "a\n\n b   c",
    "정부는 <mask> 시스템을",
    "</s>",
]


def train(folder: Path, text: Path, **settings: Any) -> Path:
    """A SentencePiece BPE model with byte fallback and the identity normaliser."""
    folder.mkdir(exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **settings,
    )
    (folder / "tokenizer.vocab").unlink()
    return folder


@pytest.fixture(scope="session")
def gemma(texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gemma's way: no dummy prefix, user-defined pieces for runs of spaces and newlines, and for tags."""
    return train(
        tmp_path_factory.mktemp("gemma") / "base",
        texts["en"],
        vocab_size=800,
        add_dummy_prefix=False,
        user_defined_symbols=["<mask>", "\n", "\n\n", "\n\n\n", "▁▁", "▁▁▁", "<table>", "</table>"],
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        bos_piece="<bos>",
        eos_piece="<eos>",
    )


@pytest.mark.parametrize("repair", ["none", "add", "swap"])
def test_gemmas_way(gemma: Path, small_donor: Path, texts: dict[str, Path], tmp_path: Path, repair: str) -> None:
    samples = {language: [str(path)] for language, path in texts.items()}
    config = MergeVocabConfig(
        base=str(gemma), donor=str(small_donor), repair=repair, samples=samples, output=tmp_path / "out"
    )
    figures = merge_vocab(config).figures  # 20,000 generated strings agree with SentencePiece
    assert figures["tokens_per_word"]["ko"]["merged"] < figures["tokens_per_word"]["ko"]["base"]
    assert (figures["unreachable_pieces"] == 0) == (repair != "none")
    slow = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "out/tokenizer.model"))
    bare = sentencepiece.SentencePieceProcessor(model_file=str(gemma / "tokenizer.model"))
    tokenizers = load_tokenizer(tmp_path / "out"), load_tokenizer(tmp_path / "out/tokenizer.model")
    for text in TEXTS:
        for tokenizer in tokenizers:
            assert encode_text(tokenizer, text) == slow.encode(text)
            assert tokenizer.decode(slow.encode(text)) == text
        assert encode_text(load_tokenizer(gemma), text) == bare.encode(text)
    opened = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (opened.pad_token, opened.bos_token, opened.eos_token) == ("<pad>", "<bos>", "<eos>")
    # Figures count the text as it is encoded, not with a space in front of it.
    expected = sum(len(slow.encode(line)) for line in [texts["ko"].read_text(encoding="utf8").rstrip("\n")])
    assert json.loads((tmp_path / "out/report.json").read_text())["languages"]["ko"]["merged"]["tokens"] == expected


def test_marks_become_special_tokens_behind_a_prefix(
    small_donor: Path, texts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = train(tmp_path / "base", texts["en"], vocab_size=700, user_defined_symbols=["[REF]", "[/REF]"])
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(small_donor), output=tmp_path / "out"))
    assert "2 user-defined pieces ([REF], [/REF]) are special tokens here" in capsys.readouterr().err
    tokenizer, number = load_tokenizer(tmp_path / "out"), 3
    assert read_model(base / "tokenizer.model").pieces[number].type == USER_DEFINED
    assert read_model(tmp_path / "out/tokenizer.model").pieces[number].type == CONTROL
    assert tokenizer("a[REF]b", add_special_tokens=False)["input_ids"].count(number) == 1
    assert number not in encode_text(tokenizer, "a[REF]b")
    assert encode_text(load_tokenizer(base), "a[REF]b") == encode_text(tokenizer, "a[REF]b")


def test_a_word_that_is_user_defined_behind_a_prefix_is_refused_and_the_remedy_works(
    small_donor: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    base = train(tmp_path / "base", texts["en"], vocab_size=700, user_defined_symbols=["river"])
    config = MergeVocabConfig(base=str(base), donor=str(small_donor), output=tmp_path / "out")
    with pytest.raises(BllossomError, match=r"user-defined piece 'river'.*or make one with bllossom train-vocab"):
        merge_vocab(config)
    made = TrainVocabConfig(text=[str(texts["en"])], type="bpe", vocab_size=700, output=tmp_path / "made")
    train_vocab(made)
    merge_vocab(config.model_copy(update={"base": str(tmp_path / "made")}))


def test_a_tune_without_a_model_file_names_the_one_to_take(
    small_base: Path, gemma: Path, small_donor: Path, tmp_path: Path
) -> None:
    """As transformers 5 saves it."""
    tokenizer = AutoTokenizer.from_pretrained(small_base)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.save_pretrained(tmp_path / "tune")
    config = MergeVocabConfig(base=str(tmp_path / "tune"), donor=str(small_donor), output=tmp_path / "out")
    with pytest.raises(BllossomError, match=r"put tokenizer\.model of the model that this one was tuned from beside"):
        merge_vocab(config)
    shutil.copy(gemma / "tokenizer.model", tmp_path / "tune")
    with pytest.raises(BllossomError, match="they are not of one tokenizer"):
        merge_vocab(config)
    shutil.copy(small_base / "tokenizer.model", tmp_path / "tune")
    merge_vocab(config)
    merged = load_tokenizer(tmp_path / "out")
    assert merged.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [700, 701]
    assert merged.eos_token == "<|im_end|>"


@pytest.mark.parametrize("kind", ["Unigram", "WordPiece", "BPE"])
def test_a_donor_that_is_only_a_tokenizer_json(small_base: Path, tmp_path: Path, kind: str) -> None:
    pieces = ["▁강물", "강물", "▁시스템", "은", "▁", "강", "물", "시", "스", "템"]
    if kind == "Unigram":
        model: Any = models.Unigram([("<unk>", 0.0), *((piece, -1.0 - i) for i, piece in enumerate(pieces))], 0)
    elif kind == "WordPiece":
        words = [piece.removeprefix("▁") if piece.startswith("▁") else "##" + piece for piece in pieces if piece != "▁"]
        vocab = dict.fromkeys(["[UNK]", *words])
        model = models.WordPiece({piece: i for i, piece in enumerate(vocab)}, unk_token="[UNK]")
    else:
        model = models.BPE({piece: i for i, piece in enumerate(["<unk>", *pieces])}, [], unk_token="<unk>")
    Tokenizer(model).save(str(tmp_path / "tokenizer.json"))
    config = MergeVocabConfig(base=str(small_base), donor=str(tmp_path), repair="add", output=tmp_path / "out")
    figures = merge_vocab(config).figures
    merged = load_tokenizer(tmp_path / "out")
    assert {"▁강물", "강물", "▁시스템", "은"} <= merged.get_vocab().keys()
    assert figures["unreachable_pieces"] == 0
    assert merged.tokenize("강물은 시스템") == ["▁강물", "은", "▁시스템"]


@pytest.mark.real_data
@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v7"])
def test_mistrals_own_files(kobert: Path, tmp_path: Path, version: str) -> None:
    """From PyPI's mistral-common: BLLOSSOM_MISTRAL names the folder of its .model files."""
    folder = Path(os.environ.get("BLLOSSOM_MISTRAL", "models/mistral"))
    if not (found := sorted(folder.glob(f"*.model.{version}"))):
        pytest.skip(f"no Mistral {version} in {folder}: unpack mistral_common/data of the package mistral-common there")
    figures = merge_vocab(MergeVocabConfig(base=str(found[0]), donor=str(kobert), output=tmp_path / "out")).figures
    assert figures["base_pieces"] == {"v1": 32_000}.get(version, 32_768)
    assert figures["new_pieces"] == {"v1": figures["new_pieces"]}.get(version, 7_236)
    base, merged = load_tokenizer(found[0]), load_tokenizer(tmp_path / "out")
    for text in ("[INST] a[REFERENCE_DOC_1] b [/INST]", "the  river\n\nran"):
        assert encode_text(base, text) == encode_text(merged, text)
