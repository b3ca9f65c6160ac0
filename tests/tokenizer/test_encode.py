import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

import bllossom
from bllossom.text.sources import read_documents
from bllossom.tokenizer.encode import PROBES, Encoded, Encoders, ReferenceEncoder, add_edges, encode_text
from bllossom.tokenizer.ids import count_ids, tokenizer_fingerprint
from bllossom.tokenizer.load import load_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: Path) -> PreTrainedTokenizerFast:
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="module")
def reference(tokenizer: PreTrainedTokenizerFast) -> ReferenceEncoder:
    return Encoders(tokenizer).reference


def test_both_encoders_give_the_tokenizers_ids(tokenizer: PreTrainedTokenizerFast) -> None:
    encoders = Encoders(tokenizer)
    assert encoders.fast is not None
    texts = [*PROBES, "나무 <s> 바다</s>", "x" * 3000, "\u00a0 a\u3000b"]
    expected = [encode_text(tokenizer, text) for text in texts]
    for encoder in (encoders.reference, encoders.fast):
        encoded = encoder.encode([text.encode() for text in texts])
        assert [part.tolist() for part in np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])] == expected


THREADS = """
import os, sys, threading, time
from bllossom.corpus.executors import run_ray
os.cpu_count = lambda: 16
count = lambda: len(os.listdir("/proc/self/task"))
made = run_ray._encoders(sys.argv[1])
texts = [("tree sea sky %d " % number * 200).encode() for number in range(4000)]
before, most, done = count(), [0], threading.Event()
def watch():
    while not done.is_set():
        most[0] = max(most[0], count())
        time.sleep(0.0005)
watcher = threading.Thread(target=watch)
watcher.start()
for encoder in (made.reference, made.fast):
    encoder.encode(texts)
done.set()
watcher.join()
print(most[0] - before - 1)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted by Linux's /proc")
def test_a_task_of_one_core_starts_one_thread(tokenizer_folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(bllossom.__file__).parents[1]), "RAYON_NUM_THREADS": "1"}

    command = [sys.executable, "-c", THREADS, str(tokenizer_folder)]
    started = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert int(started) <= 2  # one of ours, and one that a library keeps for all


def test_literal_special_tokens_stay_text(tokenizer: PreTrainedTokenizerFast) -> None:
    ids = Encoders(tokenizer).reference.encode([b"a</s>b <s> <unk>"]).ids
    assert not np.isin(ids, [0, 1, 2]).any()
    # The caller's tokenizer goes on finding its special tokens.
    assert tokenizer("a</s>b", add_special_tokens=False)["input_ids"].count(2) == 1


def test_where_ids_differ_the_reference_is_used_and_the_text_named(tokenizer: PreTrainedTokenizerFast) -> None:
    encoders = Encoders(tokenizer)
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["merges"] = settings["model"]["merges"][:40]
    other = PreTrainedTokenizerFast(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(settings)))
    encoders.fast = Encoders(other).fast
    chosen, why = encoders.choose(["나무 바다 하늘 사람".encode()])
    assert chosen is encoders.reference
    assert why == "gigatoken's ids differ from the tokenizer's own, first in '나무 바다 하늘 사람'"


@settings(deadline=None)
@given(texts=st.lists(st.text(st.sampled_from("나무 a▁<s>\n\t각x é☃")) | st.text(), min_size=1, max_size=150))
def test_the_reference_gives_the_tokenizers_ids_of_any_text(
    tokenizer: PreTrainedTokenizerFast, reference: ReferenceEncoder, texts: list[str]
) -> None:
    encoded = reference.encode([text.encode() for text in texts])
    rows = np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1])
    assert [row.tolist() for row in rows] == [encode_text(tokenizer, text) for text in texts]


@settings(deadline=None, max_examples=20)
@given(
    words=st.lists(
        st.sampled_from(["나무", "바다 ", " 하늘", "a", "x" * 1100, "▁", "☃", "\n"]), min_size=700, max_size=900
    )
)
def test_long_documents_are_cut_without_a_trace(
    tokenizer: PreTrainedTokenizerFast, reference: ReferenceEncoder, words: list[str]
) -> None:
    for text in ("".join(words), " ".join(words)):
        assert reference.encode([text.encode()]).ids.tolist() == encode_text(tokenizer, text)


def test_documents_are_left_whole_where_pieces_reach_into_the_next_word(tokenizer: PreTrainedTokenizerFast) -> None:
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["vocab"]["무▁"] = len(settings["model"]["vocab"])
    settings["model"]["merges"].insert(0, ["무", "▁"])
    other = PreTrainedTokenizerFast(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(settings)))
    text = "나무 " * 600
    expected = encode_text(other, text)
    assert settings["model"]["vocab"]["무▁"] in expected
    assert Encoders(other).reference.encode([text.encode()]).ids.tolist() == expected


WARM = """
import sys
from bllossom.tokenizer.encode import Encoders
from bllossom.tokenizer.load import load_tokenizer
fast = Encoders(load_tokenizer(sys.argv[1])).fast
before = set(sys.modules)
assert len(fast.encode([b"a", b"b c"]).lengths) == 2
print(sorted(set(sys.modules) - before))
"""


def test_a_fast_encoder_once_made_imports_nothing_that_a_ctrl_c_could_break(tokenizer_folder: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(bllossom.__file__).parents[1])}
    command = [sys.executable, "-c", WARM, str(tokenizer_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_why_there_is_no_fast_encoder_takes_one_line(tokenizer: PreTrainedTokenizerFast) -> None:
    settings = json.loads(tokenizer.backend_tokenizer.to_str()) | {"normalizer": {"type": "Lowercase"}}
    other = PreTrainedTokenizerFast(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(settings)))
    assert Encoders(other).why_not == (
        "gigatoken cannot take this tokenizer (Unsupported normalizer type for SentencePiece tokenizers: Lowercase)"
    )


def test_ids_are_counted_up_to_the_highest(tokenizer: PreTrainedTokenizerFast) -> None:
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["vocab"]["▁나무"] = 70_000
    other = PreTrainedTokenizerFast(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(settings)))
    assert (len(other), count_ids(other)) == (500, 70_001)
    encoders = Encoders(other)
    for encoder in (encoders.reference, encoders.fast):
        assert encoder is not None
        assert encoder.encode(["나무 나무".encode()]).ids.tolist() == [70_000, 70_000]


def test_a_truncation_saved_with_the_tokenizer_cuts_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    backend = type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    backend.enable_truncation(4)
    backend.enable_padding(length=50)
    other = PreTrainedTokenizerFast(tokenizer_object=backend)
    texts = ["나무 바다 하늘 사람".encode()]
    encoders = Encoders(other)
    assert encoders.fast is not None
    expected = Encoders(tokenizer).reference.encode(texts).ids.tolist()
    assert [encoder.encode(texts).ids.tolist() for encoder in (encoders.reference, encoders.fast)] == [expected] * 2


def test_an_added_token_that_is_not_special_is_found_in_text(tokenizer: PreTrainedTokenizerFast) -> None:
    other = PreTrainedTokenizerFast(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(tokenizer.backend_tokenizer.to_str())
    )
    other.add_tokens(["<tool>"])
    text = "나무 <tool> 바다"
    assert len(other) - 1 in encode_text(other, text)
    assert Encoders(other).reference.encode([text.encode()]).ids.tolist() == encode_text(other, text)
    encoders = Encoders(other)
    assert encoders.fast is None  # no sampled document need hold the token that gigatoken would miss
    assert "'<tool>'" in encoders.why_not


@given(
    st.lists(st.lists(st.integers(3, 499), max_size=5), min_size=1, max_size=6),
    st.sampled_from([None, 1]),
    st.sampled_from([None, 2]),
)
def test_edges_are_put_around_each_document(rows: list[list[int]], bos: int | None, eos: int | None) -> None:
    encoded = Encoded(np.asarray([i for row in rows for i in row], np.uint32), np.asarray([len(row) for row in rows]))
    wrapped = add_edges(encoded, bos, eos, "uint16")
    expected = [([bos] if bos else []) + row + ([eos] if eos else []) for row in rows]
    assert wrapped.ids.tolist() == [i for row in expected for i in row]
    assert wrapped.lengths.tolist() == [len(row) for row in expected]
    assert wrapped.ids.dtype == np.uint16


def test_the_fingerprint_is_of_the_ids_not_of_the_files(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    again.chat_template = "{{ messages }}"
    again.save_pretrained(tmp_path / "again")
    assert tokenizer_fingerprint(load_tokenizer(tmp_path / "again")) == tokenizer_fingerprint(tokenizer)
    settings = json.loads(tokenizer.backend_tokenizer.to_str())
    settings["model"]["merges"].reverse()
    other = PreTrainedTokenizerFast(tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(settings)))
    assert tokenizer_fingerprint(other) != tokenizer_fingerprint(tokenizer)


@pytest.mark.real_data
def test_llama2_ids_of_real_text_are_sentencepieces(shared: Callable[[str], Path]) -> None:
    import sentencepiece

    model = shared("tokenizers/llama2/tokenizer.model")
    fast = Encoders(load_tokenizer(model)).fast
    assert fast is not None
    reference = sentencepiece.SentencePieceProcessor(model_file=str(model))
    for name in ("ko/tensorflow_docs_ko", "en/wikitext2_valid_test"):
        texts = list(read_documents(str(shared(f"corpus/{name}.jsonl.zst"))))[:60]
        encoded = fast.encode([text.encode() for text in texts])
        for text, ids in zip(texts, np.split(encoded.ids, np.cumsum(encoded.lengths)[:-1]), strict=True):
            assert ids.tolist() == reference.encode(text)
