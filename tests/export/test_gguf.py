"""GGUF files are read back by llama.cpp itself: the same ids, and the same text from the same prompt."""

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from bllossom.errors import BllossomError
from bllossom.export.gguf import ExportConfig, export
from bllossom.export.gguf_tokenizer import check_normalizer, name_pre_tokenizer
from bllossom.model.expand import ExpandConfig, expand
from bllossom.text.sources import read_documents
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.files import copy_tokenizer
from bllossom.tokenizer.load import load_tokenizer
from bllossom.vocab.donor import DonorText
from bllossom.vocab.merge import MergeVocabConfig, merge_vocab
from tests.fixtures.vocabularies import LLAMA3_PATTERN, QWEN_PATTERN, train_byte_level

llama_cpp = pytest.importorskip("cyllama.llama.llama_cpp")
TEXTS = [
    "햄버거를 먹는 공룡 2024",
    "the river ran",
    " a  b\n\nc\t",
    "정부는 대통령은",
    "don't 漢字 ½ 👩‍👩‍👧 </s> <|end|>",
    "",
]


def open_gguf(folder: Path) -> Any:
    return llama_cpp.LlamaModel(str(folder / "model.gguf"), llama_cpp.LlamaModelParams(), False)


def make_llama(folder: Path, tokenizer: Path, rows: int, *, tied: bool) -> Path:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        initializer_range=0.3,  # so that the best token stands clear of the next
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    copy_tokenizer(tokenizer, folder)
    return folder


@pytest.fixture(params=["sentencepiece", "byte-level"])
def model(request: Any, small_base: Path, texts: dict[str, Path], tmp_path: Path) -> Path:
    if request.param == "sentencepiece":
        return make_llama(tmp_path / "model", small_base, 704, tied=False)
    base = train_byte_level(tmp_path / "base", texts["en"], pattern=LLAMA3_PATTERN)
    donor = DonorText(text=[str(texts["ko"])], pieces=60)
    merge_vocab(MergeVocabConfig(base=str(base), donor=donor, donor_filter=["Hangul"], output=tmp_path / "merged"))
    return make_llama(tmp_path / "model", tmp_path / "merged", 704, tied=True)


def greedy(gguf: Any, prompt: list[int], count: int) -> list[int]:
    """The tokens that llama.cpp finds likeliest, one after the other."""
    parameters = llama_cpp.LlamaContextParams()
    parameters.n_ctx = 256
    context = llama_cpp.LlamaContext(gguf, parameters, False)
    sampler = llama_cpp.LlamaSampler(llama_cpp.LlamaSamplerChainParams())
    sampler.add_greedy()
    ids, position = list(prompt), 0
    for _ in range(count):
        batch = llama_cpp.LlamaBatch(n_tokens=len(ids) - position, embd=0, n_seq_max=1)
        batch.set_batch(ids[position:], position, False)
        batch.set_last_logits_to_true()
        context.decode(batch)
        position = len(ids)
        ids.append(sampler.sample(context, -1))
    return ids[len(prompt) :]


def test_llama_cpp_reads_the_same_ids_and_writes_the_same_text(model: Path, tmp_path: Path) -> None:
    export(ExportConfig(model=model, dtype="f32", output=tmp_path / "gguf"))
    gguf, tokenizer = open_gguf(tmp_path / "gguf"), load_tokenizer(model)
    vocabulary = gguf.get_vocab()
    assert vocabulary.n_vocab == 704
    for text in TEXTS:
        assert list(vocabulary.tokenize(text, False, False)) == encode_text(tokenizer, text)
    prompt = encode_text(tokenizer, TEXTS[0])
    ours = AutoModelForCausalLM.from_pretrained(model)
    answer = ours.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False, eos_token_id=None)
    assert greedy(gguf, prompt, 8) == answer[0, len(prompt) :].tolist()


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
def test_half_precision_halves_the_file(model: Path, tmp_path: Path, dtype: str) -> None:
    whole = export(ExportConfig(model=model, dtype="f32", output=tmp_path / "whole"))
    half = export(ExportConfig(model=model, dtype=dtype, output=tmp_path / "half"))  # type: ignore[arg-type]
    weights = sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(model).parameters() if p.ndim == 2)
    assert whole.figures["bytes"] - half.figures["bytes"] == pytest.approx(2 * weights, rel=0.01)
    assert open_gguf(tmp_path / "half").n_params == open_gguf(tmp_path / "whole").n_params


CHAT = "<|im_start|>user\nthe river<|im_end|>\n<tool>ran"


