"""report.json's numbers are those of the text, and report.html needs nothing else."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from bllossom.errors import BllossomError
from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.donor import DonorText
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.samples import read_samples


@pytest.fixture(scope="module")
def merged(
    small_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("report") / "vocab"
    samples = {language: [str(path)] for language, path in texts.items()}
    merge_vocab(
        MergeVocabConfig(
            base=str(small_base), donor=str(small_donor), output=output, samples=samples, example="대통령 <b>&"
        )
    )
    return output


@pytest.fixture(scope="module")
def report(merged: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((merged / "report.json").read_text(encoding="utf8"))
    return found


def test_the_rates_are_those_of_the_documents(
    report: dict[str, Any], merged: Path, small_base: Path, texts: dict[str, Path]
) -> None:
    documents = read_samples({"ko": [texts["ko"]]})["ko"]
    figures = report["languages"]["ko"]
    words = sum(len(text.split()) for text in documents)
    assert (figures["documents"], figures["words"]) == (len(documents), words)
    assert figures["bytes"] == sum(len(text.encode()) for text in documents)
    for side, folder in (("base", small_base), ("merged", merged)):
        slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        ids = [i for text in documents for i in slow.encode(text)]
        assert figures[side]["tokens"] == len(ids)
        assert figures[side]["tokens_per_word"] == round(len(ids) / words, 4)
        assert figures[side]["tokens_per_character"] == round(len(ids) / sum(map(len, documents)), 4)
        assert figures[side]["bytes_per_token"] == round(figures["bytes"] / len(ids), 4)
        assert figures[side]["byte_fallback_share"] == round(sum(map(slow.is_byte, ids)) / len(ids), 5)
    assert figures["base"]["byte_fallback_share"] > 0.5 > figures["merged"]["byte_fallback_share"]


def test_new_pieces_are_reachable_or_not_and_used_or_not(report: dict[str, Any]) -> None:
    pieces = report["pieces"]
    assert pieces["merged"] == pieces["base"] + pieces["new"]
    assert pieces["reachable"]["count"] + pieces["unreachable"]["count"] == pieces["new"]
    assert pieces["used"]["count"] + pieces["unused"]["count"] == pieces["reachable"]["count"]
    assert pieces["unreachable"]["count"] > 0  # a Unigram donor takes words whole
    assert pieces["used"]["examples"]


def test_changed_documents_are_those_with_other_ids(
    report: dict[str, Any], merged: Path, small_base: Path, texts: dict[str, Path]
) -> None:
    before, after = (
        sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        for folder in (small_base, merged)
    )
    for language, path in texts.items():
        documents = read_samples({language: [path]})[language]
        changed = sum(before.encode(text) != after.encode(text) for text in documents)
        assert report["languages"][language]["changed_documents"] == changed


def test_the_scripts_of_all_pieces_are_counted(report: dict[str, Any], small_donor: Path, merged: Path) -> None:
    donor = [piece for piece in read_model(small_donor / "tokenizer.model").pieces if piece.type == NORMAL]
    assert sum(report["scripts"]["donor"].values()) == len(donor)  # a donor is a list of pieces
    assert sum(report["scripts"]["merged"].values()) == report["pieces"]["merged"]
    assert report["scripts"]["merged"]["Hangul"] > report["scripts"]["base"].get("Hangul", 0)


def test_the_page_stands_alone_and_holds_the_numbers(report: dict[str, Any], merged: Path) -> None:
    page = (merged / "report.html").read_text(encoding="utf8")
    assert page.count("<svg") == page.count("</svg>") == 1
    assert not re.search(r"""(src|href)=["']|url\(|@import|<script""", page)
    assert "대통령 &lt;b&gt;&amp;" in page
    assert f"{report['languages']['ko']['merged']['tokens_per_word']:.3f}" in page
    assert f"{report['pieces']['unreachable']['count']:,}" in page
    for script, count in report["scripts"]["donor"].items():
        assert f"{script}: {count:,}" in page


def test_the_limit_is_of_texts_where_pieces_reach_into_the_next_word(
    small_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    """As a donor trained with split_by_whitespace: false has them."""
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts["ko"]),
        model_prefix=str(tmp_path / "tokenizer"),
        model_type="bpe",
        vocab_size=500,
        split_by_whitespace=False,
        character_coverage=1.0,
        minloglevel=2,
    )
    for repair in ("none", "add"):
        config = MergeVocabConfig(
            base=str(small_base),
            donor=str(tmp_path / "tokenizer.model"),
            repair=repair,
            samples={"ko": [str(texts["ko"])]},
            output=tmp_path / repair,
        )
        korean = merge_vocab(config).figures["tokens_per_word"]["ko"]
        assert korean["shortest"] <= korean["merged"] < korean["base"]


def test_a_report_on_greek_shows_no_korean(small_base: Path, tmp_path: Path) -> None:
    text = tmp_path / "el.txt"
    text.write_text("ο ποταμός κυλούσε δίπλα στις πέτρες\n\n" * 3, encoding="utf8")
    vocab = {piece: i for i, piece in enumerate(["▁ποταμός", *"ποταμός"])}
    settings = {"model": {"type": "BPE", "vocab": vocab, "merges": []}, "added_tokens": []}
    (tmp_path / "donor.json").write_text(json.dumps(settings), encoding="utf8")

    def example(**given: Any) -> str:
        output = tmp_path / f"out{len(given)}"
        config = MergeVocabConfig(
            base=str(small_base),
            donor=str(tmp_path / "donor.json"),
            repair="add",
            output=output,
            **given,
        )
        merge_vocab(config)
        assert "공룡" not in (output / "report.html").read_text(encoding="utf8")
        found = json.loads((output / "report.json").read_text(encoding="utf8"))["example"]
        return found and found["text"]

    samples = {"el": [str(text)]}
    assert example() is None  # nothing was named that one could be taken from
    assert example(samples=samples) == "ο ποταμός κυλούσε δίπλα στις πέτρες"
    assert example(samples=samples, example="πέτρες") == "πέτρες"


def test_the_example_is_from_the_donors_text_where_there_are_no_samples(
    byte_level_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    donor = DonorText(text=[str(texts["ko"])], pieces=30)
    output = tmp_path / "out"
    merge_vocab(MergeVocabConfig(base=str(byte_level_base), donor=donor, donor_filter=["Hangul"], output=output))
    example = json.loads((output / "report.json").read_text(encoding="utf8"))["example"]
    assert texts["ko"].read_text(encoding="utf8").startswith(example["text"])
    assert example["base"] != example["merged"]


def test_results_of_before_are_the_same_without_an_example(small_base: Path, small_donor: Path, tmp_path: Path) -> None:
    """Their manifests state a Korean sentence, the default that was."""
    settings = {"base": str(small_base), "donor": str(small_donor), "repair": "add", "output": tmp_path / "out"}
    before = merge_vocab(MergeVocabConfig(**settings, example="햄버거를 먹는 공룡"))
    assert merge_vocab(MergeVocabConfig(**settings)) == before
    with pytest.raises(BllossomError, match="another result"):
        merge_vocab(MergeVocabConfig(**settings, example="대통령"))
