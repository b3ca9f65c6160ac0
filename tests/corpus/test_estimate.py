import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from bllossom.corpus.clean import CleaningConfig
from bllossom.corpus.estimate import estimate_reading
from bllossom.corpus.slices import Reading


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.txt"])
def test_a_sample_is_scaled_up_to_the_file(tmp_path: Path, documents: Callable[..., list[str]], name: str) -> None:
    texts = documents("ko", 3200, words=400)
    size = sum(len(text.encode()) for text in texts)
    path = tmp_path / name
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    if name == "a.parquet":
        pyarrow.parquet.write_table(pyarrow.table({"text": texts}), path, row_group_size=500)
    elif name == "a.txt":
        path.write_text("\n\n".join(texts), encoding="utf8")
    else:
        pack = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
        path.write_bytes(pack(lines))
    estimate = estimate_reading(
        Reading("ko", "a", [path], "text", "blank-line", CleaningConfig(), 0), None, 2, size // 3
    )
    assert not estimate.exact
    assert estimate.text_bytes == pytest.approx(size, rel=0.1)
    assert estimate.documents == pytest.approx(len(texts), rel=0.1)
