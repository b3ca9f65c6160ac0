"""The proof finds what differs, and agrees on all there is where nothing does."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from bllossom.errors import BllossomError
from bllossom.tokenizer.convert import write_tokenizer
from bllossom.tokenizer.sentencepiece_file import read_model
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from bllossom.vocab.proof.sentencepiece import prove
from bllossom.vocab.proof.strings import generate_strings
from bllossom.vocab.samples import read_samples


@pytest.fixture
def written(small_base: Path, tmp_path: Path) -> Path:
    write_tokenizer(read_model(small_base / "tokenizer.model"), tmp_path)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf8")
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1), encoding="utf8")


def test_documents_are_counted(written: Path) -> None:
    proof = prove(written, {"en": ["the river", "village walls"], "ko": ["공룡"]}, base_pieces=650)
    assert {language: counts.documents for language, counts in proof.languages.items()} == {"en": 2, "ko": 1}
    slow = sentencepiece.SentencePieceProcessor(model_file=str(written / "tokenizer.model"))
    ids = slow.encode("the river") + slow.encode("village walls")
    assert proof.languages["en"].ids.sum() == len(ids)
    assert all(proof.languages["en"].ids[i] for i in ids)
    assert proof.texts == proof.generated + 3


def test_two_merges_in_the_wrong_order_are_found(written: Path) -> None:
    spec = json.loads((written / "tokenizer.json").read_text(encoding="utf8"))
    spec["model"]["merges"] = spec["model"]["merges"][::-1]
    (written / "tokenizer.json").write_text(json.dumps(spec), encoding="utf8")
    with pytest.raises(BllossomError, match=r"differ on '.*': SentencePiece gives .*; nothing was published"):
        prove(written, {}, base_pieces=700)


def test_text_that_does_not_come_back_is_found(written: Path) -> None:
    edit(written / "tokenizer.json", '"start": 1', '"start": 2')  # strips two spaces in front of a text, not one
    with pytest.raises(BllossomError, match="does not give back"):
        prove(written, {}, base_pieces=700)


def test_special_tokens_that_are_not_active_are_found(written: Path) -> None:
    spec = json.loads((written / "tokenizer.json").read_text(encoding="utf8"))
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["content"] != "</s>"]
    (written / "tokenizer.json").write_text(json.dumps(spec), encoding="utf8")
    with pytest.raises(BllossomError, match=r"does not keep the special token '</s>' whole"):
        prove(written, {}, base_pieces=700)


def test_generated_strings_hold_what_text_seldom_does(small_base: Path) -> None:
    model = read_model(small_base / "tokenizer.model")
    pieces = [piece.piece.replace("▁", " ") for piece in model.pieces]
    strings = list(generate_strings(pieces, ["<s>", "</s>"], 20_000))
    assert len(strings) == 20_000
    assert strings == list(generate_strings(pieces, ["<s>", "</s>"], 20_000))
    everything = "".join(strings)
    assert {chr(i) for i in range(256)} <= set(everything)
    for held in ("</s>", "<s>", "<0x0A>", "   ", "\t\t", "\u3000"):
        assert held in everything, held
    for low, high in ((0x1100, 0x1200), (0x3130, 0x3190), (0x4E00, 0xA000), (0x300, 0x370)):  # jamo, Hanja, marks
        assert any(low <= ord(character) < high for character in everything)
    assert any(0x1F600 <= ord(character) < 0x1F650 for character in everything)


characters = st.one_of(
    st.sampled_from(" \t\n\r\0▁"),
    st.characters(codec="utf8"),
    st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3),
    st.characters(min_codepoint=0x1100, max_codepoint=0x11FF),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
    st.characters(max_codepoint=0xFF),
)
fragments = st.one_of(
    st.text(characters, max_size=12),
    st.integers(1, 60).map(lambda count: " " * count),
    st.sampled_from(
        ["<s>", "</s>", "<unk>", "<0x0A>", "[INST]", "👩‍👩‍👧", "🇰🇷", "大韓民國", "▁대통령", "2013년", "\r\n\r\n"]
    ),
    st.text(characters, max_size=6).map(lambda text: unicodedata.normalize("NFD", text)),
)
strings = st.lists(fragments, max_size=6).map("".join)


def check_strings(folder: Path, texts: list[str]) -> None:
    slow = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.encode_special_tokens = True
    for text, ids in zip(texts, slow.encode(texts), strict=True):
        assert fast.encode(text, add_special_tokens=False).ids == ids, text
        if slow.decode(ids) == text:
            assert fast.decode(ids, skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def real_merge(shared: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("real") / "vocab"
    base, donor = shared("tokenizers/llama2"), shared("tokenizers/kobert")
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(donor), output=output, repair="add"))
    return output


@pytest.mark.real_data
@settings(max_examples=20, deadline=None)
@given(texts=st.lists(strings, min_size=20, max_size=50))
def test_generated_strings_on_a_real_merge(real_merge: Path, texts: list[str]) -> None:
    check_strings(real_merge, texts)


@pytest.mark.real_data
@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(texts=st.lists(strings, min_size=50, max_size=50, unique=True))
def test_twenty_thousand_generated_strings_on_a_real_merge(real_merge: Path, texts: list[str]) -> None:
    check_strings(real_merge, texts)


@pytest.mark.real_data
@pytest.mark.slow
def test_every_document_of_the_corpora(shared: Callable[[str], Path], tmp_path: Path) -> None:
    base, donor = shared("tokenizers/llama2"), shared("tokenizers/kobert")
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(donor), output=tmp_path / "out"))
    documents = read_samples(
        {language: sorted(shared(f"corpus/{language}").glob("*.zst")) for language in ("ko", "en")}
    )
    proof = prove(tmp_path / "out", documents, base_pieces=32000)
    assert sum(counts.documents for counts in proof.languages.values()) == 16_942
