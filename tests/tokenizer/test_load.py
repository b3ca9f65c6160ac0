"""Loading a tokenizer and encoding outside text."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import sentencepiece
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bllossom.errors import BllossomError
from bllossom.model.pieces import compare_tokenizers
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.files import tokenizer_files
from bllossom.tokenizer.ids import tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer, save_tokenizer
from bllossom.tokenizer.sentencepiece_file import NORMAL, read_model
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab

TEXTS = ["", " leading", "trailing ", "two  spaces", "<s>literal</s> <unk>", "[INST] x [/INST]\n\n\ty", "공룡 🦕 é"]


def test_a_folder_and_a_bare_model_file_give_the_same_tokenizer(small_base: Path) -> None:
    slow = sentencepiece.SentencePieceProcessor(model_file=str(small_base / "tokenizer.model"))
    from_folder, from_file = load_tokenizer(small_base), load_tokenizer(small_base / "tokenizer.model")
    for text in TEXTS:
        assert encode_text(from_folder, text) == encode_text(from_file, text) == slow.encode(text)
        assert from_folder.decode(slow.encode(text)) == from_file.decode(slow.encode(text))
    assert from_folder.pad_token_id == from_file.pad_token_id == 0


def test_encoding_outside_text_leaves_special_tokens_active_for_the_rest(small_base: Path) -> None:
    tokenizer = load_tokenizer(small_base)
    split = encode_text(tokenizer, "a</s>")
    assert 2 not in split
    assert tokenizer("a</s>", add_special_tokens=False)["input_ids"][-1] == 2
    assert tokenizer("a")["input_ids"][0] == 1
    assert encode_text(tokenizer, "a</s>") == split


@pytest.mark.parametrize("loader", [AutoTokenizer, PreTrainedTokenizerFast])
def test_transformers_opens_what_was_written(small_base: Path, loader: type) -> None:
    tokenizer = loader.from_pretrained(small_base)
    mine = load_tokenizer(small_base)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids == encode_text(mine, text)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


def test_beside_a_llama_config_the_file_is_still_taken_as_it_is(small_base: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((small_base / name).read_bytes())
    (tmp_path / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    tokenizer, mine = AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(small_base)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        assert ids == encode_text(mine, text)


def test_what_cannot_be_loaded(small_donor: Path, small_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"is a Unigram model, .*; name a folder that has its tokenizer\.json"):
        load_tokenizer(small_donor)
    with pytest.raises(BllossomError, match="name the folder it lies in"):
        load_tokenizer(small_base / "tokenizer.json")
    with pytest.raises(BllossomError, match="holds no SentencePiece model"):
        load_tokenizer(tmp_path)
    with pytest.raises(BllossomError, match=r"nobody/no-such-model cannot be fetched .*; check the network"):
        load_tokenizer("nobody/no-such-model")


OLD_SETTINGS = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "unk_token": "<unk>", "legacy": False}
"""tokenizer_config.json of a tokenizer.model, as transformers 4 wrote it: what it does not say, its class knew."""


def test_a_hub_id_with_a_bare_model_gives_the_ids_of_its_folder(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository, commit = tmp_path / "models--own--tok", "01" * 20
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)
    shutil.copyfile(small_base / "tokenizer.model", folder / "tokenizer.model")
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "tokenizer_config.json").write_text(json.dumps(OLD_SETTINGS))
    slow = sentencepiece.SentencePieceProcessor(model_file=str(small_base / "tokenizer.model"))
    for source in ("own/tok", f"own/tok@{commit}", folder):
        tokenizer = load_tokenizer(source)
        for text in TEXTS:
            assert encode_text(tokenizer, text) == slow.encode(text), source
    shutil.copyfile(small_base / "tokenizer.json", folder / "tokenizer.json")
    assert tokenizer_fingerprint(load_tokenizer("own/tok")) == tokenizer_fingerprint(load_tokenizer(small_base))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BllossomError, match=r"own/tok: its tokenizer does not load .*; get its files anew"):
        load_tokenizer("own/tok")


@pytest.mark.parametrize("with_map", [False, True])
def test_of_a_bare_model_what_is_saved_is_what_was_loaded(small_base: Path, tmp_path: Path, with_map: bool) -> None:
    source, saved = tmp_path / "source", tmp_path / "saved"
    source.mkdir()
    shutil.copyfile(small_base / "tokenizer.model", source / "tokenizer.model")
    settings: dict[str, object] = dict(OLD_SETTINGS)
    if with_map:  # which does not count beside the other's added_tokens_decoder
        settings |= {"eos_token": "</s>", "added_tokens_decoder": {}}
        (source / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<s>"}))
    (source / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(source)
    assert tokenizer.eos_token == "</s>"
    save_tokenizer(tokenizer, source, saved)
    assert (saved / "tokenizer.model").read_bytes() == (source / "tokenizer.model").read_bytes()
    again = load_tokenizer(saved)
    assert (again.bos_token_id, again.eos_token_id, again.pad_token_id) == (1, 2, tokenizer.pad_token_id)
    theirs = AutoTokenizer.from_pretrained(saved)
    for text in TEXTS:
        ids = encode_text(tokenizer, text)
        assert encode_text(again, text) == ids
        assert theirs(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] == ids


def test_a_tokenizer_json_is_kept_with_what_lies_beside_it(small_base: Path, tmp_path: Path) -> None:
    source = shutil.copytree(small_base, tmp_path / "source")
    (source / "special_tokens_map.json").write_text('{"eos_token":   "</s>"}')
    (tmp_path / "saved").mkdir()
    save_tokenizer(load_tokenizer(source), source, tmp_path / "saved")
    for file in tokenizer_files(source):
        assert (tmp_path / "saved" / file.name).read_bytes() == file.read_bytes()


def chat_base(small_base: Path, folder: Path, *, with_json: bool) -> Path:
    """A tune whose two tokens stand behind the pieces, as Vicuna's and ChatML's descendants are published."""
    folder.mkdir()
    for name in ("tokenizer.model", "tokenizer.json") if with_json else ("tokenizer.model",):
        shutil.copyfile(small_base / name, folder / name)
    tokens = {"<|im_start|>": 700, "<|im_end|>": 701}
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    decoder = {str(number): {"content": token, "special": True} | flags for token, number in tokens.items()}
    config = {"added_tokens_decoder": decoder, "eos_token": "<|im_end|>", "pad_token": "<unk>", "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": "{{ messages[0].content }}"}))
    (folder / "added_tokens.json").write_text(json.dumps(tokens))
    return folder


@pytest.mark.parametrize("with_json", [False, True])
def test_trained_added_tokens_keep_ids_flags_and_roles(
    small_base: Path, small_donor: Path, tmp_path: Path, with_json: bool
) -> None:
    base = chat_base(small_base, tmp_path / "base", with_json=with_json)
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(small_donor), output=tmp_path / "merged"))
    before, merged = load_tokenizer(base), load_tokenizer(tmp_path / "merged")
    for tokenizer in (before, merged):
        assert tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"]) == [700, 701]
        assert tokenizer("a<|im_end|>", add_special_tokens=False)["input_ids"][-1] == 701
        assert tokenizer.eos_token_id == 701
        assert tokenizer.chat_template == "{{ messages[0].content }}"
    pieces = compare_tokenizers(base, tmp_path / "merged")
    assert pieces.base == 702
    assert pieces.new > 0


@pytest.mark.parametrize("with_json", [False, True])
def test_a_base_that_puts_no_bos_in_front_stays_so(
    small_base: Path, small_donor: Path, tmp_path: Path, with_json: bool
) -> None:
    """As Yi's: its tokenizer_config.json says so, its SentencePiece model has a BOS all the same."""
    base = tmp_path / "base"
    base.mkdir()
    shutil.copyfile(small_base / "tokenizer.model", base / "tokenizer.model")
    roles = json.loads((small_base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps(roles | {"add_bos_token": False}))
    if with_json:
        own = json.loads((small_base / "tokenizer.json").read_text(encoding="utf8"))
        (base / "tokenizer.json").write_text(json.dumps(own | {"post_processor": None}), encoding="utf8")
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(small_donor), output=tmp_path / "merged"))
    assert json.loads((tmp_path / "merged/tokenizer_config.json").read_text())["add_bos_token"] is False
    river = load_tokenizer(small_base)("the river")["input_ids"]
    assert river[0] == 1
    for folder in (base, tmp_path / "merged"):
        assert load_tokenizer(folder)("the river")["input_ids"] == river[1:]
    assert AutoTokenizer.from_pretrained(tmp_path / "merged")("the river")["input_ids"] == river[1:]


