import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, safe_open, save_file

from bllossom.errors import BllossomError
from bllossom.model.safetensors import Growth, Rows, read_shard, rewrite

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool]


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    save_file(tensors, path, metadata={"format": "pt"})
    return path


shapes = st.lists(st.integers(1, 9), min_size=0, max_size=3)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stored=st.lists(st.tuples(st.sampled_from(DTYPES), shapes), min_size=1, max_size=6),
    converted=st.sampled_from([None, "F32", "F16", "BF16"]),
)
def test_rewrite_equals_torch_for_any_mix_of_tensors(tmp_path: Path, stored: list, converted: str | None) -> None:
    tensors = {f"t{i}.한": (torch.randn(shape) * 4).to(dtype) for i, (dtype, shape) in enumerate(stored)}
    source = read_shard(save(tmp_path / "a.safetensors", tensors))
    rewrite(source, tmp_path / "b.safetensors", {}, converted)
    found = load_file(tmp_path / "b.safetensors")
    names = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        convertible = converted is not None and tensor.dtype in names.values()
        expected = tensor.to(names[converted]) if convertible else tensor
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected)
    with safe_open(tmp_path / "b.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_growth_keeps_the_first_rows_and_moves_the_tensors_behind(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(7, 6).bfloat16(), "b": torch.randn(5, 3).bfloat16(), "c": torch.randn(4)}
    new = torch.randn(6, 6)
    growth = Growth(5, 11, lambda: iter(new.split(4)))
    rewrite(read_shard(save(tmp_path / "a.safetensors", tensors)), tmp_path / "b.safetensors", {"a": growth})
    found = load_file(tmp_path / "b.safetensors")
    assert torch.equal(found["a"], torch.cat([tensors["a"][:5], new.bfloat16()]))
    assert torch.equal(found["b"], tensors["b"])
    assert torch.equal(found["c"], tensors["c"])


def test_a_file_system_without_sendfile_gets_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = read_shard(save(tmp_path / "a.safetensors", {"big": torch.randn(700_001), "small": torch.randn(3)}))
    rewrite(source, tmp_path / "b.safetensors", {})

    def refuse(*_: int) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", refuse)
    rewrite(source, tmp_path / "c.safetensors", {})
    assert (tmp_path / "c.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_rows_are_read_in_blocks_and_by_id(tmp_path: Path) -> None:
    matrix = torch.randn(10, 4).half()
    shard = read_shard(save(tmp_path / "a.safetensors", {"x": torch.randn(3), "m": matrix}))
    rows = Rows(shard.path, shard.tensor("m"), 9)
    assert [len(block) for block in rows.blocks(4)] == [4, 4, 1]
    assert torch.equal(torch.cat([block.clone() for block in rows.blocks(4)]), matrix[:9].float())
    assert torch.equal(rows.gather([8, 0, 8]), matrix[[8, 0, 8]].float())


def test_values_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    shard = read_shard(save(tmp_path / "a.safetensors", {"x": torch.tensor([1.0, 70_000.0])}))
    with pytest.raises(BllossomError, match=r"x holds values beyond float16's 65,504; choose dtype: bfloat16"):
        rewrite(shard, tmp_path / "b.safetensors", {}, "F16")


@pytest.mark.parametrize("cut", [1, 100, 2000])
def test_a_truncated_file_is_named(tmp_path: Path, cut: int) -> None:
    path = save(tmp_path / "model-00002-of-00003.safetensors", {"x": torch.randn(500)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with pytest.raises(BllossomError, match=r"model-00002-of-00003\.safetensors .*cut short.*again"):
        read_shard(path)


def test_what_is_no_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for content in (b"", b"version https://git-lfs.github.com/spec/v1\n", (2).to_bytes(8, "little") + b"[]"):
        path.write_bytes(content)
        with pytest.raises(BllossomError, match=r"model.safetensors .*(not a safetensors file|damaged)"):
            read_shard(path)
    with pytest.raises(BllossomError, match=r"other.safetensors is missing"):
        read_shard(tmp_path / "other.safetensors")


def test_an_empty_tensor_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", {"x": torch.randn(2), "model.embed_tokens.weight": torch.empty(0)})
    with pytest.raises(BllossomError, match=r"embed_tokens.weight is empty.*ZeRO-3.*save the model again"):
        read_shard(path)