def add_chat_tokens(model: Path, file: str) -> None:
    """ChatML's tokens and one that is not special, behind the pieces of tokenizer.model, which does not hold them."""
    if file == "tokenizer.json":
        tokenizer = Tokenizer.from_file(str(model / file))
        tokenizer.add_special_tokens([AddedToken(mark, normalized=False) for mark in ("<|im_start|>", "<|im_end|>")])
        tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
        tokenizer.save(str(model / file))
    else:
        (model / "tokenizer.json").unlink()
        (model / file).write_text(json.dumps({"<|im_start|>": 700, "<|im_end|>": 701, "<tool>": 702}))
    config = json.loads((model / "tokenizer_config.json").read_text())
    (model / "tokenizer_config.json").write_text(json.dumps(config | {"eos_token": "<|im_end|>"}))


@pytest.mark.parametrize("file", ["tokenizer.json", "added_tokens.json"])
def test_tokens_that_stand_beside_tokenizer_model_keep_their_ids(small_base: Path, tmp_path: Path, file: str) -> None:
    model = make_llama(tmp_path / "model", small_base, 704, tied=False)
    add_chat_tokens(model, file)
    export(ExportConfig(model=model, dtype="f32", output=tmp_path / "gguf"))
    gguf, tokenizer = open_gguf(tmp_path / "gguf"), load_tokenizer(model)
    vocabulary = gguf.get_vocab()
    ids = tokenizer(CHAT)["input_ids"]
    assert {700, 701, 702} <= set(ids)
    assert list(vocabulary.tokenize(CHAT, True, True)) == ids
    plain = "<|im_start|>user\nthe river<tool>ran"
    assert list(vocabulary.tokenize(plain, False, False)) == encode_text(tokenizer, plain)
    assert vocabulary.token_eos() == tokenizer.eos_token_id == 701


def test_tokens_without_a_row_are_told(small_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_llama(tmp_path / "model", small_base, 702, tied=False)
    add_chat_tokens(model, "tokenizer.json")
    export(ExportConfig(model=model, dtype="f32", output=tmp_path / "gguf"))
    assert "export: 1 tokens (<tool>) have no row in the model" in capsys.readouterr().err
    gguf = open_gguf(tmp_path / "gguf")
    assert gguf.get_vocab().n_vocab == 702


def test_a_tokenizer_json_of_another_tokenizer_is_refused(small_base: Path, tmp_path: Path) -> None:
    model = make_llama(tmp_path / "model", small_base, 704, tied=False)
    settings = json.loads((model / "tokenizer.json").read_text())
    settings["model"]["vocab"]["zqzq"] = 700
    (model / "tokenizer.json").write_text(json.dumps(settings))
    with pytest.raises(BllossomError, match="give 'zqzq' the id none, the tokenizer as it loads 700: put the"):
        export(ExportConfig(model=model, output=tmp_path / "no"))


def test_the_rotary_frequencies_of_older_files_are_left_out(small_base: Path, tmp_path: Path) -> None:
    """Llama 2's first checkpoints hold them in every layer; llama.cpp loads no file with tensors that it has no use
    for."""
    model = make_llama(tmp_path / "model", small_base, 704, tied=False)
    weights = load_file(model / "model.safetensors")
    frequencies = 1 / 10_000 ** (torch.arange(0, 16, 2) / 16)
    buffers = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": frequencies.clone() for i in range(2)}
    save_file(weights | buffers, model / "model.safetensors", metadata={"format": "pt"})
    manifest = export(ExportConfig(model=model, dtype="f32", output=tmp_path / "gguf"))
    assert manifest.figures["tensors"] == len(weights)
    gguf = open_gguf(tmp_path / "gguf")
    assert gguf.n_params == sum(values.numel() for values in weights.values())


def split_then_bytes(pattern: str) -> dict[str, Any]:
    return {
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"},
            {"type": "ByteLevel", "use_regex": False},
        ]
    }


DIGITS = {"type": "Digits", "individual_digits": True}
BYTES = {"type": "ByteLevel", "use_regex": True, "add_prefix_space": False}


@pytest.mark.parametrize(
    ("pre_tokenizer", "name"),
    [
        (BYTES, "gpt-2"),
        ({"pretokenizers": [DIGITS, BYTES]}, "smollm"),
        (split_then_bytes(LLAMA3_PATTERN), "llama-bpe"),
        (split_then_bytes(QWEN_PATTERN), "qwen2"),
    ],
)
def test_pre_tokenizers_have_llama_cpps_names(pre_tokenizer: dict[str, Any], name: str) -> None:
    assert name_pre_tokenizer(pre_tokenizer) == name


