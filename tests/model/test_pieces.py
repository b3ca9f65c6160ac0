import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError
from bllossom.model.initializers import commonest_first
from bllossom.model.pieces import compare_tokenizers
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from tests.fixtures.vocabularies import train_byte_level


def spelled_as_text(model: Path, spelling: list[int]) -> str:
    """Put a spelling together from the pieces' own text, bytes included, ▁ left as it stands."""
    pieces = load_tokenizer(model).convert_ids_to_tokens(spelling)
    raw = b"".join(
        bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") and len(piece) == 6 else piece.encode()
        for piece in pieces
    )
    return raw.decode()


def test_every_spelling_is_its_piece(vocabularies: tuple[Path, Path]) -> None:
    base, merged = vocabularies
    pieces, tokenizer = compare_tokenizers(base, merged), load_tokenizer(merged)
    assert pieces.base == 330
    assert pieces.rows % 64 == 0
    assert pieces.base + pieces.new + pieces.padding == pieces.rows
    new = tokenizer.convert_ids_to_tokens(list(range(330, 330 + pieces.new)))
    assert any(piece.startswith("▁") for piece in new)
    assert [spelled_as_text(base, spelling) for spelling in pieces.spellings] == new


def test_a_tokenizer_whose_first_ids_are_others_is_refused(tmp_path: Path, vocabularies: tuple[Path, Path]) -> None:
    base, merged = vocabularies
    other = tmp_path / "other"
    shutil.copytree(merged, other)
    content = json.loads((other / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.get)[300:302]
    vocab[first], vocab[second] = 301, 300
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(BllossomError, match=rf"id 300 is '{second}', in .* it is '{first}'; choose the tokenizer"):
        compare_tokenizers(base, other)


def test_the_bases_own_tokenizer_adds_nothing(vocabularies: tuple[Path, Path]) -> None:
    with pytest.raises(BllossomError, match=r"adds nothing to .* 330 pieces; use the model as it is"):
        compare_tokenizers(vocabularies[0], vocabularies[0])


def test_a_manifest_of_another_tokenizer_is_refused(tmp_path: Path, vocabularies: tuple[Path, Path]) -> None:
    other = tmp_path / "other"
    shutil.copytree(vocabularies[1], other)
    content = json.loads((other / "manifest.json").read_text())
    content["figures"]["pieces"] += 1
    (other / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(BllossomError, match=r"its manifest says .* rows; make it again with merge-vocab --force"):
        compare_tokenizers(vocabularies[0], other)


@pytest.mark.real_data
def test_llama_2_spells_the_korean_pieces(real_vocabularies: tuple[Path, Path]) -> None:
    base, merged = real_vocabularies
    pieces = compare_tokenizers(base, merged)
    assert (pieces.base, pieces.new, pieces.padding, pieces.rows) == (32_000, 7_478, 10, 39_488)
    old, new = load_tokenizer(base), load_tokenizer(merged)
    texts = new.convert_ids_to_tokens(list(range(32_000, 39_478)))
    # What starts with ▁ is a word's beginning: spelled as the base encodes the word in running text.
    words = [(text, spelling) for text, spelling in zip(texts, pieces.spellings, strict=True) if text[0] == "▁"]
    assert len(words) > 3_000
    assert [spelling for _, spelling in words] == [encode_text(old, text[1:]) for text, _ in words]
    # EEVE's first subword says little in Korean: it is the bare ▁ more often than not.
    first, share = commonest_first(pieces.spellings)
    assert old.convert_ids_to_tokens(first) == "▁"
    assert 0.5 < share < 0.7
    # And about 3 % would share a row with another: the same bytes in another order.
    bags = {}
    for spelling in pieces.spellings:
        bags.setdefault(tuple(sorted(spelling)), []).append(spelling)
    shared_rows = sum(len(group) for group in bags.values() if len(group) > 1)
    assert 0.02 < shared_rows / 7_478 < 0.05


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "en.txt").write_text("the old stones of a quiet village where people kept their garden walls low " * 40)
    return train_byte_level(folder / "base", folder / "en.txt", size=300)


def with_tokens(base: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    tokenizer = load_tokenizer(base)
    change(tokenizer)
    tokenizer.save_pretrained(folder)
    return folder


def test_an_added_token_is_spelled_as_text_and_a_base_without_unk_serves(byte_level: Path, tmp_path: Path) -> None:
    added = ["안녕하세요", "New York", "Привет"]
    grown = with_tokens(byte_level, tmp_path / "grown", lambda t: t.add_tokens(added))
    base = load_tokenizer(byte_level)
    assert base.unk_token is None
    pieces = compare_tokenizers(byte_level, grown)
    assert [base.decode(spelling) for spelling in pieces.spellings] == added
    assert pieces.base == 302


def test_ids_that_begin_behind_padding_rows(byte_level: Path, tmp_path: Path) -> None:
    other = shutil.copytree(byte_level, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    content["model"]["vocab"] |= {"<|begin|>": 300, "<|end|>": 301, "íķ": 320}
    content["model"]["merges"].append(["í", "ķ"])
    (other / "tokenizer.json").write_text(json.dumps(content))
    pieces = compare_tokenizers(byte_level, other)
    assert (pieces.base, pieces.new, pieces.rows) == (320, 1, 321)
    assert load_tokenizer(byte_level).convert_ids_to_tokens(list(pieces.spellings[0])) == ["í", "ķ"]
