"""merge-vocab as a whole: what comes out, what is kept, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from transformers import AutoTokenizer

from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.convert import normal_scores
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokenizer.scripts import holds_script
from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.families.sentencepiece import SentencePieceVocabulary, append
from bllossom.vocab.merge import MergeVocabConfig, dry_run, merge_vocab


def configure(base: Path, donor: Path, output: Path, **settings: Any) -> MergeVocabConfig:
    return MergeVocabConfig(base=str(base), donor=str(donor), output=output, **settings)


@pytest.fixture
def samples(texts: dict[str, Path]) -> dict[str, list[str]]:
    return {language: [str(path)] for language, path in texts.items()}


@pytest.mark.parametrize("repair", ["none", "add", "swap"])
def test_the_base_keeps_its_ids_and_the_donors_pieces_follow(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path, repair: str
) -> None:
    config = configure(small_base, small_donor, tmp_path / "out", repair=repair, samples=samples, pad_to_multiple_of=64)
    manifest = merge_vocab(config)
    base, donor = read_model(small_base / "tokenizer.model"), read_model(small_donor / "tokenizer.model")
    merged = read_model(tmp_path / "out/tokenizer.model")
    count = len(base.pieces)
    assert list(merged.pieces[:count]) == list(base.pieces)  # piece, type and score
    new = [piece.piece for piece in merged.pieces[count:]]
    wanted = [p.piece for p in donor.pieces if p.type == NORMAL and p.piece not in {q.piece for q in base.pieces}]
    kept = [piece for piece in new if piece in set(wanted)]
    assert kept == [piece for piece in wanted if piece in set(kept)]  # in the donor's order
    if repair == "none":
        assert new == wanted
    if repair == "add":
        assert kept == wanted
    if repair == "swap":
        assert len(new) == len(wanted)
    if repair != "none":
        assert SentencePieceVocabulary(merged).unmade(new) == []
    scores = [piece.score for piece in merged.pieces[count:]]
    assert len(set(scores)) == len(scores)
    assert max(scores) < min(score for score in normal_scores(base).values() if score > -1e8)
    figures = manifest.figures
    assert figures["pieces"] == len(merged.pieces)
    assert figures["rows"] % 64 == 0
    assert 0 <= figures["rows"] - figures["pieces"] < 64
    assert figures["base_pieces"] == count
    korean = figures["tokens_per_word"]["ko"]
    assert korean["shortest"] <= korean["merged"] < korean["base"]


def test_everyone_can_open_the_result(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    merge_vocab(configure(small_base, small_donor, output, samples=samples))
    assert {path.name for path in output.iterdir()} == {
        "tokenizer.model",
        "tokenizer.json",
        "tokenizer_config.json",
        "report.json",
        "report.html",
        "manifest.json",
    }
    slow = sentencepiece.SentencePieceProcessor(model_file=str(output / "tokenizer.model"))
    fast = AutoTokenizer.from_pretrained(output)
    text = "정부는 <s> 시스템을  the river\n"
    assert fast(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == slow.encode(text)
    assert fast.decode(slow.encode(text)) == text
    # As llama.cpp's converter reads it: piece, score and type of every id.
    assert len(fast) == slow.get_piece_size() == slow.vocab_size()
    assert all(fast.convert_ids_to_tokens(i) == slow.id_to_piece(i) for i in range(slow.vocab_size()))
    assert [slow.is_unknown(0), slow.is_control(1), slow.is_control(2), slow.is_byte(3)] == [True] * 4
    assert [fast.convert_tokens_to_ids(t) for t in ("<unk>", "<s>", "</s>")] == [0, 1, 2]


def test_two_runs_give_the_same_bytes(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    first = merge_vocab(configure(small_base, small_donor, tmp_path / "a", repair="swap", samples=samples))
    second = merge_vocab(configure(small_base, small_donor, tmp_path / "b", repair="swap", samples=samples))
    assert first.fingerprint == second.fingerprint


def test_each_file_of_the_base_that_is_read_is_an_input(small_base: Path, small_donor: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    copy_tokenizer(small_base, base)
    config = configure(base / "tokenizer.model", small_donor, tmp_path / "out")
    first = merge_vocab(config)
    there = {name for name, found in first.inputs.items() if name.startswith("base") and found != "none"}
    assert there == {"base", "base/tokenizer.json", "base/tokenizer_config.json"}
    assert merge_vocab(config) == first
    (base / "vocab.json").write_text("{}")  # is not read
    (base / "llama.model").symlink_to(base / "tokenizer.model")  # another spelling of the same base
    assert merge_vocab(configure(base / "llama.model", small_donor, tmp_path / "out")) == first
    told = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(told | {"model_max_length": 77}))
    with pytest.raises(BllossomError, match=r"holds another result \(input base/tokenizer_config.json: "):
        merge_vocab(config)
    (base / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(BllossomError, match=r"input base/chat_template.jinja: none there"):
        merge_vocab(config)
    again = merge_vocab(config, force=True)
    assert again.fingerprint != first.fingerprint
    assert (tmp_path / "out/chat_template.jinja").is_file()


def test_the_first_file_beside_a_bare_base_makes_another_result(
    small_base: Path, small_donor: Path, tmp_path: Path
) -> None:
    (tmp_path / "base").mkdir()
    shutil.copyfile(small_base / "tokenizer.model", tmp_path / "base/tokenizer.model")
    config = configure(tmp_path / "base", small_donor, tmp_path / "out")
    assert merge_vocab(config) == merge_vocab(config)
    (tmp_path / "base/chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(BllossomError, match=r"input base/chat_template.jinja: none there"):
        merge_vocab(config)


def test_a_donor_filter_leaves_other_texts_alone(
    small_base: Path, small_donor: Path, texts: dict[str, Path], samples: dict[str, list[str]], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"donor_filter": ["Hangul"], "repair": "add", "samples": samples}
    manifest = merge_vocab(configure(small_base, small_donor, tmp_path / "out", **settings))
    merged = read_model(tmp_path / "out/tokenizer.model")
    new = [piece.piece for piece in merged.pieces[manifest.figures["base_pieces"] :]]
    assert new
    assert all(holds_script(piece, ["Hangul"]) for piece in new)
    before, after = load_tokenizer(small_base), load_tokenizer(tmp_path / "out")
    for line in [*texts["en"].read_text().splitlines()[:50], "2013 0.5% LG 漢字 \u3000 ①"]:
        assert encode_text(before, line) == encode_text(after, line)
    assert manifest.figures["changed_documents"]["en"] == 0


def test_a_size_that_does_not_fit_prints_both_numbers(small_base: Path, small_donor: Path, tmp_path: Path) -> None:
    size = merge_vocab(configure(small_base, small_donor, tmp_path / "out")).figures["pieces"]
    with pytest.raises(
        BllossomError, match=rf"has {size:,} pieces .* not the expected 39,478; .* expected_size={size}"
    ):
        merge_vocab(configure(small_base, small_donor, tmp_path / "no", expected_size=39478))
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("repair", ["add", "swap"])
def test_characters_of_no_script_get_no_piece_where_scripts_are_asked_for(
    small_base: Path, texts: dict[str, Path], tmp_path: Path, repair: str, capsys: pytest.CaptureFixture[str]
) -> None:
    donor = tmp_path / "tokenizer.json"  # the Arabic comma and ZWNJ are common to scripts, and the base lacks both
    listed = ["▁سلام", "سلام،", "می\u200cخواهم", "▁می", "خواهم", "▁کتاب"]
    model = {"type": "BPE", "merges": [], "vocab": {piece: i for i, piece in enumerate(listed)}}
    donor.write_text(json.dumps({"model": model}), encoding="utf8")
    size: dict[str, Any] = {"expected_size": 717} if repair == "swap" else {}
    samples = {"fa": [str(tmp_path / "fa.txt")]}
    (tmp_path / "fa.txt").write_text("سلام، کتاب می\u200cخواهم\n" * 20, encoding="utf8")
    merge_vocab(
        configure(small_base, donor, tmp_path / "out", donor_filter=["Arabic"], repair=repair, samples=samples, **size)
    )
    before, after = load_tokenizer(small_base), load_tokenizer(tmp_path / "out")
    assert encode_text(after, "سلام") != encode_text(before, "سلام")
    for text in ("word\u200cplay", "a، b"):
        assert encode_text(after, text) == encode_text(before, text)
    assert "2 donor pieces left out: holds a character that the base lacks" in " ".join(capsys.readouterr().err.split())
    foreign = configure(small_base, write_list(tmp_path, ["سلام،", "می\u200cخواهم"]), tmp_path / "no", repair=repair)
    foreign = foreign.model_copy(update={"donor_filter": ["Arabic"], "samples": samples})
    for stage in (dry_run, merge_vocab):
        with pytest.raises(ConfigError, match=r"every new piece of .* holds a character that the base lacks"):
            stage(foreign)


def write_list(folder: Path, pieces: list[str]) -> Path:
    """A donor that is a plain list of pieces."""
    model = {"type": "BPE", "merges": [], "vocab": {piece: i for i, piece in enumerate(pieces)}}
    (folder / "list.json").write_text(json.dumps({"model": model}), encoding="utf8")
    return folder / "list.json"


def test_a_mark_that_the_scripts_share_with_no_other_is_theirs(
    small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = ["サーバー", "データ", "ひらがな・カタカナ"]  # ー is Common by its script, and Japanese alone; ・ is not
    donor, scripts = write_list(tmp_path, pieces), ["Hira", "katakana"]  # any spelling that Unicode has
    (tmp_path / "ja.txt").write_text("サーバーのデータ\n" * 20, encoding="utf8")
    settings: dict[str, Any] = {"donor_filter": scripts, "samples": {"ja": [str(tmp_path / "ja.txt")]}}
    config = configure(small_base, donor, tmp_path / "swap", repair="swap", expected_size=713, **settings)
    merge_vocab(configure(small_base, donor, tmp_path / "out", repair="add", **settings))
    added = read_model(tmp_path / "out/tokenizer.model").pieces
    assert {"ー", "サーバー", "データ"} <= {piece.piece for piece in added}
    assert "1 donor pieces left out: holds a character that the base lacks" in " ".join(capsys.readouterr().err.split())
    assert "2 of the donor's 3" in dry_run(config)[0]
    merge_vocab(config)
    assert "ー" in {piece.piece for piece in read_model(tmp_path / "swap/tokenizer.model").pieces}


def test_swap_without_donor_pieces_enough_says_so(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"repair": "swap", "samples": samples}
    with pytest.raises(BllossomError, match=r"pieces for 9,300 places; lower expected_size to \d+") as refused:
        merge_vocab(configure(small_base, small_donor, tmp_path / "no", expected_size=10000, **settings))
    most = int(str(refused.value).split("expected_size to ")[1].split(",")[0])
    manifest = merge_vocab(configure(small_base, small_donor, tmp_path / "out", expected_size=most, **settings))
    assert manifest.figures["pieces"] == most


def test_swap_without_places_for_the_characters_says_how_many_it_needs(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"repair": "swap", "samples": samples}
    with pytest.raises(
        BllossomError, match=r"take [\d,]+ places, not 10; raise expected_size to \d+ or more"
    ) as refused:
        merge_vocab(configure(small_base, small_donor, tmp_path / "no", expected_size=710, **settings))
    least = int(str(refused.value).split("expected_size to ")[1].split()[0])
    with pytest.raises(BllossomError, match=f"raise expected_size to {least} or more"):
        merge_vocab(configure(small_base, small_donor, tmp_path / "no", expected_size=least - 1, **settings))
    manifest = merge_vocab(configure(small_base, small_donor, tmp_path / "out", expected_size=least, **settings))
    assert manifest.figures["pieces"] == least


@pytest.mark.parametrize("repair", ["add", "swap"])
def test_a_size_that_leaves_no_place_for_new_pieces_is_refused_at_once(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path, repair: str
) -> None:
    config = configure(small_base, small_donor, tmp_path / "no", repair=repair, samples=samples, expected_size=700)
    for run in (merge_vocab, dry_run):
        with pytest.raises(ConfigError, match=r"expected_size: 700 is not above the base's 700 ids, .*; raise it"):
            run(config)


def test_bad_inputs_each_say_what_to_do(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    def refused(error: type[BllossomError], match: str, base: Path = small_base, **settings: Any) -> None:
        donor = settings.pop("donor", small_donor)
        with pytest.raises(error, match=match):
            merge_vocab(configure(base, donor, tmp_path / "no", **settings))
        assert not (tmp_path / "no").exists()

    refused(ConfigError, "is the base itself; name another vocabulary", donor=small_base)
    refused(BllossomError, r"not BPE, so it cannot be a base \(it can be the donor\)", base=small_donor)
    refused(ConfigError, "no new piece of .* holds Thai; change scripts or donor", donor_filter=["Thai"])
    refused(
        ConfigError, "donor_filter: 'Klingon' is no Unicode script; write one such as Hangul", donor_filter=["Klingon"]
    )
    refused(ConfigError, "swap gives up the pieces that are rarest on samples; name some text", repair="swap")
    refused(BllossomError, "samples: ko: no such file: .*gone.txt", samples={"ko": [str(tmp_path / "gone.txt")]})
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    refused(BllossomError, r"samples: ko: .*empty\.jsonl is empty; name a file with text", samples={"ko": [str(empty)]})
    empty.write_text('{"text": ""}\n')
    refused(BllossomError, r"empty\.jsonl holds no text; name a file with text", samples={"ko": [str(empty)]})


def test_a_donor_that_adds_nothing(small_base: Path, tmp_path: Path) -> None:
    donor = read_model(small_base / "tokenizer.model")
    del donor.pieces[-20:]
    (tmp_path / "donor.model").write_bytes(donor.SerializeToString())
    with pytest.raises(ConfigError, match=r"every piece of .*donor\.model is in the base already"):
        merge_vocab(configure(small_base, tmp_path / "donor.model", tmp_path / "no"))


def test_a_place_that_may_not_be_written(small_base: Path, small_donor: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BllossomError, match="name another output"):
        merge_vocab(configure(small_base, small_donor, tmp_path / "file"))


def test_a_base_with_ties_is_not_published(small_donor: Path, small_base: Path, tmp_path: Path) -> None:
    """Score 0 for every piece, as merges that were appended by hand have it."""
    base = read_model(small_base / "tokenizer.model")
    for piece in base.pieces:
        if piece.type == NORMAL:
            piece.score = 0.0
    (tmp_path / "tied.model").write_bytes(base.SerializeToString())
    with pytest.raises(
        BllossomError, match=r"differ on .*; nothing was published\. Pieces of the base with equal scores"
    ):
        merge_vocab(configure(tmp_path / "tied.model", small_donor, tmp_path / "no"))
    assert not (tmp_path / "no").exists()


def test_scores_that_float32_cannot_tell_apart_are_refused(small_base: Path) -> None:
    base = read_model(small_base / "tokenizer.model")
    base.pieces[400].score = -5e7
    with pytest.raises(BllossomError, match="no room for unique ones"):
        append(base, ["가"])


def test_a_dry_run_counts_what_is_here_and_lists_what_is_not(
    small_base: Path, small_donor: Path, samples: dict[str, list[str]], tmp_path: Path
) -> None:
    size = merge_vocab(configure(small_base, small_donor, tmp_path / "out")).figures["pieces"]
    lines = dry_run(configure(small_base, small_donor, tmp_path / "no", repair="swap", samples=samples))
    assert f"= {size:,}" in lines[0]
    assert "gives donor pieces up" in lines[1]
    assert dry_run(configure(small_base, Path("owner/name"), tmp_path / "no")) == ["donor owner/name is not here yet"]
    assert not (tmp_path / "no").exists()


@pytest.mark.real_data
def test_paper_mode_on_the_real_vocabularies(llama2: Path, kobert: Path, tmp_path: Path) -> None:
    settings = {"expected_size": 39478, "pad_to_multiple_of": 64, "example": "햄버거를 먹는 공룡"}
    manifest = merge_vocab(configure(llama2, kobert, tmp_path / "out", **settings))
    assert manifest.figures["pieces"] == 39478
    assert manifest.figures["rows"] == 39488
    assert manifest.figures["unreachable_pieces"] == 1122
    base, donor = read_model(llama2), read_model(kobert)
    merged = read_model(tmp_path / "out/tokenizer.model")
    assert list(merged.pieces[:32000]) == list(base.pieces)
    have = {piece.piece for piece in base.pieces}
    order = [piece.piece for piece in donor.pieces if piece.type == NORMAL and piece.piece not in have]
    assert [piece.piece for piece in merged.pieces[32000:]] == order
    assert [piece.score for piece in merged.pieces[32000:]] == [-32000.0 - i for i in range(7478)]
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["example"]["merged"] == ["▁", "햄", "버", "거", "를", "▁먹", "는", "▁공", "룡"]
    assert len(report["example"]["base"]) == 21


@pytest.mark.real_data
def test_a_real_repair_on_a_few_real_documents(
    llama2: Path, kobert: Path, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    samples = {
        "ko": [str(shared("corpus/ko/libreoffice_help_ko.jsonl.zst"))],
        "en": [str(shared("corpus/en/wikitext2_valid_test.jsonl.zst"))],
    }
    settings: dict[str, Any] = {"repair": "swap", "expected_size": 39478, "samples": samples}
    figures = merge_vocab(configure(llama2, kobert, tmp_path / "out", **settings)).figures
    assert figures["pieces"] == 39478
    assert figures["unreachable_pieces"] == 0
    assert figures["changed_documents"]["en"] == 0
    korean = figures["tokens_per_word"]["ko"]
    assert korean["merged"] <= korean["shortest"] * 1.006