def test_a_prefix_that_the_base_puts_before_the_first_text_only_stays_there(
    small_base: Path, small_donor: Path, texts: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the tokenizer.json of Mistral's newer models does."""
    base, output = tmp_path / "base", tmp_path / "merged"
    base.mkdir()
    for name in ("tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(small_base / name, base / name)
    own = json.loads((small_base / "tokenizer.json").read_text(encoding="utf8")) | {"normalizer": None}
    own["pre_tokenizer"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    (base / "tokenizer.json").write_text(json.dumps(own), encoding="utf8")
    samples = {"ko": [str(texts["ko"])]}
    merge_vocab(MergeVocabConfig(base=str(base), donor=str(small_donor), samples=samples, output=output))
    before, merged = load_tokenizer(base), load_tokenizer(output)
    for text in ("</s> the river</s>ran", "</s>the", " the river", "  the", " ", "", "the</s>", "the river"):
        assert merged(text)["input_ids"] == before(text)["input_ids"], text
    assert "own tokenizer.json" not in capsys.readouterr().err


def test_what_begins_otherwise_than_by_the_bases_own_file_is_told(
    small_base: Path, small_donor: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    shutil.copyfile(small_base / "tokenizer.model", base / "tokenizer.model")
    own = json.loads((small_base / "tokenizer.json").read_text(encoding="utf8"))
    (base / "tokenizer.json").write_text(json.dumps(own | {"post_processor": None}), encoding="utf8")
    for folder, said in ((base, True), (small_base, False)):
        merge_vocab(MergeVocabConfig(base=str(folder), donor=str(small_donor), output=tmp_path / f"out{said}"))
        assert ("by the base's own tokenizer.json" in " ".join(capsys.readouterr().err.split())) is said


def test_files_that_disagree_are_refused(small_base: Path, tmp_path: Path) -> None:
    base = chat_base(small_base, tmp_path / "base", with_json=False)
    (base / "added_tokens.json").write_text(json.dumps({"<|im_start|>": 701, "<|im_end|>": 700}))
    with pytest.raises(BllossomError, match="the base's files disagree: take them all from one place"):
        load_tokenizer(base)


@pytest.mark.parametrize("named_in", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_role_that_only_added_tokens_json_numbers_is_no_text(small_base: Path, tmp_path: Path, named_in: str) -> None:
    shutil.copyfile(small_base / "tokenizer.model", tmp_path / "tokenizer.model")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 700, "<|note|>": 701}))
    (tmp_path / named_in).write_text(json.dumps({"eos_token": "<|im_end|>"}))
    tokenizer = load_tokenizer(tmp_path)
    ids = encode_text(tokenizer, "<|im_end|><|note|>")
    assert tokenizer.eos_token_id == 700
    assert 700 not in ids  # outside text ends no turn
    assert 701 in ids  # what no role names is found in text, as transformers finds it
    assert tokenizer.decode(700, skip_special_tokens=True) == ""
    (tmp_path / named_in).unlink()
    assert 700 in encode_text(load_tokenizer(tmp_path), "<|im_end|>")


@pytest.mark.parametrize("numbered", [False, True])
def test_roles_of_two_files_that_disagree_are_those_of_transformers(
    small_base: Path, tmp_path: Path, numbered: bool
) -> None:
    shutil.copyfile(small_base / "tokenizer.model", tmp_path / "tokenizer.model")
    decoder = {"added_tokens_decoder": {"700": {"content": "<|im_end|>", "special": True}}} if numbered else {}
    told = {"eos_token": "</s>", "tokenizer_class": "LlamaTokenizer"} | decoder
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": 700}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.eos_token == AutoTokenizer.from_pretrained(tmp_path).eos_token
    assert tokenizer.eos_token == ("</s>" if numbered else "<|im_end|>")
    assert 700 not in encode_text(tokenizer, "<|im_end|>")  # named by one of them: outside text ends no turn


def test_pieces_with_equal_scores_are_refused_by_the_loader(small_base: Path, tmp_path: Path) -> None:
    model = read_model(small_base / "tokenizer.model")
    for piece in ("강물", "물강", "강물은"):
        model.pieces.add(piece=piece, score=0.0, type=NORMAL)
    (tmp_path / "tokenizer.model").write_bytes(model.SerializeToString())
    with pytest.raises(BllossomError, match=r"[34] of its pieces share a score with another"):
        load_tokenizer(tmp_path)


def test_a_damaged_tokenizer_file_is_told(byte_level_base: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(byte_level_base, tmp_path / "damaged")
    text = (folder / "tokenizer.json").read_text(encoding="utf8")
    for damaged in (
        text[: len(text) // 2],
        '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}',
        "",
    ):
        (folder / "tokenizer.json").write_text(damaged, encoding="utf8")
        with pytest.raises(BllossomError, match=r"damaged: its tokenizer does not load .*; get its files anew"):
            load_tokenizer(folder)
