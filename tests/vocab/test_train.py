"""Training a vocabulary: deterministic, Llama 2's way or KoBERT's, and made to be merged."""

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from bllossom.errors import BllossomError
from bllossom.tokenizer.sentencepiece_file import BYTE, check_base, read_model
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.samples import processor
from bllossom.vocab.train import TrainVocabConfig, dry_run, train_vocab


def test_bpe_is_llama_2s_way(small_base: Path) -> None:
    model = read_model(small_base / "tokenizer.model")
    check_base(model, small_base)
    assert [piece.piece for piece in model.pieces[:3]] == ["<unk>", "<s>", "</s>"]
    assert sum(piece.type == BYTE for piece in model.pieces) == 256
    assert len(model.pieces) == 700
    slow = processor(model)
    assert slow.encode("1984", out_type=str)[-4:] == ["1", "9", "8", "4"]
    for text in ("the  river", "  x", "①ﬁ\u1112\u1161", "공룡 🦕\n"):  # nothing is normalised away
        assert slow.decode(slow.encode(text)) == text


def test_unigram_writes_the_model_alone(small_donor: Path) -> None:
    assert {path.name for path in small_donor.iterdir()} == {"tokenizer.model", "manifest.json"}
    assert len(read_model(small_donor / "tokenizer.model").pieces) == 480


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_the_same_text_gives_the_same_bytes(texts: dict[str, Path], tmp_path: Path, kind: str) -> None:
    fingerprints = {
        train_vocab(
            TrainVocabConfig(text=[str(texts["ko"])], type=kind, vocab_size=450, output=tmp_path / name)
        ).fingerprint
        for name in ("a", "b")
    }
    assert len(fingerprints) == 1


def test_another_spelling_of_the_same_text_gives_the_same_bytes(texts: dict[str, Path], tmp_path: Path) -> None:
    """Pieces of decomposed syllables would be dead: prepare composes the text before it is encoded."""
    decomposed = tmp_path / "nfd.txt"
    decomposed.write_text(unicodedata.normalize("NFD", texts["ko"].read_text(encoding="utf8")), encoding="utf8")
    fingerprints = {
        train_vocab(
            TrainVocabConfig(text=[str(path)], type="bpe", vocab_size=450, output=tmp_path / path.stem)
        ).fingerprint
        for path in (texts["ko"], decomposed)
    }
    assert len(fingerprints) == 1


def test_a_line_longer_than_sentencepieces_limit_is_not_dropped(tmp_path: Path) -> None:
    text = tmp_path / "one-line.txt"
    text.write_text("the river ran along the old stones " * 400, encoding="utf8")  # 14,000 bytes, limit 4,192
    config = TrainVocabConfig(text=[str(text)], type="bpe", vocab_size=290, output=tmp_path / "out")
    assert train_vocab(config).figures["pieces"] == 290


def test_too_little_text_for_so_many_pieces(texts: dict[str, Path], tmp_path: Path) -> None:
    for kind in ("bpe", "unigram"):
        config = TrainVocabConfig(text=[str(texts["en"])], type=kind, vocab_size=30000, output=tmp_path / kind)
        with pytest.raises(BllossomError, match=r"bytes of text do not give 30,000 pieces .*; set another vocab_size"):
            train_vocab(config)
        assert not (tmp_path / kind).exists()


def test_text_that_is_not_there_or_empty(tmp_path: Path) -> None:
    config = TrainVocabConfig(text=[str(tmp_path / "*.txt")], type="bpe", vocab_size=300, output=tmp_path / "out")
    assert "300 pieces" in dry_run(config)[0]
    with pytest.raises(BllossomError, match="no such file"):
        train_vocab(config)
    (tmp_path / "empty.txt").touch()
    with pytest.raises(BllossomError, match=r"holds no text|could not train"):
        train_vocab(config)


def test_pieces_that_the_base_would_keep_from_being_made_are_left_out(
    small_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    both = [str(texts["ko"]), str(texts["en"])]
    dead = {}
    for name, base in (("free", None), ("fitted", str(small_base))):
        output = tmp_path / name
        figures = train_vocab(
            TrainVocabConfig(text=both, type="bpe", vocab_size=1500, base=base, output=output)
        ).figures
        assert figures["pieces"] + len(figures["left_out"]) == 1500
        merged = MergeVocabConfig(base=str(small_base), donor=str(output), output=tmp_path / f"{name}-merged")
        dead[name] = merge_vocab(merged).figures["unreachable_pieces"]
    assert dead["fitted"] == 0


@pytest.mark.real_data
def test_merged_with_llama_2_a_trained_donor_has_no_dead_piece(
    llama2: Path, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    text = [
        str(shared("corpus/ko/tensorflow_docs_ko.jsonl.zst")),
        str(shared("corpus/ko/libreoffice_help_ko.jsonl.zst")),
    ]
    settings = {"text": text, "type": "bpe", "vocab_size": 8000}
    free = train_vocab(TrainVocabConfig(output=tmp_path / "free", **settings))
    fitted = train_vocab(TrainVocabConfig(output=tmp_path / "fitted", base=str(llama2), **settings))

    def dead(donor: str, **filters: list[str]) -> int:
        output = tmp_path / f"{donor}-{len(filters)}"
        config = MergeVocabConfig(base=str(llama2), donor=str(tmp_path / donor), output=output, **filters)
        count: int = merge_vocab(config).figures["unreachable_pieces"]
        return count

    assert free.figures["left_out"] == []
    # In its own script by construction, for Llama 2 has no merges there; in Latin words they come first.
    assert dead("free", donor_filter=["Hangul"]) == 0
    assert dead("free") > 0
    assert dead("fitted") == 0
    assert len(fitted.figures["left_out"]) < 50