@pytest.mark.parametrize(("pattern", "ignore_merges"), [(LLAMA3_PATTERN, False), (QWEN_PATTERN, True)])
def test_words_that_llama_cpp_spells_otherwise_are_told(
    texts: dict[str, Path], tmp_path: Path, pattern: str, ignore_merges: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """llama.cpp knows by its name of the pre-tokenizer, and not from the file, whether a whole word needs merges."""
    tokenizer = train_byte_level(tmp_path / "base", texts["en"], pattern=pattern, ignore_merges=ignore_merges)
    settings = json.loads((tokenizer / "tokenizer.json").read_text())
    settings["model"]["vocab"] |= {token["content"]: token["id"] for token in settings["added_tokens"]}
    settings["model"]["vocab"]["zqzq"] = 602  # no merge makes it
    (tokenizer / "tokenizer.json").write_text(json.dumps(settings))
    model = make_llama(tmp_path / "model", tokenizer, 603, tied=True)
    export(ExportConfig(model=model, dtype="f32", output=tmp_path / "gguf"))
    assert "export: 1 words ('zqzq') get other ids" in capsys.readouterr().err
    gguf = open_gguf(tmp_path / "gguf")
    assert (encode_text(load_tokenizer(model), "zqzq") == [602]) == ignore_merges
    assert (list(gguf.get_vocab().tokenize("zqzq", False, False)) == [602]) == (not ignore_merges)


def test_a_normaliser_is_told_or_refused(capsys: pytest.CaptureFixture[str]) -> None:
    check_normalizer(None)
    assert capsys.readouterr().err == ""
    check_normalizer({"type": "NFC"})
    assert "does not bring text into NFC, as this tokenizer does" in capsys.readouterr().err
    with pytest.raises(BllossomError, match=r"has no counterpart in llama\.cpp, where text would get other ids"):
        check_normalizer({"type": "Lowercase"})


def test_what_llama_cpp_cannot_read_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(BllossomError, match=r"has no name in llama\.cpp .*; see whether llama\.cpp's own"):
        name_pre_tokenizer({"type": "Whitespace"})
    config = json.loads((model / "config.json").read_text())

    def refused(match: str, **changes: Any) -> None:
        (model / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(BllossomError, match=match):
            export(ExportConfig(model=model, output=tmp_path / "no"))

    refused("only models of Llama's shape are exported", model_type="qwen3", architectures=["Qwen3ForCausalLM"])
    refused("scales its rotary embedding", rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0})
    older = {"rope_parameters": None, "rope_theta": 1e4}
    refused(r"embedding \(linear\)", **older, rope_scaling={"type": "linear", "factor": 4.0})  # Vicuna 16k
    refused(r"embedding \(yarn\)", **older, rope_scaling={"rope_type": "yarn", "type": "linear", "factor": 4.0})


def many_texts(shared: Callable[[str], Path]) -> list[str]:
    """5,000 beginnings of documents, some of them cut inside a word."""
    texts: list[str] = []
    for language, wanted in (("ko", 3500), ("en", 1500)):
        files = sorted(shared(f"corpus/{language}").glob("*.zst"))
        found = [t for path in files for t in islice(read_documents(str(path)), 1200)][:wanted]
        texts += [text[number % 50 :][:300] for number, text in enumerate(found)]
    return texts


def assert_llama_cpp_agrees(folder: Path, texts: list[str], output: Path) -> None:
    """The same ids on all texts, and in f32 the same greedy text behind twenty of them."""
    export(ExportConfig(model=folder, dtype="f32", output=output))
    gguf, tokenizer = open_gguf(output), load_tokenizer(folder)
    vocabulary = gguf.get_vocab()
    assert len(texts) == 5000
    assert [t for t in texts if list(vocabulary.tokenize(t, False, False)) != encode_text(tokenizer, t)] == []
    ours = AutoModelForCausalLM.from_pretrained(folder)
    for prompt in (encode_text(tokenizer, text[:60]) for text in texts[:: len(texts) // 20]):
        answer = ours.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None)
        assert greedy(gguf, prompt, 12) == answer[0, len(prompt) :].tolist()


@pytest.mark.real_data
@pytest.mark.slow
def test_smollm2_with_korean_pieces(smollm2: Path, shared: Callable[[str], Path], tmp_path: Path) -> None:
    text = DonorText(text=[str(shared("corpus/ko/libreoffice_help_ko.jsonl.zst"))], pieces=2000)
    vocab, expanded = tmp_path / "vocab", tmp_path / "expanded"
    merge_vocab(MergeVocabConfig(base=str(smollm2), donor=text, donor_filter=["Hangul"], output=vocab))
    expand(ExpandConfig(model=str(smollm2), tokenizer=vocab, output=expanded))
    assert_llama_cpp_agrees(expanded, many_texts(shared), tmp_path / "gguf")


@pytest.mark.real_data
@pytest.mark.slow
def test_a_small_llama_with_llama_2s_and_koberts_pieces(
    llama2: Path, kobert: Path, shared: Callable[[str], Path], tmp_path: Path
) -> None:
    """The shape of the micro recipe's model, with random weights that tell its tokens apart."""
    vocab = tmp_path / "vocab"
    merge_vocab(MergeVocabConfig(base=str(llama2), donor=str(kobert), donor_filter="all", output=vocab))
    folder = make_llama(tmp_path / "model", vocab, 39_488, tied=False)
    assert_llama_cpp_agrees(folder, many_texts(shared), tmp_path / "gguf")
