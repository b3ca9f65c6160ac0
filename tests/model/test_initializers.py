from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bllossom.model.initializers import INITIALIZERS, NOISE, OldMatrix, commonest_first, in_another_order, initialize
from bllossom.model.safetensors import Rows, read_shard

SPELLINGS = [[3], [3, 4], [4, 3], [5, 6, 7], [7, 6, 5], [9]] + [[i % 50, i % 7, i % 11] for i in range(400)]


def matrix_of(path: Path, values: torch.Tensor, count: int | None = None) -> OldMatrix:
    save_file({"m": values}, path / "m.safetensors")
    shard = read_shard(path / "m.safetensors")
    return OldMatrix(Rows(shard.path, shard.tensor("m"), count or len(values)), initializer_range=0.05)


def rows_of(
    method: str, old: OldMatrix, spellings: list[list[int]], seed: int = 0, side: str = "input"
) -> torch.Tensor:
    return torch.cat(list(initialize(method, old, spellings, seed=seed, side=side)))  # type: ignore[arg-type]


@pytest.fixture
def old(tmp_path: Path) -> OldMatrix:
    torch.manual_seed(1)
    return matrix_of(tmp_path, torch.randn(60, 24) * torch.rand(60, 1) + 0.3)


def test_random_has_the_configs_standard_deviation(old: OldMatrix) -> None:
    rows = rows_of("random", old, SPELLINGS)
    assert rows.shape == (406, 24)
    assert rows.std().item() == pytest.approx(0.05, rel=0.05)
    assert rows.mean().item() == pytest.approx(0, abs=0.005)


def test_mean_looks_at_the_trained_rows_only(tmp_path: Path) -> None:
    values = torch.randn(300, 8)
    values[290:] = 1000.0  # padding of the base
    rows = rows_of("mean", matrix_of(tmp_path, values, count=290), SPELLINGS)
    assert torch.allclose(rows, values[:290].mean(0).expand(406, -1), atol=1e-6)


def test_normal_has_the_old_rows_mean_and_covariance(tmp_path: Path) -> None:
    torch.manual_seed(2)
    values = torch.randn(3000, 6) @ torch.randn(6, 6) + torch.arange(6.0)
    rows = rows_of("normal", matrix_of(tmp_path, values), [[0]] * 20_000)
    wanted = values.T.cov()
    assert torch.allclose(rows.mean(0), values.mean(0), atol=0.1)
    assert (rows.T.cov() - wanted).norm() < 0.05 * wanted.norm()


def test_subword_mean_points_where_the_mean_points_at_the_rows_own_length(old: OldMatrix) -> None:
    rows = rows_of("subword-mean", old, SPELLINGS)
    for row, spelling in zip(rows, SPELLINGS, strict=True):
        parts = old.rows.gather(spelling)
        assert torch.cosine_similarity(row, parts.mean(0), dim=0) > 0.999
        assert row.norm().item() == pytest.approx(parts.norm(dim=1).mean().item(), rel=3 * NOISE)


def test_subword_mean_gives_no_two_equal_rows_in_bfloat16(old: OldMatrix) -> None:
    same = [[5, 6, 7]] * 700
    assert len(rows_of("subword-mean", old, same).bfloat16().unique(dim=0)) == 700


def test_subword_first_copies(old: OldMatrix) -> None:
    rows = rows_of("subword-first", old, SPELLINGS)
    assert torch.equal(rows, old.rows.gather([spelling[0] for spelling in SPELLINGS]))


def test_commonest_first_counts_the_pieces() -> None:
    assert commonest_first([[4, 1], [4], [2, 4], [4, 4]]) == (4, 0.75)


def test_pieces_of_the_same_ids_are_counted_and_begin_alike() -> None:
    spellings = [[1, 2, 3], [3, 2, 1], [2, 3], [1, 2, 2], [2, 1, 2], [2, 1, 3], [2, 3, 2, 3]]
    assert in_another_order(spellings) == 4


@pytest.mark.parametrize("method", INITIALIZERS)
def test_rows_of_zeros_do_not_become_nan(tmp_path: Path, method: str) -> None:
    rows = rows_of(method, matrix_of(tmp_path, torch.zeros(60, 24).bfloat16()), SPELLINGS)
    assert rows.shape == (406, 24)
    assert rows.isfinite().all()


@pytest.mark.parametrize("method", ["random", "normal", "subword-mean"])
def test_the_seed_decides_and_the_two_sides_differ(old: OldMatrix, method: str) -> None:
    first = rows_of(method, old, SPELLINGS, seed=3)
    assert torch.equal(first, rows_of(method, old, SPELLINGS, seed=3))
    assert not torch.equal(first, rows_of(method, old, SPELLINGS, seed=4))
    assert not torch.equal(first, rows_of(method, old, SPELLINGS, seed=3, side="output"))


def test_subword_weighted_weighs_the_output_by_bytes_and_scales_the_input(tmp_path: Path) -> None:
    values = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [0.0, 4.0]])
    plain = matrix_of(tmp_path, values)
    old = replace(plain, byte_lengths=[1, 3, 1, 1], alike=[2, 3])
    output = torch.cat(list(initialize("subword-weighted", old, [[0, 1], [2]], seed=0, side="output")))
    assert torch.allclose(output, torch.tensor([[0.25, 1.5], [3.0, 0.0]]))
    inputs = torch.cat(list(initialize("subword-weighted", old, [[0, 1], [2]], seed=0, side="input")))
    assert torch.allclose(inputs.norm(dim=1), torch.tensor([3.5, 3.5]))  # the mean norm of rows 2 and 3
    assert torch.allclose(inputs[0] / inputs[0].norm(), torch.tensor([1.0, 2.0]) / 5**0.5)
