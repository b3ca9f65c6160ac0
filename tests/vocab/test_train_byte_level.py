"""train-vocab with a byte-level base: its own BPE goes on."""

import json
from pathlib import Path
from typing import Any

import pytest

from bllossom.errors import BllossomError, ConfigError
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.train import TrainVocabConfig, train_vocab


def configure(base: Path, texts: dict[str, Path], output: Path, **settings: Any) -> TrainVocabConfig:
    values = {"type": "bpe", "vocab_size": 660, "scripts": ["Hangul"], **settings}
    return TrainVocabConfig(text=[str(texts["ko"])], base=str(base), output=output, **values)


def test_the_bases_own_bpe_goes_on(byte_level_base: Path, texts: dict[str, Path], tmp_path: Path) -> None:
    manifest = train_vocab(configure(byte_level_base, texts, tmp_path / "out"))
    before, after = load_tokenizer(byte_level_base), load_tokenizer(tmp_path / "out")
    assert manifest.figures["pieces"] == len(after) == 660
    assert len(encode_text(after, "정부는 대통령은")) < len(encode_text(before, "정부는 대통령은"))
    assert encode_text(after, "the river") == encode_text(before, "the river")
    assert json.loads((tmp_path / "out/certificate.json").read_text())["new_pieces"] == 58


def test_the_rows_of_the_bases_model_are_an_input(
    byte_level_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    copy_tokenizer(byte_level_base, base)
    (base / "config.json").write_text('{"vocab_size": 602}')
    first = train_vocab(configure(base, texts, tmp_path / "out"))
    read = {"tokenizer_config.json", "chat_template.jinja", "config.json"}
    there = {name for name, found in first.inputs.items() if name.startswith("base") and found != "none"}
    assert there == {"base", *(f"base/{name}" for name in read)}
    (base / "merges.txt").write_text("a b")  # is not read: later stages fetch it from the hub
    assert train_vocab(configure(base, texts, tmp_path / "out")) == first
    (base / "config.json").write_text('{"vocab_size": 610}')  # new ids begin higher up
    with pytest.raises(BllossomError, match=r"holds another result \(input base/config.json: "):
        train_vocab(configure(base, texts, tmp_path / "out"))


def test_what_does_not_fit_is_refused(
    byte_level_base: Path, small_base: Path, texts: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="a byte-level base needs type: bpe and the scripts that get pieces"):
        train_vocab(configure(byte_level_base, texts, tmp_path / "no", scripts=None))
    with pytest.raises(ConfigError, match="only a byte-level base needs them; take them out"):
        train_vocab(configure(small_base, texts, tmp_path / "no"))
    with pytest.raises(ConfigError, match="scripts: is an empty list; write Unicode scripts such as Hangul"):
        train_vocab(configure(byte_level_base, texts, tmp_path / "no", scripts=[]))
    with pytest.raises(ConfigError, match=r"character_coverage: a byte-level base has the bytes .*; take it out"):
        train_vocab(configure(byte_level_base, texts, tmp_path / "no", character_coverage=0.99))
    with pytest.raises(BllossomError, match="the base has 602 ids already; set a larger one"):
        train_vocab(configure(byte_level_base, texts, tmp_path / "no", vocab_size=602))
    with pytest.raises(BllossomError, match=r"the text gives [\d,]+ pieces, not .*, or set vocab_size=\d+$") as refusal:
        train_vocab(configure(byte_level_base, texts, tmp_path / "no", vocab_size=100_000))
    most = int(str(refusal.value).rpartition("=")[2])
    train_vocab(configure(byte_level_base, texts, tmp_path / "out", vocab_size=most))  # as it says
