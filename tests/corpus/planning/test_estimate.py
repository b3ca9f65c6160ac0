import gzip
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.planning.estimate import estimate_reading
from bllossom.corpus.readings import Reading
from bllossom.text.sources import ReadOptions, read_records


@pytest.mark.parametrize(
    "name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.parquet.gz", "a.parquet.zst", "a.txt"]
)
def test_a_sample_is_scaled_up_to_the_file(tmp_path: Path, documents: Callable[..., list[str]], name: str) -> None:
    texts = documents("ko", 3200, words=400)
    size = sum(len(text.encode()) for text in texts)
    path = tmp_path / name
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    if name.startswith("a.parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=500)
        path.write_bytes(pack(path.read_bytes()))
    elif name == "a.txt":
        path.write_text("\n\n".join(texts), encoding="utf8")
    else:
        path.write_bytes(pack(lines))
    estimate = estimate_reading(Reading("ko", "a", [path], ReadOptions(), CleaningConfig(), 0), None, 2, size // 3)
    assert not estimate.exact
    assert estimate.text_bytes == pytest.approx(size, rel=0.1)
    assert estimate.documents == pytest.approx(len(texts), rel=0.1)


def test_an_archive_of_tables_is_estimated(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), tmp_path / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a", "a.of-no-known-ending")
    options = ReadOptions(format="parquet")
    estimate = estimate_reading(Reading("ko", "a", [tmp_path / "a.zip"], options, CleaningConfig(), 0), None, 2)
    assert (estimate.documents, estimate.exact, estimate.broken) == (2, True, "")


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage", "garbage behind"])
def test_a_damaged_compressed_file_is_estimated_up_to_the_damage(tmp_path: Path, suffix: str, damage: str) -> None:
    lines = "".join(json.dumps({"text": f"document {i} {i * i}"}) + "\n" for i in range(3000)).encode()
    whole = {".gz": gzip.compress, ".zst": zstandard.compress}[suffix](lines)
    half = len(whole) // 2
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(
        {
            "cut": whole[:half],
            "flipped": whole[:half] + bytes(byte ^ 0xFF for byte in whole[half : half + 40]) + whole[half + 40 :],
            "garbage": b"garbage " * 50,
            "garbage behind": whole + b"garbage",
        }[damage]
    )
    records = list(read_records(path))
    estimate = estimate_reading(Reading("ko", "a", [path], ReadOptions(), CleaningConfig(), 0), None, 2)
    assert estimate.documents == sum(len(record.texts) for record in records)
    assert estimate.documents == 3000 if damage == "garbage behind" else estimate.documents < 3000
    [first, *_] = [record for record in records if record.errors]
    assert estimate.broken == f"{path}:{first.number}: {first.errors[0]}"
    assert "the compressed file is damaged or cut short from here on" in records[-1].errors[0]


@pytest.mark.parametrize("damage", ["nothing", "garbage", "cut footer", "page"])
def test_a_damaged_parquet_file_is_told(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.parquet"
    texts = pyarrow.table({"text": [f"document {i} {i * i}" for i in range(900)]})
    pyarrow.parquet.write_table(texts, path, row_group_size=300, use_dictionary=False)
    whole = path.read_bytes()
    page = len(whole) // 2
    path.write_bytes(
        {
            "nothing": b"",
            "garbage": b"garbage " * 40,
            "cut footer": whole[:-30],
            "page": whole[:page] + b"\xff" * 40 + whole[page + 40 :],
        }[damage]
    )
    estimate = estimate_reading(Reading("ko", "a", [path], ReadOptions(), CleaningConfig(), 0), None, 2)
    records = list(read_records(path))
    [broken] = [record for record in records if record.errors]
    assert estimate.documents == len(records) - 1
    assert estimate.broken == f"{path}:{broken.number}: {broken.errors[0]}"
