"""merge-vocab on byte-level bases: what is kept, what is made, what is refused, and what the certificate says."""

import json
import re
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer

from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.byte_level_file import read_byte_level, to_bytes
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.donor import DonorText
from bllossom.vocab.families.bases import open_base
from bllossom.vocab.families.byte_level import ByteLevelVocabulary
from bllossom.vocab.learning import from_text, knee
from bllossom.vocab.merge import MergeVocabConfig, dry_run, merge_vocab
from bllossom.vocab.proof.certificate import Pair
from tests.fixtures.vocabularies import LLAMA3_PATTERN, QWEN_PATTERN, to_piece, train_byte_level

HANGUL = ["Hangul"]


def configure(base: Path, donor: Any, output: Path, **settings: Any) -> MergeVocabConfig:
    settings = {"donor_filter": HANGUL} | settings
    return MergeVocabConfig(base=str(base), donor=donor, output=output, **settings)


@pytest.fixture(scope="module")
def repaired(
    byte_level_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A Unigram donor's pieces in a byte-level base, repaired."""
    output = tmp_path_factory.mktemp("repaired") / "out"
    samples = {language: [str(path)] for language, path in texts.items()}
    merge_vocab(configure(byte_level_base, str(small_donor), output, repair="add", samples=samples))
    return output


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf8"))


def test_every_donor_piece_is_made_and_english_is_untouched(
    repaired: Path, byte_level_base: Path, texts: dict[str, Path]
) -> None:
    before, after = load_tokenizer(byte_level_base), load_tokenizer(repaired)
    report = read(repaired, "report.json")
    assert report["pieces"]["unreachable"]["count"] == 0
    assert report["pieces"]["intermediates"]["count"] > 0
    assert encode_text(after, " 대통령은 시스템을") == after.convert_tokens_to_ids(after.tokenize(" 대통령은 시스템을"))
    assert len(encode_text(after, " 대통령은")) <= 2 < len(encode_text(before, " 대통령은"))
    for line in [*texts["en"].read_text().splitlines()[:50], "naïve “quotes” 2013 漢字 \x84 ы"]:
        assert encode_text(before, line) == encode_text(after, line)
    assert report["languages"]["en"]["changed_documents"] == 0
    korean = report["languages"]["ko"]
    assert korean["merged"]["tokens"] <= 1.006 * korean["shortest"]["tokens"]


def test_the_certificate_says_what_was_checked(repaired: Path) -> None:
    certificate = read(repaired, "certificate.json")
    assert certificate["unicode"]["scalar_values"] == 1_112_064
    assert certificate["texts"]["generated_strings"] == 20_000
    assert certificate["readers"]["compared"] == ["tokenizers", "AutoTokenizer", "PreTrainedTokenizerFast"]
    assert certificate["pieces"]["whole"] + certificate["pieces"]["parts_of_characters"] == certificate["new_pieces"]
    broken = certificate["pieces"]["needed_by"]
    assert broken  # two bytes of a syllable's three
    vocab = read(repaired, "tokenizer.json")["model"]["vocab"]
    for part, needs in broken.items():
        assert (to_bytes(part) or b"") in needs.replace("▁", " ").encode()
        assert part in vocab
    unassigned = len(certificate["unicode"]["unassigned_and_changed"])
    said = "get other ids, all of the scripts asked for" + (f" but {unassigned}, which" if unassigned else ".")
    assert said in (repaired / "report.html").read_text(encoding="utf8")


def test_auto_that_takes_all_it_may_try_says_so(
    byte_level_base: Path, texts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = open_base(str(byte_level_base))
    monkeypatch.setattr(knee, "RARE", 0)  # as in a text so large that no piece is rare
    monkeypatch.setattr(from_text, "MOST", 20)
    learned, _ = from_text.learn_from_text(base, [texts["ko"]], "auto", HANGUL)
    assert len(learned.pieces) == 20
    assert "pieces: auto tries 20 at most, and takes them all" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(from_text, "MOST", 32_000)
    learned, _ = from_text.learn_from_text(base, [texts["ko"]], "auto", HANGUL)
    assert 20 < len(learned.pieces) < 32_000
    assert "at most" not in capsys.readouterr().err


def test_the_bases_parts_survive(repaired: Path, byte_level_base: Path) -> None:
    before, after = read(byte_level_base, "tokenizer.json"), read(repaired, "tokenizer.json")
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor", "added_tokens", "truncation", "padding"):
        assert after[part] == before[part]
    count = len(before["model"]["merges"])
    assert after["model"]["merges"][:count] == before["model"]["merges"]
    assert (repaired / "chat_template.jinja").read_bytes() == (byte_level_base / "chat_template.jinja").read_bytes()
    loaded = AutoTokenizer.from_pretrained(repaired)
    assert loaded.eos_token == "<|end|>"
    assert loaded.convert_tokens_to_ids(["<|begin|>", "<|end|>"]) == [600, 601]


@pytest.mark.parametrize(
    ("name", "settings", "config_only"),
    [
        ("llama-3", {"pattern": LLAMA3_PATTERN, "ignore_merges": True}, False),
        ("qwen-3", {"pattern": QWEN_PATTERN, "nfc": True}, True),
    ],
)
def test_shapes_of_today(
    name: str, settings: dict[str, Any], config_only: bool, texts: dict[str, Path], tmp_path: Path
) -> None:
    """Special tokens above the vocabulary, added tokens that only tokenizer_config.json knows, padding rows."""
    base = train_byte_level(tmp_path / "base", texts["en"], **settings)
    if config_only:
        config = read(base, "tokenizer_config.json")
        config["added_tokens_decoder"] = {"602": {"content": "<think>", "special": False, "normalized": False}}
        (base / "tokenizer_config.json").write_text(json.dumps(config))
        (base / "config.json").write_text(json.dumps({"vocab_size": 640}))
    donor = DonorText(text=[str(texts["ko"])], pieces=60)
    merge_vocab(configure(base, donor, tmp_path / "out"))
    certificate = read(tmp_path / "out", "certificate.json")
    assert certificate["first_new_id"] == (640 if config_only else 602)
    assert certificate["new_pieces"] == 60
    loaded = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert loaded.convert_tokens_to_ids(["<|begin|>", "<|end|>"]) == [600, 601]
    assert max(loaded.get_vocab().values()) == certificate["first_new_id"] + 59
    if config_only:
        assert loaded("a<think>b")["input_ids"][1] == 602
        nfd = "\u1112\u1161\u11ab"  # 한 in three jamo: NFC makes it one syllable
        assert loaded.decode(loaded(nfd)["input_ids"]) == "한"
        assert open_base(str(base), use_padding_rows=True).first_new_id == 603
        few = donor.model_copy(update={"pieces": 5})
        manifest = merge_vocab(configure(base, few, tmp_path / "few", use_padding_rows=True))
        assert manifest.figures["pieces"] == 608
        assert manifest.figures["rows"] == 640  # the model's own: none of them may be lost


def test_pieces_may_hold_what_stands_for_spaces_and_broken_characters(texts: dict[str, Path], tmp_path: Path) -> None:
    """The pattern leaves \ufffd and a literal ▁ at the letters behind them: where the base has them as pieces, they are
    learned with these."""
    english, text = tmp_path / "en.txt", tmp_path / "ko.txt"
    english.write_text(texts["en"].read_text(encoding="utf8") + "\ufffd1▁1\n" * 2000, encoding="utf8")
    base = train_byte_level(tmp_path / "base", english, pattern=LLAMA3_PATTERN, ignore_merges=True)
    text.write_text("강\ufffd한국 강▁나라\n" * 50, encoding="utf8")
    samples = {"ko": [str(text)]}
    merge_vocab(configure(base, DonorText(text=[str(text)], pieces=15), tmp_path / "out", samples=samples))
    loaded = load_tokenizer(tmp_path / "out")
    assert [len(encode_text(loaded, piece)) for piece in ("\ufffd한국", "▁나라")] == [1, 1]


def test_a_file_of_another_name_keeps_its_added_tokens(
    byte_level_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    base = tmp_path / "mine.json"
    base.write_bytes((byte_level_base / "tokenizer.json").read_bytes())
    merge_vocab(configure(base, DonorText(text=[str(texts["ko"])], pieces=20), tmp_path / "out"))
    merged, settings = read(tmp_path / "out", "tokenizer.json"), json.loads(base.read_text(encoding="utf8"))
    assert merged["added_tokens"] == settings["added_tokens"]
    assert read(tmp_path / "out", "certificate.json")["first_new_id"] == 602


def test_what_a_saved_tokenizer_pads_and_cuts_does_no_harm(texts: dict[str, Path], tmp_path: Path) -> None:
    base = train_byte_level(tmp_path / "base", texts["en"])
    plain = read(base, "tokenizer.json")
    cut = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    padded = {"strategy": {"Fixed": 16}, "direction": "Right", "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    settings = plain | {"truncation": cut, "padding": padded | {"pad_to_multiple_of": None}}
    donor = DonorText(text=[str(texts["ko"])], pieces=20)
    pieces = []
    for name, written in (("plain", plain), ("padded", settings)):
        (base / "tokenizer.json").write_text(json.dumps(written), encoding="utf8")
        merge_vocab(configure(base, donor, tmp_path / name, samples={"ko": [str(texts["ko"])]}))
        pieces.append(read(tmp_path / name, "tokenizer.json")["model"])
    assert pieces[0] == pieces[1]
    names = {
        token["content"]: token["special"] for token in read(tmp_path / "padded", "tokenizer.json")["added_tokens"]
    }
    assert names["!"]  # as AutoTokenizer makes of a pad token that is a piece
    assert read(tmp_path / "padded", "tokenizer.json")["padding"] == settings["padding"]


def test_a_piece_of_the_base_that_merges_never_make_is_no_part(texts: dict[str, Path], tmp_path: Path) -> None:
    base = train_byte_level(tmp_path / "base", texts["en"], ignore_merges=True)
    settings = read(base, "tokenizer.json")
    settings["model"]["vocab"] |= {token["content"]: token["id"] for token in settings["added_tokens"]}
    settings["model"]["vocab"][to_piece("국민".encode())] = 610
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    (tmp_path / "donor.json").write_text(
        json.dumps({"model": {"type": "Unigram", "vocab": [["국민들", -1.0], ["국민의", -2.0]]}}), encoding="utf8"
    )
    merge_vocab(configure(base, str(tmp_path / "donor.json"), tmp_path / "out", repair="add"))
    loaded = load_tokenizer(tmp_path / "out")
    assert [len(encode_text(loaded, text)) for text in ("국민", "국민들", "국민의")] == [1, 1, 1]
    assert encode_text(loaded, "국민") == [610]


@pytest.mark.parametrize(("first", "removed"), [(610, 0), (600, 1)])
def test_added_tokens_above_a_hole_are_refused_until_they_are_pieces(
    texts: dict[str, Path], tmp_path: Path, first: int, removed: int
) -> None:
    """The library counts pieces for the first id of an added token, so that the file says one and readers another."""
    base = train_byte_level(tmp_path / "base", texts["en"])
    settings = read(base, "tokenizer.json")
    vocab, merges = settings["model"]["vocab"], settings["model"]["merges"]
    for merge in merges[len(merges) - removed :]:
        del vocab["".join(merge)]
    settings["model"]["merges"] = merges[: len(merges) - removed]
    for i, token in enumerate(settings["added_tokens"]):
        token["id"] = first + i
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    assert load_tokenizer(base).convert_tokens_to_ids("<|begin|>") == 600 - removed
    config = configure(base, DonorText(text=[str(texts["ko"])], pieces=10), tmp_path / "out")
    with pytest.raises(BllossomError, match=f"id {first} by its file, and every reader makes {600 - removed} of it"):
        merge_vocab(config)
    vocab |= {token["content"]: token["id"] for token in settings["added_tokens"]}
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    merge_vocab(config)
    merged = load_tokenizer(tmp_path / "out")
    assert merged.convert_tokens_to_ids(["<|begin|>", "<|end|>"]) == [first, first + 1]


def test_special_tokens_without_an_id_are_refused_and_those_of_the_class_are_kept(
    texts: dict[str, Path], tmp_path: Path
) -> None:
    base = train_byte_level(tmp_path / "base", texts["en"], specials=("<|endoftext|>",))
    donor = DonorText(text=[str(texts["ko"])], pieces=10)
    for name, config in (
        ("[PAD]", {"pad_token": {"content": "[PAD]"}, "add_bos_token": False}),
        ("<|x|>", {"extra_special_tokens": ["<|x|>"]}),
        ("<image>", {"extra_special_tokens": {"image_token": "<image>"}}),
    ):
        (base / "tokenizer_config.json").write_text(json.dumps(config))
        with pytest.raises(BllossomError, match=f"names '{re.escape(name)}', to which no file gives an id"):
            merge_vocab(configure(base, donor, tmp_path / "no"))
    (base / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1024}))  # as GPT-2's own
    (base / "config.json").write_text(json.dumps({"model_type": "gpt2", "vocab_size": 601}))
    merge_vocab(configure(base, donor, tmp_path / "out"))
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|endoftext|>"


def test_a_base_that_puts_a_space_in_front_of_a_text(texts: dict[str, Path], small_donor: Path, tmp_path: Path) -> None:
    """Pieces without a space stand inside words there, and are made there."""
    base = train_byte_level(tmp_path / "base", texts["en"])
    settings = read(base, "tokenizer.json")
    settings["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    merge_vocab(configure(base, DonorText(text=[str(texts["ko"])], pieces=80), tmp_path / "learned"))
    merge_vocab(configure(base, str(small_donor), tmp_path / "listed", repair="add"))
    for name in ("learned", "listed"):
        merged = read(tmp_path / name, "tokenizer.json")
        new = [piece for piece, number in merged["model"]["vocab"].items() if number >= 602]
        assert any(piece.startswith("Ġ") for piece in new)
        assert any(not piece.startswith("Ġ") for piece in new)  # 에 as in 정부에
        assert merged["pre_tokenizer"] == settings["pre_tokenizer"]


def test_letters_that_the_normaliser_makes_belong_to_the_scripts(texts: dict[str, Path], tmp_path: Path) -> None:
    """NFKC makes μ of the micro sign, which is no one's letter."""
    base = train_byte_level(tmp_path / "base", texts["en"])
    settings = read(base, "tokenizer.json")
    settings["normalizer"] = {"type": "NFKC"}
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    text = tmp_path / "el.txt"
    text.write_text("το μ και η μ του μήκους\n" * 50, encoding="utf8")
    greek = DonorText(text=[str(text)], pieces=8)
    merge_vocab(configure(base, greek, tmp_path / "out", donor_filter=["Greek"]))
    unicode = read(tmp_path / "out", "certificate.json")["unicode"]
    assert "U+00B5" in unicode["normalized_into_the_scripts"]
    assert "of them only once the base" in (tmp_path / "out/report.html").read_text(encoding="utf8")


def write_list(path: Path, pieces: list[str]) -> str:
    """A donor that is a list of pieces, the likeliest first."""
    model = {"type": "BPE", "vocab": {piece: i for i, piece in enumerate(pieces)}, "merges": []}
    path.write_text(json.dumps({"added_tokens": [], "model": model}), encoding="utf8")
    return str(path)


@pytest.fixture
def nfc_base(texts: dict[str, Path], tmp_path: Path) -> Path:
    return train_byte_level(tmp_path / "base", texts["en"], pattern=QWEN_PATTERN, nfc=True)


@pytest.mark.parametrize("pieces", [[" 나라", "에서", " 한", "나"], [" 나라", "나", "라", " 나", " \uf914나"]])
def test_a_list_that_the_normaliser_changes_is_added_as_the_base_writes_it(
    nfc_base: Path, tmp_path: Path, pieces: list[str]
) -> None:
    """All in NFD, and one that begins with a compatibility ideograph."""
    given = [unicodedata.normalize("NFD", piece) for piece in pieces] if "에서" in pieces else pieces
    donor, scripts = write_list(tmp_path / "list.json", given), ["Hangul", "Han"]
    merge_vocab(configure(nfc_base, donor, tmp_path / "out", repair="add", donor_filter=scripts))
    loaded = load_tokenizer(tmp_path / "out")
    assert [len(encode_text(loaded, piece)) for piece in pieces] == [1] * len(pieces)


def test_beside_text_a_list_weighs_the_same_in_either_form(
    nfc_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    pieces = [" 하늘빛바다", " 나라사랑"]
    decomposed = [unicodedata.normalize("NFD", piece) for piece in pieces]
    text = tmp_path / "ko.txt"
    text.write_text("정부는 대통령이 밝혔다\n", encoding="utf8")
    models = []
    for name, given in (("nfc", pieces), ("nfd", decomposed)):
        donor = [DonorText(text=[str(text)], pieces=40), write_list(tmp_path / f"{name}.json", given)]
        merge_vocab(configure(nfc_base, donor, tmp_path / name))
        models.append(read(tmp_path / name, "tokenizer.json")["model"])
    assert models[0] == models[1]
    assert any(to_piece(" 하".encode()) in piece for piece in models[0]["vocab"])


def test_a_list_without_the_scripts_gives_nothing_and_is_told(
    byte_level_base: Path, texts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = DonorText(text=[str(texts["ko"])], pieces=20)
    korean = write_list(tmp_path / "ko.json", [" 나라", "나", "라"])
    english = write_list(tmp_path / "en.json", [" hse", " gdn"])
    models = []
    for name, donors in (("one", [text, korean]), ("two", [text, korean, english])):
        merge_vocab(configure(byte_level_base, donors, tmp_path / name))
        models.append(read(tmp_path / name, "tokenizer.json")["model"])
    assert models[0] == models[1]
    assert f"{english} gives nothing" in " ".join("".join(capsys.readouterr()).split())


def test_pieces_that_no_word_holds_are_left_out_and_listed(byte_level_base: Path, tmp_path: Path) -> None:
    vocab = {"안녕": 0, "##하세요": 1, "안녕하세요": 2, "요. 그": 3, "3월": 4, "[UNK]": 5}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocab}
    (tmp_path / "donor.json").write_text(json.dumps({"added_tokens": [], "model": model}), encoding="utf8")
    output = tmp_path / "out"
    manifest = merge_vocab(configure(byte_level_base, str(tmp_path / "donor.json"), output, repair="add"))
    (listed,) = read(output, "left_out.json").values()
    assert listed == ["▁요. 그", "▁3월"]
    assert manifest.figures["left_out"] == 2
    loaded = load_tokenizer(output)
    assert len(encode_text(loaded, " 안녕하세요")) == 1
    assert len(encode_text(loaded, "하세요")) == 1  # ## goes on inside a word


def test_the_base_is_counted_with_the_added_tokens_in_text(texts: dict[str, Path], tmp_path: Path) -> None:
    """GPT-NeoX's runs of spaces: without them the report would show a saving that is not there."""
    base = train_byte_level(tmp_path / "base", texts["en"])
    own = Tokenizer.from_file(str(base / "tokenizer.json"))
    own.add_tokens([AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)])
    own.save(str(base / "tokenizer.json"))
    lines = [" " * 8 + "the river ran" + " " * 12 + "along" + " " * 16 + "old"] * 20
    (tmp_path / "en.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines), encoding="utf8")
    donor = write_list(tmp_path / "ko.json", [" 나라", "나", "라"])
    samples = {"en": [str(tmp_path / "en.jsonl")]}
    merge_vocab(configure(base, donor, tmp_path / "out", repair="add", samples=samples))
    figures = read(tmp_path / "out", "report.json")["languages"]["en"]
    tokens = sum(len(own.encode(line, add_special_tokens=False).ids) for line in lines)
    assert figures["base"]["tokens"] == figures["merged"]["tokens"] == tokens
    assert figures["shortest"]["tokens"] <= tokens


def test_what_cannot_be_done_says_what_to_change(
    byte_level_base: Path, small_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    def refused(error: type[BllossomError], match: str, base: Path = byte_level_base, **settings: Any) -> None:
        donor = settings.pop("donor", str(small_donor))
        with pytest.raises(error, match=match):
            merge_vocab(configure(base, donor, tmp_path / "no", **settings))
        assert not (tmp_path / "no").exists()

    refused(ConfigError, "nothing would make a list's pieces on a byte-level base, .*; use add", repair="none")
    refused(ConfigError, "needs the scripts that get pieces", repair="add", donor_filter="all")
    refused(ConfigError, "no new piece of .* holds Thai; change scripts or donor", repair="add", donor_filter=["Thai"])
    korean = DonorText(text=[str(texts["ko"])], pieces=100_000)
    refused(
        BllossomError, r"the text gives [\d,]+ pieces, not 100,000; name more text, or write pieces: \d+", donor=korean
    )
    english = DonorText(text=[str(texts["en"])], pieces=10)
    refused(BllossomError, "hold no letter of Hangul; name other text, or other scripts", donor=english)
    refused(ConfigError, "names text twice; put all of it under one text", donor=[english, english])
    refused(ConfigError, "pieces learned from text need none", donor=english, repair="add")

    fifty = DonorText(text=[str(texts["ko"])], pieces=50)
    refused(BllossomError, "has 652 pieces .602 \\+ 50 new., not the expected 7", donor=fifty, expected_size=7)
    unfiltered = configure(byte_level_base, fifty, tmp_path / "no", donor_filter="all")
    with pytest.raises(ConfigError, match="needs the scripts that get pieces"):
        dry_run(unfiltered)
    refused(ConfigError, "use_padding_rows: only byte-level bases", base=small_base, use_padding_rows=True)

    sentencepiece = DonorText(text=[str(texts["ko"])], pieces=50)
    refused(ConfigError, "for a SentencePiece base train a donor with", base=small_base, donor=sentencepiece)

    def changed(name: str, change: Any) -> Path:
        base = tmp_path / name
        base.mkdir()
        settings = read(byte_level_base, "tokenizer.json")
        change(settings)
        (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
        return base

    unigram = changed("unigram", lambda s: s["model"].update(type="Unigram", vocab=[["a", -1.0]]))
    refused(BllossomError, r"is Unigram, not byte-level BPE; .* \(this one can be the donor", base=unigram)
    lacking = changed("lacking", lambda s: s["model"]["vocab"].pop("Ģ"))
    refused(BllossomError, r"lacks 1 of the bytes that text is made of \(0x80 first\)", base=lacking)
    stray = changed("stray", lambda s: s["model"]["merges"].append(["zq", "qz"]))
    refused(BllossomError, "the merge 'zq' \\+ 'qz' names 'zq', which is no piece", base=stray)
    for name, change, match in (
        ("no-merges", lambda s: s["model"].pop("merges"), "None stands where a merge, a pair of pieces, should"),
        ("three", lambda s: s["model"]["merges"].append(["a", "b", "c"]), r"\['a', 'b', 'c'\] stands where a merge"),
        ("two-holders", lambda s: s["model"]["vocab"].update(zzz=5), "both have id 5; get the file anew"),
        ("strange-id", lambda s: s["model"]["vocab"].update(zzz="5"), "'zzz' has '5' for an id"),
        ("no-model", lambda s: s.pop("model"), "holds no vocabulary .*; name a tokenizer.json"),
        ("no-words", lambda s: s.update(pre_tokenizer=None), "its pre_tokenizer is not ByteLevel, though another part"),
        ("no-decoder", lambda s: s.update(decoder=None), "its decoder is not ByteLevel, though another part is"),
        ("clip", lambda s: s["model"].update(end_of_word_suffix="</w>"), "marks pieces by their place in a word"),
        ("unknown", lambda s: s.update(normalizer={"type": "None such"}), "tokenizers cannot load it"),
    ):
        refused(BllossomError, match, base=changed(name, change))
    listed = changed("listed", lambda s: None)
    (listed / "tokenizer.json").write_text("[1]")
    refused(BllossomError, "holds no JSON object, as such a file does", base=listed)
    older = changed("older", lambda s: None)
    (older / "vocab.json").write_text(json.dumps({"a": 5000}))
    refused(BllossomError, "'a' is id .*, in vocab.json beside it 5000; the base's files disagree", base=older)
    (older / "tokenizer.json").unlink()
    refused(BllossomError, "holds vocab.json, but no tokenizer.json: load it with transformers", base=older)
    empty = tmp_path / "empty.txt"
    empty.touch()
    refused(BllossomError, "donor: text: .*empty.txt is empty", donor=DonorText(text=[str(empty)], pieces=10))

    both = changed("both", lambda s: None)
    decoder = {"600": {"content": "<|other|>", "special": True}}
    (both / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": decoder}))
    refused(BllossomError, "the base's files disagree: take them all from one place", base=both)


@pytest.mark.real_data
@pytest.mark.slow
def test_smollm2_learns_kobert(smollm2: Path, kobert: Path, shared: Any, tmp_path: Path) -> None:
    samples = {
        "ko": [str(shared("corpus/ko/libreoffice_help_ko.jsonl.zst"))],
        "en": [str(shared("corpus/en/wikitext2_valid_test.jsonl.zst"))],
    }
    manifest = merge_vocab(configure(smollm2, str(kobert), tmp_path / "out", repair="add", samples=samples))
    figures = manifest.figures
    assert figures["base_pieces"] == 49_152
    assert figures["new_pieces"] <= 8_395
    assert figures["intermediates"] < 1_235
    assert figures["unreachable_pieces"] == 0
    assert figures["changed_documents"]["en"] == 0
    korean = figures["tokens_per_word"]["ko"]
    assert korean["merged"] <= korean["shortest"] * 1.006


@pytest.mark.parametrize(("content", "refused"), [("ASSISTANT", True), ("Ġhelper", True), ("<|turn|>", False)])
def test_a_special_token_that_is_a_word_of_text_is_refused_under_ignore_merges(
    byte_level_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path: Path, content: str, refused: bool
) -> None:
    base = tmp_path / "base"
    shutil.copytree(byte_level_base, base)
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.add_special_tokens([content])
    settings = json.loads(tokenizer.to_str())
    assert content not in settings["model"]["vocab"]
    settings["model"]["ignore_merges"] = True
    (base / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    samples = {"ko": [str(texts["ko"])]}
    config = configure(base, str(small_donor), tmp_path / "out", repair="add", samples=samples)
    if refused:
        with pytest.raises(BllossomError, match=f"added token '{content}' is a word as text has it"):
            merge_vocab(config)
        assert not (tmp_path / "out").exists()
    else:
        merge_vocab(config)
        before, after = load_tokenizer(base), load_tokenizer(tmp_path / "out")
        assert encode_text(before, f"a\n{content}") == encode_text(after, f"a\n{content}")


def test_the_certificate_compares_with_the_base_as_it_is_read(byte_level_base: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(byte_level_base / "tokenizer.json"))
    tokenizer.add_special_tokens(["ASSISTANT"])
    settings = json.loads(tokenizer.to_str())
    settings["model"]["ignore_merges"] = True
    (tmp_path / "tokenizer.json").write_text(json.dumps(settings), encoding="utf8")
    file = read_byte_level(tmp_path / "tokenizer.json")
    extended = file.extended([], [], 0)
    with pytest.raises(BllossomError, match="'ASSISTANT' is not the base's with neighbours joined"):
        Pair(file.as_read, extended, ByteLevelVocabulary(extended), file.ids).encode(["ASSISTANT"])
