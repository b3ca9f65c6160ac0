import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from bllossom.artifacts import read_manifest, verify
from bllossom.config import load_config
from bllossom.corpus import prepare as stage
from bllossom.corpus import readings
from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.prepare import PrepareConfig, dry_run, prepare
from bllossom.corpus.readings import is_heldout
from bllossom.errors import BllossomError, ConfigError
from bllossom.text.sources import RawRecord, ReadOptions, read_records
from bllossom.tokenizer.encode import encode_text
from bllossom.tokenizer.load import load_tokenizer
from bllossom.tokens.mixture import Mixture, MixtureConfig, heldout_blocks
from bllossom.tokens.origins import read_origin
from bllossom.tokens.shards import TokenStream, open_heldout, open_stream, read_index


def read_back(stream: TokenStream) -> list[list[int]]:
    """The documents of a stream as lists of ids."""
    if not stream.tokens:
        return []
    _, ends = stream.document_ends(0, stream.tokens)
    return [part.tolist() for part in np.split(stream.read(0, stream.tokens), ends[:-1])]


def open_source(folder: Path, language: str, name: str) -> TokenStream:
    index = read_index(folder)
    [source] = [source for source in index.sources if (source.language, source.name) == (language, name)]
    return open_stream(folder, index, source)


def texts_of(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf8").splitlines()]


def test_every_document_is_there_once_in_order(make, corpus: dict[str, Path]) -> None:  # type: ignore[no-untyped-def]
    config = make()
    manifest = prepare(config)
    tokenizer = load_tokenizer(config.tokenizer)
    for language, name, path in (("ko", "news", "news"), ("ko", "wiki", "wiki"), ("en", "english", "en")):
        expected = [[1, *encode_text(tokenizer, text), 2] for text in texts_of(corpus[path])]
        kept = [ids for place, ids in enumerate(expected) if not is_heldout(place, 0.05)]
        assert read_back(open_source(config.output, language, name)) == kept
        figures = manifest.figures["sources"][f"{language}/{name}"]
        assert figures["tokens"] == sum(map(len, kept))
        assert figures["documents"] + figures["heldout"]["documents"] == len(expected)
    index = read_index(config.output)
    held = read_back(open_heldout(config.output, index, "ko"))
    held_texts = texts_of(config.output / "heldout" / "ko.jsonl")
    assert held == [[1, *encode_text(tokenizer, text), 2] for text in held_texts]
    assert len(held) == round(0.05 * 300) + round(0.05 * 120)
    assert len(index.sources[0].shards) > 3
    assert verify(config.output) == []
    assert not (config.output / "work").exists()
    assert encode_text(load_tokenizer(config.output / "tokenizer"), "나무") == encode_text(tokenizer, "나무")


def test_shards_do_not_depend_on_how_they_are_cut(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    one = prepare(make(output=tmp_path / "one", shard_bytes=10**9))
    many = prepare(make(output=tmp_path / "many", shard_bytes=3000))
    for language, name in (("ko", "news"), ("en", "english")):
        streams = [open_source(folder, language, name) for folder in (tmp_path / "one", tmp_path / "many")]
        assert read_back(streams[0]) == read_back(streams[1])
    assert one.figures == many.figures


def test_the_same_config_gives_the_same_bytes(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    fingerprints = {prepare(make(output=tmp_path / name)).fingerprint for name in ("one", "two")}
    assert len(fingerprints) == 1


def test_names_that_are_not_utf8_are_only_bytes(make, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    here = tmp_path / os.fsdecode("말뭉치".encode("cp949"))
    here.mkdir()
    rows = [{"id": "\ud800half", "text": f"하나 둘 셋 {number}"} for number in range(20)]
    (here / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.table({"text": ["넷 다섯"] * 9}), tmp_path / "b.parquet")
    (tmp_path / "b.parquet").rename(here / os.fsdecode(b"\xb0\xa1.parquet"))
    monkeypatch.chdir(here)
    config = make(output=tmp_path / "tokens", sources={"ko": ["a.jsonl", "*.parquet"]}, holdout=0.1)
    made = prepare(config)
    assert made.figures["sources"]["ko/a"]["read"]["documents"] == 20
    assert read_origin(config.output, "shards/ko/a/00000", 0).id == "\\ud800half"  # type: ignore[union-attr]
    with pytest.raises(BllossomError, match=r"\\xb8\\xbb.*tokens: a folder on this path .* not UTF-8.*; rename it"):
        prepare(config.model_copy(update={"output": Path("tokens")}))


def test_without_edges_documents_touch(make) -> None:  # type: ignore[no-untyped-def]
    config = make(bos=False, eos=False)
    prepare(config)
    ids = open_source(config.output, "ko", "news").read(0, 2000)
    assert not np.isin(ids, [1, 2]).any()


def test_cleaning_is_counted_and_what_it_dropped_can_be_read(make, tmp_path, write_jsonl) -> None:  # type: ignore[no-untyped-def]
    decomposed = unicodedata.normalize("NFD", "한글 나무")
    texts = ["나무 바다 하늘", "나무\u0000 바다 하늘", "x", "", "sea and sky", decomposed, "사람 도시 마을"]
    path = write_jsonl(tmp_path / "mixed.jsonl", texts)
    clean = {"min_characters": 3, "script": "Hangul", "min_script_ratio": 0.5}
    config = make(sources={"ko": [{"path": str(path), "clean": clean, "licence": "CC0"}]}, holdout=0)
    figures = prepare(config).figures["sources"]["ko/mixed"]
    assert {reason: drop["documents"] for reason, drop in figures["dropped"].items()} == {
        "duplicate": 1,
        "empty": 1,
        "too short": 1,
        "other script": 1,
    }
    assert figures["read"] == {"documents": 7, "bytes": sum(len(text.encode()) for text in texts)}
    assert figures["bytes_cleaned_away"] == len(decomposed.encode()) - len("한글 나무".encode())
    assert figures["documents"] == 3
    assert figures["licence"] == "CC0"
    dropped = [json.loads(line) for line in (config.output / "dropped.jsonl").read_text(encoding="utf8").splitlines()]
    assert {(row["reason"], row["record"], row["text"]) for row in dropped} == {
        ("duplicate", 2, "나무 바다 하늘"),
        ("too short", 3, "x"),
        ("empty", 4, ""),
        ("other script", 5, "sea and sky"),
    }


def test_duplicates_are_dropped_across_sources_and_held_out_text_first(make, tmp_path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    texts = documents("ko", 60, 7)
    train = write_jsonl(tmp_path / "train.jsonl", texts[:50])
    more = write_jsonl(tmp_path / "more.jsonl", [*texts[30:50], "하나뿐인 글"])
    held = write_jsonl(tmp_path / "held.jsonl", texts[45:60])
    sources = {"ko": [{"path": str(train), "holdout_path": str(held)}, {"path": str(more), "holdout": 0}]}
    config = make(sources=sources)
    figures = prepare(config).figures["sources"]
    assert figures["ko/train"]["documents"] == 45
    assert figures["ko/train"]["dropped"]["duplicate"]["documents"] == 5
    assert figures["ko/train"]["heldout"]["documents"] == 15
    assert figures["ko/more"]["documents"] == 1
    assert texts_of(config.output / "heldout" / "ko.jsonl") == texts[45:60]
    kept = prepare(make(sources=sources, deduplicate=False, output=tmp_path / "kept")).figures["sources"]
    assert (kept["ko/train"]["documents"], kept["ko/more"]["documents"]) == (50, 21)


def test_near_duplicates_and_test_rows_are_dropped(make, tmp_path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    texts = [" ".join(documents("ko", 8, seed)) for seed in range(20)]
    tests = write_jsonl(tmp_path / "task_test.jsonl", [texts[3][:200]])
    path = write_jsonl(tmp_path / "near.jsonl", [*texts, texts[5] + " 끝.", texts[6]])
    config = make(
        sources={"ko": [str(path)]},
        near_duplicates={"threshold": 0.8},
        decontaminate={"paths": [str(tests)]},
    )
    figures = prepare(config).figures["sources"]["ko/near"]
    assert {reason: drop["documents"] for reason, drop in figures["dropped"].items()} == {
        "contaminated": 1,
        "duplicate": 1,
        "near duplicate": 1,
    }
    dropped = [json.loads(line) for line in (config.output / "dropped.jsonl").read_text(encoding="utf8").splitlines()]
    assert [(row["record"], row["detail"]) for row in dropped if row["reason"] == "contaminated"] == [
        (4, "task_test.jsonl:1 text")
    ]


def test_the_unigram_figure_is_the_held_out_texts_code_length(make) -> None:  # type: ignore[no-untyped-def]
    config = make()
    manifest = prepare(config)
    index = read_index(config.output)
    train = [token for ids in read_back(open_source(config.output, "en", "english")) for token in ids if token != 1]
    held = [token for ids in read_back(open_heldout(config.output, index, "en")) for token in ids if token != 1]
    counts = {token: train.count(token) for token in set(held)}
    bits = -sum(math.log2((counts[token] + 1) / (len(train) + index.pieces - 1)) for token in held)
    text = sum(len(text.encode()) for text in texts_of(config.output / "heldout" / "en.jsonl"))
    assert manifest.figures["unigram_bits_per_byte"]["en"] == pytest.approx(bits / text)
    assert heldout_blocks(config.output, "en", 32).bytes == text


def test_a_mixture_reads_what_prepare_wrote(make) -> None:  # type: ignore[no-untyped-def]
    config = make()
    prepare(config)
    mixture = Mixture.open(config.output, MixtureConfig(weights={"ko": 7, "en": 3}), 32, 0)
    plan = mixture.plan(mixture.longest())
    text = {row.language: row.bytes for row in plan.languages}
    assert text["ko"] / (text["ko"] + text["en"]) == pytest.approx(0.7, abs=0.005)
    assert mixture.block(0).positions[0] == 0


RUN = "import sys; from pathlib import Path; from bllossom.corpus.prepare import *; \
prepare(PrepareConfig.model_validate_json(Path(sys.argv[1]).read_text()))"


@pytest.mark.parametrize(("kill", "stops"), [(signal.SIGKILL, (1, 12)), (signal.SIGINT, (12,))])
def test_a_killed_run_goes_on_to_the_same_bytes(make, tmp_path: Path, kill: signal.Signals, stops: Any) -> None:  # type: ignore[no-untyped-def]
    whole = prepare(make(output=tmp_path / "whole", shard_bytes=500, near_duplicates={"threshold": 0.9}))
    config = make(shard_bytes=500, near_duplicates={"threshold": 0.9})
    (tmp_path / "config.json").write_text(config.model_dump_json())
    command = [sys.executable, "-c", RUN, str(tmp_path / "config.json")]
    environment = os.environ | {"PYTHONPATH": str(Path(stage.__file__).parents[2])}
    for marks in stops:
        # A shell starts what it runs in the background deaf to Ctrl-C, and children inherit that.
        hearing = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, preexec_fn=hearing)
        while len(list(tmp_path.glob("tokens.partial-*/work/*.mark.json"))) < marks:
            assert process.poll() is None
            time.sleep(0.001)
        process.send_signal(kill)
        assert process.wait() != 0
        assert not config.output.exists()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("tokens.partial-*/shards/**/*.tokens")}
    assert len(before) >= 12
    manifest = prepare(config)
    assert manifest.fingerprint == whole.fingerprint
    assert manifest.figures == whole.figures
    # What was finished before the kill was not made again.
    after = {
        path.relative_to(config.output): path.stat().st_mtime_ns for path in config.output.glob("shards/**/*.tokens")
    }
    kept = [after[Path(*path.relative_to(tmp_path).parts[1:])] == time_ns for path, time_ns in before.items()]
    assert sum(kept) >= 12


def test_every_source_gets_a_name_of_its_own(make, tmp_path: Path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    paths = [tmp_path / folder / f"{name}.jsonl" for folder, name in (("x", "a"), ("y", "a"), ("z", "a-1"))]
    for seed, path in enumerate(paths):
        path.parent.mkdir()
        write_jsonl(path, documents("ko", 20, seed))
    config = make(sources={"ko": [str(path) for path in paths]}, holdout=0)
    assert prepare(config).figures["documents"] == 60
    names = [source.name for source in read_index(config.output).sources]
    assert sorted(names) == ["a-1", "a-2", "a-3"]
    assert names[2] == "a-1"


@pytest.mark.parametrize("sources", [{"../evil": ["{}"]}, {"": ["{}"]}, {"ko": [{"path": "{}", "name": ".."}]}])
def test_names_cannot_lead_out_of_the_output(make, corpus: dict[str, Path], sources: dict[str, Any]) -> None:  # type: ignore[no-untyped-def]
    text = json.dumps(sources).replace("{}", str(corpus["news"]))
    with pytest.raises(ValidationError, match="String should match pattern"):
        make(sources=json.loads(text))


def test_a_kill_while_tidying_up_costs_nothing(make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    whole = prepare(make(output=tmp_path / "whole"))

    def killed(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(make())
    assert prepare(make()).fingerprint == whole.fingerprint


def test_a_broken_record_stops_or_is_skipped_within_the_limit(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.jsonl"
    good = "".join(json.dumps({"text": f"나무 {i}"}, ensure_ascii=False) + "\n" for i in range(30)).encode()
    path.write_bytes(
        good + b'{"text": "\xff"}\n{"text": 1\n' + good.replace(b"}", b', "x": 1}').replace(b"\xeb", b"\xec")
    )
    sources = {"ko": [str(path)]}
    with pytest.raises(
        BllossomError, match=r"broken\.jsonl:31: byte 11 of the record is not UTF-8; .* or set on_error: skip"
    ):
        prepare(make(sources=sources))
    with pytest.raises(
        BllossomError, match=r"more than 1 broken records, now .*broken\.jsonl:32: is not JSON .*max_errors"
    ):
        prepare(make(sources=sources, on_error="skip", max_errors=1))
    config = make(sources=sources, on_error="skip", max_errors=2, holdout=0)
    figures = prepare(config).figures["sources"]["ko/broken"]
    assert (figures["broken_records"], figures["documents"]) == (2, 60)
    dropped = [json.loads(line) for line in (config.output / "dropped.jsonl").read_text(encoding="utf8").splitlines()]
    assert [(row["reason"], row["record"]) for row in dropped] == [("broken", 31), ("broken", 32)]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstandard.compress)])
def test_a_compressed_file_cut_in_half_is_one_broken_record(make, tmp_path: Path, suffix: str, pack: Any) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text").mkdir()
    path = tmp_path / "text" / f"a.jsonl{suffix}"
    whole = pack("".join(json.dumps({"text": f"tree {i} {i * i}"}) + "\n" for i in range(3000)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text" / "b.jsonl").write_text('{"text": "after it"}\n')
    sources = {"en": [str(tmp_path / "text")]}
    told = rf"a\.jsonl{suffix}:\d+: the compressed file is damaged or cut short from here on"
    assert any(re.match(rf"broken: .*{told}", line) for line in dry_run(make(sources=sources)))
    with pytest.raises(BllossomError, match=rf"{told} .*, or set on_error: skip"):
        prepare(make(sources=sources))
    config = make(sources=sources, on_error="skip", holdout=0)
    figures = prepare(config).figures["sources"]["en/text"]
    readable = [text for record in read_records(path) for text in record.texts]
    assert (figures["broken_records"], figures["documents"]) == (1, len(readable) + 1)


@pytest.mark.parametrize("damage", ["nothing", "cut footer", "page"])
def test_a_damaged_parquet_file_is_one_broken_record(make, tmp_path: Path, damage: str) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "text").mkdir()
    path = tmp_path / "text" / "a.parquet"
    texts = pyarrow.table({"text": [f"tree {i} {i * i}" for i in range(900)]})
    pyarrow.parquet.write_table(texts, path, row_group_size=300, use_dictionary=False)
    whole = path.read_bytes()
    page = len(whole) // 2
    flipped = whole[:page] + b"\xff" * 40 + whole[page + 40 :]
    path.write_bytes({"nothing": b"", "cut footer": whole[:-30], "page": flipped}[damage])
    (tmp_path / "text" / "b.jsonl").write_text('{"text": "after it"}\n')
    sources = {"en": [str(tmp_path / "text")]}
    with pytest.raises(BllossomError, match=r"a\.parquet:\d+: .* get (it|the file) anew, or set on_error: skip"):
        prepare(make(sources=sources))
    config = make(sources=sources, on_error="skip", holdout=0, shard_bytes=1000)
    figures = prepare(config).figures["sources"]["en/text"]
    readable = [text for record in read_records(path) for text in record.texts]
    assert (figures["broken_records"], figures["documents"]) == (1, len(readable) + 1)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (b"", {}, "ko/a holds no text; leave the source out, or name another path"),
        (b'{"text": " "}\n', {}, "ko/a: every document was dropped (empty); change its cleaning, or leave it out"),
        (
            b"nonsense\n",
            {"on_error": "skip"},
            "ko/a holds no record that can be read, first {path}:1: is not JSON (Expecting value at column 1); repair "
            "it, or leave the source out, or name another path",
        ),
    ],
)
def test_a_source_without_text_is_told(make, tmp_path: Path, text: bytes, changes: Any, message: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.jsonl"
    path.write_bytes(text)
    with pytest.raises(BllossomError) as told:
        prepare(make(sources={"ko": [str(path)]}, **changes))
    assert str(told.value) == message.format(path=path)


def test_all_that_samples_show_to_be_broken_or_empty_is_told_before_anything_is_tokenised(
    make, tmp_path, corpus
) -> None:  # type: ignore[no-untyped-def]
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(b"")
    lacking = {"path": str(corpus["en"]), "field": "body"}
    sources = {"ko": [str(corpus["news"]), {"path": str(corpus["wiki"]), "holdout_path": str(empty)}], "en": [lacking]}
    with pytest.raises(BllossomError) as told:
        prepare(make(sources=sources))
    assert str(told.value).splitlines() == [
        "ko/wiki: its holdout_path holds no text; name another path, or set holdout in its place",
        f"{corpus['en']}:1: no field 'body'; there are: text; set field to one of them, or set on_error: skip",
    ]
    assert not list(tmp_path.glob("tokens.partial-*/shards"))


def test_a_source_with_nothing_left_to_train_on_is_told_what_to_change(make, tmp_path, write_jsonl, documents) -> None:  # type: ignore[no-untyped-def]
    texts = documents("ko", 30, 7)
    path = str(write_jsonl(tmp_path / "a.jsonl", texts))
    other = str(write_jsonl(tmp_path / "b.jsonl", ["나무", *[text for text in texts if len(text) > 60]]))
    held = str(write_jsonl(tmp_path / "held.jsonl", ["짧다"]))
    cases: list[tuple[Any, Any, str]] = [
        ([path], {"holdout": 0.999}, "ko/a: all 30 documents are held out; lower holdout, or leave the source out"),
        (
            [{"path": path, "holdout_path": path}],
            {},
            "ko/a: every document was dropped (duplicate); name a holdout_path with other text, or leave it out",
        ),
        (
            [path, {"path": path, "name": "again"}],
            {},
            "ko/again: every document was dropped (duplicate); set deduplicate: false to keep what came before it too, "
            "or leave it out",
        ),
        (
            [other],
            {"decontaminate": {"paths": [other]}, "clean": {"min_characters": 3}},
            "ko/b: every document was dropped (contaminated, too short); raise decontaminate.overlap, or take the "
            "tests it is made of out of decontaminate.paths, change its cleaning, or leave it out",
        ),
        (
            [{"path": path, "holdout_path": held, "clean": {"min_characters": 10**6}}],
            {},
            "ko/a: every document was dropped (too short); change its cleaning, or leave it out",
        ),
    ]
    for sources, changes, message in cases:
        with pytest.raises(BllossomError) as told:
            prepare(make(sources={"ko": sources}, output=tmp_path / "none", **changes))
        assert str(told.value) == message
        assert not (tmp_path / "none").exists()


def test_a_language_without_held_out_text_is_told_what_to_change(
    make, tmp_path, write_jsonl, documents, capsys
) -> None:  # type: ignore[no-untyped-def]
    path = str(write_jsonl(tmp_path / "a.jsonl", documents("ko", 30, 7)))
    held = str(write_jsonl(tmp_path / "held.jsonl", [" "]))
    cases = (({}, "raise holdout"), ({"holdout_path": held}, "name a holdout_path of which something is kept"))
    for source, advice in cases:
        prepare(make(sources={"ko": [{"path": path, **source}]}, holdout=0, output=tmp_path / advice))
        assert f"ko: no document is held out; {advice}, or" in capsys.readouterr().err


def test_all_missing_sources_are_told_at_once(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sources = {"ko": [str(tmp_path / "no.jsonl")], "en": [str(tmp_path / "*.gz")]}
    with pytest.raises(ConfigError) as told:
        prepare(make(sources=sources))
    assert [problem.split(";")[0] for problem in told.value.problems] == [
        f"sources.ko: no such file: {tmp_path}/no.jsonl",
        f"sources.en: no such file: {tmp_path}/*.gz",
    ]


def test_a_disk_too_small_is_told_before_anything_is_written(make, tmp_path, write_jsonl, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    # No piece has any of these syllables: a token a byte.
    texts = ["".join(chr(0xAC00 + (97 * (number + place)) % 11_000) for place in range(150)) for number in range(200)]
    path = write_jsonl(tmp_path / "rare.jsonl", texts)
    build = partial(make, sources={"ko": [str(path)]}, shard_bytes=10**8)
    prepare(build(output=tmp_path / "before", holdout=0))
    written = sum(file.stat().st_size for file in (tmp_path / "before/shards").rglob("*") if file.is_file())

    def free(share: float) -> None:
        monkeypatch.setattr(stage.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(share * written)))

    free(0.95)
    with pytest.raises(
        BllossomError, match=r"the tokens need about \S+ kB more, and .* has \S+ kB free; make some room, or choose"
    ):
        prepare(build(holdout=0))
    assert not list(tmp_path.glob("tokens.partial-*/shards"))
    free(1.1)
    with pytest.raises(BllossomError, match="the tokens need about"):
        prepare(build(holdout=0.5, output=tmp_path / "half"))
    assert prepare(build(holdout=0)).figures["tokens"] > 80_000


def test_a_tokenizer_that_lacks_a_special_token_is_told(make, tmp_path: Path, tokenizer_folder: Path) -> None:  # type: ignore[no-untyped-def]
    tokenizer = load_tokenizer(tokenizer_folder)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path / "no-eos")
    with pytest.raises(ConfigError, match="the tokenizer has no eos token; set eos: false, or take another tokenizer"):
        prepare(make(tokenizer=str(tmp_path / "no-eos")))


def test_ids_beyond_the_number_of_pieces_are_written_whole(make, tmp_path: Path, tokenizer_folder: Path) -> None:  # type: ignore[no-untyped-def]
    settings = json.loads(load_tokenizer(tokenizer_folder).backend_tokenizer.to_str())
    settings["model"]["vocab"]["▁나무"] = 70_000
    backend = type(load_tokenizer(tokenizer_folder).backend_tokenizer).from_str(json.dumps(settings))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(tmp_path / "gap")
    config = make(tokenizer=str(tmp_path / "gap"))
    prepare(config)
    index = read_index(config.output)
    assert (index.dtype, index.pieces) == ("uint32", 70_001)
    assert 70_000 in open_source(config.output, "ko", "news").read(0, 5000)


def test_sources_in_yaml_are_paths_or_mappings(tmp_path: Path, corpus: dict[str, Path], tokenizer_folder: Path) -> None:
    path = tmp_path / "prepare.yaml"
    path.write_text(
        f"tokenizer: {tokenizer_folder}\noutput: {tmp_path / 'out'}\n"
        f"sources:\n  ko:\n    - {corpus['news']}\n    - {{path: {corpus['wiki']}, feild: body}}\n"
    )
    with pytest.raises(ConfigError, match=r"prepare\.yaml:6: .*feild: unknown key \(did you mean field\?\)"):
        load_config(PrepareConfig, path)
    path.write_text(path.read_text().replace("feild: body", "name: encyclopedia"))
    config = load_config(PrepareConfig, path).config
    assert [source.name for source in config.sources["ko"]] == ["", "encyclopedia"]


def test_names_that_collide_are_numbered(make, tmp_path: Path, write_jsonl) -> None:  # type: ignore[no-untyped-def]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "text.jsonl", [f"{folder} 나무 {i}" for i in range(5)])
    config = make(sources={"ko": [str(tmp_path / folder / "text.jsonl") for folder in ("a", "b")]}, holdout=0)
    assert set(prepare(config).figures["sources"]) == {"ko/text-1", "ko/text-2"}


def test_two_sources_of_one_name_are_refused(make, corpus: dict[str, Path]) -> None:  # type: ignore[no-untyped-def]
    sources = {"ko": [{"path": str(corpus["news"]), "name": "wiki"}, str(corpus["wiki"])]}
    with pytest.raises(ConfigError, match=r"sources\.ko: two sources are called wiki; give each a name of its own"):
        prepare(make(sources=sources))


@pytest.mark.parametrize(("text", "read"), [("", 200), ("x", 200), ("x" * 10_000, 26)])
def test_the_encoders_sample_is_the_beginning_of_a_source(
    tmp_path: Path, write_jsonl, monkeypatch, text: str, read: int
) -> None:  # type: ignore[no-untyped-def]
    path = write_jsonl(tmp_path / "a.jsonl", [text] * 1000)
    numbers = []

    def watched(*arguments: Any, **settings: Any) -> Iterator[RawRecord]:
        for record in read_records(*arguments, **settings):
            numbers.append(record.number)
            yield record

    monkeypatch.setattr(readings, "read_records", watched)
    reading = readings.Reading("ko", "a", [path], ReadOptions(), CleaningConfig(), 0)
    assert readings.first_documents(reading) == [text.encode()] * read
    assert numbers == list(range(1, read + 1))


def test_a_dry_run_tells_a_field_that_is_not_there(make) -> None:  # type: ignore[no-untyped-def]
    config = make()
    sources = {"ko": [{"path": config.sources["ko"][0].path, "field": "body"}]}
    assert dry_run(make(sources=sources))[-1] == (
        f"broken: {config.sources['ko'][0].path}:1: no field 'body'; there are: text; set field to one of them"
    )


def test_a_dry_run_estimates_what_comes(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = make()
    lines = dry_run(config)
    figures = prepare(config).figures
    for name, source in figures["sources"].items():
        [line] = [line for line in lines if line.startswith(name)]
        read = source["read"]["documents"]
        assert f" {read:,} " in line
        assert f" {source['tokens'] + source['heldout']['tokens']:,} " in line
    assert lines[-1].startswith("exact deduplication: up to 40 bytes of memory a document")


def test_a_dry_run_lists_what_is_not_here(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    lines = dry_run(
        make(tokenizer=str(tmp_path / "vocab"), sources={"ko": [str(tmp_path / "a.jsonl"), "owner/corpus"]})
    )
    assert lines == [
        f"ko/a: {tmp_path}/a.jsonl is not here yet",
        "ko/corpus: owner/corpus is not here yet",
        f"tokenizer {tmp_path}/vocab is not here yet: tokens, time and disk cannot be estimated",
    ]


def test_verify_finds_a_changed_shard(make) -> None:  # type: ignore[no-untyped-def]
    config = make()
    prepare(config)
    shard = config.output / "shards/ko/news/00000.tokens"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert [problem.split(":")[0] for problem in verify(config.output)] == ["shards/ko/news/00000.tokens"]
    assert read_manifest(config.output) is not None


@pytest.mark.real_data
def test_real_text_keeps_the_asked_ratio(shared, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    config = PrepareConfig.model_validate(
        {
            "tokenizer": str(shared("tokenizers/llama2/tokenizer.model")),
            "sources": {
                "ko": [str(shared("corpus/ko/tensorflow_docs_ko.jsonl.zst"))],
                "en": [str(shared("corpus/en/wikitext2_valid_test.jsonl.zst"))],
            },
            "output": tmp_path / "tokens",
        }
    )
    figures = prepare(config).figures
    assert figures["encoders"] == ["gigatoken"]
    assert (config.output / "tokenizer/tokenizer.model").read_bytes() == Path(config.tokenizer).read_bytes()
    tokenizer = load_tokenizer(config.output / "tokenizer")
    mixture = Mixture.open(config.output, MixtureConfig(weights={"ko": 7, "en": 3}), 512, 0)
    text = {"ko": 0, "en": 0}
    for index in range(600):
        block = mixture.block(index)
        text[block.language] += len(tokenizer.decode(block.ids, skip_special_tokens=True).encode())
    assert text["ko"] / (text["ko"] + text["en"]) == pytest.approx(0.7, abs=0.02)
