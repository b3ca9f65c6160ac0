"""vLLM's backend: its requests, and what it reads of the answers, on a stand-in for the package, which needs GPUs."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from bllossom.errors import BllossomError
from bllossom.evaluation.harness import EvalConfig, evaluate
from bllossom.evaluation.scoring import vllm_backend
from tests.evaluation.test_harness import GENERATING, samples
from tests.fixtures import stand_in_vllm


@pytest.fixture
def given(byte_level: Path, made_up: Path, tmp_path: Path) -> dict[str, object]:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/sums.yaml").write_text(GENERATING, encoding="utf8")
    (made_up / "sums").mkdir()
    lines = [json.dumps({"question": f"{n} + {n}", "answer": str(2 * n)}) + "\n" for n in range(5)]
    (made_up / "sums/test.jsonl").write_text("".join(lines), encoding="utf8")
    texts = ["서울은 한국의 수도이다.", "강은 바다로 흐른다. " * 20]
    lines = [json.dumps({"text": text}) + "\n" for text in texts]
    (made_up / "ko.jsonl").write_text("".join(lines), encoding="utf8")
    tasks = ["table6", str(tmp_path / "tasks")]
    heldout = {"ko": made_up / "ko.jsonl"}
    return {"model": str(byte_level), "data": made_up, "tasks": tasks, "heldout": heldout, "limit": 3}


def test_without_vllm_it_is_told_before_anything_is_read(given: dict[str, object], tmp_path: Path) -> None:
    if importlib.util.find_spec("vllm") is not None:
        pytest.skip("vLLM is installed here")
    with pytest.raises(BllossomError, match=r"vllm is not installed here .*pip install 'bllossom\[vllm\]'"):
        evaluate(EvalConfig(output=tmp_path / "out", **given | {"data": tmp_path / "absent"}, backend="vllm"))


def test_without_a_gpu_it_is_refused(given: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", stand_in_vllm)
    with pytest.raises(BllossomError, match="vllm needs a GPU"):
        evaluate(EvalConfig(output=tmp_path / "out", **given, backend="vllm", gpus=0))


def test_its_numbers_are_those_of_transformers(
    given: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(EvalConfig(output=tmp_path / "ours", **given, gpus=0))
    monkeypatch.setitem(sys.modules, "vllm", stand_in_vllm)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(vllm_backend, "AT_ONCE", 5)
    figures = evaluate(EvalConfig(output=tmp_path / "theirs", **given, backend="vllm")).figures
    assert (figures["backend"], figures["dtype"]) == ("vllm", "float32")
    for task in figures["tasks"]:
        both = [samples(tmp_path / side, task) for side in ("ours", "theirs")]
        for mine, other in zip(*both, strict=True):
            if task == "sums":
                assert mine["resps"] == other["resps"]
                continue
            assert mine["arguments"] == other["arguments"]
            found = [[(float(nats), greedy) for nats, greedy in sample["filtered_resps"]] for sample in (mine, other)]
            for (nats, greedy), (expected, likeliest) in zip(*found, strict=True):
                assert nats == pytest.approx(expected, abs=1e-4)
                assert greedy == likeliest
    mine, other = (samples(tmp_path / side, "heldout_ko") for side in ("ours", "theirs"))
    assert mine[0]["bits"] == pytest.approx(other[0]["bits"], abs=1e-3)
    assert [sample["tokens"] for sample in mine] == [sample["tokens"] for sample in other]
    # A document of several windows has other windows there, of two tokens less.
    assert mine[1]["bits"] == pytest.approx(other[1]["bits"], rel=0.01)
    assert mine[1]["bits"] != pytest.approx(other[1]["bits"], rel=1e-6)
